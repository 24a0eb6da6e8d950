"""`docs/crash-table.md`: every crash point and every fault of a request, for each kind of payment, and what came of it.

Only words and columns; the worlds are `cells.py`'s. The record of the last long run stands in its head and is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from multiprocessing import get_context
from pathlib import Path

from tests.simulation.cells import FAULTS, PAYMENTS, Cell, Point, cell, walk
from tests.simulation.misfortune import KILLS

TABLE = Path(__file__).parents[2] / "docs" / "crash-table.md"
RECORD_BEGINS, RECORD_ENDS = "<!-- the last long run -->\n", "<!-- its end -->\n"
CODES = {
    "delivered, paid once": "D1",
    "delivered, paid once, 1 top-up": "D1T",
    "paid once and booked, the caller has no answer": "A1",
    "paid nothing": "N0",
}
"""The good outcomes. Any other is written out in capitals, and the tests refuse the table."""
_HEAD = f"""# What happens if it breaks just here

Written by `scripts/simulate --table`; nobody edits it. Each cell is a world of its own: the product's own flows buy one
track, exactly one misfortune strikes at exactly one step, then everything is healed, the customer asks again, and
`reconcile` and `resume` bring the purchase to its end. What the customer has and what he paid is read from the seller's
memory and the chain, not from our books. A row is a state of the books and what was about to happen; where several steps
share it, the cell holds each outcome once.

| Cell | Means |
| --- | --- |
| `D1` | delivered, paid once |
| `D1T` | delivered, paid once, after one top-up |
| `A1` | paid once, and the books say so; the program that asked is gone or has no answer (only where a stranger's program holds the job) |
| `N0` | nothing was paid, and nothing delivered |
| `·` | there is nothing this misfortune could befall |

Misfortunes: a process is *killed*, or the *power* fails (what was not synced may be gone), *before* a step, *at* the first
commit, sync or rename inside it, or *after* its effect. A request is lost, its answer is lost, it arrives twice, late (after
its sender gave up), slowly, is cut, comes back as garbage, is answered 500 without or after its effect, 429, 402 once more, or
is redirected without or after its effect.

{RECORD_BEGINS}{RECORD_ENDS}"""


def recorded(text: str, lines: Iterable[str]) -> str:
    """The table's text with this record of a long run in its head."""
    before, _, rest = text.partition(RECORD_BEGINS)
    _, _, after = rest.partition(RECORD_ENDS)
    return before + RECORD_BEGINS + "".join(f"    {line}\n" for line in lines) + RECORD_ENDS + after


def record_in(text: str) -> list[str]:
    told = text.partition(RECORD_BEGINS)[2].partition(RECORD_ENDS)[0]
    return [line.removeprefix("    ") for line in told.splitlines()]


def code(found: Cell) -> str:
    """A good outcome's code; a bad one in capitals."""
    if found.violations:
        return "; ".join(found.violations).upper()
    return CODES.get(found.outcome, found.outcome.upper())


def whole_table(workers: int) -> str:
    """Live through every cell and write them down."""
    asked = [
        (payment, point, strike)
        for payment in PAYMENTS
        for point in walk(payment)
        for strike in (*KILLS, *(FAULTS if point.sends else ()))
    ]
    with get_context("spawn").Pool(workers, maxtasksperchild=300) as pool:
        found = [one for one in pool.starmap(cell, asked, chunksize=5) if one is not None]
    return _HEAD + "".join(
        _section(payment, [one for one in found if one.payment == payment]) for payment in PAYMENTS
    )


def read_table(text: str) -> dict[tuple[str, str, str, str], str]:
    """Its cells again: (payment, books, next, misfortune) -> codes."""
    read: dict[tuple[str, str, str, str], str] = {}
    payment, columns = "", list[str]()
    for line in text.splitlines():
        words = [word.strip() for word in line.strip("|").split("|")]
        if line.startswith("## "):
            payment, columns = line.removeprefix("## "), []
        elif line.startswith("| The books"):
            columns = words[2:]
        elif line.startswith("| ") and columns and not line.startswith("| ---"):
            read |= {
                (payment, words[0], words[1], column): word
                for column, word in zip(columns, words[2:], strict=True)
            }
    return read


def _section(payment: str, found: list[Cell]) -> str:
    points = {
        (one.point.books, one.point.asks): one.point for one in sorted(found, key=lambda one: -one.point.step)
    }
    rows = sorted(points.values(), key=lambda point: point.step)
    sending = [point for point in rows if point.sends]
    return f"\n## {payment}\n\n{_grid(rows, KILLS, found)}\n{_grid(sending, FAULTS, found)}"


def _grid(rows: list[Point], columns: tuple[str, ...], found: list[Cell]) -> str:
    lines = [f"| The books | Next | {' | '.join(columns)} |", "| --- " * (2 + len(columns)) + "|"]
    for point in rows:
        here = [one for one in found if (one.point.books, one.point.asks) == (point.books, point.asks)]
        told = (
            " ".join(sorted({code(one) for one in here if one.misfortune == column})) or "·"
            for column in columns
        )
        lines.append(f"| {point.books} | {point.asks} | {' | '.join(told)} |")
    return "\n".join(lines) + "\n"
