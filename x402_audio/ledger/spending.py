"""Limits and counters inside one transaction: what is in use, whether a wish fits, and keeping the counters exact.

Counters are derived from the holds (`limits.parts`) and written in the same transaction; a scope is counted from the
moment a limit first needs it, its past then being summed up once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from x402_audio.errors import BudgetExceeded, PaymentRefused
from x402_audio.ledger import limits as rules
from x402_audio.ledger.book import PURSES, Hold, HoldKind, Limit, Purse, Reserve
from x402_audio.ledger.database import Transaction, View
from x402_audio.ledger.limits import Facts, Period, Use
from x402_audio.money import Usdc

_OWN_LIMITS: Final = 'SELECT purse, scope, "window", amount FROM spending_limit'
_TRACKED: Final = "SELECT scope FROM tracked ORDER BY scope"
_IS_TRACKED: Final = "SELECT 1 FROM tracked WHERE scope = ?"
_TRACK: Final = "INSERT INTO tracked VALUES (?)"
_USE: Final = """
    SELECT (SELECT amount FROM use WHERE purse = ?1 AND scope = ?2 AND period = 'held' AND start = 0),
        (SELECT amount FROM use WHERE purse = ?1 AND scope = ?2 AND period = 'ever' AND start = 0),
        (SELECT amount FROM use WHERE purse = ?1 AND scope = ?2 AND period = 'month' AND start = ?3),
        (SELECT sum(amount) FROM use WHERE purse = ?1 AND scope = ?2 AND period = 'day' AND start >= ?4),
        (SELECT sum(amount) FROM use WHERE purse = ?1 AND scope = ?2 AND period = 'hour' AND start >= ?5)
"""
_BUCKETS: Final = (
    "SELECT start, amount FROM use WHERE purse = ? AND scope = ? AND period = ? AND start >= ? ORDER BY start"
)
_JOB_TOTAL: Final = (
    "SELECT coalesce(sum(CASE WHEN state = 'void' THEN 0 ELSE amount END + overcharged - refunded), 0)"
    " FROM hold WHERE job_id = ? AND kind <> 'topup'"
)
_HOLDS_OF: Final = {
    "all": "SELECT id, kind, state, amount, counted_at, refunded FROM hold",
    "origin": "SELECT id, kind, state, amount, counted_at, refunded FROM hold WHERE origin = ?",
    "payee": "SELECT id, kind, state, amount, counted_at, refunded FROM hold WHERE pay_to = ?",
    "model": "SELECT id, kind, state, amount, counted_at, refunded FROM hold WHERE model = ?",
    "label": "SELECT id, kind, state, amount, counted_at, refunded FROM hold WHERE label = ?",
}
_MARKED: Final = 'SELECT amount, at FROM mark WHERE purse = ? AND scope = ? AND "window" = ?'
_MARK: Final = (
    'INSERT INTO mark VALUES (?, ?, ?, ?, ?) ON CONFLICT (purse, scope, "window")'
    " DO UPDATE SET amount = excluded.amount, at = excluded.at"
)
SOFT_PERCENT: Final = 80
_OVERCHARGES: Final = "SELECT hold_id, at, amount FROM entry WHERE kind = 'overcharge'"


@dataclass(frozen=True, slots=True)
class Room:
    """What was checked for a wish: the limits that concern it and the scopes its counters go to."""

    checked: tuple[Limit, ...]
    scopes: tuple[str, ...]
    asks: Limit | None
    """The smallest amount above which the owner is asked."""
    nearly_used: tuple[tuple[Limit, int], ...]
    """Limits over time of which this wish leaves a fifth or less, and what is used of each then."""


def effective(tx: View, given: Sequence[Limit]) -> list[Limit]:
    """The given limits merged with the ledger's own."""
    return rules.merge([*given, *_own(tx)])


def _own(tx: View) -> list[Limit]:
    return [Limit(row[0], row[2], Usdc(row[3]), row[1], "ledger") for row in tx.all(_OWN_LIMITS)]


def check_room(tx: Transaction, wish: Reserve, given: Sequence[Limit]) -> Room:
    """Every limit that concerns the wish has room for it. Raises BudgetExceeded, or PaymentRefused by label."""
    scopes = rules.scopes_of(origin=wish.origin, pay_to=wish.pay_to, model=wish.model, label=wish.label)
    concern = rules.concerning((*given, *_own(tx)), wish.kind, scopes)
    if concern.labels and f"label:{wish.label}" not in concern.labels:
        raise PaymentRefused(f"the label {wish.label!r} has no limit, and labels are limited here",
                             next_step="use --label with one that has a limit: x402-audio budget")  # fmt: skip
    used = {}
    for purse, scope in concern.uses:
        if scope != "all":
            track(tx, scope)
        used[purse, scope] = use_of(tx, purse, scope)
    nearly, amount = [], int(wish.amount)
    for limit in concern.checked:
        if limit.window in rules.TIMED:
            use = used[limit.purse, limit.scope]
            spent, held = use.spent(limit.window), use.held
        else:
            spent, held = _spent_on_job(tx, wish) if limit.window == "job" else 0, 0
        after = spent + held + amount
        if after > limit.amount:
            _refuse_over(tx, limit, wish, spent, held)
        if after * 100 >= limit.amount * SOFT_PERCENT and _is_named_when_nearly_used(limit):
            nearly.append((limit, after))
    return Room(concern.checked, tracked(tx, scopes), concern.asks, tuple(nearly))


def _is_named_when_nearly_used(limit: Limit) -> bool:
    if limit.purse == "top-ups" and limit.source == "default":
        return False  # the day's default is one top-up: to name it with each would warn of nothing
    return limit.window in rules.TIMED and limit.amount > 0


def mark(tx: Transaction, nearly_used: Sequence[tuple[Limit, int]]) -> None:
    """Write down that limits are used to four fifths: once a window, and anew when the limit itself was changed."""
    for limit, used in nearly_used:
        key = (limit.purse, limit.scope, limit.window)
        row = tx.one(_MARKED, key)
        if row is None or row[0] != limit.amount or row[1] < _window_start(limit, tx.now):
            tx.run(_MARK, (*key, limit.amount, tx.now))
            tx.event("", "mark", "", "used", amount=limit.amount, key=list(key), source=limit.source,
                     why=f"{used * 100 // limit.amount} % of {rules.name_of(limit)} is used; {Usdc(limit.amount - used)} left")  # fmt: skip


def _window_start(limit: Limit, now: float) -> float:
    length = rules.LENGTH_S.get(limit.window)
    if length is not None:
        return now - length
    return rules.month_start(now) if limit.window == "month" else 0.0


def use_of(tx: Transaction, purse: Purse, scope: str) -> Use:
    """The counters of a purse within a scope, now."""
    row = tx.one(_USE, (
        purse, scope, rules.month_start(tx.now), rules.bucket("day", tx.now - rules.LENGTH_S["day"]),
        rules.bucket("hour", tx.now - rules.LENGTH_S["hour"]),
    ))  # fmt: skip
    return Use._make(amount or 0 for amount in row or ())


def oldest_return(tx: Transaction, limit: Limit, missing: int) -> float | None:
    """When so much of a window's spending has come back, Unix seconds; None when time alone does not bring it."""
    if limit.window == "month":
        spent = use_of(tx, limit.purse, limit.scope).month
        return float(rules.next_month(tx.now)) if 0 < missing <= spent else None
    if limit.window not in ("hour", "day"):
        return None
    period: Literal["hour", "day"] = limit.window
    first = rules.bucket(period, tx.now - rules.LENGTH_S[period])
    freed = 0
    for start, amount in tx.all(_BUCKETS, (limit.purse, limit.scope, period, first)):
        freed += amount
        if freed >= missing > 0:
            return rules.returns_at(period, start)
    return None


def tracked(tx: Transaction, scopes: Sequence[str]) -> tuple[str, ...]:
    """Those of a hold's scopes that have counters."""
    return tuple(scope for (scope,) in tx.all(_TRACKED) if scope in scopes)


def track(tx: Transaction, scope: str) -> None:
    """Keep counters for a scope from now on; its past is summed up here, once."""
    if tx.one(_IS_TRACKED, (scope,)):
        return
    tx.run(_TRACK, (scope,))
    for (purse, period, start), amount in recount(tx, scope).items():
        tx.run(_add(1), (purse, scope, period, start, amount))


def recount(tx: Transaction, scope: str) -> dict[tuple[Purse, Period, int], int]:
    """The counters of a scope as the holds say they must be."""
    kind, _, name = scope.partition(":")
    extra: dict[str, list[tuple[float, int]]] = {}
    for hold_id, at, amount in tx.all(_OVERCHARGES):
        extra.setdefault(hold_id, []).append((at, amount))
    totals: dict[tuple[Purse, Period, int], int] = {}
    for hold_id, hold_kind, state, amount, counted_at, refunded in tx.all(
        _HOLDS_OF[kind], (name,) if name else ()
    ):
        facts = Facts(state, amount, counted_at, refunded, tuple(extra.get(hold_id, ())))
        for purse in PURSES[hold_kind]:
            for period, start, part in rules.parts(facts, purse):
                totals[purse, period, start] = totals.get((purse, period, start), 0) + part
    return totals


def count(tx: Transaction, kind: HoldKind, scopes: Sequence[str], before: Facts | None, after: Facts) -> None:
    """Move every counter of a hold from what it was to what it is."""
    changes: dict[bool, dict[tuple[Period, int], int]] = {}
    values: list[str | int] = []
    refunds = bool(after.refunded or (before is not None and before.refunded))
    for purse in PURSES[kind]:
        lowered = refunds and purse in rules.REFUNDABLE  # without a refund all purses change alike
        if lowered not in changes:
            changes[lowered] = rules.difference(before, after, purse)
        for (period, start), amount in changes[lowered].items():
            for scope in scopes:
                values += purse, scope, period, start, amount
    if values:
        tx.run(_add(len(values) // 5), values)


@lru_cache(maxsize=64)
def _add(counters: int) -> str:
    """Add to so many counters at once."""
    rows = ", ".join(["(?, ?, ?, ?, ?)"] * counters)
    return (
        f"INSERT INTO use VALUES {rows}"
        " ON CONFLICT (purse, scope, period, start) DO UPDATE SET amount = amount + excluded.amount"
    )


def facts_of(hold: Hold, overcharges: tuple[tuple[float, int], ...] = ()) -> Facts:
    """A hold as the counters see it. `overcharges` are those not counted yet."""
    return Facts(hold.state, int(hold.amount), hold.counted_at, int(hold.refunded), overcharges)


def _spent_on_job(tx: Transaction, wish: Reserve) -> int:
    row = tx.one(_JOB_TOTAL, (wish.job_id,)) if wish.job_id is not None else None
    return int(row[0]) if row else 0


def _refuse_over(tx: Transaction, limit: Limit, wish: Reserve, spent: int, held: int) -> None:
    back = oldest_return(tx, limit, spent + held + int(wish.amount) - int(limit.amount))
    raise BudgetExceeded(
        f"over {rules.name_of(limit)}: spent {Usdc(spent)}, held {Usdc(held)}, needed {wish.amount}",
        next_step=_next_step(back, held),
        owner="human" if back is None else "time",
        retry="never" if back is None else "later",
        limit=rules.name_of(limit), amount=int(limit.amount), spent=spent, held=held, needed=int(wish.amount),
        returns_at=back,
    )  # fmt: skip


def _next_step(back: float | None, held: int) -> str:
    raising = "on a terminal, the owner may raise it: x402-audio budget set"
    if back is not None:
        from datetime import UTC, datetime

        return f"room comes back at {datetime.fromtimestamp(back, UTC):%Y-%m-%d %H:%M:%S} UTC; or {raising}"
    waiting = "wait until open payments are decided: x402-audio reconcile; or " if held else ""
    return waiting + raising
