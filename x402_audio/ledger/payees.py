"""Who may be paid at an origin, inside one transaction: the owner's setting, rows of the ledger, or the first pin.

A pin is written provisional with the first hold, made firm when money moved, dropped when it never can. Knows no
limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from x402_audio.errors import PayeeRefused
from x402_audio.ledger.book import Payee, PayeeRule
from x402_audio.ledger.chain_of_events import plain
from x402_audio.ledger.database import Transaction
from x402_audio.ledger.rows import UNDECIDED

_ROWS: Final = "SELECT address, state FROM payee WHERE origin = ? AND network = ?"
_ONE: Final = "SELECT state, how FROM payee WHERE origin = ? AND network = ? AND address = ?"
_PUT: Final = (
    "INSERT INTO payee VALUES (?, ?, ?, ?, ?) ON CONFLICT (origin, network, address)"
    " DO UPDATE SET state = excluded.state, how = excluded.how"
)
_DROP: Final = "DELETE FROM payee WHERE origin = ? AND network = ? AND address = ?"
_STILL_USED: Final = (
    f"SELECT 1 FROM hold WHERE rowid IN ({UNDECIDED}) AND origin = ? AND pay_to = ? AND network = ?"
    " AND kind IN ('direct', 'topup') LIMIT 1"
)
"""A settled one would have made the pin firm."""


def check(tx: Transaction, origin: str, network: str, pay_to: str, rule: PayeeRule, hold_id: str) -> None:
    """Raise PayeeRefused unless this address may be paid there; write the first pin where nothing is known.

    What the ledger knows for certain is changed by the owner alone: no setting and no flag overrides it.
    """
    address = pay_to.lower()
    rows = {row[0].lower(): row[1] for row in tx.all(_ROWS, (origin, network))}
    firm = {known: state for known, state in rows.items() if state != "provisional"}
    if rule.only is not None:
        _check_only(origin, pay_to, rule.only, firm)
    if address in firm or "any" in firm.values():
        return
    if firm:
        raise _refused(
            origin, pay_to, ", ".join(f"the {state} {known}" for known, state in sorted(firm.items()))
        )
    if rule.allowed and address in {one.lower() for one in rule.allowed}:
        return
    if rule.allowed:
        raise _refused(origin, pay_to, "the allowed " + ", ".join(sorted(rule.allowed)))
    if rows:
        if address not in rows:
            raise _refused(
                origin, pay_to, ", ".join(f"the {state} {known}" for known, state in sorted(rows.items()))
            )
    elif rule.expected is not None:
        if address != rule.expected.lower():
            raise _refused(origin, pay_to, f"the expected {rule.expected}")
    else:
        put(tx, Payee(origin, network, pay_to, "provisional", f"hold:{hold_id}"))


def may_be_any(tx: Transaction, origin: str, network: str) -> bool:
    """Whether the owner lets this origin name another address with every payment."""
    return any(row[1] == "any" for row in tx.all(_ROWS, (origin, network)))


def put(tx: Transaction, payee: Payee) -> None:
    """Write a row and its event."""
    row = tx.one(_ONE, (payee.origin, payee.network, payee.address))
    tx.run(_PUT, (payee.origin, payee.network, payee.address, payee.state, plain(payee.how)))
    tx.event("", f"payee:{payee.origin}", row[0] if row else "", payee.state, why=payee.how,
             network=payee.network, address=payee.address)  # fmt: skip


def drop(tx: Transaction, origin: str, network: str, address: str, why: str) -> None:
    """Remove a row with its event; nothing happens when there is none."""
    row = tx.one(_ONE, (origin, network, address))
    if row:
        tx.run(_DROP, (origin, network, address))
        tx.event("", f"payee:{origin}", row[0], "", why=why, network=network, address=address)


def make_firm(tx: Transaction, origin: str, network: str, address: str) -> None:
    """Money moved to it: a provisional pin becomes firm."""
    row = tx.one(_ONE, (origin, network, address))
    if row and row[0] == "provisional":
        put(tx, Payee(origin, network, address, "pinned", row[1]))


def drop_provisional(tx: Transaction, origin: str, network: str, address: str) -> None:
    """Nothing was paid: a provisional pin goes, unless another hold stands on it."""
    row = tx.one(_ONE, (origin, network, address))
    if row and row[0] == "provisional" and not tx.one(_STILL_USED, (origin, address, network)):
        drop(tx, origin, network, address, "the payment that pinned it was void")


def _check_only(origin: str, pay_to: str, only: str, firm: Mapping[str, str]) -> None:
    """One named address narrows: it must be what is asked for, and never another than is known for certain."""
    if firm and "any" not in firm.values() and only.lower() not in firm:
        known = ", ".join(f"{state} {address}" for address, state in sorted(firm.items()))
        raise PayeeRefused(
            f"{only} was named as payee, but {origin} has the {known}",
            next_step=f"on a terminal, the owner may: x402-audio payees pin {origin} {only}",
        )
    if pay_to.lower() != only.lower():
        raise PayeeRefused(
            f"{origin} asks to pay {pay_to}, not the {only} that was named",
            next_step="if that payee is right, name it or none: --payee",
        )


def _refused(origin: str, pay_to: str, instead: str) -> PayeeRefused:
    return PayeeRefused(
        f"{origin} asks to pay {pay_to}, not {instead}",
        next_step=f"if that payee is right, on a terminal, the owner may: x402-audio payees pin {origin} {pay_to}",
    )
