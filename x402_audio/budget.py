"""A named budget for one program: a label and the most it may spend in a window. The ledger enforces it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from x402_audio.ledger.book import Limit
from x402_audio.money import Usdc


class Window(StrEnum):
    """Over which time a limit counts; hours and days roll, months are calendar months (UTC)."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    EVER = "ever"


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `limit` USD (text, like "5.00") in `window` for everything bought under the label `name`."""

    name: str
    limit: str
    window: Window = Window.DAY

    def as_limit(self) -> Limit:
        """Raises ValueError for an amount that cannot be read."""
        return Limit(
            "jobs", self.window.value, Usdc.parse_usd(self.limit), scope=f"label:{self.name}", source="flag"
        )
