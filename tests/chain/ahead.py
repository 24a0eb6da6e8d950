"""A clock for the world around a command line that runs by the machine's."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(slots=True)
class AheadClock:
    """The machine's clock, so many seconds ahead."""

    ahead: float = 0

    def now(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return self.now()
