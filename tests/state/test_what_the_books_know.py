"""Books that cannot be written say what they know of the money: a failed ledger is no proof that nothing was paid."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from tests.jobs.stage import OpenStage, Stage, usd
from tests.payment.till import KEY as TILL_KEY
from tests.state.disk import Disk
from x402_audio.errors import LedgerError, MoneyMoved, PaymentUnsettled, X402AudioError
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc
from x402_audio.payment.auth import X402Auth
from x402_audio.payment.policy import PaymentPolicy
from x402_audio.protocol.signer import LocalSigner
from x402_audio.sandbox import FaultRule


def told(act: Callable[[], object], kind: type[X402AudioError], moved: MoneyMoved) -> X402AudioError:
    """The one error an act ends with, which says so of the money."""
    with pytest.raises(kind) as caught:
        act()
    assert "\n" not in str(caught.value)
    assert (caught.value.money_moved, caught.value.code) == (moved, kind.__name__)
    return caught.value


def finish(stage: Stage, disk: Disk, job_id: str) -> None:
    """With room again the job ends with its file, paid once."""
    disk.full = False
    shopper = stage.shopper()
    assert shopper.resume(job_id).completed
    assert len(stage.jobs) == 1
    assert shopper.client.ledger.verify() == []


def test_before_a_payment_it_says_that_nothing_moved(stage: OpenStage, disk: Disk) -> None:
    market = stage(credit=usd("5"))
    shopper = market.shopper()
    shopper.submit(job_id="j1")
    disk.full = True
    error = told(lambda: shopper.resume("j1"), LedgerError, "no")
    assert "resume" not in error.next_step
    assert market.jobs == []
    finish(market, disk, "j1")


@pytest.mark.parametrize(("mode", "credit"), [("venice", "5"), ("direct-v2", "0")])
def test_when_the_payment_cannot_be_booked_it_is_unknown(
    mode: str, credit: str, stage: OpenStage, disk: Disk
) -> None:
    market = stage(mode=mode, credit=usd(credit))
    shopper = market.shopper()
    disk.full_after(shopper.http, "/audio/queue")
    error = told(lambda: shopper.generate(job_id="j1"), LedgerError, "unknown")
    assert error.next_step.endswith("x402-audio resume j1")
    assert (error.retry, error.owner, error.exit_code) == ("same_id", "human", 2)
    assert [hold.state for hold in shopper.holds("j1")] == ["signed"]
    disk.full = False
    assert shopper.job("j1").state == "reserved"


def test_once_the_job_is_queued_it_says_that_money_moved(stage: OpenStage, disk: Disk) -> None:
    market = stage(credit=usd("5"))
    shopper = market.shopper()
    disk.full_after(shopper.http, "/audio/retrieve")
    error = told(lambda: shopper.generate(job_id="j1"), LedgerError, "yes")
    assert error.next_step.endswith("x402-audio resume j1")
    for again in (lambda: shopper.resume("j1"), lambda: shopper.resume("j1", output="other.mp3")):
        told(again, LedgerError, "yes")
    finish(market, disk, "j1")


def test_an_unknown_payment_that_cannot_be_booked_is_still_told_as_unknown(
    stage: OpenStage, disk: Disk
) -> None:
    market = stage(FaultRule("status_after", "/audio/queue", every=True, value=500), credit=usd("5"))
    shopper = market.shopper()
    market.clock.later(1, lambda: setattr(disk, "full", True))
    with pytest.raises((PaymentUnsettled, LedgerError)) as caught:
        shopper.generate(job_id="j1")
    assert caught.value.money_moved == "unknown"


def test_the_error_that_ended_the_walk_is_not_hidden_by_a_claim_that_cannot_be_given_back(
    stage: OpenStage, disk: Disk
) -> None:
    market = stage(mode="direct-v2")
    shopper = market.shopper()
    market.faults(FaultRule("status", "/audio/queue", nth=2, value=404))
    disk.full_after(shopper.http, "/audio/queue", status=404)
    with pytest.raises(X402AudioError) as caught:
        shopper.generate(job_id="j1")
    assert (caught.value.code, caught.value.money_moved, caught.value.exit_code) == (
        "PaymentRejected", "unknown", 8,
    )  # fmt: skip


def test_a_top_up_that_cannot_be_booked_is_unknown(stage: OpenStage, disk: Disk) -> None:
    market = stage()
    shopper = market.shopper(MAX_TOP_UP="5")
    disk.full_after(shopper.http, "/x402/top-up")
    error = told(lambda: shopper.top_up("5"), LedgerError, "unknown")
    assert error.next_step.endswith("x402-audio reconcile")
    disk.full = False
    shopper.http.event_hooks = {}
    shopper.reconcile()
    assert [hold.state for hold in shopper.client.ledger.holds()] == ["settled"]
    assert len(market.payments) == 1


def test_a_strangers_client_is_told_so_too(stage: OpenStage, disk: Disk) -> None:
    market = stage(mode="direct-v2")
    ledger = SqliteLedger(market.folder / "spend.db", clock=market.clock)
    auth = X402Auth(
        LocalSigner.from_hex(TILL_KEY), ledger, PaymentPolicy(max_amount=Usdc.parse_usd("1")), clock=market.clock
    )  # fmt: skip
    with httpx.Client(auth=auth, trust_env=False) as http:
        disk.full_after(http, "/audio/queue")
        body = {"model": "elevenlabs-music", "prompt": "rain on tin", "duration_seconds": 60}
        url = market.server.api_url + "/audio/queue"
        error = told(lambda: http.post(url, json=body), LedgerError, "unknown")
        assert error.next_step.endswith("send the same request again")
        disk.full, http.event_hooks = False, {}
        assert http.post(url, json=body).status_code == 200
    assert len(market.payments) == 1
