"""The verbs of a hold: reserve, depart, settle, void, presume, refund, overcharge. One transaction each.

Knows the contract's order of checks; asks `spending` for limits, `payees` for pins, `credit_book` for credit. Knows
no wire, no signer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

from x402_audio.errors import (
    AlreadyResolved,
    Frozen,
    JobTakenOver,
    LedgerError,
    PaymentRefused,
    PaymentUnsettled,
    UnknownHold,
    UnknownJob,
)
from x402_audio.ledger import approvals, credit_book, payees, spending
from x402_audio.ledger.book import (
    ENDED_JOBS,
    LIVE,
    Approval,
    Event,
    Hold,
    HoldKind,
    HoldState,
    Limit,
    PayeeRule,
    Reserve,
)
from x402_audio.ledger.chain_of_events import digest, plain
from x402_audio.ledger.credit import TOLERANCE
from x402_audio.ledger.database import Database, Transaction
from x402_audio.ledger.limits import scopes_of
from x402_audio.ledger.rows import HOLD_COLUMNS, SELECT_HOLD, UNDECIDED, hold_from, insert_into, update_by_id
from x402_audio.ledger.trouble import RESTORE
from x402_audio.money import ZERO, Usdc

AMOUNT_MAX: Final = 10**15
"""A billion USD: more is a mistake, and would not fit the store's integers."""

_KEPT: Final = f"(refunded < amount AND (amount <= {int(TOLERANCE)} OR refunded < amount - {int(TOLERANCE)}))"
"""In words: not `is_given_back`."""
_BY_ID: Final = f"{SELECT_HOLD} WHERE id = ?"
_OPEN: Final = f"{SELECT_HOLD} WHERE wallet = ? AND purchase = ? AND state IN ('reserved', 'signed') AND delivered_at IS NULL"
# Two branches for two indexes; what is open stands in the way first.
_UNANSWERED: Final = (
    f"{SELECT_HOLD} WHERE wallet = ?1 AND purchase = ?2 AND state IN ('reserved', 'signed') AND delivered_at IS NULL"
    f" AND kind <> 'topup' UNION ALL {SELECT_HOLD} WHERE wallet = ?1 AND purchase = ?2 AND state IN ('settled', 'presumed')"
    f" AND delivered_at IS NULL AND kind <> 'topup' AND {_KEPT} LIMIT 1"
)
_NAMED: Final = (
    f"{SELECT_HOLD} WHERE wallet = ? AND purchase = ? AND substr(purchase, 1, 6) = 'named:'"
    f" AND state <> 'void' AND (state IN ('reserved', 'signed') OR {_KEPT}) LIMIT 1"
)
_BLOCKING: Final = (
    f"{SELECT_HOLD} WHERE job_id = ? AND kind <> 'topup' AND state <> 'void'"
    f" AND (state <> 'settled' OR {_KEPT}) ORDER BY created_at LIMIT 1"
)
_LIVE_TOPUP: Final = f"{SELECT_HOLD} WHERE wallet = ? AND kind = 'topup' AND state IN ('reserved', 'signed')"
_TOPUP_NOT_SHOWN: Final = f"{SELECT_HOLD} WHERE wallet = ? AND origin = ? AND kind = 'topup' AND state = 'settled' AND delivered_at IS NULL"
_TOPUP_SINCE: Final = (
    f"{SELECT_HOLD} WHERE wallet = ?1 AND origin = ?2 AND kind = 'topup' AND state = 'settled' AND resolved_at > ?3"
    f" UNION ALL {SELECT_HOLD} WHERE wallet = ?1 AND origin = ?2 AND kind = 'topup' AND state = 'settled'"
    " AND delivered_at > ?3 LIMIT 1"
)
"""Two branches for two indexes, as above."""
_TOPUP_OF_JOB: Final = "SELECT id FROM hold WHERE job_id = ? AND kind = 'topup' AND state <> 'void' LIMIT 1"
_ENDED_LEASES: Final = f"{SELECT_HOLD} WHERE state IN ('reserved', 'signed') AND delivered_at IS NULL AND +state = 'reserved' AND lease_until < ?"
_UNDECIDED_STATES: Final = frozenset({"reserved", "signed", "presumed"})
_DRAWS: Final = "kind = 'credit' AND state IN ('reserved', 'signed', 'presumed')"
_LIVE_TOPUPS: Final = "kind = 'topup' AND state IN ('reserved', 'signed')"
_BEFORE: Final = "SELECT rowid FROM hold WHERE created_at < ? ORDER BY rowid DESC LIMIT 1"
"""Rows come in order of time: from the newest back to the first that is older."""
_RECENT_DRAWS: Final = (
    f"{SELECT_HOLD} WHERE {_DRAWS} AND wallet = ?1 AND origin = ?2 UNION ALL {SELECT_HOLD}"
    " WHERE kind = 'credit' AND state = 'settled' AND wallet = ?1 AND origin = ?2 AND resolved_at >= ?3"
)
_RECENT_TOPUPS: Final = (
    f"{SELECT_HOLD} WHERE {_LIVE_TOPUPS} AND wallet = ?1 AND +origin = ?2 UNION ALL {SELECT_HOLD}"
    " WHERE state = 'presumed' AND +kind = 'topup' AND +wallet = ?1 AND +origin = ?2 UNION ALL"
    f" {SELECT_HOLD} WHERE kind = 'topup' AND state = 'settled' AND wallet = ?1 AND origin = ?2 AND resolved_at >= ?3"
)
_RECENT: Final[Mapping[str, str]] = {"credit": _RECENT_DRAWS, "topup": _RECENT_TOPUPS}
_BY_NONCE: Final = (
    f"{SELECT_HOLD} WHERE network = ? AND asset = ? AND wallet = ? AND nonce = ? AND nonce <> ''"
)
_JOB_EPOCH: Final = "SELECT epoch FROM job WHERE id = ?"
_JOB_STATE: Final = "SELECT wallet, state, resume_state FROM job WHERE id = ?"
_SET_JOB_STATE: Final = "UPDATE job SET state = ?, updated_at = ? WHERE id = ?"
_PARK_JOB: Final = (
    "UPDATE job SET state = 'parked', parked_reason = 'human', resume_state = ?, updated_at = ? WHERE id = ?"
)
_BRAKE: Final = "SELECT why FROM brake WHERE what = 'freeze'"
_SUSPENDED: Final = "SELECT why FROM suspension WHERE wallet = ? AND origin = ? AND what = ?"
_BRAKED: Final = (
    "SELECT 1, why FROM brake WHERE what = 'freeze'"
    " UNION ALL SELECT 2, why FROM suspension WHERE wallet = ? AND origin = ? AND what = 'seller'"
)
_SUSPEND: Final = "INSERT OR IGNORE INTO suspension VALUES (?, ?, 'seller', ?)"
_INSERT: Final = insert_into("hold", (*HOLD_COLUMNS, "lease_until", "size"))
CHANGING: Final = (
    "state", "envelope", "sends", "sent_at", "delivered_at", "resolved_at", "transaction", "charge_id", "evidence",
    "refunded", "overcharged", "counted_at",
)  # fmt: skip
"""The columns a verb may change; all others stand as they were committed."""
_STORE_HEADER: Final = (
    "INSERT INTO secret VALUES (?, ?) ON CONFLICT (hold_id) DO UPDATE SET bytes = excluded.bytes"
)
_HEADER: Final = "SELECT bytes FROM secret WHERE hold_id = ?"
_DROP_HEADER: Final = "DELETE FROM secret WHERE hold_id = ?"
_ENTRY: Final = "INSERT OR IGNORE INTO entry VALUES (?, ?, ?, ?, ?)"
_AT_BIRTH: Final[Mapping[str, object]] = {
    "delivered_at": None, "resolved_at": None, "transaction": "", "charge_id": "", "evidence": "", "refunded": 0,
    "overcharged": 0, "counted_at": None,
}  # fmt: skip
ENVELOPE: Final = "envelope"
"""The column that an event knows by its digest: the text is long, and stands in the hold."""
_SAID: Final = (
    "kind", "network", "asset", "environment", "origin", "pay_to", "nonce", "valid_after", "valid_before", "method",
    "resource", "body_digest", "purchase", "job_id", "model", "label", "late_charge",
)  # fmt: skip
"""What the first event of a hold says in words; the rest follows (`born`)."""
SAID_AT_BIRTH: Final = frozenset({*_SAID, ENVELOPE})
_said: Final = attrgetter(*_SAID)
_changing: Final = attrgetter(*CHANGING)
_SAME: Final = (
    "kind", "network", "asset", "environment", "origin", "pay_to", "amount", "method", "resource", "body_digest",
    "job_id",
)  # fmt: skip


class HoldVerbs:
    """The part of the ledger that keeps payments."""

    _database: Database

    def reserve(self, wish: Reserve, limits: Sequence[Limit], payee: PayeeRule | None = None) -> Hold:
        """See `Ledger.reserve`: check everything, then commit every field that will be signed."""
        _check_wish(wish)
        try:
            return self._reserve(wish, limits, payee)
        except approvals.Unapproved as asked:
            wanted = asked.wanted
        raise approvals.want(self._database, wanted)

    def _reserve(self, wish: Reserve, limits: Sequence[Limit], payee: PayeeRule | None) -> Hold:
        with self._database.transaction() as tx:
            alone = wish.job_id is None and wish.kind != "topup"
            row = tx.one(_standing(wish.purchase) if alone else _OPEN, (wish.wallet, wish.purchase))
            if row:
                return _adopt(hold_from(row, adopted=True), wish)
            _refuse_braked(tx, wish)
            _check_job(tx, wish)
            if wish.kind == "topup":
                _check_topup(tx, wish)
            hold_id = tx.new_id("h")
            if wish.kind in ("direct", "topup"):
                payees.check(tx, wish.origin, wish.network, wish.pay_to, payee or PayeeRule(), hold_id)
            room = spending.check_room(tx, wish, limits)
            if wish.kind == "credit":
                credit_book.check_credit(tx, wish)
            why = approvals.reasons(tx, wish, room.asks)
            approval = approvals.spend(tx, wish, why, hold_id) if why else None
            hold = _insert(tx, hold_id, wish, room, approval)
            approvals.forget_asked(tx, wish)
            spending.mark(tx, room.nearly_used)
            if wish.job_id is not None and wish.kind != "topup":
                _job_follows(tx, wish.job_id, ("planned", "quoted"), "reserved")
            return hold

    def depart(self, hold_id: str, header: bytes) -> Hold:
        """See `Ledger.depart`. The same header again counts as another sending; another header is a LedgerError."""
        with self._database.transaction() as tx:
            before = hold_in(tx, hold_id)
            frozen = frozen_in(tx)
            if before.state == "signed":
                if frozen is None and tx.one(_HEADER, (hold_id,)) == (header,):
                    return _change(tx, before, before.but(sends=before.sends + 1), why="sent again")
                raise _as_frozen(frozen) if frozen is not None else LedgerError(
                    f"the hold {hold_id} was signed with other bytes", money_moved="unknown", owner="reconcile")  # fmt: skip
            _must_be(before, "reserved")
            if frozen is None:
                tx.run(_STORE_HEADER, (hold_id, header))
                return _change(tx, before, before.but(state="signed", sends=1, sent_at=tx.now))
            _end(tx, before, "void", evidence="frozen before anything left")
        raise _as_frozen(frozen)

    def still_leaving(self, hold_id: str) -> None:
        """See `Ledger.still_leaving`."""
        frozen = self._database.glance(_BRAKE)
        if frozen is None:
            return
        with self._database.transaction() as tx:
            before = hold_in(tx, hold_id)
            alone = before.state == "signed" and before.sends == 1
            if alone:
                _end(tx, before, "void", evidence="frozen before anything left")
        raise _as_frozen(frozen[0], moved=not alone)

    def resend(self, hold_id: str) -> Hold:
        """See `Ledger.resend`. Refused while frozen (Frozen; the hold stays), but for what moved already."""
        with self._database.transaction() as tx:
            before = hold_in(tx, hold_id)
            if before.state != "settled":
                _must_be(before, "signed")
                refuse_frozen(tx, moved=True)
            return _change(tx, before, before.but(sends=before.sends + 1), why="sent again")

    def rewrap(self, hold_id: str, envelope: str, header: bytes) -> Hold:
        """See `Ledger.rewrap`. Refused while frozen (Frozen; the hold stays)."""
        with self._database.transaction() as tx:
            before = hold_in(tx, hold_id)
            _must_be(before, "signed")
            refuse_frozen(tx, moved=True)
            tx.run(_STORE_HEADER, (hold_id, header))
            after = before.but(envelope=envelope, sends=before.sends + 1)
            return _change(tx, before, after, why="the same authorization in another envelope")

    def header_of(self, hold_id: str) -> bytes | None:
        """See `Ledger.header_of`."""
        with self._database.reading() as view:
            row = view.one(_HEADER, (hold_id,))
        header = bytes(row[0]) if row else None
        if header is not None and not all(32 <= byte < 127 for byte in header):
            raise LedgerError(f"the header stored with {hold_id} is damaged", next_step=RESTORE)
        return header

    def deliver(self, hold_id: str, why: str) -> Hold:
        """See `Ledger.deliver`. A second time changes nothing."""
        with self._database.transaction() as tx:
            return deliver_in(tx, hold_in(tx, hold_id), why)

    def take_back(self, hold_id: str, why: str) -> Hold:
        """See `Ledger.take_back`. A top-up is served by its credit: it is no answer's."""
        with self._database.transaction() as tx:
            before = hold_in(tx, hold_id)
            if before.delivered_at is None or before.kind == "topup" or before.state == "void":
                return before
            return _change(tx, before, before.but(delivered_at=None), why=why)

    def settle(
        self,
        hold_id: str,
        *,
        evidence: str,
        transaction: str = "",
        charge_id: str = "",
        delivered: bool = True,
    ) -> Hold:
        """See `Ledger.settle`. Evidence for a hold that was only reserved is booked too: a fact is a fact."""
        with self._database.transaction() as tx:
            before = hold_in(tx, hold_id)
            return settle_in(
                tx,
                before,
                evidence=evidence,
                transaction=transaction,
                charge_id=charge_id,
                delivered=delivered,
            )

    def trace(self, hold_id: str, *, transaction: str, evidence: str) -> Hold:
        """See `Ledger.trace`."""
        with self._database.transaction() as tx:
            before = hold_in(tx, hold_id)
            _must_be(before, "settled")
            if before.transaction == transaction:
                return before
            after = before.but(transaction=transaction, evidence=plain(evidence))
            return _change(tx, before, after, why=evidence)

    def void(self, hold_id: str, *, evidence: str, unsigned: bool = False, sends: int | None = None) -> Hold:
        """See `Ledger.void`."""
        with self._database.transaction() as tx:
            before = hold_in(tx, hold_id)
            _must_be(before, *(("reserved",) if unsigned else ("reserved", "signed", "presumed")))
            if sends is not None and before.sends != sends:
                raise LedgerError(f"the hold {hold_id} was sent {before.sends} times, not {sends}",
                                  money_moved="unknown", owner="reconcile")  # fmt: skip
            return _end(tx, before, "void", evidence=evidence)

    def presume(self, hold_id: str, *, why: str) -> Hold:
        """See `Ledger.presume`."""
        with self._database.transaction() as tx:
            before = hold_in(tx, hold_id)
            _must_be(before, "signed")
            if before.job_id is not None:
                _park_for_human(tx, before.job_id, why)
            return _end(tx, before, "presumed", evidence=why)

    def refund(self, hold_id: str, amount: Usdc, *, charge_id: str, why: str) -> Hold:
        """See `Ledger.refund`. A second refund is AlreadyResolved; more than the charge counts as the charge."""
        with self._database.transaction() as tx:
            before = hold_in(tx, hold_id)
            _must_be(before, "settled")
            given = Usdc(min(amount, before.amount + before.overcharged))
            if given <= 0:
                raise LedgerError(f"a refund cannot be {amount}")
            if before.refunded or not tx.run(_ENTRY, (hold_id, "refund", charge_id, tx.now, given)):
                raise AlreadyResolved(f"the hold {hold_id} was refunded before", money_moved="yes")
            return _change(tx, before, before.but(refunded=given), moved=given, why=why, entry=[
                "refund", charge_id])  # fmt: skip

    def overcharge(self, hold_id: str, amount: Usdc, *, charge_id: str, why: str) -> Hold:
        """See `Ledger.overcharge`. The same charge twice is AlreadyResolved."""
        with self._database.transaction() as tx:
            before = hold_in(tx, hold_id)
            _must_be(before, "settled", "presumed")
            if not 0 < amount <= AMOUNT_MAX:
                raise LedgerError(f"an overcharge cannot be {amount}")
            if not tx.run(_ENTRY, (hold_id, "overcharge", charge_id, tx.now, amount)):
                raise AlreadyResolved(
                    f"that overcharge of the hold {hold_id} is booked already", money_moved="yes"
                )
            after = before.but(overcharged=before.overcharged + amount)
            done = _change(tx, before, after, moved=amount, why=why, extra=((tx.now, int(amount)),), entry=[
                "overcharge", charge_id])  # fmt: skip
            if tx.run(_SUSPEND, (before.wallet, before.origin, plain(why))):
                tx.event(
                    before.wallet, f"suspension:{before.origin}", "", "suspended", why=why, what="seller"
                )
            return done

    def sweep(self) -> int:
        """See `Ledger.sweep`."""
        with self._database.transaction() as tx:
            ended = [hold_from(row) for row in tx.all(_ENDED_LEASES, (tx.now,))]
            for hold in ended:
                _end(tx, hold, "void", evidence="its lease ended before anything was signed")
            return len(ended)

    def hold(self, hold_id: str) -> Hold:
        """See `Ledger.hold`. Raises UnknownHold."""
        with self._database.reading() as view:
            row = view.one(_BY_ID, (hold_id,))
        if row is None:
            raise UnknownHold(f"there is no hold {hold_id}")
        return hold_from(row)

    def open_hold(self, wallet: str, purchase: str) -> Hold | None:
        """See `Ledger.open_hold`."""
        with self._database.reading() as view:
            row = view.one(_OPEN, (wallet, purchase))
        return hold_from(row) if row else None

    def unanswered(self, wallet: str, purchase: str) -> Hold | None:
        """See `Ledger.unanswered`."""
        row = self._database.glance(_standing(purchase), (wallet, purchase))
        return hold_from(row) if row else None

    def holds(
        self,
        *,
        wallet: str | None = None,
        job_id: str | None = None,
        states: Sequence[str] = (),
        kind: str | None = None,
        made_after: float | None = None,
    ) -> list[Hold]:
        """See `Ledger.holds`. Oldest first."""
        words, values = ["1"], list[str | float]()
        of_wallet = "+wallet"
        if made_after is not None:
            words.append(f"rowid > coalesce(({_BEFORE}), 0)")
            values.append(made_after)
        elif job_id is None and states and _UNDECIDED_STATES.issuperset(states):
            if wallet is not None and kind == "credit":
                words.append(_DRAWS)
                of_wallet = "wallet"
            elif wallet is not None and kind == "topup" and LIVE.issuperset(states):
                words.append(_LIVE_TOPUPS)
                of_wallet = "wallet"
            else:
                words.append(f"rowid IN ({UNDECIDED})")
        for column, value in ((of_wallet, wallet), ("job_id", job_id), ("+kind", kind)):
            if value is not None:
                words.append(f"{column} = ?")
                values.append(value)
        if states:
            words.append(f"+state IN ({', '.join('?' * len(states))})")
            values.extend(states)
        with self._database.reading() as view:
            rows = view.all(f"{SELECT_HOLD} WHERE {' AND '.join(words)} ORDER BY rowid", values)
        return [hold_from(row) for row in rows]

    def recent_holds(self, wallet: str, origin: str, kind: HoldKind, *, since: float) -> list[Hold]:
        """See `Ledger.recent_holds`. Raises LedgerError for a kind that has no such look."""
        if kind not in _RECENT:
            raise LedgerError(f"recent holds are draws or top-ups, not {kind}")
        with self._database.reading() as view:
            rows = view.all(_RECENT[kind], (wallet, origin, since))
        return sorted(map(hold_from, rows), key=lambda hold: hold.created_at)

    def holds_of(self, wallet: str, network: str, asset: str, nonces: Iterable[str]) -> list[Hold]:
        """See `Ledger.holds_of`."""
        with self._database.reading() as view:
            found = [view.one(_BY_NONCE, (network, asset, wallet, nonce)) for nonce in nonces]
        return [hold_from(row) for row in found if row is not None]


def born(hold_id: str, event: Event) -> dict[str, object]:
    """The columns of a new hold that its first event says by its subject, state, amount and time."""
    leaves = event.to == "signed"
    return {
        **_AT_BIRTH, "id": hold_id, "state": event.to, "wallet": event.wallet, "amount": int(event.amount),
        "created_at": event.at, "sends": int(leaves), "sent_at": event.at if leaves else None,
    }  # fmt: skip


def hold_in(tx: Transaction, hold_id: str) -> Hold:
    """The hold as this transaction sees it. Raises UnknownHold."""
    row = tx.one(_BY_ID, (hold_id,))
    if row is None:
        raise UnknownHold(f"there is no hold {hold_id}")
    return hold_from(row)


def settle_in(
    tx: Transaction, before: Hold, *, evidence: str, transaction: str, charge_id: str, delivered: bool
) -> Hold:
    """Settle within a transaction that also does something else (a job becoming queued)."""
    _must_be(before, "reserved", "signed", "presumed")
    served = delivered and before.kind != "topup"  # paid, or a row that says so, is not yet a balance
    return _end(
        tx, before, "settled", evidence=evidence, transaction=transaction or before.transaction,
        charge_id=charge_id or before.charge_id, delivered_at=before.delivered_at or (tx.now if served else None),
    )  # fmt: skip


def _standing(purchase: str) -> str:
    """What asks for the hold that stands in a purchase's way: a name is bought once, a request until it is answered."""
    return _NAMED if purchase.startswith("named:") else _UNANSWERED


def deliver_in(tx: Transaction, before: Hold, why: str) -> Hold:
    """Note that what was paid was answered; once."""
    if before.delivered_at is not None:
        return before
    _must_be(before, "signed", "settled", "presumed")
    return _change(tx, before, before.but(delivered_at=tx.now), why=why)


def blocking_hold(tx: Transaction, job_id: str) -> Hold | None:
    """The hold that forbids the job another payment: live, presumed, or settled and not wholly refunded."""
    row = tx.one(_BLOCKING, (job_id,))
    return hold_from(row) if row else None


def frozen_in(tx: Transaction) -> str | None:
    """Why everything that spends is stopped, or None."""
    row = tx.one(_BRAKE)
    return str(row[0]) if row else None


def refuse_frozen(tx: Transaction, *, moved: bool = False) -> None:
    """Raise Frozen when the brake is on; `moved` when earlier bytes may have been paid."""
    why = frozen_in(tx)
    if why is not None:
        raise _as_frozen(why, moved=moved)


def _as_frozen(why: str | None, *, moved: bool = False) -> Frozen:
    return Frozen(f"spending is frozen: {why}", money_moved="unknown" if moved else "no")


def _refuse_braked(tx: Transaction, wish: Reserve) -> None:
    """Raise Frozen, or PaymentRefused where this seller alone is stopped."""
    for which, why in tx.all(_BRAKED, (wish.wallet, wish.origin)):
        raise _as_frozen(why) if which == 1 else _stopped("seller", wish.origin, why)


def _stopped(what: str, origin: str, why: str) -> PaymentRefused:
    return PaymentRefused(
        f"{what} stopped at {origin}: {why}",
        next_step=f"x402-audio reconcile; then, on a terminal, the owner may: x402-audio unfreeze {origin}",
    )


def paid_already(hold: Hold) -> PaymentRefused:
    """The refusal to buy what was bought already: it never came, or its name was to be bought once."""
    proof = hold.transaction or hold.charge_id
    if hold.delivered_at is not None:
        return PaymentRefused(
            f"the purchase of this name was paid ({hold.amount}) and answered already",
            money_moved="yes" if hold.state == "settled" else "unknown",
            next_step="use the answer you had; another purchase takes another name",
        )
    return PaymentRefused(
        f"{hold.amount} moved for this very request, and no answer came{f' ({proof})' if proof else ''}",
        money_moved="yes" if hold.state == "settled" else "unknown",
        next_step=f"ask {hold.origin} for what was bought; to buy it a second time give the purchase another name",
    )


def _check_wish(wish: Reserve) -> None:
    """Values that could not be booked exactly. Raises PaymentRefused."""
    least = 1 if wish.kind in ("direct", "topup") else 0
    if not least <= wish.amount <= AMOUNT_MAX:
        raise PaymentRefused(f"an amount of {int(wish.amount)} atomic units cannot be paid")
    if not wish.wallet or not wish.origin or not wish.purchase:
        raise PaymentRefused("a payment needs a wallet, an origin and a purchase")
    if wish.kind in ("direct", "topup") and not (wish.nonce and wish.pay_to and wish.valid_before > 0):
        raise PaymentRefused("an authorization needs a nonce, a payee and an end of validity")
    if wish.leaves and wish.kind != "direct":
        raise PaymentRefused("only a direct payment is committed and sent in one step")


def _adopt(open_hold: Hold, wish: Reserve) -> Hold:
    if open_hold.state not in LIVE or open_hold.delivered_at is not None:
        raise paid_already(open_hold)
    for name in _SAME:
        had, wanted = getattr(open_hold, name), getattr(wish, name)
        if had != wanted and not (name in ("pay_to", "asset") and had.lower() == wanted.lower()):
            raise _unsettled(open_hold, f"an open payment of the same purchase has another {name}")
    return open_hold


def _unsettled(hold: Hold, text: str) -> PaymentUnsettled:
    return PaymentUnsettled(
        f"{text} (hold {hold.id}, {hold.state}, {hold.amount})",
        money_moved="yes" if hold.state == "settled" else "unknown",
        hold_id=hold.id, nonce=hold.nonce, valid_before=hold.valid_before,
    )  # fmt: skip


def _check_job(tx: Transaction, wish: Reserve) -> None:
    if wish.job_id is None:
        return
    if wish.epoch is not None:
        row = tx.one(_JOB_EPOCH, (wish.job_id,))
        if row is None:
            raise UnknownJob(f"there is no job {wish.job_id}")
        if row[0] != wish.epoch:
            raise JobTakenOver(f"another process works on the job {wish.job_id}", money_moved="no",
                               job_id=wish.job_id, queue_id="")  # fmt: skip
    if wish.kind != "topup":
        other = blocking_hold(tx, wish.job_id)
        if other is not None:
            raise _unsettled(other, f"the job {wish.job_id} has a payment already")


def _check_topup(tx: Transaction, wish: Reserve) -> None:
    row = tx.one(_SUSPENDED, (wish.wallet, wish.origin, "top-ups"))
    if row:
        raise _stopped("top-ups", wish.origin, row[0])
    row = tx.one(_LIVE_TOPUP, (wish.wallet,))
    if row:
        raise _unsettled(hold_from(row), "another top-up of this wallet is under way")
    row = tx.one(_TOPUP_NOT_SHOWN, (wish.wallet, wish.origin))
    if row:
        raise _unsettled(hold_from(row), "the credit of an earlier top-up does not show yet")
    if wish.read_at is not None:
        row = tx.one(_TOPUP_SINCE, (wish.wallet, wish.origin, wish.read_at))
        if row:
            raise _unsettled(hold_from(row), "another program of this wallet has just topped up")
    row = tx.one(_TOPUP_OF_JOB, (wish.job_id,)) if wish.job_id is not None else None
    if row:
        raise PaymentRefused(f"the job {wish.job_id} had its top-up already ({row[0]})",
                             next_step="look at the credit: x402-audio balance; then: x402-audio reconcile")  # fmt: skip


def _insert(
    tx: Transaction, hold_id: str, wish: Reserve, room: spending.Room, approval: Approval | None
) -> Hold:
    hold = Hold(
        hold_id, wish.kind, "signed" if wish.leaves else "reserved", wish.wallet, wish.network, wish.asset,
        wish.environment, wish.origin, wish.pay_to, wish.amount, wish.nonce, wish.valid_after, wish.valid_before,
        wish.method, wish.resource, wish.body_digest, wish.purchase, wish.envelope, wish.job_id, wish.model, wish.label,
        sends=int(wish.leaves), created_at=tx.now, sent_at=tx.now if wish.leaves else None, delivered_at=None,
        resolved_at=None, transaction="", charge_id="", evidence="", refunded=ZERO, overcharged=ZERO,
        late_charge=wish.late_charge,
    )  # fmt: skip
    lease_until = None if wish.lease_s is None else tx.now + wish.lease_s
    tx.run(_INSERT, (*hold[:-1], lease_until, approvals.size_of(wish)))
    spending.count(tx, wish.kind, room.scopes, None, spending.facts_of(hold))
    concerned = room.checked if room.asks is None else (*room.checked, room.asks)
    tx.event(
        hold.wallet, f"hold:{hold_id}", "", hold.state, amount=hold.amount, floor=int(wish.floor),
        set={**dict(zip(_SAID, _said(hold), strict=True)), ENVELOPE: digest(hold.envelope)},
        limits=[[one.purse, one.scope, one.window, int(one.amount), one.source] for one in concerned],
        size=wish.size, approval="" if approval is None else approval.id,
    )  # fmt: skip
    return hold


def _end(tx: Transaction, before: Hold, to: HoldState, *, evidence: str, **said: Any) -> Hold:
    """One hold resolved: counters, secret, pin. `said`: what else the witness said, by field."""
    counted = None if to == "void" else before.counted_at if before.counted_at is not None else tx.now
    after = before.but(state=to, evidence=plain(evidence), resolved_at=tx.now, counted_at=counted, **said)
    done = _change(tx, before, after, why=evidence)
    tx.run(_DROP_HEADER, (before.id,))
    if to == "void" and before.job_id is not None and before.kind != "topup":
        _job_follows(tx, before.job_id, ("reserved",), "quoted")
    if before.kind in ("direct", "topup"):
        if to == "settled":
            payees.make_firm(tx, before.origin, before.network, before.pay_to)
        elif to == "void":
            payees.drop_provisional(tx, before.origin, before.network, before.pay_to)
    return done


def _change(
    tx: Transaction,
    before: Hold,
    after: Hold,
    *,
    why: str = "",
    moved: int | None = None,
    extra: tuple[tuple[float, int], ...] = (),
    entry: Sequence[str] | None = None,
) -> Hold:
    """Write a hold's new row, its counters and its event; the event holds exactly what changed."""
    both = zip(CHANGING, _changing(before), _changing(after), strict=True)
    changed: Mapping[str, object] = {name: new for name, old, new in both if new != old}
    if changed:  # a column that is not named rewrites no index
        tx.run(update_by_id("hold", tuple(changed)), (*changed.values(), after.id))
    was, now = spending.facts_of(before), spending.facts_of(after, extra)
    if was != now and after.state != "signed":
        scopes = scopes_of(origin=before.origin, pay_to=before.pay_to, model=before.model, label=before.label)
        spending.count(tx, before.kind, spending.tracked(tx, scopes), was, now)
    said = {**changed, ENVELOPE: digest(after.envelope)} if ENVELOPE in changed else changed
    data: dict[str, object] = {"set": said} if entry is None else {"set": said, "entry": list(entry)}
    tx.event(
        before.wallet, f"hold:{before.id}", before.state, after.state, why=why,
        amount=before.amount if moved is None else moved, **data,
    )  # fmt: skip
    return after


def _must_be(hold: Hold, *states: HoldState) -> None:
    if hold.state in states:
        return
    kind = LedgerError if hold.state in LIVE else AlreadyResolved
    raise kind(
        f"the hold {hold.id} is {hold.state}, not {' or '.join(states)}",
        money_moved="yes"
        if hold.state == "settled"
        else "no"
        if hold.state in ("void", "reserved")
        else "unknown",
    )


def _job_follows(tx: Transaction, job_id: str, states: Sequence[str], to: str) -> None:
    """A job is `reserved` while it has an undecided paying hold, from the same transaction on."""
    row = tx.one(_JOB_STATE, (job_id,))
    if row is not None and row[1] in states:
        tx.run(_SET_JOB_STATE, (to, tx.now, job_id))
        tx.event(row[0], f"job:{job_id}", row[1], to, set={"state": to})


def _park_for_human(tx: Transaction, job_id: str, why: str) -> None:
    row = tx.one(_JOB_STATE, (job_id,))
    if row is None or row[1] in ENDED_JOBS:
        return
    wallet, state, resume = row
    resume = resume if state == "parked" else state
    tx.run(_PARK_JOB, (resume, tx.now, job_id))
    tx.event(wallet, f"job:{job_id}", state, "parked", why=why, set={
        "state": "parked", "parked_reason": "human", "resume_state": resume})  # fmt: skip
