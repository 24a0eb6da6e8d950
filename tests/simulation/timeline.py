"""Simulated time: a heap of what will happen, and clocks that show it. Nobody waits, nothing here knows what happens."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

START = 1_790_000_000.0


@dataclass
class Timeline:
    """True time. Things due at one moment happen in the order they were planned in."""

    at: float = START
    _due: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at - START

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.at + max(0.0, seconds), next(self._numbers), act))

    def step(self) -> bool:
        """Let the next thing happen; False when nothing is planned."""
        if not self._due:
            return False
        at, _, act = heapq.heappop(self._due)
        self.at = max(self.at, at)
        act()
        return True


@dataclass
class MachineClock:
    """What one program's machine believes: true time and its own error, seconds."""

    timeline: Timeline
    error_s: float = 0.0

    def now(self) -> float:
        return self.timeline.at + self.error_s

    def monotonic(self) -> float:
        return self.timeline.monotonic()
