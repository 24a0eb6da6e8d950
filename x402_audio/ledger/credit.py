"""What a prepaid credit is good for: pure arithmetic on readings and draws. Knows no store and no seller.

A draw may show in the seller's balance a little later than it was made, so a reading is compared with what our own
books expect. Only a reading that agrees with them opens the gate; a rise must be read twice; an unexplained fall
stops new spending (product contract: the balance gate).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from x402_audio.money import ZERO, Usdc

Trust = Literal["agreed", "unconfirmed", "fallen"]

CHARGE_LAG_S: Final = 60
"""How long a draw may take to show in the seller's balance."""
READING_AGE_MAX_S: Final = 60
TOLERANCE: Final = Usdc(100)
"""0.0001 USD: sums of charges with more than six decimals, each rounded against us."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a new reading means: the expected balance from now on, and whether it may be trusted."""

    books: Usdc
    trust: Trust
    fallen_by: Usdc = ZERO
    holds_credit: bool = False
    """Our own top-ups that had not shown before are in this balance; shown they are once it is not `unconfirmed`."""


def judge(
    previous: Standing | None,
    balance: Usdc,
    *,
    drawn_since: Usdc,
    may_lag: Usdc,
    undecided: Usdc,
    credited_since: Usdc = ZERO,
    not_shown: Usdc = ZERO,
    risen_by: Usdc = ZERO,
) -> Standing:
    """Compare a reading with the books.

    drawn_since: draws that settled after the previous reading. may_lag: settled draws the seller may not show yet.
    undecided: live holds that may or may not have drawn. credited_since: our own top-ups that the previous reading does
    not hold for sure, shown by now or not yet; not_shown: those of them that no agreeing reading has shown so far. All
    atomic units. risen_by: how much higher the seller's own figure is than at the previous reading. One reading alone
    shows no credit: a rise that holds it is confirmed with it by the next.
    """
    expected = ZERO if previous is None else previous.books - drawn_since
    shown = balance >= expected + credited_since - undecided - TOLERANCE
    if credited_since:
        # Draws that nobody knows of, or that are not charged yet, let a figure stand: what was paid must have come.
        came = risen_by >= credited_since - TOLERANCE
        shown = shown and (came or balance > expected + may_lag + TOLERANCE)
    unconfirmed = Standing(Usdc(balance - not_shown) if shown else balance, "unconfirmed", holds_credit=shown)
    if previous is None:
        return unconfirmed
    if expected - undecided - TOLERANCE <= balance <= expected + may_lag + credited_since + TOLERANCE:
        books = expected + credited_since if shown else expected
        if previous.trust == "fallen" and not (credited_since and shown):
            return Standing(books, "fallen", previous.fallen_by, holds_credit=shown)
        return Standing(books, "agreed", holds_credit=shown)
    if balance < expected and previous.trust in ("agreed", "fallen"):
        return Standing(balance, "fallen", previous.fallen_by + (expected - balance))
    return unconfirmed


def is_given_back(amount: int, refunded: int) -> bool:
    """All that was charged came back, but for what is lost in rounding against us. Atomic units."""
    return refunded >= amount or 0 < amount - TOLERANCE <= refunded


def available(balance: Usdc, books: Usdc, *, drawn_since: Usdc, undecided: Usdc) -> Usdc:
    """What a new job may count on: the lower of reading and books, less all that may still draw."""
    return Usdc(min(balance, books)) - drawn_since - undecided
