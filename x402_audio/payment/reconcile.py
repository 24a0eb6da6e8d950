"""Our books against the chain and the seller: each difference by kind and amount. Reads only, and books evidence.

Pure comparison; the readings are handed in. What ends an open hold stands in `jobs/unknown.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from x402_audio.ledger.book import Hold, JobRecord
from x402_audio.ledger.credit import TOLERANCE
from x402_audio.money import Usdc
from x402_audio.payment.evidence import Charged, top_up_row
from x402_audio.providers.provider import Transaction

DifferenceKind = Literal[
    "overcharge",  # the seller took more than the hold
    "refund",  # the seller gave back and the books did not know
    "unknown charge",  # a charge at the seller no job of these books made
    "unknown top-up",  # credit at the seller no hold of these books paid
    "missing charge",  # a job was queued and the seller shows no charge for it
    "missing top-up",  # a settled top-up the seller does not show
    "balance",  # the seller's balance is not what the books expect
]


@dataclass(frozen=True, slots=True)
class Difference:
    """One disagreement. amount: atomic units, how much; subject: the hold, job or row it is about."""

    kind: DifferenceKind
    subject: str
    amount: Usdc
    text: str


@dataclass(frozen=True, slots=True)
class ReconcileReport:
    """What a pass found and decided. `open`: holds still unknown; `unread`: what could not be read, and why."""

    differences: tuple[Difference, ...]
    settled: tuple[str, ...]
    voided: tuple[str, ...]
    presumed: tuple[str, ...]
    open: tuple[str, ...]
    jobs: tuple[str, ...]
    unread: tuple[str, ...]


def compare_draws(
    holds: Sequence[Hold], jobs: Sequence[JobRecord], groups: Sequence[Charged]
) -> tuple[list[Difference], dict[str, Charged]]:
    """Settled draws against charges; the second value maps a hold's id to its charge."""
    by_request = {group.request_id: group for group in groups}
    queue_ids = {job.id: job.queue_id for job in jobs}
    matched: dict[str, Charged] = {}
    found: list[Difference] = []
    for hold in holds:
        request = hold.charge_id or queue_ids.get(hold.job_id or "", "")
        group = by_request.pop(request, None)
        if group is None:
            if hold.state == "settled" and not hold.late_charge:
                text = f"{hold.amount} is booked for {request or hold.id}, the seller shows no charge"
                found.append(Difference("missing charge", hold.id, hold.amount, text))
            continue
        matched[hold.id] = group
        over = group.charged - hold.amount - hold.overcharged
        if over > TOLERANCE:
            text = f"the seller charged {group.charged} for {request}, {hold.amount} was agreed"
            found.append(Difference("overcharge", hold.id, over, text))
        back = group.refunded - hold.refunded
        if back > TOLERANCE:
            text = f"the seller gave {group.refunded} back for {request}"
            found.append(Difference("refund", hold.id, back, text))
    for request, group in by_request.items():
        if group.charged - group.refunded > TOLERANCE:
            text = f"the seller charged {group.charged} for {request}, which no job here made"
            found.append(Difference("unknown charge", request, group.charged, text))
    return found, matched


def compare_top_ups(holds: Sequence[Hold], rows: Sequence[Transaction]) -> list[Difference]:
    """Settled top-ups against TOP_UP rows, both ways."""
    found: list[Difference] = []
    taken: set[str] = set()
    for hold in holds:
        row = next((row for row in rows if row.id == hold.charge_id), None) or top_up_row(
            hold, [row for row in rows if row.id not in taken], ()
        )
        if row is not None:
            taken.add(row.id)
        elif hold.state == "settled":
            text = f"{hold.amount} was paid ({hold.transaction or 'no transaction known'}), the seller shows no credit"
            found.append(Difference("missing top-up", hold.id, hold.amount, text))
    for row in rows:
        if row.type == "TOP_UP" and row.id not in taken:
            text = f"the seller credited {row.amount}, which these books did not pay"
            found.append(Difference("unknown top-up", row.id, row.amount, text))
    return found
