"""Limits that are merged once and counters that purses share: they give what the plain computation gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, cast, get_args

from hypothesis import given
from hypothesis import strategies as st

from x402_audio.ledger import limits as rules
from x402_audio.ledger import spending
from x402_audio.ledger.book import PURSES, HoldKind, HoldState, Limit, LimitSource, Purse, Window
from x402_audio.ledger.database import Transaction
from x402_audio.ledger.limits import Facts
from x402_audio.money import Usdc

KINDS: Final = st.sampled_from(sorted(PURSES))
SCOPES: Final = st.sampled_from(
    ["all", "origin:o", "origin:x", "payee:0xab", "payee:0xAB", "model:m", "label:l", "label:k"]
)
LIMITS: Final = st.builds(
    Limit,
    purse=st.sampled_from(get_args(Purse)),
    window=st.sampled_from(sorted(set(get_args(Window)) - {"job"})),
    amount=st.sampled_from([Usdc(0), Usdc(1), Usdc(5), Usdc(7)]),
    scope=SCOPES,
    source=st.sampled_from(get_args(LimitSource)),
)
TIMES: Final = st.floats(1.7e9, 1.71e9)
FACTS: Final = st.builds(
    Facts,
    state=st.sampled_from(get_args(HoldState)),
    amount=st.integers(1, 100),
    counted_at=TIMES,
    refunded=st.sampled_from([0, 0, 3]),
    overcharges=st.lists(st.tuples(TIMES, st.integers(1, 5)), max_size=2).map(tuple),
)


class Adds:
    """A transaction that only adds up what it is told."""

    def __init__(self) -> None:
        self.totals: Counter[tuple[Any, ...]] = Counter()

    def run(self, statement: str, values: Sequence[Any]) -> int:
        assert statement.count("?") == len(values)
        for at in range(0, len(values), 5):
            *key, amount = values[at : at + 5]
            self.totals[tuple(key)] += amount
        return len(values) // 5


@given(
    st.lists(LIMITS, max_size=6), KINDS, st.sampled_from(["o", "y"]), st.sampled_from(["0xAB", "0xcd", ""])
)
def test_what_concerns_a_payment_is_the_same_however_often_it_was_asked(
    limits: list[Limit], kind: HoldKind, origin: str, pay_to: str
) -> None:
    scopes = rules.scopes_of(origin=origin, pay_to=pay_to, model="m", label="l")
    merged = rules.merge(limits)
    purses = PURSES[kind]
    mine = [limit for limit in merged if limit.scope in scopes]
    asks = [one for one in mine if one.window == "unasked" and (one.purse in purses or one.purse == "jobs")]

    for _ in range(2):
        concern = rules.concerning(tuple(limits), kind, scopes)
        assert concern.checked == tuple(
            one for one in mine if one.window != "unasked" and one.purse in purses
        )
        assert (concern.asks is None) == (not asks)
        assert concern.asks is None or concern.asks.amount == min(one.amount for one in asks)
        assert concern.labels == {one.scope for one in merged if one.scope.startswith("label:")}


@given(KINDS, st.none() | FACTS, FACTS)
def test_every_purse_is_moved_from_what_the_hold_was_to_what_it_is(
    kind: HoldKind, before: Facts | None, after: Facts
) -> None:
    expected: Counter[tuple[Any, ...]] = Counter()
    for purse in PURSES[kind]:
        for scope in ("all", "origin:o"):
            for period, start, amount in rules.parts(after, purse):
                expected[purse, scope, period, start] += amount
            for period, start, amount in () if before is None else rules.parts(before, purse):
                expected[purse, scope, period, start] -= amount

    adds = Adds()
    spending.count(cast(Transaction, adds), kind, ("all", "origin:o"), before, after)
    assert adds.totals == {key: amount for key, amount in expected.items() if amount}
