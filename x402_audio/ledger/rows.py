"""How the contract's records stand in rows: column lists, statements over them, and rows made into records again.

Knows no rule. Every name in a statement is ours; values are always bound."""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache
from typing import Any, Final

from x402_audio.ledger.book import Event, Hold, JobRecord
from x402_audio.money import Usdc

HOLD_COLUMNS: Final = Hold._fields[:-1]
"""All but `adopted`, which is no column."""
JOB_COLUMNS: Final = tuple(field.name for field in fields(JobRecord))
EVENT_COLUMNS: Final = (
    "seq",
    "at",
    "wallet",
    "subject",
    "from",
    "to",
    "amount",
    "why",
    "data",
    "previous_hash",
    "hash",
)
_HOLD_MONEY: Final = tuple(map(HOLD_COLUMNS.index, ("amount", "refunded", "overcharged")))
_LATE_CHARGE: Final = HOLD_COLUMNS.index("late_charge")
_JOB_MONEY: Final = ("price", "missing")


def quoted(columns: tuple[str, ...]) -> str:
    """Column names for a statement; some of them are words of SQL."""
    return ", ".join(f'"{column}"' for column in columns)


def select(columns: tuple[str, ...], table: str) -> str:
    return " ".join(("SELECT", quoted(columns), "FROM", table))


def insert_into(table: str, columns: tuple[str, ...]) -> str:
    places = ", ".join("?" * len(columns))
    return " ".join(("INSERT INTO", table, f"({quoted(columns)}) VALUES ({places})"))


@lru_cache(maxsize=256)
def update_by_id(table: str, columns: tuple[str, ...]) -> str:
    """Set these columns of the row whose id is the last value."""
    return " ".join(
        ("UPDATE", table, "SET", ", ".join(f'"{column}" = ?' for column in columns), "WHERE id = ?")
    )


SELECT_HOLD: Final = select(HOLD_COLUMNS, "hold")
UNDECIDED: Final = (
    "SELECT rowid FROM hold WHERE state IN ('reserved', 'signed') AND delivered_at IS NULL"
    " UNION ALL SELECT rowid FROM hold WHERE state = 'presumed' OR (state = 'signed' AND delivered_at IS NOT NULL)"
)
"""Every hold that is not decided, through the two indexes that hold no others."""
SELECT_JOB: Final = select(JOB_COLUMNS, "job")
SELECT_EVENT: Final = select(EVENT_COLUMNS, "event")
SELECT_HEADS: Final = (
    "SELECT wallet, hash FROM event WHERE seq IN (SELECT max(seq) FROM event GROUP BY wallet) ORDER BY wallet"
)
"""The newest hash of every chain, from the events themselves."""


def hold_from(row: tuple[Any, ...], *, adopted: bool = False) -> Hold:
    values = list(row)
    for at in _HOLD_MONEY:
        values[at] = Usdc(values[at])
    values[_LATE_CHARGE] = bool(values[_LATE_CHARGE])
    values.append(adopted)
    return Hold._make(values)


def job_from(row: tuple[Any, ...]) -> JobRecord:
    values = dict(zip(JOB_COLUMNS, row, strict=True))
    for name in _JOB_MONEY:
        values[name] = None if values[name] is None else Usdc(values[name])
    return JobRecord(**values)


def event_from(row: tuple[Any, ...]) -> Event:
    seq, at, wallet, subject, from_, to, amount, why, data, previous_hash, own_hash = row
    return Event(seq, at, wallet, subject, from_, to, Usdc(amount), why, data, previous_hash, own_hash)
