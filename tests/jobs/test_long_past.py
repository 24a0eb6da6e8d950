"""Whoever bought thousands of tracks waits no longer for the next: no question to the books grows with their past."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from tests.jobs.stage import MODEL, CountingSigner, OpenStage, Shopper, Stage, usd
from tests.ledger.long_past import asked_of_the_books, dear, lengthen
from x402_audio.errors import JobFailed, X402AudioError
from x402_audio.payment.auth import X402Auth
from x402_audio.payment.policy import PaymentPolicy
from x402_audio.sandbox import FaultRule

LATE = "seed-audio-1-0"


def _grow_old(shop: Stage, shopper: Shopper) -> None:
    """A year and thousands of purchases later; the balance is as it was."""
    shop.clock.wait(365 * 86_400)
    if shop.payments == [] or shopper.holds(kind="credit"):
        for _ in range(2):
            shopper.play(shopper.verbs.balance())
    lengthen(shopper.client.settings.ledger, until=shop.clock.at)


def _cheap(monkeypatch: pytest.MonkeyPatch, shopper: Shopper, act: Callable[[], object]) -> None:
    """What it asks of the books takes few steps each."""
    with asked_of_the_books(monkeypatch) as asked:
        act()
    assert asked
    assert dear(shopper.client.settings.ledger, asked) == []


def test_a_job_on_credit_asks_nothing_of_the_whole_past(
    stage: OpenStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = stage(credit=usd("5"))
    shopper = shop.shopper()
    shopper.generate(job_id="old")
    _grow_old(shop, shopper)
    _cheap(monkeypatch, shopper, lambda: shopper.generate("another song", job_id="new"))
    assert len(shop.jobs) == 2


@pytest.mark.parametrize("answered", [True, False])
def test_a_job_with_its_top_up_asks_nothing_of_the_whole_past(
    stage: OpenStage, monkeypatch: pytest.MonkeyPatch, *, answered: bool
) -> None:
    lost = [] if answered else [FaultRule("status_after", "/x402/top-up", nth=4, value=504)]
    shop = stage(*lost)
    shopper = shop.shopper(MAX_TOP_UP="5", MAX_TOP_UP_PER_DAY="50")
    shopper.generate(job_id="old")
    _grow_old(shop, shopper)
    while shop.left() > usd("0.79"):
        shopper.generate("the same again", again=True)
    paid = len(shop.payments)
    _cheap(monkeypatch, shopper, lambda: shopper.generate("another song", job_id="new"))
    assert (paid, len(shop.payments)) == (1, 2)


def test_a_payment_on_the_spot_looks_at_the_chain_and_not_at_the_whole_past(
    stage: OpenStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = stage(mode="direct-v2")
    shopper = shop.shopper(RPC_URL=shop.server.rpc_url)
    shopper.generate(job_id="old")
    _grow_old(shop, shopper)
    shopper.generate("the first in a year", job_id="first")
    shop.clock.wait(3 * 3600)
    _cheap(monkeypatch, shopper, lambda: shopper.generate("another song", job_id="new"))
    assert len(shop.payments) == 3


@pytest.mark.parametrize("mode", ["venice", "direct-v2"])
def test_a_job_that_waited_meets_its_seller_and_the_chain_without_the_whole_past(
    stage: OpenStage, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    shop = stage(mode=mode, **({"credit": usd("5")} if mode == "venice" else {}))
    shopper = shop.shopper(RPC_URL=shop.server.rpc_url)
    shopper.generate(job_id="old")
    _grow_old(shop, shopper)
    shopper.submit("another song", job_id="new")
    shop.clock.wait(3 * 3600)
    shopper.generate("a third song", job_id="between")
    _cheap(monkeypatch, shopper, lambda: shopper.resume("new"))
    assert len(shop.jobs) == 3


def test_an_unknown_queue_call_is_decided_without_the_whole_past(
    stage: OpenStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = stage(credit=usd("5"))
    shopper = shop.shopper()
    shopper.generate(job_id="old")
    _grow_old(shop, shopper)
    shop.faults(FaultRule("drop_after", "/audio/queue"))

    def buy() -> None:
        try:
            shopper.generate("another song", job_id="new")
        except X402AudioError:
            shopper.resume("new")

    _cheap(monkeypatch, shopper, buy)
    assert len(shop.jobs) == 2


def test_a_lost_job_is_counted_without_the_whole_past(
    stage: OpenStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = stage(credit=usd("5"))
    shopper = shop.shopper()
    shopper.generate(job_id="old")
    _grow_old(shop, shopper)
    shop.faults(FaultRule("fail_job"))

    def lose() -> None:
        with pytest.raises(JobFailed):
            shopper.generate("another song", job_id="new")

    _cheap(monkeypatch, shopper, lose)


def test_content_that_is_refused_is_looked_up_without_the_whole_past(
    stage: OpenStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = stage(credit=usd("5"))
    shopper = shop.shopper()
    shopper.generate(job_id="old")
    _grow_old(shop, shopper)
    shop.faults(FaultRule("status", "/audio/queue", value=422))

    def refused() -> None:
        with pytest.raises(X402AudioError):
            shopper.generate("another song", job_id="new")

    _cheap(monkeypatch, shopper, refused)


def test_credit_that_a_late_charge_keeps_back_is_looked_into_without_the_whole_past(
    stage: OpenStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = stage(credit=usd("2.50"))
    shopper = shop.shopper()
    shopper.generate(job_id="old")
    _grow_old(shop, shopper)
    shopper.generate("some words", model=LATE, duration_seconds=None, job_id="late")
    _cheap(monkeypatch, shopper, lambda: shopper.generate("another song", job_id="new"))


def test_work_and_resume_find_what_is_open_without_the_whole_past(
    stage: OpenStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = stage(credit=usd("5"))
    shopper = shop.shopper()
    shopper.generate(job_id="old")
    _grow_old(shop, shopper)
    for name in ("a", "b"):
        shopper.submit(f"the song called {name}", job_id=name)
    _cheap(monkeypatch, shopper, lambda: shopper.resume("a"))
    _cheap(monkeypatch, shopper, lambda: shopper.work(until_idle=True))
    assert (shopper.job("b").state, len(shop.jobs)) == ("completed", 3)


def test_a_strangers_client_that_pays_a_seller_without_receipts_reads_none_of_its_past(
    stage: OpenStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its payments stays open until reconcile: there are thousands of them."""
    shop = stage(FaultRule("no_receipt", "/audio/queue", every=True), mode="direct-v2")
    shopper = shop.shopper(RPC_URL=shop.server.rpc_url)
    auth = X402Auth(
        CountingSigner(), shopper.client.ledger, PaymentPolicy(max_amount="1"), clock=shop.clock,
        chain=shopper.verbs._wiring.chain,
    )  # fmt: skip

    def buy(words: str, name: str | None = None) -> None:
        named = {"x402_audio": {"purchase": name}} if name else {}
        body = {"model": MODEL, "prompt": words, "duration_seconds": 3}
        with httpx.Client(auth=auth, trust_env=False) as http:
            assert http.post(f"{shop.server.api_url}/audio/queue", json=body, extensions=named).is_success

    buy("an old song")
    buy("an old song", "its name")
    _grow_old(shop, shopper)
    buy("the first in a year")
    shop.clock.wait(3 * 3600)
    _cheap(monkeypatch, shopper, lambda: buy("another song"))
    _cheap(monkeypatch, shopper, lambda: buy("another song", "another name"))
    _cheap(monkeypatch, shopper, lambda: buy("another song", "another name"))
    assert len(shop.payments) == 5
