"""A witness counts only for what it can have seen; a paid track is fetched again rather than given up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jobs.stage import OpenStage, usd
from x402_audio.errors import JobTimedOut, JobUndecided, PaymentUnsettled
from x402_audio.sandbox import FaultRule

CREDIT = usd("5")


def test_one_charge_that_two_unknown_jobs_could_have_made_goes_to_neither(stage: OpenStage) -> None:
    shop = stage(FaultRule("drop_before", "/audio/queue", every=True), credit=CREDIT)
    shopper = shop.shopper()
    with pytest.raises(PaymentUnsettled):
        shopper.generate(job_id="a")
    shop.faults(FaultRule("drop_after", "/audio/queue", every=True))
    with pytest.raises(PaymentUnsettled):
        shopper.generate("another song", job_id="b")
    shop.faults()
    with pytest.raises(PaymentUnsettled):
        shopper.resume("a")
    assert [hold.state for hold in (*shopper.holds("a"), *shopper.holds("b"))] == ["signed", "signed"]
    shop.clock.wait(3600)
    shopper.reconcile()
    assert "settled" not in [hold.state for hold in (*shopper.holds("a"), *shopper.holds("b"))]
    assert len(shop.jobs) == 1


def test_a_job_two_charges_could_belong_to_waits_for_a_person_and_says_so_once(stage: OpenStage) -> None:
    shop = stage(FaultRule("drop_before", "/audio/queue", every=True), credit=CREDIT)
    shopper = shop.shopper()
    with pytest.raises(PaymentUnsettled):
        shopper.generate(job_id="k")
    shop.faults()
    elsewhere = shop.shopper(state="elsewhere")
    for job_id in ("a", "b"):
        elsewhere.generate(job_id=job_id)
    told = set()
    for _ in range(3):
        with pytest.raises(JobUndecided) as caught:
            shopper.resume("k")
        told.add(str(caught.value))
        job = shopper.job("k")
        assert (job.state, job.parked_reason, job.resume_state) == ("parked", "human", "reserved")
    assert len(told) == 1, "what is said does not grow with each look"
    assert [hold.state for hold in shopper.holds("k")] == ["presumed"]


def test_two_faults_with_a_long_pause_between_them_are_not_a_failed_job(stage: OpenStage) -> None:
    shop = stage(FaultRule("status", "/audio/retrieve", every=True, value=503), credit=CREDIT)
    shopper = shop.shopper()
    for _ in range(2):
        with pytest.raises(JobTimedOut):
            shopper.resume("k", timeout=30) if shop.jobs else shopper.generate(job_id="k", timeout=30)
        shop.clock.wait(3600)
    shop.faults()
    assert shopper.resume("k").completed


def test_a_saved_file_that_is_gone_is_fetched_again_before_the_sellers_copy_goes(stage: OpenStage) -> None:
    shop = stage(FaultRule("status", "/audio/complete", every=True, value=503), credit=CREDIT)
    shopper = shop.shopper()
    first = shopper.generate(job_id="k")
    Path(first.path).unlink()
    shop.faults()
    again = shopper.resume("k")
    assert (again.completed, again.sha256, Path(again.path).is_file()) == (True, first.sha256, True)
