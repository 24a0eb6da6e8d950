"""What the seller's own ledger says about our holds: pure matching of rows. A seller can prove paid, never unpaid.

(Recovery rules: an unknown queue call is ended by exactly one CHARGE of that model, at most the quote, whose
requestId no other job holds; a top-up by a TOP_UP row of its amount.) Knows no network and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from x402_audio.ledger.book import Hold
from x402_audio.ledger.credit import TOLERANCE
from x402_audio.money import CENT, ZERO, Usdc
from x402_audio.payment.policy import CLOCK_SKEW_MAX_S
from x402_audio.providers.provider import Transaction


@dataclass(frozen=True, slots=True)
class Charged:
    """All CHARGE rows of one request added up, less its REFUND rows. Atomic units, both positive.

    repeated: what equal CHARGE rows beyond the first of their amount come to.
    """

    request_id: str
    charged: Usdc
    refunded: Usdc
    model: str
    first_at: float
    refund_id: str
    repeated: Usdc = ZERO


def known_since(hold: Hold) -> float:
    """From when on a witness may know of this hold, Unix seconds, by any clock within the skew we allow.

    Ledger time never runs back, so it may be ahead of every other clock; a sending "after" its own end shows that, and
    then only the times in what was signed are the world's.
    """
    at = hold.sent_at or hold.created_at
    return (hold.valid_after if 0 < hold.valid_before < at else at) - CLOCK_SKEW_MAX_S


def top_up_row(hold: Hold, rows: Iterable[Transaction], others: Iterable[Hold]) -> Transaction | None:
    """The TOP_UP row that is this hold's: same amount, after it was sent, and no other hold's."""
    taken = {other.charge_id for other in others if other.id != hold.id and other.charge_id}
    since = known_since(hold)
    open_twins = [
        other for other in others
        if other.id != hold.id and other.amount == hold.amount and other.state == "settled" and not other.charge_id
        and (other.sent_at or 0) >= since - CLOCK_SKEW_MAX_S
    ]  # fmt: skip
    found = [
        row for row in rows
        if row.type == "TOP_UP" and row.id not in taken and row.created_at >= since
        and abs(row.amount - hold.amount) <= TOLERANCE
    ]  # fmt: skip
    return found[-1] if len(found) > len(open_twins) else None


def charges(rows: Iterable[Transaction]) -> list[Charged]:
    """CHARGE and REFUND rows grouped by request, in order of time. Rows without a request stand alone.

    A row is counted once however often it is shown: pages move while they are read.
    """
    groups: dict[str, list[Transaction]] = {}
    for row in dict.fromkeys(rows):
        if row.type in ("CHARGE", "REFUND"):
            groups.setdefault(row.request_id or f"row:{row.id}", []).append(row)
    result = []
    for request_id, members in groups.items():
        taken = [row for row in members if row.type == "CHARGE"]
        given = [row for row in members if row.type == "REFUND"]
        result.append(
            Charged(
                request_id=request_id,
                charged=Usdc(-sum(row.amount for row in taken)),
                refunded=Usdc(sum(row.amount for row in given)),
                model=next((row.model for row in taken if row.model), ""),
                first_at=min(row.created_at for row in members),
                refund_id=given[0].id if given else "",
                repeated=Usdc(-sum(row.amount for row in taken) + sum({row.amount for row in taken})),
            )
        )
    return sorted(result, key=lambda charged: charged.first_at)


def candidates(hold: Hold, groups: Sequence[Charged], known_requests: frozenset[str]) -> list[Charged]:
    """Requests that may be this queue call's: its model, at most its quote, nobody else's, after it was sent."""
    since = known_since(hold)
    return [
        group for group in groups
        if group.request_id not in known_requests and group.first_at >= since
        and ZERO < group.charged <= hold.amount + CENT and group.model in ("", hold.model)
    ]  # fmt: skip
