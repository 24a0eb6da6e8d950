"""Time and randomness as things handed in, so that a test can own both.

Knows nothing of what they are used for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Protocol

Random = Callable[[int], bytes]
"""Gives n unpredictable bytes."""


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> float:
        """Unix seconds, as the machine believes."""

    def monotonic(self) -> float:
        """Seconds that never run back, for waiting."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


def system_random(count: int) -> bytes:
    """Bytes from the operating system's generator."""
    return os.urandom(count)
