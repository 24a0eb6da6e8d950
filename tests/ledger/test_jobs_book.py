"""The life of a job in the books: idempotency, claims, transitions, and the one transaction that queues."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from tests.ledger.desk import DOLLAR, NOON, WALLET, SteppedClock, new_job, pay, signed, top_up, wish
from x402_audio.errors import AlreadyResolved, JobConflict, JobTakenOver, LedgerError, UnknownHold, UnknownJob
from x402_audio.ledger.book import JobRecord
from x402_audio.ledger.owner import owner_is_dead, this_owner
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc


def claimed(ledger: SqliteLedger, job_id: str = "jingle") -> JobRecord:
    ledger.add_job(new_job(job_id))
    job = ledger.claim(job_id, this_owner(), 60)
    assert job is not None
    return job


def queue(ledger: SqliteLedger, job: JobRecord) -> JobRecord:
    hold = signed(ledger, wish(job_id=job.id))
    return ledger.queued(job.id, job.epoch, hold, queue_id="q-1", due=NOON + 9, evidence="200")


def test_the_same_id_and_request_is_the_same_job(ledger: SqliteLedger) -> None:
    first, is_new = ledger.add_job(new_job())
    assert (first.state, first.attempts, is_new) == ("planned", 1, True)
    assert ledger.add_job(new_job(deadline=NOON + 1)) == (first, False)
    with pytest.raises(JobConflict):
        ledger.add_job(new_job(digest="another request"))
    with pytest.raises(UnknownJob):
        ledger.job("nothing")


@pytest.mark.parametrize("state", ["failed", "expired"])
@pytest.mark.parametrize("money", ["none", "void", "refunded", "settled", "live", "presumed"])
def test_an_ended_job_starts_anew_only_if_it_cost_nothing(
    ledger: SqliteLedger, state: Any, money: str
) -> None:
    job = claimed(ledger)
    if money != "none":
        hold = signed(ledger, wish(100, job_id="jingle"))
        if money == "void":
            ledger.void(hold, evidence="unused")
        if money == "presumed":
            ledger.presume(hold, why="no witness")
        if money in ("settled", "refunded"):
            ledger.settle(hold, evidence="receipt")
        if money == "refunded":
            ledger.refund(hold, DOLLAR, charge_id="r", why="failed")
    ended = ledger.move("jingle", job.epoch, state, why="over", queue_id="old", last_error="seller's words")
    again, is_new = ledger.add_job(new_job(deadline=NOON + 99_999, options='{"output":"x"}'))
    if money in ("none", "void", "refunded"):
        assert (is_new, again.state, again.attempts, again.queue_id) == (True, "planned", 2, "")
        assert (again.deadline, again.options, again.last_error) == (NOON + 99_999, '{"output":"x"}', "")
    else:
        assert (again, is_new) == (ended, False)


def test_a_job_is_cancelled_only_while_nothing_left_for_it(ledger: SqliteLedger) -> None:
    """However a buyer and a canceller race: the ledger's transaction decides."""
    job = claimed(ledger)
    hold = ledger.reserve(wish(100, job_id="jingle"), []).id
    ledger.depart(hold, b"header")
    with pytest.raises(LedgerError) as on_its_way:
        ledger.move("jingle", job.epoch, "cancelled")
    ledger.settle(hold, evidence="receipt")
    with pytest.raises(LedgerError) as paid:
        ledger.move("jingle", job.epoch, "cancelled")
    assert (on_its_way.value.money_moved, paid.value.money_moved) == ("unknown", "yes")
    ledger.refund(hold, DOLLAR, charge_id="r", why="failed")
    assert ledger.move("jingle", job.epoch, "cancelled").state == "cancelled"
    assert ledger.add_job(new_job())[1]
    assert ledger.verify() == []


def test_of_two_equal_wishes_without_an_id_one_becomes_a_job(
    ledger: SqliteLedger, clock: SteppedClock
) -> None:
    """Both looked before either wrote; the second gets the first's job."""
    first, is_new = ledger.add_job(new_job("one", digest="same"), similar_within_s=3600)
    assert is_new
    assert ledger.add_job(new_job("two", digest="same"), similar_within_s=3600) == (first, False)
    assert ledger.add_job(new_job("three", digest="other"), similar_within_s=3600)[1]
    assert ledger.add_job(new_job("four", digest="same"))[1], "asked for again on purpose"
    clock.at += 3601
    assert ledger.add_job(new_job("five", digest="same"), similar_within_s=3600)[1]


def test_a_parked_job_is_priced_anew_only_while_nothing_was_bought(ledger: SqliteLedger) -> None:
    job = claimed(ledger)
    ledger.move("jingle", job.epoch, "quoted", price=DOLLAR)
    ledger.move("jingle", job.epoch, "parked", parked_reason="funds")
    assert ledger.move("jingle", job.epoch, "planned").state == "planned"
    queue(ledger, job)
    ledger.move("jingle", job.epoch, "parked", parked_reason="time")
    with pytest.raises(LedgerError):
        ledger.move("jingle", job.epoch, "planned")
    assert ledger.verify() == []


def test_a_completed_job_is_returned_as_it_is(ledger: SqliteLedger) -> None:
    job = claimed(ledger)
    queue(ledger, job)
    ledger.move("jingle", job.epoch, "ready")
    ledger.move(
        "jingle", job.epoch, "saved", path="x.mp3", file_sha256="ab", file_bytes=7, content_type="audio/mpeg"
    )
    done = ledger.move("jingle", job.epoch, "completed")
    assert (done.path, done.file_sha256, done.file_bytes) == ("x.mp3", "ab", 7)
    assert ledger.add_job(new_job()) == (done, False)
    with pytest.raises(LedgerError):
        ledger.move("jingle", job.epoch, "failed")


def test_a_job_has_one_live_owner(ledger: SqliteLedger, clock: SteppedClock) -> None:
    ledger.add_job(new_job())
    first = ledger.claim("jingle", "boot:ns:1:1", 60)
    assert first is not None
    assert ledger.claim("jingle", "boot:ns:2:2", 60) is None
    assert ledger.claim("jingle", "boot:ns:1:1", 60) == first
    clock.at += 61
    second = ledger.claim("jingle", "boot:ns:2:2", 60)
    assert second is not None
    assert second.epoch == first.epoch + 1
    with pytest.raises(JobTakenOver):
        ledger.move("jingle", first.epoch, "quoted")
    with pytest.raises(JobTakenOver):
        ledger.wake("jingle", first.epoch, NOON)
    ledger.release("jingle", first.epoch)
    assert ledger.claim("jingle", "boot:ns:1:1", 60) is None
    ledger.release("jingle", second.epoch)
    third = ledger.claim("jingle", "boot:ns:1:1", 60)
    assert third is not None
    assert third.epoch == second.epoch + 1


def test_a_dead_owner_holds_nothing(ledger: SqliteLedger) -> None:
    ledger.add_job(new_job())
    code = "from x402_audio.ledger.owner import this_owner; print(this_owner())"
    dead = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          cwd=os.path.dirname(os.path.dirname(os.path.dirname(__file__)))).stdout.strip()  # fmt: skip
    assert ledger.claim("jingle", dead, 3_600) is not None
    assert owner_is_dead(dead)
    assert ledger.claim("jingle", this_owner(), 60) is not None


def test_only_a_provably_gone_process_is_dead() -> None:
    boot, namespace, pid, start = this_owner().split(":")
    assert not owner_is_dead(this_owner())
    assert owner_is_dead(f"{boot}:{namespace}:{pid}:{int(start) + 1}")
    assert owner_is_dead(f"{boot}:{namespace}:{2**22 + 1}:{start}")
    assert not owner_is_dead(f"other-boot:{namespace}:{pid}:1")
    assert not owner_is_dead(f"{boot}:1:{pid}:1")
    assert not owner_is_dead("nonsense")


def test_waking_and_moving_renew_the_lease(ledger: SqliteLedger, clock: SteppedClock) -> None:
    ledger.add_job(new_job())
    job = ledger.claim("jingle", "boot:ns:1:1", 60)
    assert job is not None
    for act in (
        lambda: ledger.wake("jingle", job.epoch, NOON + 500),
        lambda: ledger.move("jingle", job.epoch, "quoted"),
    ):
        clock.at += 50
        act()
        clock.at += 50
        assert ledger.claim("jingle", "boot:ns:2:2", 60) is None
    assert ledger.job("jingle").due == NOON + 500


@pytest.mark.parametrize(("start", "to"), [("planned", "queued"), ("planned", "completed"), ("quoted", "ready"),
                                           ("reserved", "saved"), ("planned", "ready")])  # fmt: skip
def test_a_job_cannot_jump(ledger: SqliteLedger, start: Any, to: Any) -> None:
    job = claimed(ledger)
    ledger.move("jingle", job.epoch, start)
    with pytest.raises(LedgerError):
        ledger.move("jingle", job.epoch, to)
    assert ledger.job("jingle").state == start


def test_a_parked_job_goes_on_where_it_stood(ledger: SqliteLedger) -> None:
    job = claimed(ledger)
    ledger.move("jingle", job.epoch, "quoted", price=DOLLAR)
    with pytest.raises(LedgerError):
        ledger.move("jingle", job.epoch, "parked")
    parked = ledger.move("jingle", job.epoch, "parked", parked_reason="funds", missing=Usdc(7))
    assert (parked.resume_state, parked.parked_reason, parked.missing) == ("quoted", "funds", 7)
    parked = ledger.move("jingle", job.epoch, "parked", parked_reason="owner")
    assert parked.resume_state == "quoted"
    with pytest.raises(LedgerError):
        ledger.move("jingle", job.epoch, "reserved")
    back = ledger.move("jingle", job.epoch, "quoted")
    assert (back.parked_reason, back.resume_state, back.missing, back.price) == (None, None, None, DOLLAR)


def test_parking_is_no_way_around_paying(ledger: SqliteLedger) -> None:
    job = claimed(ledger)
    with pytest.raises(LedgerError):
        ledger.move("jingle", job.epoch, "parked", parked_reason="time", resume_state="queued")


def test_a_move_changes_only_what_a_move_may(ledger: SqliteLedger) -> None:
    job = claimed(ledger)
    with pytest.raises(LedgerError):
        ledger.move("jingle", job.epoch, "quoted", wallet="0xother")
    with pytest.raises(LedgerError):
        ledger.move("jingle", job.epoch, "quoted", digest="other")


def test_a_job_is_queued_and_its_hold_settled_in_one_transaction(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = claimed(ledger)
    hold = signed(ledger, wish(job_id="jingle"))

    def broken(*_: object, **__: object) -> None:
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr("x402_audio.ledger.jobs_book._write", broken)
        with pytest.raises(LedgerError):
            ledger.queued("jingle", job.epoch, hold, queue_id="q-1", due=NOON, evidence="200")
    assert (ledger.hold(hold).state, ledger.job("jingle").state) == ("signed", "reserved")
    queued = ledger.queued(
        "jingle", job.epoch, hold, queue_id="q-1", due=NOON + 5, evidence="200", transaction="0x1"
    )
    assert (queued.state, queued.queue_id, queued.due, ledger.hold(hold).state) == (
        "queued",
        "q-1",
        NOON + 5,
        "settled",
    )
    assert queued.queued_at is not None
    settled, moved = ledger.events(subject=f"hold:{hold}")[-1], ledger.events(subject="job:jingle")[-1]
    assert (settled.to, moved.to, settled.at) == ("settled", "queued", moved.at)


def test_evidence_of_queueing_is_never_fenced(ledger: SqliteLedger) -> None:
    job = claimed(ledger)
    hold = signed(ledger, wish(job_id="jingle"))
    ledger.move("jingle", job.epoch, "failed", why="given up")
    queued = ledger.queued("jingle", job.epoch - 1, hold, queue_id="q-1", due=NOON, evidence="200")
    assert queued.state == "queued"
    assert ledger.queued("jingle", None, hold, queue_id="q-1", due=NOON + 77, evidence="200") == queued
    with pytest.raises(AlreadyResolved):
        ledger.queued("jingle", None, hold, queue_id="q-2", due=NOON, evidence="200")


def test_a_job_is_queued_after_a_witness_settled_first(ledger: SqliteLedger) -> None:
    job = claimed(ledger)
    hold = pay(ledger, wish(job_id="jingle"))
    assert (
        ledger.queued("jingle", job.epoch, hold, queue_id="q-1", due=NOON, evidence="200").state == "queued"
    )


def test_only_the_jobs_own_payment_queues_it(ledger: SqliteLedger) -> None:
    job = claimed(ledger)
    others = [signed(ledger, wish()), signed(ledger, top_up(job_id="jingle"))]
    for hold in others:
        with pytest.raises(LedgerError):
            ledger.queued("jingle", job.epoch, hold, queue_id="q-1", due=NOON, evidence="200")
    with pytest.raises(UnknownHold):
        ledger.queued("jingle", job.epoch, "nothing", queue_id="q-1", due=NOON, evidence="200")
    assert [ledger.hold(one).state for one in others] == ["signed", "signed"]


def test_a_job_is_reserved_while_it_has_an_undecided_payment(ledger: SqliteLedger) -> None:
    claimed(ledger)
    hold = ledger.reserve(wish(job_id="jingle"), [])
    assert ledger.job("jingle").state == "reserved"
    ledger.void(hold.id, evidence="never sent")
    assert ledger.job("jingle").state == "quoted"
    signed(ledger, top_up(job_id="jingle"))
    assert ledger.job("jingle").state == "quoted"


def test_presuming_a_jobs_payment_parks_it_for_a_person(ledger: SqliteLedger) -> None:
    job = claimed(ledger)
    ledger.move("jingle", job.epoch, "reserved")
    hold = signed(ledger, wish(job_id="jingle"))
    ledger.presume(hold, why="no witness")
    parked = ledger.job("jingle")
    assert (parked.state, parked.parked_reason, parked.resume_state) == ("parked", "human", "reserved")
    assert ledger.queued("jingle", None, hold, queue_id="q", due=NOON, evidence="found").state == "queued"


def test_jobs_are_listed_oldest_first(ledger: SqliteLedger) -> None:
    epochs = [claimed(ledger, name).epoch for name in ("one", "two", "three")]
    ledger.move("three", epochs[-1], "cancelled")
    ledger.add_job(new_job("other", wallet="0x" + "77" * 20))
    assert [one.id for one in ledger.jobs(wallet=WALLET)] == ["one", "two", "three"]
    assert [one.id for one in ledger.jobs(unfinished=True)] == ["one", "two", "other"]
    assert [one.id for one in ledger.jobs(states=["cancelled"])] == ["three"]
    assert [one.id for one in ledger.jobs(limit=1)] == ["one"]


def test_an_equal_open_job_is_found_while_young(ledger: SqliteLedger, clock: SteppedClock) -> None:
    job = claimed(ledger)
    clock.at += 3_000
    found = ledger.similar_open_job(job.digest, WALLET, 3_600)
    assert found is not None
    assert found.id == "jingle"
    assert ledger.similar_open_job(job.digest, "0x00", 3_600) is None
    clock.at += 700
    assert ledger.similar_open_job(job.digest, WALLET, 3_600) is None
    assert ledger.similar_open_job(job.digest, WALLET, 9_999) is not None
    ledger.move("jingle", job.epoch, "cancelled")
    assert ledger.similar_open_job(job.digest, WALLET, 9_999) is None
