"""How the contract's records stand in rows: column lists, and rows made into records again. Knows no rule."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

from x402_audio.ledger.book import Event, Hold, JobRecord
from x402_audio.money import Usdc

HOLD_COLUMNS: Final = tuple(field.name for field in fields(Hold) if field.name != "adopted")
JOB_COLUMNS: Final = tuple(field.name for field in fields(JobRecord))
EVENT_COLUMNS: Final = ("seq", "at", "wallet", "subject", "from", "to", "amount", "why", "data", "previous_hash", "hash")
_HOLD_MONEY: Final = ("amount", "refunded", "overcharged")
_JOB_MONEY: Final = ("price", "missing")


def quoted(columns: tuple[str, ...]) -> str:
    """Column names for a statement; some of them are words of SQL."""
    return ", ".join(f'"{column}"' for column in columns)


SELECT_HOLD: Final = f"SELECT {quoted(HOLD_COLUMNS)} FROM hold"
SELECT_JOB: Final = f"SELECT {quoted(JOB_COLUMNS)} FROM job"
SELECT_EVENT: Final = f"SELECT {quoted(EVENT_COLUMNS)} FROM event"


def hold_from(row: tuple[Any, ...], *, adopted: bool = False) -> Hold:
    values = dict(zip(HOLD_COLUMNS, row, strict=True))
    for name in _HOLD_MONEY:
        values[name] = Usdc(values[name])
    values["late_charge"] = bool(values["late_charge"])
    return Hold(**values, adopted=adopted)


def job_from(row: tuple[Any, ...]) -> JobRecord:
    values = dict(zip(JOB_COLUMNS, row, strict=True))
    for name in _JOB_MONEY:
        values[name] = None if values[name] is None else Usdc(values[name])
    return JobRecord(**values)


def event_from(row: tuple[Any, ...]) -> Event:
    seq, at, wallet, subject, from_, to, amount, why, data, previous_hash, own_hash = row
    return Event(seq, at, wallet, subject, from_, to, Usdc(amount), why, data, previous_hash, own_hash)
