"""How a paid job can end without its track, and what is booked then."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jobs.stage import FLOOR, MODEL, QUOTE, CountingSigner, OpenStage, Shopper, Stage, usd
from x402_audio.errors import (
    ContentRejected,
    JobExpired,
    JobFailed,
    JobParked,
    JobTimedOut,
    PaymentRefused,
    X402AudioError,
)
from x402_audio.jsontext import Json
from x402_audio.money import ZERO, Usdc
from x402_audio.notices import Notice
from x402_audio.sandbox import FaultRule
from x402_audio.sandbox.books import Account

CREDIT = usd("5")


def _totals(shopper: Shopper) -> tuple[int, int]:
    """(spent within the day, spent within the life of the books) by the jobs purse's own limits."""
    found = {
        limit.limit.window: int(limit.spent)
        for limit in shopper.client.budget()
        if limit.limit.purse == "jobs"
    }
    return found["day"], found["month"]


def test_a_failed_job_is_known_by_its_refund_and_booked_once(stage: OpenStage) -> None:
    shop = stage(FaultRule("fail_job"), credit=CREDIT)
    shopper = shop.shopper()
    began = shop.clock.at
    with pytest.raises(JobFailed) as caught:
        shopper.generate(job_id="k")
    assert (caught.value.exit_code, caught.value.details["refunded"]) == (9, "yes")
    assert shop.clock.at - began < 120, "the refund was there to be read"
    assert shopper.job("k").refunded == "yes"
    (hold,) = shopper.holds("k")
    assert (hold.state, hold.refunded, shop.left()) == ("settled", QUOTE, CREDIT)

    for _ in range(2):
        assert shopper.reconcile().differences == ()
    assert shopper.holds("k")[0].refunded == QUOTE
    assert shopper.client.ledger.verify() == []


def test_a_refund_never_gives_a_window_back(stage: OpenStage) -> None:
    shop = stage(FaultRule("fail_job"), credit=CREDIT)
    shopper = shop.shopper()
    with pytest.raises(JobFailed):
        shopper.generate(job_id="k")
    assert _totals(shopper)[0] == QUOTE


def test_a_charge_without_delivery_is_called_lost_when_the_faults_last(stage: OpenStage) -> None:
    shop = stage(FaultRule("charge_without_delivery"), credit=CREDIT)
    shopper = shop.shopper()
    began = shop.clock.at
    with pytest.raises(JobFailed) as caught:
        shopper.generate(job_id="k", timeout=3600)
    assert (caught.value.exit_code, caught.value.money_moved) == (9, "yes")
    assert caught.value.details["refunded"] == "no"
    assert 600 <= shop.clock.at - began < 900
    assert shopper.holds("k")[0].refunded == ZERO


def test_faults_that_pass_are_no_failure(stage: OpenStage) -> None:
    """Nine minutes of 503, then the track."""
    shop = stage(credit=CREDIT, job_seconds=5)
    shopper = shop.shopper()
    shop.faults(FaultRule("status", "/audio/retrieve", every=True, value=503))
    shop.clock.later(540, shop.faults)
    assert shopper.generate(job_id="k", timeout=3600).completed
    assert (len(shop.jobs), shop.left()) == (1, CREDIT - QUOTE)


def test_faults_with_work_between_them_do_not_add_up(stage: OpenStage) -> None:
    shop = stage(credit=CREDIT, job_seconds=1500)
    shopper = shop.shopper()
    broken = FaultRule("status", "/audio/retrieve", every=True, value=503)
    for at in (100, 800):
        shop.clock.later(at, lambda: shop.faults(broken))
        shop.clock.later(at + 400, shop.faults)
    assert shopper.generate(job_id="k", timeout=7200, poll_interval=20.0).completed


def test_three_losses_in_a_row_stop_the_seller(stage: OpenStage) -> None:
    shop = stage(credit=CREDIT)
    shopper = shop.shopper()
    for name, fate in (("a", "expire_media"), ("b", "expire_media"), ("c", "charge_without_delivery")):
        shop.faults(FaultRule(fate))
        with pytest.raises((JobExpired, JobFailed)):
            shopper.generate(job_id=name, again=True, timeout=3600)
    shop.faults()
    with pytest.raises(PaymentRefused, match="not delivered") as caught:
        shopper.generate(job_id="d", again=True)
    assert caught.value.exit_code == 3
    assert len(shop.jobs) == 3
    shopper.client.ledger.lift(shop.wallet, shop.server.origin, "seller", "the owner said so")
    assert shopper.resume("d").completed


def test_a_delivery_between_losses_does_not_stop_the_seller(stage: OpenStage) -> None:
    shop = stage(credit=CREDIT)
    shopper = shop.shopper()
    for name in "abcd":
        if name == "b":
            shop.faults()
            shopper.generate(job_id=name, again=True)
            continue
        shop.faults(FaultRule("expire_media"))
        with pytest.raises(JobExpired):
            shopper.generate(job_id=name, again=True, timeout=3600)
    shop.faults()
    assert shopper.generate(job_id="e", again=True).completed


def _gives_back(monkeypatch: pytest.MonkeyPatch, less: int) -> None:
    """The seller's refunds are smaller than its charges by so many atomic units."""
    enter = Account.enter

    def entered(
        self: Account, kind: str, amount: Usdc, at: float, request: str | None, model: str | None
    ) -> Usdc:
        return enter(self, kind, Usdc(amount - less) if kind == "REFUND" else amount, at, request, model)

    monkeypatch.setattr(Account, "enter", entered)


def test_a_refund_that_lost_a_rounding_is_a_refund(stage: OpenStage, monkeypatch: pytest.MonkeyPatch) -> None:
    _gives_back(monkeypatch, 1)
    shop = stage(FaultRule("fail_job"), credit=CREDIT)
    shopper = shop.shopper()
    with pytest.raises(JobFailed) as caught:
        shopper.generate(job_id="k")
    assert (caught.value.details["refunded"], shopper.holds("k")[0].refunded) == ("yes", Usdc(QUOTE - 1))
    assert shopper.generate(job_id="k").completed
    assert len(shop.jobs) == 2
    assert shopper.client.ledger.verify() == []


@pytest.mark.parametrize("fate", ["fail_job", "refuse_content"])
def test_a_part_given_back_is_named_and_buys_again_only_by_another_name(
    stage: OpenStage, monkeypatch: pytest.MonkeyPatch, fate: str
) -> None:
    _gives_back(monkeypatch, 101)
    route = "/audio/retrieve" if fate == "refuse_content" else ""
    shop = stage(FaultRule(fate, route), credit=CREDIT)
    shopper = shop.shopper()
    for _ in range(2):
        with pytest.raises(JobFailed) as caught:
            shopper.generate(job_id="k")
        assert (caught.value.exit_code, caught.value.money_moved) == (9, "yes")
        assert caught.value.details["refunded"] == "no"
        assert "another --job-id" in caught.value.next_step
    assert f"but for {Usdc(QUOTE - 101)} of {QUOTE}" in shopper.job("k").last_error
    assert shopper.reconcile().differences == (), "the books know what came back"
    assert len(shop.jobs) == 1
    assert shopper.generate(job_id="l", again=True).completed
    assert (len(shop.jobs), shop.left()) == (2, CREDIT - QUOTE - 101)
    assert shopper.client.ledger.verify() == []


def test_who_gives_back_a_little_each_time_is_stopped_as_who_gives_nothing(
    stage: OpenStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    _gives_back(monkeypatch, int(QUOTE) - 1)
    shop = stage(FaultRule("fail_job", every=True), credit=CREDIT)
    shopper = shop.shopper()
    for name in "abc":
        with pytest.raises(JobFailed):
            shopper.generate(job_id=name, again=True)
    with pytest.raises(PaymentRefused, match="not delivered"):
        shopper.generate(job_id="d", again=True)
    assert len(shop.jobs) == 3


def test_a_refund_that_comes_later_opens_the_job_again_and_says_so(stage: OpenStage) -> None:
    shop = stage(FaultRule("charge_without_delivery"), credit=CREDIT)
    shopper = shop.shopper()
    with pytest.raises(JobFailed) as caught:
        shopper.generate(job_id="k", timeout=3600)
    assert caught.value.next_step == "run: x402-audio reconcile"
    (sold,) = shop.seller.jobs.values()
    shop.seller.account(shop.wallet).enter("REFUND", QUOTE, shop.clock.at, sold.queue_id, MODEL)
    shopper.reconcile()
    with pytest.raises(JobFailed) as caught:
        shopper.resume("k")
    assert caught.value.details["refunded"] == "yes"
    assert caught.value.next_step == "repeat with the same --job-id for a new attempt"
    assert shopper.generate(job_id="k").completed


def _suggested(shop: Stage, shopper: Shopper) -> None:
    assert len(shop.jobs) == 1
    track = shopper.resume("k", use_suggestion=True)
    assert (track.completed, track.job_id) == (True, "k-suggested")
    assert '"A calm piece for piano"' in shopper.job("k-suggested").request
    assert (len(shop.jobs), shop.left()) == (2, CREDIT - QUOTE)


def test_content_refused_at_the_queue_call_costs_nothing_and_the_suggestion_is_kept(stage: OpenStage) -> None:
    shop = stage(FaultRule("refuse_content", value="A calm piece for piano"), credit=CREDIT)
    shopper = shop.shopper()
    with pytest.raises(ContentRejected) as caught:
        shopper.generate(job_id="k")
    assert (caught.value.exit_code, caught.value.money_moved, caught.value.owner) == (7, "no", "agent")
    assert caught.value.suggested_prompt == "A calm piece for piano"
    assert [hold.state for hold in shopper.holds("k")] == ["void"]
    _suggested(shop, shopper)


def test_content_refused_at_a_retrieve_is_refunded_and_the_suggestion_is_kept(stage: OpenStage) -> None:
    shop = stage(
        FaultRule("refuse_content", "/audio/retrieve", value="A calm piece for piano"), credit=CREDIT
    )
    shopper = shop.shopper()
    with pytest.raises(ContentRejected) as caught:
        shopper.generate(job_id="k")
    assert caught.value.suggested_prompt == "A calm piece for piano"
    assert shopper.holds("k")[0].refunded == QUOTE
    _suggested(shop, shopper)


def test_a_refusal_whose_charge_stands_is_unknown(stage: OpenStage) -> None:
    """The 422 is answered, but the job was opened and charged."""
    refusal: Json = {"status": 422, "body": {"error": "no"}}
    shop = stage(FaultRule("status_after", "/audio/queue", value=refusal), credit=CREDIT)
    shopper = shop.shopper()
    with pytest.raises(X402AudioError) as caught:
        shopper.generate(job_id="k")
    assert caught.value.exit_code == 8
    assert shopper.resume("k").completed
    assert (len(shop.jobs), shop.left()) == (1, CREDIT - QUOTE)


def test_without_a_suggestion_there_is_nothing_to_use(stage: OpenStage) -> None:
    shop = stage(FaultRule("fail_job"), credit=CREDIT)
    shopper = shop.shopper()
    with pytest.raises(JobFailed):
        shopper.generate(job_id="k")
    with pytest.raises(X402AudioError) as caught:
        shopper.resume("k", use_suggestion=True)
    assert caught.value.exit_code == 2
    assert len(shop.jobs) == 1


def test_media_that_expired_is_the_end_and_is_not_bought_again(stage: OpenStage) -> None:
    shop = stage(FaultRule("expire_media"), credit=CREDIT)
    shopper = shop.shopper()
    for _ in range(2):
        with pytest.raises(JobExpired) as caught:
            shopper.generate(job_id="k")
        assert (caught.value.exit_code, caught.value.money_moved) == (9, "yes")
    assert shopper.job("k").state == "expired"
    assert len(shop.jobs) == 1


def test_the_end_of_our_waiting_is_not_the_end_of_the_job(stage: OpenStage) -> None:
    shop = stage(credit=CREDIT, job_seconds=100)
    shopper = shop.shopper()
    with pytest.raises(JobTimedOut) as caught:
        shopper.generate(job_id="k", timeout=20)
    assert (caught.value.exit_code, caught.value.money_moved) == (10, "yes")
    assert shopper.resume("k").completed
    assert len(shop.jobs) == 1


def test_a_track_that_is_fetched_late_makes_later_jobs_wait_no_longer(stage: OpenStage) -> None:
    """Neither the hours a lid was closed nor the seconds a line took are how long the model takes."""
    shop = stage(credit=CREDIT)
    shopper = shop.shopper()
    with pytest.raises(JobTimedOut):
        shopper.generate(job_id="late", timeout=1)
    shop.clock.wait(5 * 3600)
    assert shopper.resume("late").completed
    shopper.http.event_hooks = {"request": [lambda _: shop.clock.wait(1)]}
    took = []
    for name in "abcdef":
        began = shop.clock.at
        assert shopper.generate(job_id=name, again=True).completed
        took.append(shop.clock.at - began)
    assert max(took) < 15, "it neither jumps nor grows from job to job"


def test_a_job_older_than_a_day_waits_for_time_and_goes_on_when_asked(stage: OpenStage) -> None:
    shop, signer = stage(credit=CREDIT, job_seconds=25 * 3600), CountingSigner()
    shopper = shop.shopper(signer=signer)
    with pytest.raises(JobTimedOut):
        shopper.generate(job_id="k", timeout=10)
    shop.clock.wait(24 * 3600)
    with pytest.raises(JobParked) as caught:
        shopper.resume("k")
    assert (caught.value.exit_code, caught.value.details["reason"]) == (10, "time")
    shop.clock.wait(3600)
    assert shopper.resume("k").completed


def test_a_lease_outlives_a_long_wait_between_two_polls(stage: OpenStage) -> None:
    """The seller says ten minutes: nobody else may take the job for abandoned meanwhile."""
    shop = stage(credit=CREDIT, job_seconds=600)
    shopper = shop.shopper()
    seen: list[bool] = []
    for at in range(60, 600, 60):
        shop.clock.later(
            at, lambda: seen.append(shopper.client.ledger.claim("k", "other:owner:1:1", 10) is None)
        )
    assert shopper.generate(job_id="k").completed
    assert seen == [True] * 9


def test_a_file_whose_completion_wants_credit_that_is_gone_is_delivered_and_says_so(stage: OpenStage) -> None:
    shop = stage(credit=QUOTE + FLOOR)
    shopper = shop.shopper()
    real = shopper.verbs._wiring.on_notice

    def spend_elsewhere(notice: Notice) -> None:
        if notice.kind == "saved":
            shop.credit("-0.05")
        real(notice)

    shopper.verbs._wiring.on_notice = spend_elsewhere
    track = shopper.generate(job_id="k")
    assert (Path(track.path).exists(), track.completed) == (True, False)
    assert "credit" in track.warnings[-1]
    job = shopper.job("k")
    assert (job.state, job.last_error) == ("saved", track.warnings[-1])
    assert shop.asked()["/audio/complete"] == 1
    shop.credit("0.05")
    assert shopper.resume("k").completed
