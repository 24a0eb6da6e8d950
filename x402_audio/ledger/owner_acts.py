"""What the owner sets and the ledger remembers: limits, the brake, suspensions, payees, sellers, cached facts.

Knows no payment verb. Whether the caller is the owner is checked by the front: here only whether a passphrase is theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from x402_audio.errors import PaymentRefused
from x402_audio.ledger import credit_book, passphrase, payees, spending
from x402_audio.ledger import limits as rules
from x402_audio.ledger.book import Allowance, Limit, Mark, Payee, Purse, Window
from x402_audio.ledger.chain_of_events import digest, plain
from x402_audio.ledger.database import Database, Transaction
from x402_audio.money import Usdc
from x402_audio.secret import Secret

_PUT_LIMIT: Final = (
    "INSERT INTO spending_limit VALUES (?, ?, ?, ?)"
    ' ON CONFLICT (purse, scope, "window") DO UPDATE SET amount = excluded.amount'
)
_DROP_LIMIT: Final = 'DELETE FROM spending_limit WHERE purse = ? AND scope = ? AND "window" = ?'
_BRAKE: Final = "SELECT why FROM brake WHERE what = 'freeze'"
_PULL: Final = "INSERT INTO brake VALUES ('freeze', ?) ON CONFLICT (what) DO UPDATE SET why = excluded.why"
_LOOSE: Final = "DELETE FROM brake WHERE what = 'freeze'"
_SUSPEND: Final = "INSERT INTO suspension VALUES (?, ?, ?, ?) ON CONFLICT (wallet, origin, what) DO UPDATE SET why = excluded.why"
_LIFT: Final = "DELETE FROM suspension WHERE wallet = ? AND origin = ? AND what = ?"
_SUSPENDED: Final = "SELECT why FROM suspension WHERE wallet = ? AND origin = ? AND what = ?"
_SUSPENSIONS: Final = "SELECT wallet, origin, what, why FROM suspension"
_PAYEES: Final = "SELECT origin, network, address, state, how FROM payee"
_SELLER: Final = "SELECT kind FROM seller WHERE origin = ?"
_PUT_SELLER: Final = (
    "INSERT INTO seller VALUES (?, ?) ON CONFLICT (origin) DO UPDATE SET kind = excluded.kind"
)
_FACT: Final = "SELECT value, at FROM fact WHERE key = ?"
_PUT_FACT: Final = "INSERT INTO fact VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value, at = excluded.at"
_OWNER: Final = "SELECT passphrase_hash, failures, failed_at FROM owner"
_PUT_OWNER: Final = (
    "INSERT INTO owner VALUES (1, ?, ?, ?) ON CONFLICT (one) DO UPDATE SET"
    " passphrase_hash = excluded.passphrase_hash, failures = excluded.failures, failed_at = excluded.failed_at"
)
_MARKS: Final = 'SELECT purse, scope, "window", amount, at FROM mark ORDER BY at'
What = Literal["top-ups", "seller"]


class OwnerActs:
    """The part of the ledger that keeps settings of its own."""

    _database: Database

    def effective_limits(self, limits: Sequence[Limit]) -> list[Limit]:
        """See `Ledger.effective_limits`."""
        with self._database.reading() as view:
            return spending.effective(view, limits)

    def set_limit(self, limit: Limit) -> None:
        """See `Ledger.set_limit`: the ledger's own, for everybody who uses this ledger."""
        known = rules.checked(limit)
        with self._database.transaction() as tx:
            spending.track(tx, known.scope)
            tx.run(_PUT_LIMIT, (known.purse, known.scope, known.window, known.amount))
            tx.event(
                "", "limit", "", "set", amount=known.amount, key=[known.purse, known.scope, known.window]
            )

    def drop_limit(self, purse: Purse, scope: str, window: Window) -> None:
        """See `Ledger.drop_limit`. Nothing happens when there is none."""
        key = (purse, scope.lower() if scope.startswith("payee:") else scope, window)
        with self._database.transaction() as tx:
            if tx.run(_DROP_LIMIT, key):
                tx.event("", "limit", "set", "", key=list(key))

    def allowances(self, limits: Sequence[Limit]) -> list[Allowance]:
        """See `Ledger.allowances`."""
        with self._database.transaction() as tx:
            found = spending.effective(tx, limits)
            for limit in found:
                spending.track(tx, limit.scope)
            return [_allowance(tx, limit) for limit in found]

    def marks(self) -> list[Mark]:
        """See `Ledger.marks`."""
        with self._database.reading() as view:
            return [Mark(row[0], row[1], row[2], Usdc(row[3]), row[4]) for row in view.all(_MARKS)]

    def has_passphrase(self) -> bool:
        """See `Ledger.has_passphrase`."""
        with self._database.reading() as view:
            return view.one(_OWNER) is not None

    def check_passphrase(self, typed: Secret) -> None:
        """See `Ledger.check_passphrase`. A try counts as wrong before it is looked at, whatever many try at once."""
        kept = self._count_try()
        if not passphrase.matches(kept.reveal(), typed):
            raise PaymentRefused(
                "that is not the owner's passphrase; nothing was changed",
                next_step="repeat the command to be asked again",
            )
        with self._database.transaction() as tx:
            _put_owner(tx, kept, 0, 0.0, "set", "the passphrase was typed")

    def set_passphrase(self, new: Secret, old: Secret | None = None) -> None:
        """See `Ledger.set_passphrase`."""
        if len(new.reveal()) < passphrase.LENGTH_MIN:
            raise PaymentRefused(
                f"a passphrase has at least {passphrase.LENGTH_MIN} characters; nothing was changed",
                next_step="repeat the command with a longer one",
            )
        had = self.has_passphrase()
        if had:
            self.check_passphrase(old or Secret())
        kept = Secret(passphrase.hash_of(new))
        with self._database.transaction() as tx:
            if not had and tx.one(_OWNER) is not None:
                raise PaymentRefused("another process has just set a passphrase; nothing was changed")
            _put_owner(tx, kept, 0, 0.0, "set", "set by the owner")

    def _count_try(self) -> Secret:
        with self._database.transaction() as tx:
            row = tx.one(_OWNER)
            if row is None:
                raise PaymentRefused("no passphrase is set", next_step="on a terminal: x402-audio owner set")
            kept, failures, failed_at = Secret(row[0]), row[1], row[2]
            wait = failed_at + passphrase.wait_after(failures) - tx.now
            if wait > 0:
                raise PaymentRefused(
                    f"{failures} wrong passphrases in a row: the next try is in {int(wait) + 1} s", retry="later",
                    next_step="wait, then repeat the command",
                )  # fmt: skip
            _put_owner(tx, kept, failures + 1, tx.now, "tried", "a passphrase was typed")
        return kept

    def freeze(self, why: str) -> None:
        """See `Ledger.freeze`."""
        with self._database.transaction() as tx:
            tx.run(_PULL, (plain(why),))
            tx.event("", "freeze", "", "frozen", why=why)

    def unfreeze(self, why: str) -> None:
        """See `Ledger.unfreeze`. Nothing happens when it is not frozen."""
        with self._database.transaction() as tx:
            if tx.run(_LOOSE):
                tx.event("", "freeze", "frozen", "", why=why)

    def frozen(self) -> str | None:
        """See `Ledger.frozen`."""
        with self._database.reading() as view:
            row = view.one(_BRAKE)
        return str(row[0]) if row else None

    def suspend(self, wallet: str, origin: str, what: What, why: str) -> None:
        """See `Ledger.suspend`."""
        with self._database.transaction() as tx:
            tx.run(_SUSPEND, (wallet, origin, what, plain(why)))
            tx.event(wallet, f"suspension:{origin}", "", "suspended", why=why, what=what)

    def lift(self, wallet: str, origin: str, what: What, why: str) -> None:
        """See `Ledger.lift`. Nothing is lifted when it is not suspended."""
        with self._database.transaction() as tx:
            if what == "top-ups":
                credit_book.top_ups_shown(tx, wallet, origin, why)
            if tx.run(_LIFT, (wallet, origin, what)):
                tx.event(wallet, f"suspension:{origin}", "suspended", "", why=why, what=what)

    def suspended(self, wallet: str, origin: str, what: What) -> str | None:
        """See `Ledger.suspended`."""
        with self._database.reading() as view:
            row = view.one(_SUSPENDED, (wallet, origin, what))
        return str(row[0]) if row else None

    def suspensions(self) -> list[tuple[str, str, str, str]]:
        """See `Ledger.suspensions`."""
        with self._database.reading() as view:
            return [(row[0], row[1], row[2], row[3]) for row in view.all(_SUSPENSIONS)]

    def payees(self) -> list[Payee]:
        """See `Ledger.payees`."""
        with self._database.reading() as view:
            return [Payee(*row) for row in view.all(_PAYEES)]

    def set_payee(self, payee: Payee) -> None:
        """See `Ledger.set_payee`."""
        with self._database.transaction() as tx:
            payees.put(tx, payee)

    def drop_payee(self, origin: str, network: str, address: str) -> None:
        """See `Ledger.drop_payee`."""
        with self._database.transaction() as tx:
            payees.drop(tx, origin, network, address, "dropped by the owner")

    def seller_kind(self, origin: str) -> str | None:
        """See `Ledger.seller_kind`."""
        with self._database.reading() as view:
            row = view.one(_SELLER, (origin,))
        return str(row[0]) if row else None

    def remember_seller(self, origin: str, kind: str) -> None:
        """See `Ledger.remember_seller`."""
        with self._database.transaction() as tx:
            row = tx.one(_SELLER, (origin,))
            if row is None or row[0] != kind:
                tx.run(_PUT_SELLER, (origin, kind))
                tx.event("", f"seller:{origin}", row[0] if row else "", kind)

    def remember(self, key: str, value: str) -> None:
        """See `Ledger.remember`. A cache: no event."""
        with self._database.transaction() as tx:
            tx.run(_PUT_FACT, (key, value, tx.now))

    def recall(self, key: str) -> tuple[str, float] | None:
        """See `Ledger.recall`."""
        with self._database.reading() as view:
            row = view.one(_FACT, (key,))
        return (row[0], row[1]) if row else None


def _put_owner(tx: Transaction, kept: Secret, failures: int, failed_at: float, to: str, why: str) -> None:
    """The hash stands in its table alone: the event that sets it knows it by its digest, later ones not at all."""
    before = tx.one(_OWNER)
    state = "" if before is None else "tried" if before[1] else "set"
    new = {} if before is not None and before[0] == kept.reveal() else {"hash": digest(kept.reveal())}
    tx.run(_PUT_OWNER, (kept.reveal(), failures, failed_at))
    tx.event("", "owner", state, to, why=why, set={**new, "failures": failures, "failed_at": failed_at})


def _allowance(tx: Transaction, limit: Limit) -> Allowance:
    used = spending.use_of(tx, limit.purse, limit.scope)
    if limit.window in ("payment", "job", "unasked"):
        return Allowance(limit, Usdc(0), Usdc(0), limit.amount, None)
    spent = used.spent(limit.window)
    left = max(0, limit.amount - spent - used.held)
    return Allowance(limit, Usdc(spent), Usdc(used.held), Usdc(left), spending.oldest_return(tx, limit, 1))
