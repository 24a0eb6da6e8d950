"""What the books know of a payment when they can no longer be written: a full disk is no proof that nothing was paid.

Reads holds; decides nothing and frees nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from x402_audio.errors import JobConflict, LedgerError, MoneyMoved, UnknownJob
from x402_audio.flow import Flow, call
from x402_audio.ledger.book import Hold
from x402_audio.ledger.credit import is_given_back

T = TypeVar("T")


def knowing(flow: Flow[T], holds: Callable[[], Sequence[Hold]], *, then: str) -> Flow[T]:
    """Run a flow; a LedgerError that leaves it says whether these payments moved money, and `then` what comes after."""
    try:
        return (yield from flow)
    except LedgerError as error:
        if error.money_moved == "no" and not isinstance(error, JobConflict | UnknownJob):
            error.money_moved = yield from call(lambda: moved(holds))
            if error.money_moved != "no":
                error.retry = "same_id"
                error.next_step = f"{error.next_step}; then: {then}"
        raise


def moved(holds: Callable[[], Sequence[Hold]]) -> MoneyMoved:
    """Of all these payments together; `unknown` too when they cannot even be read."""
    try:
        found = holds()
    except LedgerError:
        return "unknown"
    if any(hold.state in ("signed", "presumed") for hold in found):
        return "unknown"
    return (
        "yes"
        if any(hold.state == "settled" and not is_given_back(hold.amount, hold.refunded) for hold in found)
        else "no"
    )
