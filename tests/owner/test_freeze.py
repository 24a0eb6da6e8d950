"""The brake: pulled by one process it holds every other at once, and what is paid is still brought home."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import BUY, RESUME, CommandLine, Shop, start
from tests.jobs.stage import CountingSigner, OpenStage, Stage, usd
from tests.owner.screen import PATIENCE_S, until
from x402_audio.clock import SystemClock
from x402_audio.errors import Frozen
from x402_audio.ledger.rates import Rates
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.protocol.exact import Authorization
from x402_audio.protocol.networks import Network
from x402_audio.sandbox import FaultRule

OpenShop = Callable[..., Shop]
VENICE = (*BUY, "--job-id", "j1", "--output", "t.mp3", "--max-top-up", "5", "--json")


def background(*words: str) -> subprocess.Popen[bytes]:
    return start(*words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def ended(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    out, _ = process.communicate(timeout=PATIENCE_S)
    told: dict[str, Any] = json.loads(out)
    return told


def test_frozen_while_it_polls_a_process_still_delivers_and_starts_nothing_new(
    open_shop: OpenShop, cli: CommandLine
) -> None:
    shop = open_shop("venice", job_seconds=600)
    process = background(*VENICE)
    try:
        until(lambda: shop.seller.jobs)
        assert cli("freeze", "--why", "enough").code == 0
        (job,) = shop.seller.jobs.values()
        shop.seller.end_job(job, "deliver")
        told = ended(process)
    finally:
        process.kill()
        process.communicate()
    assert (told["exitCode"], told["result"]["state"]) == (0, "completed")
    assert Path("t.mp3").stat().st_size > 0
    refused = cli(*BUY, "--again", "--job-id", "j2", "--output", "u.mp3", "--json")
    assert (refused.code, refused.json["error"]["code"]) == (3, "Frozen")
    assert shop.counted() == (1, 1)
    for words in (
        ("balance",),
        ("transactions",),
        ("jobs",),
        ("budget",),
        ("reconcile",),
        ("quote", "--model", "mmaudio-v2-text-to-audio"),
    ):
        assert cli(*words).code in (0, 2), words
    assert cli("balance").code == cli("transactions").code == 0


def test_frozen_with_a_job_at_the_seller_another_process_fetches_it(
    open_shop: OpenShop, cli: CommandLine
) -> None:
    shop = open_shop("venice", job_seconds=0.5)
    assert cli(*VENICE[:-1], "--timeout", "0.01").code == 10
    assert cli("freeze").code == 0
    assert cli(*RESUME, "j1").code == 0
    assert shop.counted() == (1, 1)


@pytest.mark.parametrize(
    ("mode", "route"),
    [("direct-v2", "/audio/queue"), ("venice", "/x402/top-up")],
    ids=["a demand", "top-up terms"],
)
def test_a_process_that_is_about_to_pay_sends_nothing(
    open_shop: OpenShop, cli: CommandLine, mode: str, route: str
) -> None:
    """It waits for a slow answer when another process freezes."""
    shop = open_shop(mode)
    slow = FaultRule("slow", route, value=1)
    shop.seller.faults.replace([slow])
    process = background(*VENICE)
    try:
        until(lambda: slow.seen)
        assert cli("freeze").code == 0
        told = ended(process)
    finally:
        process.kill()
        process.communicate()
    assert (told["exitCode"], told["error"]["code"], told["error"]["moneyMoved"]) == (3, "Frozen", "no")
    assert shop.counted() == (0, 0)
    assert cli("jobs", "show", "j1", "--json").json["result"]["parked_reason"] == "owner"


class Pulling:
    """Pulls the brake through books of its own, as another process would, the nth time it is asked to."""

    def __init__(self, shop: Stage, nth: int) -> None:
        self._path = shop.folder / "state" / "ledger.db"
        self._left = nth

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            other = SqliteLedger(self._path, clock=SystemClock(), create=False)
            other.freeze("by another process")
            other.close()


class PullingSigner(CountingSigner):
    """The brake is pulled while the wallet signs."""

    pull: Callable[[], None]

    def sign_authorization(self, network: Network, authorization: Authorization) -> bytes:
        self.pull()
        return super().sign_authorization(network, authorization)


@pytest.mark.parametrize("mode", ["direct-v1", "direct-v2", "venice"])
def test_pulled_while_the_wallet_signs_the_signature_never_leaves(stage: OpenStage, mode: str) -> None:
    shop = stage(mode=mode)
    signer = PullingSigner()
    shopper = shop.shopper(signer=signer, MAX_TOP_UP="5")
    signer.pull = Pulling(shop, 1)
    with pytest.raises(Frozen) as frozen:
        shopper.generate(job_id="k")
    assert (frozen.value.exit_code, frozen.value.money_moved) == (3, "no")
    assert len(signer.authorizations) == 1
    assert (shop.payments, shop.jobs) == ([], [])
    assert [hold.state for hold in shopper.holds()] == ["void"]
    shopper.client.ledger.unfreeze("a test")
    assert shopper.resume("k").completed
    assert len(shop.payments) == 1


@pytest.mark.parametrize(
    ("mode", "route"),
    [("direct-v1", "queue"), ("direct-v2", "queue"), ("venice", "queue"), ("venice", "top-up")],
)
@pytest.mark.parametrize("nth", [1, 2])
def test_pulled_while_it_waits_for_its_turn_nothing_leaves(
    stage: OpenStage, monkeypatch: pytest.MonkeyPatch, mode: str, route: str, nth: int
) -> None:
    if (mode, route, nth) == ("venice", "queue", 2):
        nth = 1  # there is one turn only: it is taken before the draw is reserved
    shop = stage(mode=mode, credit=usd("0") if route == "top-up" else usd("5"))
    shopper = shop.shopper(MAX_TOP_UP="5")
    pull, take = Pulling(shop, nth), Rates.take

    def waiting(self: Rates, wallet: str, at: str, per_minute: float, burst: int) -> float:
        if at == route:
            pull()
        return take(self, wallet, at, per_minute, burst)

    monkeypatch.setattr(Rates, "take", waiting)
    with pytest.raises(Frozen) as frozen:
        shopper.generate(job_id="k")
    assert frozen.value.money_moved == "no"
    assert (shop.payments, shop.jobs) == ([], [])
    assert {hold.state for hold in shopper.holds()} <= {"void"}


def test_pulled_after_an_answer_was_lost_the_same_bytes_are_not_sent_again(stage: OpenStage) -> None:
    shop = stage(FaultRule("drop_before", "/audio/queue", nth=2), mode="direct-v2")
    shopper = shop.shopper()
    shop.clock.later(0.1, Pulling(shop, 1))
    with pytest.raises(Frozen) as frozen:
        shopper.generate(job_id="k")
    assert frozen.value.money_moved == "unknown"
    (hold,) = shopper.holds()
    assert (hold.state, hold.sends) == ("signed", 1)
    shopper.client.ledger.unfreeze("a test")
    assert shopper.resume("k").completed
    assert (len(shop.payments), shopper.holds()[0].sends) == (1, 2)
