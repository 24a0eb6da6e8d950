"""What limits mean: merging them, naming them, windows in buckets, and what each hold adds to which counter.

Pure: knows no store. A rolling window is the sum of whole buckets that touch it, so it may count a moment too long
and never too little.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import floor
from typing import Final, Literal, NamedTuple

from x402_audio.errors import LedgerError
from x402_audio.ledger.book import LIVE, PURSES, HoldKind, HoldState, Limit, Purse, Window
from x402_audio.money import ZERO, Usdc

Period = Literal["held", "ever", "month", "day", "hour"]

LENGTH_S: Final = {"day": 86_400, "hour": 3_600}
BUCKET_S: Final = {"day": 300, "hour": 10}
REFUNDABLE: Final[frozenset[Purse]] = frozenset({"jobs", "credit", "account"})
"""Purses whose total a refund lowers: it returns to the seller's credit, never to the wallet."""

SETTINGS: Final[Mapping[str, tuple[Purse, Window, Usdc | None]]] = {
    "MAX_PER_PAYMENT": ("jobs", "payment", Usdc(1_000_000)),
    "MAX_PER_JOB": ("jobs", "job", Usdc(1_000_000)),
    "MAX_PER_HOUR": ("jobs", "hour", Usdc(5_000_000)),
    "MAX_PER_DAY": ("jobs", "day", Usdc(5_000_000)),
    "MAX_PER_MONTH": ("jobs", "month", Usdc(50_000_000)),
    "MAX_TOTAL": ("wallet", "ever", None),
    "MAX_TOP_UP": ("top-ups", "payment", ZERO),
    "MAX_TOP_UP_PER_DAY": ("top-ups", "day", None),
    "APPROVE_ABOVE": ("jobs", "unasked", None),
}
"""What each setting limits, and its built-in default. MAX_TOP_UP_PER_DAY follows MAX_TOP_UP (`top_ups_per_day`);
APPROVE_ABOVE looks at top-ups too."""

DEFAULTS: Final = tuple(
    Limit(purse, window, amount) for purse, window, amount in SETTINGS.values() if amount is not None
)
"""What stands where nobody wrote a limit."""

TIMED: Final = frozenset({"hour", "day", "month", "ever"})
"""The windows that have a past."""
_NAMES: Final = {(purse, window): name for name, (purse, window, _) in SETTINGS.items()}
_SCOPES: Final = ("origin:", "payee:", "model:", "label:")


class Facts(NamedTuple):
    """What the counters need to know of one hold. Amounts in atomic units, times in ledger seconds."""

    state: HoldState
    amount: int
    counted_at: float | None
    refunded: int = 0
    overcharges: tuple[tuple[float, int], ...] = ()


class Use(NamedTuple):
    """What one purse has in use within one scope at one moment, atomic units."""

    held: int = 0
    ever: int = 0
    month: int = 0
    day: int = 0
    hour: int = 0

    def spent(self, window: Window) -> int:
        """Settled and presumed in that window; windows of one payment or job have none."""
        return int(getattr(self, window)) if window in TIMED else 0


@dataclass(frozen=True, slots=True)
class Concern:
    """The limits that concern one payment. asks: the smallest amount above which the owner is asked."""

    checked: tuple[Limit, ...]
    uses: frozenset[tuple[Purse, str]]
    """The purses, each within a scope, whose counters these limits look at."""
    asks: Limit | None
    labels: frozenset[str]
    """Labels that have a limit, whether or not it is this payment's."""


@lru_cache(maxsize=256)
def concerning(limits: tuple[Limit, ...], kind: HoldKind, scopes: tuple[str, ...]) -> Concern:
    """What of all these limits, merged, concerns a payment of that kind and with these scopes. Raises as `merge`."""
    merged = merge(limits)
    mine = [limit for limit in merged if limit.scope in scopes and _looks_at(limit, PURSES[kind])]
    asking = [limit for limit in mine if limit.window == "unasked"]
    checked = tuple(limit for limit in mine if limit.window != "unasked")
    return Concern(
        checked=checked,
        uses=frozenset((limit.purse, limit.scope) for limit in checked),
        asks=min(asking, key=lambda one: one.amount, default=None),
        labels=frozenset(limit.scope for limit in merged if limit.scope.startswith("label:")),
    )


def _looks_at(limit: Limit, purses: tuple[Purse, ...]) -> bool:
    """A threshold for jobs holds for what leaves the wallet as a top-up, too."""
    return limit.purse in purses or (limit.window == "unasked" and limit.purse == "jobs")


def merge(limits: Iterable[Limit]) -> list[Limit]:
    """The effective limit per (purse, scope, window): the smallest explicit one, the default only where none is.

    So a flag can raise a built-in default and nothing else. Raises LedgerError for a limit nobody could keep.
    """
    given = [checked(limit) for limit in limits]
    derived = top_ups_per_day(given)
    if derived is not None:
        given = [limit for limit in given if _key(limit) != _key(derived) or limit.source != "default"]
        given.append(derived)
    best: dict[tuple[Purse, str, Window], Limit] = {}
    for limit in given:
        known = best.get(_key(limit))
        if known is None or _rank(limit) < _rank(known):
            best[_key(limit)] = limit
    return list(best.values())


def top_ups_per_day(limits: Iterable[Limit]) -> Limit | None:
    """The day's default for top-ups: the owner's largest single one, else a flag's, else the built-in; None without any."""
    ones = [limit for limit in limits if _key(limit) == ("top-ups", "all", "payment")]
    first = min(
        ones, key=lambda one: (one.source == "default", one.source == "flag", one.amount), default=None
    )
    return None if first is None else Limit("top-ups", "day", first.amount)


def checked(limit: Limit) -> Limit:
    """The limit with its scope in the spelling the counters use.

    Raises LedgerError for an unknown scope, a negative amount, or a job window of a purse that knows no jobs.
    """
    if limit.scope != "all" and (not limit.scope.startswith(_SCOPES) or limit.scope.endswith(":")):
        raise LedgerError(f"a limit cannot have the scope {limit.scope!r}")
    if limit.amount < 0:
        raise LedgerError(f"a limit cannot be negative: {limit.amount}")
    if limit.window == "job" and limit.purse != "jobs":
        raise LedgerError(f"only the purse jobs has a limit per job, not {limit.purse}")
    if limit.scope.startswith("payee:") and limit.scope != limit.scope.lower():
        return Limit(limit.purse, limit.window, limit.amount, limit.scope.lower(), limit.source)
    return limit


@lru_cache(maxsize=256)
def scopes_of(*, origin: str, pay_to: str, model: str, label: str) -> tuple[str, ...]:
    """Every scope a hold with these fields counts in."""
    named = zip(_SCOPES, (origin, pay_to.lower(), model, label), strict=True)
    return ("all", *(kind + name for kind, name in named if name))


def name_of(limit: Limit) -> str:
    """The setting a person knows, with its scope, amount and source: `MAX_PER_DAY $5.00 (environment)`."""
    name = _NAMES.get((limit.purse, limit.window), f"{limit.purse} per {limit.window}")
    scope = "" if limit.scope == "all" else f" of {limit.scope}"
    return f"{name}{scope} {limit.amount} ({limit.source})"


@lru_cache(maxsize=64)
def buckets_at(at: float) -> tuple[tuple[Period, int], ...]:
    """The counters that money spent at that moment goes into."""
    return (("ever", 0), ("month", month_start(at)), ("day", bucket("day", at)), ("hour", bucket("hour", at)))


def bucket(period: Literal["day", "hour"], at: float) -> int:
    """Start of the bucket that holds the moment. A window ending at t begins with `bucket(period, t - length)`."""
    size = BUCKET_S[period]
    return floor(at / size) * size


def returns_at(period: Literal["day", "hour"], start: int) -> float:
    """When a bucket leaves its rolling window."""
    return float(start + BUCKET_S[period] + LENGTH_S[period])


def month_start(at: float) -> int:
    """Start of the moment's calendar month, UTC, Unix seconds."""
    return _month_of(floor(at / 86_400))


@lru_cache(maxsize=64)
def _month_of(day: int) -> int:
    from datetime import UTC, datetime

    date = datetime.fromtimestamp(day * 86_400, UTC)
    return int(datetime(date.year, date.month, 1, tzinfo=UTC).timestamp())


def next_month(at: float) -> int:
    """Start of the calendar month after the moment's, UTC, Unix seconds."""
    return month_start(month_start(at) + 32 * 86_400)


def parts(facts: Facts, purse: Purse) -> Iterator[tuple[Period, int, int]]:
    """What one hold adds to a purse's counters: (period, start, amount). The only definition of it."""
    if facts.state in LIVE:
        yield "held", 0, facts.amount
    elif facts.state in ("settled", "presumed"):
        if facts.counted_at is None:
            raise LedgerError("a hold counts as spent but not since when")
        for period, start in buckets_at(facts.counted_at):
            yield period, start, facts.amount
    for at, amount in facts.overcharges:
        for period, start in buckets_at(at):
            yield period, start, amount
    if facts.refunded and purse in REFUNDABLE:
        yield "ever", 0, -facts.refunded


def difference(before: Facts | None, after: Facts, purse: Purse) -> dict[tuple[Period, int], int]:
    """How the counters of a purse change when a hold goes from one state to the next."""
    change: dict[tuple[Period, int], int] = {}
    for period, start, amount in parts(after, purse):
        change[period, start] = change.get((period, start), 0) + amount
    if before is not None:
        for period, start, amount in parts(before, purse):
            change[period, start] = change.get((period, start), 0) - amount
    return {key: amount for key, amount in change.items() if amount}


def _key(limit: Limit) -> tuple[Purse, str, Window]:
    return limit.purse, limit.scope, limit.window


def _rank(limit: Limit) -> tuple[bool, int]:
    return limit.source == "default", int(limit.amount)
