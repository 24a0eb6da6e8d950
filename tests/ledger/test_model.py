"""Random lives of many holds against a model that a child could check: a list, summed anew for every question."""

from __future__ import annotations

import random
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.ledger.desk import NOON, SteppedClock, counted_random, limit, top_up, wish
from x402_audio.errors import BudgetExceeded, PaymentRefused, PaymentUnsettled
from x402_audio.ledger.book import Limit
from x402_audio.ledger.limits import month_start
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc

LIMITS = [
    limit("jobs", "payment", 40), limit("jobs", "job", 60), limit("jobs", "hour", 100), limit("jobs", "day", 160),
    limit("jobs", "month", 250), limit("wallet", "ever", 700), limit("top-ups", "day", 90),
    limit("jobs", "hour", 70, scope="model:song"),
]  # fmt: skip
LENGTHS = {"hour": (3_600, 10), "day": (86_400, 300)}


@dataclass
class Paid:
    """One hold as the model knows it, cents."""

    id: str
    kind: str
    cents: int
    model: str
    job: str | None
    state: str = "reserved"
    counted_at: float = 0.0
    refunded: int = 0
    over: int = 0
    over_at: float = 0.0
    shown: bool = False

    def concerns(self, bound: Limit) -> bool:
        purses = ("jobs", "wallet") if self.kind == "direct" else ("top-ups", "wallet")
        return bound.purse in purses and bound.scope in ("all", f"model:{self.model}")


class Books(RuleBasedStateMachine):
    """Drives a ledger and the model with the same acts and asks them the same questions."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = SteppedClock()
        self.ledger = SqliteLedger(self.folder / "ledger.db", clock=self.clock, random=counted_random())
        self.paid: list[Paid] = []

    def used(self, bound: Limit, now: float, slack: bool = False, job: str | None = None) -> int:
        """Cents in use; with `slack` also what is at most one bucket too old."""
        total = 0
        for one in self.paid:
            if not one.concerns(bound) or (bound.window == "job" and (job is None or one.job != job)):
                continue
            spent = [(one.counted_at, one.cents)] if one.state in ("settled", "presumed") else []
            spent += [(one.over_at, one.over)]
            total += one.cents if one.state in ("reserved", "signed") else 0
            if bound.window in LENGTHS:
                length, bucket = LENGTHS[bound.window]
                oldest = now - length - (bucket if slack else 0)
                total += sum(cents for at, cents in spent if at > oldest)
            elif bound.window == "month":
                total += sum(cents for at, cents in spent if month_start(at) == month_start(now))
            else:
                total += sum(cents for _, cents in spent)
            if bound.window == "job" or (bound.window == "ever" and bound.purse == "jobs"):
                total -= one.refunded
        return total

    def room(self, new: Paid, slack: bool) -> bool:
        now = self.ledger.now()
        return all(
            new.cents * 10_000 <= bound.amount
            if bound.window == "payment"
            else (self.used(bound, now, slack, new.job) + new.cents) * 10_000 <= bound.amount
            for bound in LIMITS
            if new.concerns(bound)
        )

    def blocked(self, new: Paid) -> bool:
        live = ("reserved", "signed")
        if new.kind == "topup":
            return any(
                one.kind == "topup" and (one.state in live or (one.state == "settled" and not one.shown))
                for one in self.paid
            )
        return new.job is not None and any(
            one.job == new.job
            and (one.state in (*live, "presumed") or (one.state == "settled" and one.refunded < one.cents))
            for one in self.paid
        )

    def some(self, states: tuple[str, ...], pick: int) -> Paid | None:
        fitting = [one for one in self.paid if one.state in states]
        return fitting[pick % len(fitting)] if fitting else None

    @rule(cents=st.integers(1, 45), model=st.sampled_from(["song", "speech"]), job=st.sampled_from([None, "a", "b"]),
          kind=st.sampled_from(["direct", "direct", "topup"]))  # fmt: skip
    def reserve(self, cents: int, model: str, job: str | None, kind: str) -> None:
        new = Paid("", kind, cents, model, None if kind == "topup" else job)
        fields: dict[str, Any] = {"model": model, "job_id": new.job, "lease_s": 600}
        asked = wish(cents, **fields) if kind == "direct" else top_up(cents, **fields)
        try:
            hold = self.ledger.reserve(asked, LIMITS)
        except PaymentUnsettled:
            assert self.blocked(new)
        except BudgetExceeded:
            assert not self.blocked(new)
            assert not self.room(new, slack=True)
        except PaymentRefused:
            assert any(one.over for one in self.paid)
        else:
            assert not self.blocked(new)
            assert self.room(new, slack=False)
            new.id = hold.id
            self.paid.append(new)

    @rule(pick=st.integers(0, 99))
    def depart(self, pick: int) -> None:
        if one := self.some(("reserved",), pick):
            self.ledger.depart(one.id, b"header")
            one.state = "signed"

    @rule(pick=st.integers(0, 99), row=st.sampled_from(["", "row"]))
    def settle(self, pick: int, row: str = "") -> None:
        if one := self.some(("signed", "presumed"), pick):
            done = self.ledger.settle(one.id, evidence="receipt", charge_id=row)
            one.shown = bool(row)
            assert done.resolved_at is not None
            if one.state == "signed":
                one.counted_at = done.resolved_at
            one.state = "settled"

    @rule(pick=st.integers(0, 99))
    def show(self, pick: int) -> None:
        if one := self.some(("settled",), pick):
            self.ledger.deliver(one.id, "its credit shows")
            one.shown = True

    @rule(pick=st.integers(0, 99))
    def void(self, pick: int) -> None:
        if one := self.some(("reserved", "signed", "presumed"), pick):
            self.ledger.void(one.id, evidence="unused")
            one.state = "void"

    @rule(pick=st.integers(0, 99))
    def presume(self, pick: int) -> None:
        if one := self.some(("signed",), pick):
            done = self.ledger.presume(one.id, why="no witness")
            assert done.resolved_at is not None
            one.state, one.counted_at = "presumed", done.resolved_at

    @rule(pick=st.integers(0, 99), part=st.sampled_from([1, 2]))
    def refund(self, pick: int, part: int) -> None:
        one = self.some(("settled",), pick)
        if one and not one.refunded and one.cents // part:
            self.ledger.refund(one.id, Usdc(one.cents // part * 10_000), charge_id="r", why="failed")
            one.refunded = one.cents // part

    @precondition(lambda self: not any(one.over for one in self.paid))
    @rule(pick=st.integers(0, 99))
    def overcharge(self, pick: int) -> None:
        if one := self.some(("settled",), pick):
            self.ledger.overcharge(one.id, Usdc(50_000), charge_id="c", why="took more")
            one.over, one.over_at = 5, self.ledger.events(subject=f"hold:{one.id}")[-1].at

    @rule()
    def lift(self) -> None:
        for wallet, origin, _, _ in self.ledger.suspensions():
            self.ledger.lift(wallet, origin, "seller", "explained")

    @rule(
        seconds=st.sampled_from(
            [0.0, 1.0, 9.0, 299.0, 601.0, 3_599.0, 40_000.0, 86_399.0, 2_000_000.0, -500.0]
        )
    )
    def pass_time(self, seconds: float) -> None:
        self.clock.at = max(NOON, self.clock.at + seconds)

    @rule()
    def sweep(self) -> None:
        self.ledger.sweep()
        for one in self.paid:
            if one.state == "reserved":
                one.state = self.ledger.hold(one.id).state
                assert one.state in ("reserved", "void")

    @invariant()
    def totals_are_sums_of_their_entries(self) -> None:
        now = self.ledger.now()
        for found in self.ledger.allowances([one for one in LIMITS if one.window not in ("payment", "job")]):
            in_use = found.spent + found.held
            exact, loose = (self.used(found.limit, now, slack) * 10_000 for slack in (False, True))
            assert exact <= in_use <= loose

    def teardown(self) -> None:
        assert self.ledger.verify() == []
        self.ledger.close()
        shutil.rmtree(self.folder)


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=40, stateful_step_count=40)


@pytest.mark.parametrize("seed", range(5))
def test_a_long_life_keeps_to_the_model(seed: int) -> None:
    dice, books = random.Random(seed), Books()
    ends = ["settle", "settle", "settle", "void", "presume", "refund", "overcharge"]
    steps = [0.0, 1.0, 7.0, 290.0, 1_700.0, 3_599.0, 20_000.0, 300_000.0, -500.0]
    for _ in range(120):
        kind = dice.choice(["direct", "direct", "direct", "topup"])
        books.reserve(
            dice.randint(1, 45), dice.choice(["song", "speech"]), dice.choice([None, None, "a"]), kind
        )
        books.depart(dice.randrange(99))
        end = dice.choice(ends)
        if end == "refund":
            books.refund(dice.randrange(99), dice.choice([1, 1, 2]))
        elif end != "overcharge" or not any(one.over for one in books.paid):
            getattr(books, end)(dice.randrange(99))
        books.pass_time(dice.choice(steps))
        books.totals_are_sums_of_their_entries()
        if dice.random() < 0.7:
            books.show(dice.randrange(99))
        if dice.random() < 0.1:
            books.lift()
            books.sweep()
    books.teardown()
