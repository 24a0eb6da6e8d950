"""The seller's records: accounts with their rows, jobs, payments taken, and how often somebody may ask.

Plain state without a lock of its own; the seller's lock guards it. Knows no wire and no clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from x402_audio.jsontext import Json
from x402_audio.money import ZERO, Usdc
from x402_audio.sandbox.catalog import Order


@dataclass(frozen=True, slots=True)
class Limits:
    """Requests a minute by route, requests in flight, failed calls in 30 s. None: no limit."""

    queue: int | None = 40
    retrieve: int | None = 120
    balance: int | None = 30
    transactions: int | None = 20
    top_up: int | None = 10
    in_flight: int | None = 5
    errors: int | None = 20

    @classmethod
    def off(cls) -> Limits:
        return cls(None, None, None, None, None, None, None)

    @classmethod
    def scaled(cls, factor: int) -> Limits:
        """The published figures, the per-minute ones times `factor`."""
        plain = cls()
        return cls(*(
            (figure or 0) * factor
            for figure in (plain.queue, plain.retrieve, plain.balance, plain.transactions, plain.top_up)
        ))  # fmt: skip


class RateMemory:
    """When somebody last asked for something, in a sliding window."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, str], deque[float]] = {}

    def count(self, what: str, who: str, now: float, window: float) -> int:
        """How many stand in the window that ends now."""
        times = self._times.setdefault((what, who), deque())
        while times and times[0] <= now - window:
            times.popleft()
        return len(times)

    def add(self, what: str, who: str, now: float) -> None:
        self._times.setdefault((what, who), deque()).append(now)

    def oldest(self, what: str, who: str) -> float:
        return self._times[what, who][0]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of `/x402/transactions`."""

    id: str
    amount: Usdc
    balance_after: Usdc
    type: str
    at: float
    request_id: str | None
    model_id: str | None


@dataclass(slots=True)
class Account:
    """Credit of a wallet (lower-case address) or of an API key (its label, never the key)."""

    name: str
    credit: Usdc = ZERO
    diem: Usdc = ZERO
    reserved: Usdc = ZERO
    in_flight: int = 0
    rows: list[Row] = field(default_factory=list)
    key_kind: str = ""
    spend_limit: Usdc | None = None
    spent: Usdc = ZERO

    @property
    def is_wallet(self) -> bool:
        return not self.key_kind

    @property
    def spendable(self) -> Usdc:
        return self.credit - self.reserved

    def enter(self, kind: str, amount: Usdc, at: float, request_id: str | None, model_id: str | None) -> Usdc:
        """Add a row. A charge takes at most what is there; the amount really entered is returned."""
        if self.credit + amount < 0:
            amount = -self.credit
        self.credit = self.credit + amount
        self.rows.append(
            Row(
                f"ledger_{self.name[-8:]}_{len(self.rows) + 1:06d}",
                amount,
                self.credit,
                kind,
                at,
                request_id,
                model_id,
            )
        )
        return amount


@dataclass(slots=True)
class Job:
    """One generation. `fate` says how it will end, `state` how it stands."""

    queue_id: str
    order: Order
    owner: str
    opened_at: float
    ready_at: float
    charge: str
    fate: str = "deliver"
    state: str = "processing"
    charged: Usdc = ZERO
    refunded: Usdc = ZERO
    extra: Usdc = ZERO
    retrieved: int = 0
    sends: int = 1
    suggestion: str = ""
    paid_by_diem: bool = False
    payer: str = ""


@dataclass(slots=True)
class Payment:
    """An authorization this seller settled, and what it answered to it."""

    payer: str
    payee: str
    value: Usdc
    nonce: str
    route: str
    at: float
    transaction: str
    request_digest: str = ""
    queue_id: str = ""
    identifier: str = ""
    credited: bool = True
    sends: int = 1


def payment_json(payment: Payment) -> dict[str, object]:
    return {
        "nonce": payment.nonce,
        "from": payment.payer,
        "to": payment.payee,
        "value": int(payment.value),
        "route": payment.route,
        "at": iso(payment.at),
        "transaction": payment.transaction,
        "credited": payment.credited,
        "queue_id": payment.queue_id or None,
        "sends": payment.sends,
    }


def job_json(job: Job) -> dict[str, object]:
    return {
        "queue_id": job.queue_id,
        "model": job.order.model,
        "wallet": job.owner or job.payer,
        "charge_atomic": int(job.charged),
        "refund_atomic": int(job.refunded),
        "seconds": job.order.seconds,
        "state": job.state,
        "retrieved": job.retrieved,
        "completed": job.state == "completed",
        "sends": job.sends,
    }


def iso(at: float) -> str:
    """RFC 3339 with milliseconds and Z."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


FATES: Final = {
    "fail_job": "fail",
    "charge_without_delivery": "fail_unrefunded",
    "refuse_content": "refuse",
    "expire_media": "expire",
}


def fate_of(faults: dict[str, Json] | None) -> str:
    """How a job ends that was opened under these faults."""
    return next((fate for action, fate in FATES.items() if action in (faults or {})), "deliver")
