"""What left the wallet by the chain, against our books; and the brake for money that went without these books.

An entry nobody here made means another program of the wallet, or that these books are an old copy which would buy the
same again. So it stops spending until reconcile has named it. Pure decisions; knows no network and no store.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from x402_audio.ledger.book import Hold, JobRecord, Payee
from x402_audio.money import CENT, ZERO, Usdc
from x402_audio.payment.chain import BLOCK_SECONDS, Departure, Departures
from x402_audio.payment.evidence import known_since
from x402_audio.payment.policy import CLOCK_SKEW_MAX_S
from x402_audio.payment.reconcile import Difference

BRAKE: Final = "entries these books do not know"
"""How our own freeze begins; no other is ever lifted by reconcile."""
STRANGERS: Final = ("unknown charge", "chain more")
REMEMBERED_MAX: Final = 1_000
SLOW_BLOCKS_S: Final = 600


@dataclass(frozen=True, slots=True)
class ChainBooks:
    """What reconcile remembers of the chain: how far it was read (block, Unix seconds) and what did not agree."""

    block: int = -1
    at: int = 0
    more: tuple[Departure, ...] = ()
    less: frozenset[str] = frozenset()

    def to_text(self) -> str:
        rows = [
            f"{one.nonce or '-'} {one.payee} {int(one.value)} {one.transaction} {one.block} {int(one.at)}"
            for one in self.more[-REMEMBERED_MAX:]
        ]
        return "\n".join([f"{self.block} {self.at}", " ".join(sorted(self.less)[-REMEMBERED_MAX:]), *rows])

    @classmethod
    def from_text(cls, text: str) -> ChainBooks:
        """Raises ValueError for what `to_text` did not write."""
        told, less, *rows = text.split("\n")
        block, at = told.split(" ")
        more = []
        for row in rows:
            nonce, payee, value, transaction, where, when = row.split(" ")
            its = "" if nonce == "-" else nonce
            more.append(Departure(its, payee, Usdc(int(value)), transaction, int(where), float(when)))
        return cls(int(block), int(at), tuple(more), frozenset(less.split()))


def chain_key(network: str, wallet: str) -> str:
    """Where `ChainBooks` are remembered."""
    return f"chain {network} {wallet.lower()}"


def usdc_key(network: str, wallet: str) -> str:
    """Where the wallet's USDC on chain is remembered, atomic units, as it was last read."""
    return f"usdc {network} {wallet.lower()}"


def read_from(kept: ChainBooks, holds: Iterable[Hold], born: float) -> tuple[int | None, float]:
    """(first block, first moment) to read the chain from: where it was left, and back to the first undecided hold.

    born: when these books began, Unix seconds.
    """
    undecided = [known_since(hold) for hold in holds if hold.valid_before > kept.at]
    if kept.block < 0:
        return None, min([born, *undecided])
    return kept.block + 1, min([float(kept.at), *undecided])


def compare_chain(
    holds: Sequence[Hold], seen: Departures, kept: ChainBooks
) -> tuple[ChainBooks, list[Difference], dict[str, str]]:
    """(what to remember, differences both ways, hold id → the chain's word) of the wallet's holds on this network."""
    by_nonce = {hold.nonce.lower(): hold for hold in holds}
    more = list(kept.more)
    words: dict[str, str] = {}
    for one in seen.rows:
        hold = by_nonce.get(one.nonce)
        if hold is not None and _is_booked(hold, one):
            words[hold.id] = "used"
        elif one not in more:
            more.append(one)
    whole = seen.through >= seen.end.number
    behind = (seen.end.number - seen.through) * BLOCK_SECONDS
    read_to = seen.end.at if whole else int(seen.end.at - behind - SLOW_BLOCKS_S)
    less = set(kept.less)
    for hold in holds:
        if hold.id in words or hold.state != "settled":
            continue
        if kept.at < hold.valid_before <= read_to:
            less.add(hold.id)
        words[hold.id] = _word_of(hold, less, read_to)
    found = [*_less(holds, less), *(_more(one, by_nonce) for one in more)]
    return (
        ChainBooks(max(seen.through, kept.block), max(read_to, kept.at), tuple(more), frozenset(less)),
        found,
        words,
    )


def traced(holds: Sequence[Hold], seen: Departures) -> Iterator[tuple[Hold, Departure]]:
    """Settled holds that the chain shows in another transaction than the seller named, or where it named none."""
    by_nonce = {hold.nonce.lower(): hold for hold in holds if hold.state == "settled"}
    for one in seen.rows:
        hold = by_nonce.get(one.nonce)
        if hold is not None and _is_booked(hold, one) and hold.transaction.lower() != one.transaction.lower():
            yield hold, one


def _is_booked(hold: Hold, one: Departure) -> bool:
    return (
        hold.state in ("signed", "settled", "presumed")
        and hold.amount == one.value
        and hold.pay_to.lower() == one.payee
    )


def _word_of(hold: Hold, less: Collection[str], read_to: float) -> str:
    if hold.id in less:
        return "never used"
    return "used" if hold.valid_before <= read_to else "not final yet"


def _less(holds: Iterable[Hold], less: Collection[str]) -> list[Difference]:
    return [
        Difference(
            "chain less", hold.id, hold.amount,
            f"{hold.amount} to {hold.pay_to} is booked as paid, but the chain says its authorization was never used",
            hold.created_at,
        )
        for hold in holds if hold.id in less
    ]  # fmt: skip


def _more(one: Departure, by_nonce: dict[str, Hold]) -> Difference:
    hold = by_nonce.get(one.nonce)
    why = "which these books do not know" if hold is None else f"though {hold.id} is {hold.state} here"
    how = "by an authorization" if one.nonce else "by a transfer"
    text = f"{one.value} left the wallet {how} to {one.payee} in {one.transaction}, {why}"
    return Difference("chain more", one.nonce or one.transaction, one.value, text, one.at, payee=one.payee)


def unexplained_fall(before: Usdc, at: float, now: Usdc, holds: Iterable[Hold]) -> Usdc:
    """USDC gone from the wallet since a reading at `at` that none of our authorizations can have taken."""
    ours = sum(
        hold.amount
        for hold in holds
        if hold.kind in ("direct", "topup") and hold.state != "void" and hold.valid_before >= at
    )
    return Usdc(max(ZERO, before - now - ours))


# --- the brake
def could_be(job: JobRecord, entry: Difference, payees: Iterable[Payee]) -> bool:
    """Whether this entry may be what the job wants to buy: made after it was stored, not dearer, to its seller."""
    if entry.kind not in STRANGERS or entry.at < job.created_at - CLOCK_SKEW_MAX_S:
        return False
    if job.price is not None and entry.amount > job.price + CENT:
        return False
    if entry.kind == "unknown charge":
        return entry.origin == job.origin and entry.model in ("", job.model)
    known = {payee.address.lower() for payee in payees if payee.origin == job.origin and payee.address}
    return not known or entry.payee in known


def brake_text(entries: Sequence[Difference], jobs: Sequence[JobRecord]) -> str:
    """Why everything that spends is stopped, in one line."""
    named = "; ".join(f"{one.kind} {one.amount}" for one in entries[:5])
    more = f" and {len(entries) - 5} more" if len(entries) > 5 else ""
    if not jobs:
        return f"{BRAKE}: {named}{more}. Run: x402-audio reconcile"
    ids = ", ".join(job.id for job in jobs[:5])
    return (
        f"{BRAKE}: {named}{more}. One may be what {ids} wants to buy again (are these books restored from a backup?):"
        " cancel that job and reconcile, or unfreeze"
    )
