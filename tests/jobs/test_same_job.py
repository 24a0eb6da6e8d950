"""The caller's job id is the key of the purchase: the same again costs nothing, whoever asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.jobs.stage import FLOOR, PROMPT, QUOTE, OpenStage, usd
from x402_audio.errors import (
    BadDownload,
    ContentRejected,
    InsufficientBalance,
    JobConflict,
    JobFailed,
    JobTakenOver,
    JobTimedOut,
    LedgerError,
    OpenJobExists,
    UnknownJob,
)
from x402_audio.jsontext import Json
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.providers.provider import Track
from x402_audio.sandbox import FaultRule
from x402_audio.verbs import JobWishes

CREDIT = usd("5")


def test_a_completed_job_returns_its_file_and_asks_nobody(stage: OpenStage) -> None:
    shop = stage()
    first = shop.shopper().generate(job_id="k", max_top_up="5")
    before = shop.asked()
    again = shop.shopper().generate(job_id="k", max_top_up="5")
    assert (again.path, again.sha256, again.queue_id) == (first.path, first.sha256, first.queue_id)
    assert shop.asked() == before
    assert (len(shop.payments), len(shop.jobs)) == (1, 1)


@pytest.mark.parametrize(
    ("prompt", "wishes"),
    [
        ("Something else entirely", JobWishes(job_id="k")),
        (PROMPT, JobWishes(job_id="k", duration_seconds=4)),
        (PROMPT, JobWishes(job_id="k", instrumental=True)),
    ],
)
def test_the_same_id_with_another_request_is_refused_and_nothing_is_sent(
    stage: OpenStage, prompt: str, wishes: JobWishes
) -> None:
    shop = stage(credit=CREDIT)
    shop.shopper().generate(job_id="k")
    before = shop.asked()
    with pytest.raises(JobConflict) as caught:
        shop.shopper().generate(prompt, **wishes)
    assert (caught.value.exit_code, caught.value.money_moved) == (2, "no")
    assert shop.asked() == before


def test_a_completed_job_whose_file_is_gone_names_path_and_hash_and_buys_nothing(stage: OpenStage) -> None:
    shop = stage(credit=CREDIT)
    shopper = shop.shopper()
    track = shopper.generate(job_id="k")
    Path(track.path).unlink()
    before = shop.asked()
    with pytest.raises(BadDownload) as caught:
        shopper.generate(job_id="k")
    assert (caught.value.exit_code, caught.value.retry) == (9, "never")
    assert (caught.value.details["path"], caught.value.details["sha256"]) == (track.path, track.sha256)
    assert shop.asked() == before


def test_the_file_of_the_same_job_made_meanwhile_is_no_file_in_the_way(
    stage: OpenStage, tmp_path: Path
) -> None:
    """Two ask for one job; the first is done before the second has looked at the models."""
    slow: Json = {"status": 429, "headers": {"Retry-After": "30"}}
    shop = stage(FaultRule("status", "/models", value=slow), credit=CREDIT)
    first, second = shop.shopper(), shop.shopper()
    tracks: list[Track] = []

    def neighbour() -> None:
        tracks.append(first.generate(job_id="k", output=tmp_path / "t.mp3"))

    shop.clock.later(5, neighbour)
    tracks.append(second.generate(job_id="k", output=tmp_path / "t.mp3"))
    assert tracks[0].sha256 == tracks[1].sha256
    assert len(shop.jobs) == 1


def test_a_failed_and_refunded_job_is_a_new_attempt(stage: OpenStage) -> None:
    shop = stage(FaultRule("fail_job"), credit=CREDIT)
    shopper = shop.shopper()
    with pytest.raises(JobFailed) as caught:
        shopper.generate(job_id="k")
    assert caught.value.details["refunded"] == "yes"
    assert shopper.generate(job_id="k").completed
    assert shopper.job("k").attempts == 2
    assert [job["refund_atomic"] for job in shop.jobs] == [QUOTE, 0]
    assert shop.left() == CREDIT - QUOTE


def test_a_job_that_failed_and_was_not_refunded_is_never_bought_again(stage: OpenStage) -> None:
    shop = stage(FaultRule("charge_without_delivery"), credit=CREDIT)
    shopper = shop.shopper()
    for _ in range(2):
        with pytest.raises(JobFailed) as caught:
            shopper.generate(job_id="k")
        assert (caught.value.exit_code, caught.value.money_moved) == (9, "yes")
        assert caught.value.details["refunded"] == "no"
    assert len(shop.jobs) == 1


def test_a_refusal_that_cost_nothing_says_so_when_it_is_asked_for_again(stage: OpenStage) -> None:
    shop = stage(FaultRule("refuse_content", value="A calm piece for piano"), credit=CREDIT)
    shopper = shop.shopper()
    with pytest.raises(ContentRejected):
        shopper.generate(job_id="k")
    with pytest.raises(JobFailed) as caught:
        shopper.resume("k")
    assert caught.value.money_moved == "no"
    assert "same --job-id" in caught.value.next_step


def test_an_equal_open_request_without_an_id_is_named_and_again_buys_it(stage: OpenStage) -> None:
    shop = stage(credit=CREDIT, job_seconds=30)
    shopper = shop.shopper()
    shopper.submit(job_id="first")
    shopper.work(timeout=5)
    with pytest.raises(OpenJobExists) as caught:
        shopper.generate()
    assert (caught.value.exit_code, caught.value.details["job_id"]) == (3, "first")
    assert shopper.generate(again=True).completed
    assert shopper.resume("first").completed
    assert len(shop.jobs) == 2


def test_an_equal_request_an_hour_later_is_another_one(stage: OpenStage) -> None:
    shop = stage(credit=CREDIT, job_seconds=7200)
    shopper = shop.shopper()
    shopper.submit(job_id="first")
    shopper.work(timeout=5)
    shop.clock.wait(3601)
    shopper.submit()
    assert len(shopper.client.jobs()) == 2


def test_resume_of_an_unknown_id_sends_nothing(stage: OpenStage) -> None:
    shop = stage()
    with pytest.raises(UnknownJob) as caught:
        shop.shopper().resume("nobody")
    assert caught.value.exit_code == 2
    assert shop.asked() == {}


def test_a_parked_job_is_taken_up_by_its_id_with_another_output(stage: OpenStage, tmp_path: Path) -> None:
    shop = stage()
    with pytest.raises(InsufficientBalance):
        shop.shopper().generate(job_id="k", output=tmp_path / "one.mp3")
    shop.credit("0.79")
    shop.clock.wait(3)
    track = shop.shopper().resume("k", output=str(tmp_path / "two.mp3"))
    assert (track.path, shop.left()) == (str(tmp_path / "two.mp3"), FLOOR)
    assert not (tmp_path / "one.mp3").exists()


def test_cancel_ends_what_is_not_paid_and_the_id_can_be_bought_after_all(stage: OpenStage) -> None:
    shop = stage(credit=CREDIT)
    shopper = shop.shopper()
    shopper.submit(job_id="k")
    assert shopper.play(shopper.verbs.cancel("k")).state == "cancelled"
    with pytest.raises(JobFailed) as caught:
        shopper.resume("k")
    assert caught.value.money_moved == "no"
    assert shopper.generate(job_id="k").completed
    assert len(shop.jobs) == 1


def before_first(monkeypatch: pytest.MonkeyPatch, verb: str, act: Callable[[], object]) -> None:
    """Let something happen just before the ledger's verb is asked for the first time."""
    real = getattr(SqliteLedger, verb)

    def late(*words: Any, **named: Any) -> Any:
        monkeypatch.setattr(SqliteLedger, verb, real)
        act()
        return real(*words, **named)

    monkeypatch.setattr(SqliteLedger, verb, late)


def test_what_was_bought_between_the_cancellers_look_and_its_claim_is_not_cancelled(
    stage: OpenStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = stage(credit=CREDIT)
    buyer, canceller = shop.shopper(), shop.shopper()
    buyer.submit(job_id="k")

    def buy() -> None:
        with pytest.raises(JobTimedOut):
            buyer.resume("k", timeout=1)

    before_first(monkeypatch, "holds", buy)
    with pytest.raises(LedgerError) as caught:
        canceller.play(canceller.verbs.cancel("k"))
    assert (caught.value.money_moved, caught.value.next_step) == ("yes", "x402-audio resume k")
    assert buyer.resume("k").completed
    assert len(shop.jobs) == 1


def test_a_job_another_thread_buys_is_not_cancelled(stage: OpenStage) -> None:
    shop = stage(credit=CREDIT)
    buyer, canceller = shop.shopper(), shop.shopper()
    refused: list[JobTakenOver] = []

    def cancel(request: httpx.Request) -> None:
        if request.url.path.endswith("/audio/quote"):
            with pytest.raises(JobTakenOver) as caught:
                canceller.play(canceller.verbs.cancel("k"))
            refused.append(caught.value)

    buyer.http.event_hooks = {"request": [cancel]}
    assert buyer.generate(job_id="k").completed
    (told,) = refused
    assert (told.job_id, told.money_moved) == ("k", "unknown")


def test_two_who_ask_for_the_same_at_the_same_instant_buy_it_once(
    stage: OpenStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have looked for an equal open job, and there was none; the second stores its own a moment later."""
    shop = stage(credit=CREDIT)
    first, second = shop.shopper(), shop.shopper()

    def buy() -> None:
        with pytest.raises(JobTimedOut):
            first.generate(timeout=1)

    before_first(monkeypatch, "add_job", buy)
    with pytest.raises(OpenJobExists) as caught:
        second.generate()
    (job,) = shop.jobs
    assert first.resume(caught.value.job_id).queue_id == job["queue_id"]
