"""The owner's leave for single payments: why one is wanted, asking for it, giving it, and spending it exactly once.

Wanting, granting and spending are each one transaction; spending is the reserving one. Knows no terminal: whether it
is the owner who grants is checked by the front.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Final

from x402_audio.errors import ApprovalWanted, PaymentRefused, UnknownApproval
from x402_audio.jsontext import write_json
from x402_audio.ledger.book import PURSES, Approval, Limit, Reserve
from x402_audio.ledger.chain_of_events import plain
from x402_audio.ledger.database import Database, Row, Transaction
from x402_audio.ledger.limits import name_of
from x402_audio.ledger.payees import may_be_any
from x402_audio.ledger.rows import insert_into, select
from x402_audio.money import Usdc

LIFE_S: Final = 15 * 60
CREEP_PERCENT: Final = 120
CREEP_WITHIN_S: Final = 30 * 86_400
APPROVAL_COLUMNS: Final = tuple(field.name for field in fields(Approval))
SELECT_APPROVAL: Final = select(APPROVAL_COLUMNS, "approval")
_INSERT: Final = insert_into("approval", APPROVAL_COLUMNS)
_BY_ID: Final = f"{SELECT_APPROVAL} WHERE id = ?"
_OF_PURCHASE: Final = f"{SELECT_APPROVAL} WHERE purchase = ? AND state = ? ORDER BY wanted_at"
_CHANGE: Final = "UPDATE approval SET state = ?, expires_at = ?, hold_id = ? WHERE id = ? AND state = ?"
_BOUND: Final = (
    "purchase", "job_id", "kind", "purse", "network", "environment", "origin", "request_digest", "model",
)  # fmt: skip
# By parts of five days, because the index then gives each part's lowest price at once, however many payments it has:
# thirty days touch seven.
_LOWEST: Final = """
    SELECT min((
        SELECT min(amount) FROM hold
        WHERE origin = ?1 AND model = ?2 AND size = ?3 AND environment = ?4
        AND CAST(coalesce(counted_at, delivered_at) / 432000 AS INTEGER) = CAST(?5 / 432000 AS INTEGER) + column1
        AND coalesce(counted_at, delivered_at) > ?5 AND amount < ?6
        AND size <> '' AND amount > 0 AND refunded = 0
        AND (state = 'settled' OR (state = 'signed' AND delivered_at IS NOT NULL))
    )) FROM (VALUES (0), (1), (2), (3), (4), (5), (6))
"""


class Unapproved(Exception):
    """Leaves the reserving transaction without a trace: what the owner is asked for is booked in one of its own."""

    def __init__(self, wanted: Approval) -> None:
        super().__init__()
        self.wanted = wanted


class ApprovalVerbs:
    """The part of the ledger that keeps approvals."""

    _database: Database

    def approvals(self, *, job_id: str | None = None, states: Sequence[str] = ()) -> list[Approval]:
        """See `Ledger.approvals`."""
        words, values = ["1"], list[str]()
        if job_id is not None:
            words.append("job_id = ?")
            values.append(job_id)
        if states:
            words.append(f"state IN ({', '.join('?' * len(states))})")
            values.extend(states)
        with self._database.reading() as view:
            rows = view.all(
                f"{SELECT_APPROVAL} WHERE {' AND '.join(words)} ORDER BY wanted_at, rowid", values
            )
        return [_approval(row) for row in rows]

    def approval(self, approval_id: str) -> Approval:
        """See `Ledger.approval`."""
        with self._database.reading() as view:
            row = view.one(_BY_ID, (approval_id,))
        if row is None:
            raise UnknownApproval(f"there is no approval {approval_id}")
        return _approval(row)

    def grant(self, approval_id: str) -> Approval:
        """See `Ledger.grant`. One that was granted before and not spent lives anew."""
        with self._database.transaction() as tx:
            row = tx.one(_BY_ID, (approval_id,))
            if row is None:
                raise UnknownApproval(f"there is no approval {approval_id}")
            before = _approval(row)
            if before.state not in ("wanted", "granted"):
                raise PaymentRefused(
                    f"the approval {approval_id} is {before.state}; one approval is one payment",
                    next_step="repeat the purchase to be asked anew",
                )
            return _change(tx, before, replace(before, state="granted", expires_at=tx.now + LIFE_S))


def reasons(tx: Transaction, wish: Reserve, asks: Limit | None) -> list[str]:
    """Why the owner must be asked for this payment; empty where not."""
    found = []
    if asks is not None and wish.amount > asks.amount:
        found.append(f"{wish.amount} is above {name_of(asks)}")
    lowest = _lowest_below(tx, wish)
    if lowest is not None:
        found.append(
            f"{wish.amount} is more than 20 % above the lowest price of 30 days, {lowest}, for {wish.model or 'the same'}"
            f" ({wish.size}) at {wish.origin}"
        )
    return found


def spend(tx: Transaction, wish: Reserve, why: Sequence[str], hold_id: str) -> Approval:
    """Spend the granted approval that names exactly this payment. Raises Unapproved where there is none."""
    wanted = _wanted(tx, wish, "; ".join(why))
    for row in tx.all(_OF_PURCHASE, (wanted.purchase, "granted")):
        given = _approval(row)
        if given.expires_at is None or given.expires_at <= tx.now or not _covers(given, wanted):
            continue
        return _change(tx, given, replace(given, state="spent", hold_id=hold_id))
    raise Unapproved(wanted)


def want(database: Database, wanted: Approval) -> ApprovalWanted:
    """Book that the owner is asked, once for the same payment; the refusal that says so."""
    with database.transaction() as tx:
        asked = None
        for row in tx.all(_OF_PURCHASE, (wanted.purchase, "wanted")):
            known = _approval(row)
            if _covers(known, wanted) and (known.amount, known.why) == (wanted.amount, wanted.why):
                asked = known
            elif known.kind == wanted.kind:
                _change(tx, known, replace(known, state="dropped"))
        if asked is None:
            asked = replace(wanted, id=tx.new_id("a"), wanted_at=tx.now)
            _insert(tx, asked)
    return refusal(asked)


def refusal(asked: Approval) -> ApprovalWanted:
    """The refusal that says what the owner is asked for and what to type."""
    name = asked.job_id or asked.id
    return ApprovalWanted(
        f"the owner is asked first: {asked.why}",
        approval_id=asked.id, job_id=asked.job_id, amount=int(asked.amount), pay_to=asked.pay_to, purse=asked.purse,
        origin=asked.origin, next_step=f"on a terminal, the owner may: x402-audio approve {name}",
    )  # fmt: skip


def forget_asked(tx: Transaction, wish: Reserve) -> None:
    """The payment is under way: whatever was asked for it is not asked any more."""
    for row in tx.all(_OF_PURCHASE, (_purchase_of(wish), "wanted")):
        known = _approval(row)
        if known.kind == wish.kind or wish.kind != "topup":
            _change(tx, known, replace(known, state="dropped"))


def size_of(wish: Reserve) -> str:
    """What the price of this payment depends on, to hold later prices against it; '' compares no prices."""
    return "" if wish.kind == "topup" else wish.size


def _lowest_below(tx: Transaction, wish: Reserve) -> Usdc | None:
    """The lowest price of 30 days for the same, if the wish has crept too far above it."""
    if not size_of(wish):
        return None
    alike = (wish.origin, wish.model, wish.size, wish.environment)
    too_low = -(-wish.amount * 100 // CREEP_PERCENT)  # of what is below it, the wish is more than 120 %
    row = tx.one(_LOWEST, (*alike, tx.now - CREEP_WITHIN_S, too_low))
    return None if row is None or row[0] is None else Usdc(row[0])


def _wanted(tx: Transaction, wish: Reserve, why: str) -> Approval:
    """What the owner is asked for. A seller with an address per payment has none that could be named."""
    import hashlib

    request = write_json([wish.method, wish.resource, wish.body_digest])
    return Approval(
        id="", state="wanted", purchase=_purchase_of(wish), job_id=wish.job_id, kind=wish.kind,
        purse=PURSES[wish.kind][-1], wallet=wish.wallet, network=wish.network, environment=wish.environment,
        origin=wish.origin, pay_to="" if may_be_any(tx, wish.origin, wish.network) else wish.pay_to,
        request_digest=hashlib.sha256(request.encode("utf-8", "surrogatepass")).hexdigest(), model=wish.model,
        amount=wish.amount, why=plain(why), wanted_at=0.0, expires_at=None, hold_id=None,
    )  # fmt: skip


def _purchase_of(wish: Reserve) -> str:
    """What stays the same when the same payment is asked for again."""
    if wish.job_id is not None:
        return f"job:{wish.job_id}"
    if wish.kind == "topup":  # named by its moment, because two equal ones are two
        return f"topup:{wish.origin}:{int(wish.amount)}"
    return wish.purchase


def _covers(given: Approval, wanted: Approval) -> bool:
    same = all(getattr(given, name) == getattr(wanted, name) for name in _BOUND)
    return (
        same
        and given.wallet.lower() == wanted.wallet.lower()
        and given.pay_to.lower() == wanted.pay_to.lower()
        and wanted.amount <= given.amount
    )


def _insert(tx: Transaction, approval: Approval) -> None:
    row = {name: getattr(approval, name) for name in APPROVAL_COLUMNS}
    tx.run(_INSERT, tuple(row.values()))
    tx.event(approval.wallet, f"approval:{approval.id}", "", "wanted", amount=approval.amount, why=approval.why,
             set=row)  # fmt: skip


def _change(tx: Transaction, before: Approval, after: Approval) -> Approval:
    done = tx.run(_CHANGE, (after.state, after.expires_at, after.hold_id, before.id, before.state))
    if done != 1:
        raise PaymentRefused(f"the approval {before.id} is not {before.state} any more")
    changed = {
        name: getattr(after, name)
        for name in ("state", "expires_at", "hold_id")
        if getattr(after, name) != getattr(before, name)
    }
    tx.event(
        before.wallet, f"approval:{before.id}", before.state, after.state, amount=before.amount, set=changed
    )
    return after


def _approval(row: Row) -> Approval:
    values = dict(zip(APPROVAL_COLUMNS, row, strict=True))
    values["amount"] = Usdc(values["amount"])
    return Approval(**values)
