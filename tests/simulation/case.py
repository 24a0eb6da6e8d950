"""What the judge's rules share: the evidence of one world, and the list of what was found against the product.

It reads the ledger's tables with its own statements, never through the ledger's code.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import apsw

from tests.simulation.promises import RULES
from tests.simulation.truth import Truth
from x402_audio.money import Usdc

if TYPE_CHECKING:
    from tests.simulation.world import World

HOLD_COLUMNS = (
    "id", "kind", "state", "amount", "nonce", "pay_to", "valid_after", "valid_before", "method", "resource", "body_digest",
    "job_id", "purchase", "counted_at", "created_at", "delivered_at", "refunded", "overcharged", "sends", "charge_id",
)  # fmt: skip
_HOLDS = f"SELECT {', '.join(HOLD_COLUMNS)} FROM hold"
LIVE = ("reserved", "signed")
SPENT = ("settled", "presumed")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Left:
    """An authorization that left, as the wire showed it. `key` is the purchase it paid for."""

    nonce: str
    kind: str
    key: str
    value: int
    valid_before: int
    at: float
    hold_id: str


@dataclass
class Case:
    """Evidence and findings. `left` and `draws` by nonce: what the wire carried; `holds` as of the last commit seen."""

    world: World
    wallet: str
    violations: list[str] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    left: dict[str, Left] = field(default_factory=dict)
    draws: dict[str, str] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)
    holds: dict[str, Row] = field(default_factory=dict)
    unshown: bool = False

    def __post_init__(self) -> None:
        self.truth = Truth(self.world.door, self.world.timeline, self.wallet)
        self.open_books()
        plan = self.world.plan
        self.most_an_hour = int(Usdc.parse_usd(plan.max_per_hour))
        self.most_top_up = int(Usdc.parse_usd(plan.max_top_up))
        self.most_top_ups_a_day = int(Usdc.parse_usd(plan.max_top_up_day))

    def open_books(self) -> None:
        """Read the books as they lie there now."""
        self.books = apsw.Connection(str(self.world.ledger_path), flags=apsw.SQLITE_OPEN_READONLY)

    def demand(self, rule: str, holds: object, text: str = "") -> bool:
        """Look at a rule; what does not hold is a violation that names it."""
        assert rule in RULES, rule
        self.asked[rule] += 1
        if not holds:
            self.violations.append(f"{rule}: {text or RULES[rule]}")
            self.world.trace.say(self.world.timeline.at, "JUDGE", self.violations[-1])
        return bool(holds)

    def rows(self) -> list[Row]:
        return [dict(zip(HOLD_COLUMNS, row, strict=True)) for row in self.all(_HOLDS)]

    def hold_of(self, nonce: str) -> Row | None:
        found = self.all(f"{_HOLDS} WHERE nonce = ? COLLATE NOCASE", (nonce,))
        return dict(zip(HOLD_COLUMNS, found[0], strict=True)) if found else None

    def all(self, statement: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        return self.books.execute(statement, cast(Any, values)).fetchall()
