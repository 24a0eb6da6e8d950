"""Looks at the books that read no more of the past than they tell of, and leave nothing out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ledger.desk import (
    NOON,
    ORIGIN,
    WALLET,
    SteppedClock,
    counted_random,
    draw,
    new_job,
    pay,
    signed,
    top_up,
    wish,
)
from tests.ledger.long_past import asked_of_the_books, dear, lengthen
from x402_audio.errors import LedgerError
from x402_audio.ledger.book import JobState
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc

OTHER = "https://other.example"


def _with_credit(ledger: SqliteLedger) -> None:
    for _ in range(2):
        ledger.record_reading(WALLET, ORIGIN, Usdc(50_000_000), diem=None, minimum_top_up=Usdc(0))


def test_recent_draws_are_the_undecided_ones_and_those_settled_since(
    ledger: SqliteLedger, clock: SteppedClock
) -> None:
    _with_credit(ledger)
    pay(ledger, draw(10))
    old, forgotten = signed(ledger, draw(10)), signed(ledger, draw(10))
    ledger.presume(forgotten, why="nobody knows")
    late = signed(ledger, draw(10))
    clock.at += 7_200
    _with_credit(ledger)
    ledger.settle(late, evidence="a row at the seller")
    new, waits = pay(ledger, draw(10)), ledger.reserve(draw(10), []).id
    ledger.void(signed(ledger, draw(10)), evidence="402")
    pay(ledger, wish(10))
    recent = ledger.recent_holds(WALLET, ORIGIN, "credit", since=NOON + 7_200)
    assert {hold.id for hold in recent} == {old, forgotten, late, new, waits}
    assert [hold.created_at for hold in recent] == sorted(hold.created_at for hold in recent)
    assert ledger.recent_holds(WALLET, OTHER, "credit", since=0) == []


def test_recent_top_ups_are_the_undecided_ones_and_those_settled_since(
    ledger: SqliteLedger, clock: SteppedClock
) -> None:
    ledger.deliver(pay(ledger, top_up()), "it shows")
    forgotten = signed(ledger, top_up())
    ledger.presume(forgotten, why="no RPC is set")
    clock.at += 7_200
    new = pay(ledger, top_up())
    ledger.deliver(new, "it shows")
    under_way = signed(ledger, top_up())
    recent = ledger.recent_holds(WALLET, ORIGIN, "topup", since=NOON + 7_200)
    assert {hold.id for hold in recent} == {forgotten, new, under_way}
    with pytest.raises(LedgerError):
        ledger.recent_holds(WALLET, ORIGIN, "direct", since=0)


def test_holds_made_after_a_moment_are_all_of_them_and_no_older_one(
    ledger: SqliteLedger, clock: SteppedClock
) -> None:
    first = pay(ledger, wish())
    clock.at += 100
    second, third = pay(ledger, wish()), pay(ledger, wish())
    assert [hold.id for hold in ledger.holds(made_after=NOON + 100)] == [second, third]
    assert [hold.id for hold in ledger.holds(made_after=0, wallet=WALLET)] == [first, second, third]
    assert ledger.holds(made_after=NOON + 500) == []
    assert ledger.holds(made_after=0, states=("signed",)) == []


def test_an_authorization_is_found_by_its_nonce_however_it_is_spelled(ledger: SqliteLedger) -> None:
    asked = wish(nonce="0x" + "ab" * 32)
    paid = pay(ledger, asked)
    pay(ledger, wish())
    where = (WALLET, asked.network, asked.asset)
    assert [hold.id for hold in ledger.holds_of(*where, ["0x" + "AB" * 32, "0x" + "cd" * 32])] == [paid]
    assert ledger.holds_of(WALLET, "eip155:84532", asked.asset, [asked.nonce]) == []


def test_the_last_jobs_to_end_are_told_by_when_they_ended(ledger: SqliteLedger, clock: SteppedClock) -> None:
    ends: dict[str, JobState] = {"a": "completed", "b": "failed", "c": "expired", "d": "failed"}
    for name in ("a", "b", "c", "d", "unbought", "open"):
        ledger.add_job(new_job(name))
        ledger.claim(name, "owner", 60)
        if name != "unbought":
            hold = signed(ledger, wish(job_id=name))
            ledger.queued(name, 1, hold, queue_id=f"q-{name}", due=NOON, evidence="receipt")
    ledger.move("unbought", 1, "failed")
    for name in ("d", "b", "a", "c"):
        clock.at += 10
        if ends[name] == "completed":
            ledger.move(name, 1, "saved")
        ledger.move(name, 1, ends[name])
    assert [job.id for job in ledger.last_ended(WALLET, ORIGIN, 3)] == ["c", "a", "b"]
    assert ledger.last_ended(WALLET, OTHER, 3) == []


def test_payments_that_were_answered_and_never_proven_are_not_read_again_with_each_new_one(
    path: Path, clock: SteppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seller that gives no receipt leaves every payment open until reconcile."""
    ledger = SqliteLedger(path, clock=clock, random=counted_random())
    ledger.deliver(signed(ledger, wish()), "answered")
    clock.at += 365 * 86_400
    lengthen(path, until=clock.at)
    with asked_of_the_books(monkeypatch) as asked:
        assert ledger.holds(wallet=WALLET, kind="topup", states=("signed",)) == []
        assert ledger.holds(wallet=WALLET, kind="credit", states=("reserved", "signed")) == []
        assert ledger.holds(wallet=WALLET, states=("reserved", "signed"), made_after=clock.at - 4_000) == []
    assert dear(path, asked) == []
    ledger.close()
