"""When to ask for a job again: pure arithmetic. Seconds throughout; knows no clock and no seller."""

from __future__ import annotations

from typing import Final

FIRST_POLL_S: Final = 2.0
POLL_MIN_S: Final = 2.0
POLL_MAX_S: Final = 300.0
"""However long the seller says it will take: one odd answer must not put the track out of reach."""
AFTER_ESTIMATE_S: Final = (3.0, 5.0)
SPACING_S: Final = 0.56
"""Between two retrieves of one wallet: 90 % of 120 a minute."""
DURATIONS_KEPT: Final = 20


def first_poll(known_p80: float | None, waiting: int, interval: float | None = None) -> float:
    """Seconds until the first poll, with `waiting` jobs on the wallet."""
    wish = interval if interval is not None else known_p80 if known_p80 is not None else FIRST_POLL_S
    return wish if interval is not None else max(wish, waiting * SPACING_S)


def next_poll(
    average_s: float | None,
    elapsed_s: float | None,
    waiting: int,
    jitter: float,
    interval: float | None = None,
) -> float:
    """Seconds until the next poll. jitter: 0 to 1. `interval` is the caller's own pace."""
    if interval is not None:
        return interval
    low, high = AFTER_ESTIMATE_S
    late = low + (high - low) * jitter
    left = average_s - elapsed_s if average_s is not None and elapsed_s is not None else None
    wish = late if left is None or left <= 0 else min(max(POLL_MIN_S, left), POLL_MAX_S)
    return max(wish, waiting * SPACING_S)


def p80(durations: list[float]) -> float | None:
    """The 80th percentile of known run times, None without any."""
    if not durations:
        return None
    ordered = sorted(durations)
    return ordered[min(len(ordered) - 1, int(0.8 * len(ordered)))]
