"""Readings of a seller's balance, kept and judged against our own draws (`credit.py` has the arithmetic).

A presumed draw counts as undecided until a witness speaks. Knows no seller.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Final

from x402_audio.errors import InsufficientBalance, LedgerError
from x402_audio.ledger.book import Reading, Reserve
from x402_audio.ledger.credit import CHARGE_LAG_S, READING_AGE_MAX_S, Standing, available, judge
from x402_audio.ledger.database import Database, Row, Transaction, View
from x402_audio.money import ZERO, Usdc

_READING: Final = (
    "SELECT balance, diem, books, trust, fallen_by, read_at, minimum_top_up FROM reading"
    " WHERE wallet = ? AND origin = ?"
)
_UNDECIDED: Final = (
    "SELECT coalesce(sum(amount), 0) FROM hold WHERE kind = 'credit' AND state IN ('reserved', 'signed', 'presumed')"
    " AND wallet = ? AND origin = ?"
)
_DRAWN: Final = (
    "SELECT coalesce(sum(amount + overcharged), 0) FROM hold WHERE kind = 'credit' AND state = 'settled'"
    " AND wallet = ? AND origin = ? AND resolved_at >= ?"
)
_CREDITED: Final = (
    "SELECT coalesce(sum(amount), 0) FROM (SELECT amount FROM hold WHERE kind = 'topup' AND state = 'settled'"
    " AND wallet = ?1 AND origin = ?2 AND delivered_at IS NULL UNION ALL SELECT amount FROM hold WHERE kind = 'topup'"
    " AND state = 'settled' AND wallet = ?1 AND origin = ?2 AND +resolved_at >= ?3 AND delivered_at > ?3)"
)
_NOT_SHOWN: Final = (
    "SELECT id, amount, state FROM hold WHERE kind = 'topup' AND state = 'settled'"
    " AND wallet = ? AND origin = ? AND delivered_at IS NULL"
)
# Two branches for two indexes: whatever is presumed is rare, and one top-up of a wallet lives.
_PERHAPS_SHOWN: Final = (
    "SELECT id, amount, state FROM hold WHERE kind = 'topup' AND state IN ('reserved', 'signed') AND sends > 0"
    " AND wallet = ? AND origin = ? AND delivered_at IS NULL"
    " UNION ALL SELECT id, amount, state FROM hold WHERE state = 'presumed' AND +kind = 'topup'"
    " AND +wallet = ? AND +origin = ? AND delivered_at IS NULL"
)
_SHOWN: Final = "UPDATE hold SET delivered_at = ? WHERE id = ?"
# `+` keeps SQLite from any index but that of the job: unfinished jobs are few, settled holds may be a million.
_LATE: Final = (
    "SELECT coalesce(sum(hold.amount), 0) FROM job CROSS JOIN hold ON hold.job_id = job.id"
    " WHERE job.state NOT IN ('completed', 'failed', 'cancelled', 'expired')"
    " AND hold.kind = 'credit' AND +hold.state = 'settled' AND hold.late_charge = 1 AND hold.refunded = 0"
    " AND +hold.wallet = ? AND +hold.origin = ? AND hold.resolved_at < ?"
)
_JUST_ENDED: Final = (
    "SELECT coalesce(sum(hold.amount), 0) FROM job CROSS JOIN hold ON hold.job_id = job.id"
    " WHERE job.wallet = ?1 AND job.origin = ?2 AND job.state IN ('completed', 'failed', 'expired')"
    " AND job.queued_at IS NOT NULL AND job.updated_at >= ?3"
    " AND hold.kind = 'credit' AND +hold.state = 'settled' AND hold.late_charge = 1 AND hold.refunded = 0"
    " AND +hold.wallet = ?1 AND +hold.origin = ?2 AND hold.resolved_at < ?3"
)
"""A charge at the end may take as long to show as any other."""
_PUT: Final = (
    "INSERT INTO reading VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (wallet, origin) DO UPDATE SET"
    " balance = excluded.balance, diem = excluded.diem, books = excluded.books, trust = excluded.trust,"
    " fallen_by = excluded.fallen_by, read_at = excluded.read_at, minimum_top_up = excluded.minimum_top_up"
)


class CreditVerbs:
    """The part of the ledger that keeps readings."""

    _database: Database

    def record_reading(
        self, wallet: str, origin: str, balance: Usdc, *, diem: Usdc | None, minimum_top_up: Usdc
    ) -> Reading:
        """See `Ledger.record_reading`."""
        with self._database.transaction() as tx:
            previous = reading_in(tx, wallet, origin)
            recent = tx.now - CHARGE_LAG_S
            judged_with = partial(
                judge, None if previous is None else Standing(previous.books, previous.trust, previous.fallen_by),
                balance,
                drawn_since=ZERO if previous is None else _sum(tx, _DRAWN, wallet, origin, previous.read_at),
                may_lag=Usdc(sum(
                    _sum(tx, each, wallet, origin, recent) for each in (_DRAWN, _LATE, _JUST_ENDED)
                )),
                undecided=_sum(tx, _UNDECIDED, wallet, origin),
                risen_by=ZERO if previous is None else Usdc(balance - previous.balance),
            )  # fmt: skip
            since = tx.now if previous is None else previous.read_at
            credited = _sum(tx, _CREDITED, wallet, origin, since)
            top_ups = tx.all(_NOT_SHOWN, (wallet, origin))
            perhaps = tx.all(_PERHAPS_SHOWN, (wallet, origin) * 2)
            judged = judged_with(credited_since=credited, not_shown=_total(top_ups))
            if perhaps and not (top_ups and judged.holds_credit and judged.trust != "unconfirmed"):
                more = _total(perhaps)
                if_paid = judged_with(credited_since=credited + more, not_shown=_total(top_ups) + more)
                if if_paid.holds_credit:
                    judged, top_ups = if_paid, [*top_ups, *perhaps]
            if judged.holds_credit and judged.trust != "unconfirmed":
                _show(tx, wallet, top_ups, "its credit shows in the balance")
            return _keep(tx, wallet, origin, balance, diem, judged, tx.now, minimum_top_up, "read")

    def distrust_reading(self, wallet: str, origin: str, why: str) -> None:
        """See `Ledger.distrust_reading`."""
        with self._database.transaction() as tx:
            old = reading_in(tx, wallet, origin)
            if old is None or old.trust != "agreed":
                return
            doubted = Standing(old.books, "unconfirmed")
            _keep(tx, wallet, origin, old.balance, old.diem, doubted, old.read_at, old.minimum_top_up, why)

    def reading(self, wallet: str, origin: str) -> Reading | None:
        """See `Ledger.reading`; `available` is as of now."""
        with self._database.reading() as view:
            return reading_in(view, wallet, origin)

    def accept_reading(self, wallet: str, origin: str) -> None:
        """See `Ledger.accept_reading`. Raises LedgerError when there is no reading."""
        with self._database.transaction() as tx:
            old = reading_in(tx, wallet, origin)
            if old is None:
                raise LedgerError(
                    f"there is no reading of {origin} to accept", next_step="run: x402-audio balance"
                )
            late = _sum(tx, _LATE, wallet, origin, tx.now + 1)  # in the balance still, and spent
            accepted = Standing(Usdc(max(old.balance - late, 0)), "agreed")
            _keep(tx, wallet, origin, old.balance, old.diem, accepted, old.read_at, old.minimum_top_up,
                  "accepted: reconcile explained it")  # fmt: skip


def reading_in(view: View, wallet: str, origin: str) -> Reading | None:
    """The newest reading with what is available after every draw since."""
    row = view.one(_READING, (wallet, origin))
    if row is None:
        return None
    return _standing_now(view, wallet, origin, row)


def top_ups_shown(tx: Transaction, wallet: str, origin: str, why: str) -> None:
    """Every settled top-up there is served: another may be made when it is needed."""
    _show(tx, wallet, tx.all(_NOT_SHOWN, (wallet, origin)), why)


def _show(tx: Transaction, wallet: str, top_ups: Iterable[Row], why: str) -> None:
    for hold_id, amount, state in top_ups:
        tx.run(_SHOWN, (tx.now, hold_id))
        changed = {"delivered_at": tx.now}
        tx.event(wallet, f"hold:{hold_id}", state, state, amount=amount, why=why, set=changed)


def check_credit(tx: Transaction, wish: Reserve) -> None:
    """A fresh trusted reading covers the draw and the seller's floor. Raises InsufficientBalance (`reason` says why)."""
    found = reading_in(tx, wish.wallet, wish.origin)
    needed = wish.amount + wish.floor
    if found is None or tx.now - found.read_at > READING_AGE_MAX_S:
        raise _insufficient(wish.origin, found, needed, "stale", "no balance read within the last minute")
    if found.trust != "agreed":
        words = {"fallen": f"the balance fell by {found.fallen_by} more than our draws explain",
                 "unconfirmed": "the balance is not confirmed by a second reading"}  # fmt: skip
        raise _insufficient(wish.origin, found, needed, found.trust, words[found.trust])
    if found.available >= needed:
        return
    busy = _sum(tx, _DRAWN, wish.wallet, wish.origin, found.read_at) + _sum(
        tx, _UNDECIDED, wish.wallet, wish.origin
    )
    if found.diem is not None and found.diem - busy >= wish.amount:
        return
    raise _insufficient(wish.origin, found, needed, "short", f"credit {found.available} of {needed} needed")


def _insufficient(
    origin: str, found: Reading | None, needed: Usdc, reason: str, text: str
) -> InsufficientBalance:
    free = found.available if found else ZERO
    missing = Usdc(max(0, needed - free))
    least = found.minimum_top_up if found else ZERO
    return InsufficientBalance(
        f"{origin}: {text}", reason=reason, balance=free, needed=needed, missing=missing,
        suggested_top_up=Usdc(max(missing.ceil_to_cent(), least)) if missing else ZERO,
        next_step=None if reason == "short" else "read it again: x402-audio balance; then: x402-audio reconcile",
    )  # fmt: skip


def _keep(
    tx: Transaction, wallet: str, origin: str, balance: Usdc, diem: Usdc | None, standing: Standing, read_at: float,
    minimum: Usdc, why: str,
) -> Reading:  # fmt: skip
    row = {
        "balance": int(balance), "diem": None if diem is None else int(diem), "books": int(standing.books),
        "trust": standing.trust, "fallen_by": int(standing.fallen_by), "read_at": read_at,
        "minimum_top_up": int(minimum),
    }  # fmt: skip
    tx.run(_PUT, (wallet, origin, *row.values()))
    tx.event(wallet, f"reading:{origin}", "", standing.trust, amount=int(balance), why=why, set=row)
    return _standing_now(tx, wallet, origin, tuple(row.values()))


def _standing_now(view: View, wallet: str, origin: str, row: Row) -> Reading:
    balance, diem, books, trust, fallen_by, read_at, minimum = row
    free = available(
        Usdc(balance), Usdc(books),
        drawn_since=_sum(view, _DRAWN, wallet, origin, read_at), undecided=_sum(view, _UNDECIDED, wallet, origin),
    )  # fmt: skip
    return Reading(
        wallet=wallet, origin=origin, balance=Usdc(balance), diem=None if diem is None else Usdc(diem),
        books=Usdc(books), trust=trust, fallen_by=Usdc(fallen_by), read_at=read_at, minimum_top_up=Usdc(minimum),
        available=free,
    )  # fmt: skip


def _total(rows: Iterable[Row]) -> Usdc:
    return Usdc(sum(row[1] for row in rows))


def _sum(view: View, statement: str, *values: object) -> Usdc:
    row = view.one(statement, values)
    return Usdc(row[0]) if row else ZERO
