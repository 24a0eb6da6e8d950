"""A ledger that forgets everything with its process: what the paid call costs without durable books. Never for money.

Knows only the verbs of a direct payment.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from time import time

from x402_audio.ledger.book import Hold, Limit, PayeeRule, Reserve
from x402_audio.money import Usdc

_COPIED = tuple(name for name in Reserve._fields if name in Hold._fields)


class MemoryLedger:
    """Holds by purchase and by id."""

    in_memory = True

    def __init__(self) -> None:
        self._holds: dict[str, Hold] = {}
        self._open: dict[tuple[str, str], str] = {}
        self._headers: dict[str, bytes] = {}
        self._numbers = count(1)

    def open_hold(self, wallet: str, purchase: str) -> Hold | None:
        found = self._open.get((wallet, purchase))
        return None if found is None else self._holds[found]

    def unanswered(self, wallet: str, purchase: str) -> Hold | None:
        return self.open_hold(wallet, purchase)

    def hold(self, hold_id: str) -> Hold:
        return self._holds[hold_id]

    def reserve(self, wish: Reserve, limits: Sequence[Limit], payee: PayeeRule | None = None) -> Hold:
        del payee
        if any(
            wish.amount > limit.amount
            for limit in limits
            if limit.window == "payment" and limit.purse == "jobs"
        ):
            raise AssertionError("above a limit")
        leaves = getattr(wish, "leaves", False)
        hold = Hold(
            id=f"h{next(self._numbers)}",
            state="signed" if leaves else "reserved",
            sends=int(leaves),
            created_at=time(),
            sent_at=None,
            delivered_at=None,
            resolved_at=None,
            transaction="",
            charge_id="",
            evidence="",
            refunded=Usdc(0),
            overcharged=Usdc(0),
            **{name: getattr(wish, name) for name in _COPIED},
        )
        self._holds[hold.id] = hold
        self._open[wish.wallet, wish.purchase] = hold.id
        return hold

    def depart(self, hold_id: str, header: bytes) -> Hold:
        self._headers[hold_id] = header
        self._holds[hold_id] = hold = self._holds[hold_id].but(state="signed", sends=1)
        return hold

    def resend(self, hold_id: str) -> Hold:
        before = self._holds[hold_id]
        self._holds[hold_id] = hold = before.but(sends=before.sends + 1)
        return hold

    def still_leaving(self, hold_id: str) -> None:
        del hold_id

    def settle(
        self,
        hold_id: str,
        *,
        evidence: str,
        transaction: str = "",
        charge_id: str = "",
        delivered: bool = True,
    ) -> Hold:
        del charge_id
        hold = self._holds[hold_id].but(state="settled", evidence=evidence, transaction=transaction)
        self._headers.pop(hold_id, None)
        self._holds[hold_id] = hold
        return self.deliver(hold_id, evidence) if delivered else hold

    def deliver(self, hold_id: str, why: str) -> Hold:
        del why
        hold = self._holds.pop(hold_id)
        self._open.pop((hold.wallet, hold.purchase))
        return hold.but(delivered_at=time())
