"""Our books against the chain and the seller: each difference by kind and amount, each entry with what all three say.

Pure comparison; the readings are handed in. What ends an open hold stands in `jobs/unknown.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from x402_audio.ledger.book import Hold, JobRecord
from x402_audio.ledger.credit import TOLERANCE
from x402_audio.money import CENT, Usdc
from x402_audio.payment.evidence import Charged, candidates, top_up_row
from x402_audio.providers.provider import Transaction

DifferenceKind = Literal[
    "overcharge",  # the seller took more than the hold
    "doubled charge",  # the seller charged one request twice over
    "doubled row",  # the seller shows one row twice; it is counted once
    "doubled top-up",  # the seller credited one payment twice
    "refund",  # the seller gave back and the books did not know
    "unknown charge",  # a charge at the seller no job of these books made
    "unknown top-up",  # credit at the seller no hold of these books paid
    "missing charge",  # a job was queued and the seller shows no charge for it
    "missing top-up",  # a settled top-up the seller does not show
    "chain more",  # USDC left the wallet, and these books do not know of it
    "chain less",  # booked as paid, and the chain says it never was
    "balance",  # the seller's balance is not what the books expect
]
PAGE_ROWS: Final = 100
TWIN_WITHIN_S: Final = 600
CHARGED_WITHIN_S: Final = 300


@dataclass(frozen=True, slots=True)
class Difference:
    """One disagreement. amount: atomic units, how much; subject: the hold, job or row it is about; at: Unix seconds.

    origin, model, payee: of an entry these books do not know, as far as it tells.
    """

    kind: DifferenceKind
    subject: str
    amount: Usdc
    text: str
    at: float = 0.0
    origin: str = ""
    model: str = ""
    payee: str = ""


@dataclass(frozen=True, slots=True)
class Agreement:
    """One entry as the three tell it: the state in the ledger, and the words of chain and seller ("-": not theirs)."""

    subject: str
    kind: str
    amount: Usdc
    at: float
    ledger: str
    chain: str
    seller: str
    agrees: bool


@dataclass(frozen=True, slots=True)
class ReconcileReport:
    """What a pass found and decided. `open`: holds still unknown; `unread`: what could not be read, and why.

    brake: "" | "frozen" | "kept" | "lifted": what this pass did with a freeze of its own, and `frozen` why.
    """

    differences: tuple[Difference, ...]
    settled: tuple[str, ...]
    voided: tuple[str, ...]
    presumed: tuple[str, ...]
    open: tuple[str, ...]
    jobs: tuple[str, ...]
    unread: tuple[str, ...]
    rows: tuple[Agreement, ...] = ()
    brake: Literal["", "frozen", "kept", "lifted"] = ""
    frozen: str | None = None


# --- the seller
def compare_draws(
    holds: Sequence[Hold], jobs: Sequence[JobRecord], groups: Sequence[Charged]
) -> tuple[list[Difference], dict[str, Charged]]:
    """Settled draws against charges; the second value maps a hold's id to its charge."""
    by_request = {group.request_id: group for group in groups}
    matched = _matched_draws(holds, {job.id: job.queue_id for job in jobs}, by_request)
    found: list[Difference] = []
    for hold in holds:
        group = matched.get(hold.id)
        if group is not None:
            by_request.pop(group.request_id, None)
            found += _draw_differences(hold, group)
        elif hold.state == "settled" and not hold.late_charge:
            text = f"{hold.amount} is booked for {hold.charge_id or hold.id}, the seller shows no charge"
            found.append(Difference("missing charge", hold.id, hold.amount, text, hold.created_at))
    undecided = [hold for hold in holds if hold.state in ("reserved", "signed", "presumed")]
    for request, group in by_request.items():
        if group.charged - group.refunded <= TOLERANCE:
            continue
        if any(candidates(hold, [group], frozenset()) for hold in undecided):
            continue  # it may be the one nobody knows of yet
        text = f"the seller charged {group.charged} for {request}, which no job here made"
        found.append(
            Difference("unknown charge", request, group.charged, text, group.first_at, "", group.model)
        )
    return found, matched


def _matched_draws(
    holds: Sequence[Hold], queue_ids: Mapping[str, str], by_request: Mapping[str, Charged]
) -> dict[str, Charged]:
    """By the request's name; and where the seller names charges otherwise, the first alike right after the sending."""
    left = dict(by_request)
    matched: dict[str, Charged] = {}
    for hold in holds:
        group = left.pop(hold.charge_id or queue_ids.get(hold.job_id or "", ""), None)
        if group is not None:
            matched[hold.id] = group
    for hold in sorted(holds, key=lambda one: one.sent_at or one.created_at):
        if hold.id in matched or hold.state != "settled" or hold.charge_id:
            continue
        latest = (hold.sent_at or hold.created_at) + CHARGED_WITHIN_S
        alike = [
            group
            for group in candidates(hold, list(left.values()), frozenset())
            if group.first_at <= latest and abs(group.charged - hold.amount) <= CENT
        ]
        if alike:
            matched[hold.id] = left.pop(alike[0].request_id)
    return matched


def _draw_differences(hold: Hold, group: Charged) -> list[Difference]:
    found: list[Difference] = []
    over = group.charged - hold.amount - hold.overcharged
    if over > TOLERANCE:
        twice = group.repeated > 0 and abs(over - group.repeated) <= TOLERANCE
        text = f"the seller charged {group.charged} for {group.request_id}, {hold.amount} was agreed"
        found.append(
            Difference("doubled charge" if twice else "overcharge", hold.id, over, text, group.first_at)
        )
    back = group.refunded - hold.refunded
    if back > TOLERANCE:
        text = f"the seller gave {group.refunded} back for {group.request_id}"
        found.append(Difference("refund", hold.id, back, text, group.first_at))
    return found


def compare_top_ups(
    holds: Sequence[Hold], rows: Sequence[Transaction]
) -> tuple[list[Difference], dict[str, Transaction]]:
    """Settled top-ups against TOP_UP rows, both ways; the second value maps a hold's id to its row.

    Those known to be paid choose first: a row is not taken for one that perhaps never was.
    """
    found: list[Difference] = []
    taken: dict[str, Transaction] = {}
    matched: dict[str, Transaction] = {}
    for hold in sorted(holds, key=lambda one: one.state != "settled"):
        free = [row for row in rows if row.id not in taken]
        row = next((row for row in free if row.id == hold.charge_id), None) or top_up_row(hold, free, ())
        if row is not None:
            taken[row.id] = matched[hold.id] = row
        elif hold.state == "settled":
            text = f"{hold.amount} was paid ({hold.transaction or 'no transaction known'}), the seller shows no credit"
            found.append(Difference("missing top-up", hold.id, hold.amount, text, hold.created_at))
    for row in dict.fromkeys(rows):
        if row.type != "TOP_UP" or row.id in taken:
            continue
        if any(_are_twins(row, other) for other in taken.values()):
            text = f"the seller credited {row.amount} twice within minutes, these books paid it once"
            found.append(Difference("doubled top-up", row.id, row.amount, text, row.created_at))
        else:
            text = f"the seller credited {row.amount}, which these books did not pay"
            found.append(Difference("unknown top-up", row.id, row.amount, text, row.created_at))
    return found, matched


def _are_twins(row: Transaction, other: Transaction) -> bool:
    return row.amount == other.amount and abs(row.created_at - other.created_at) <= TWIN_WITHIN_S


def doubled_rows(rows: Sequence[Transaction]) -> list[Difference]:
    """Rows shown twice on one page; across two pages it is the page that moved while it was read."""
    first: dict[Transaction, int] = {}
    found: list[Difference] = []
    for place, row in enumerate(rows):
        if row not in first:
            first[row] = place
        elif first[row] // PAGE_ROWS == place // PAGE_ROWS:
            text = f"the seller shows {row.type} {row.id} twice; it is counted once"
            found.append(Difference("doubled row", row.id, Usdc(abs(row.amount)), text, row.created_at))
    return found


# --- what all three say
@dataclass(frozen=True, slots=True)
class Told:
    """What was read of chain and seller in this pass: hold id → its words; where there are none it was not read."""

    chain: Mapping[str, str]
    seller: Mapping[str, str]


def agreement(
    holds: Sequence[Hold], differences: Sequence[Difference], told: Told, network: str
) -> tuple[Agreement, ...]:
    """One row per hold that may have moved money, and one per entry that only chain or seller know; oldest first."""
    named = {difference.subject for difference in differences}
    rows = [
        Agreement(
            hold.id, hold.kind, hold.amount, hold.created_at, _ledger_word(hold), _chain_word(hold, told, network),
            _seller_word(hold, told), hold.id not in named and hold.state == "settled",
        )
        for hold in holds
        if hold.state != "void" or hold.id in named
    ]  # fmt: skip
    ours = {hold.id for hold in holds}
    for one in differences:
        if one.subject in ours or one.kind == "balance":
            continue
        chain = "left the wallet" if one.kind == "chain more" else "-"
        seller = {"unknown charge": "charged", "doubled row": "twice"}.get(one.kind, "credited")
        word = "-" if one.kind == "chain more" else seller
        rows.append(Agreement(one.subject, one.kind, one.amount, one.at, "unknown", chain, word, False))
    return tuple(sorted(rows, key=lambda row: row.at))


def _ledger_word(hold: Hold) -> str:
    more = [f"{hold.overcharged} overcharged"] if hold.overcharged else []
    more += [f"{hold.refunded} refunded"] if hold.refunded else []
    return ", ".join([hold.state, *more])


def _chain_word(hold: Hold, told: Told, network: str) -> str:
    if hold.kind not in ("direct", "topup"):
        return "-"
    return told.chain.get(hold.id, "not read" if hold.network == network else "other network")


def _seller_word(hold: Hold, told: Told) -> str:
    return "-" if hold.kind == "direct" else told.seller.get(hold.id, "not read")


def seller_words(
    holds: Iterable[Hold], charged: Mapping[str, Charged], credited: Mapping[str, Transaction]
) -> dict[str, str]:
    """What a seller whose rows were read says of each of our holds there."""
    words: dict[str, str] = {}
    for hold in holds:
        group, row = charged.get(hold.id), credited.get(hold.id)
        if group is not None:
            back = f", {group.refunded} back" if group.refunded else ""
            words[hold.id] = f"charged {group.charged}{back}"
        else:
            words[hold.id] = "no row" if row is None else f"credited {row.amount}"
    return words
