"""When to ask for a job again: pure arithmetic. Seconds throughout; knows no clock and no seller.

A track is late by how long it lies finished before somebody asks, and every question costs a signature and a place in
the wallet's rate. So nothing is asked while earlier jobs of the model were never done, then closely, then seldom.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

FIRST_POLL_S: Final = 2.0
POLL_MIN_S: Final = 2.0
POLL_MAX_S: Final = 300.0
"""However long the seller says it will take: one odd answer must not put the track out of reach."""
AFTER_ESTIMATE_S: Final = (3.0, 5.0)
SPACING_S: Final = 0.56
"""Between two retrieves of one wallet: 90 % of 120 a minute."""
DURATIONS_KEPT: Final = 20
START_RANK: Final = 0.3
START_SHARE: Final = 0.9
"""Asking begins at this share of the run time that so many of the kept jobs were within. A job is seen no earlier than
it is asked for, so whole shares would only ever creep upwards."""
FEW_SHARE: Final = 0.2
"""So much less while only one job was seen, half of it while two were: few say little."""
UNSURE_SHARE: Final = 0.5
"""And at this share of the seller's own estimate (its 80th percentile) while no job of the model was seen."""


def first_poll(durations: Sequence[float], waiting: int, interval: float | None = None) -> float:
    """Seconds until the first poll, with `waiting` jobs on the wallet. durations: run times of earlier jobs."""
    if interval is not None:
        return interval
    start = start_of(durations)
    return max(
        FIRST_POLL_S if start is None else min(max(POLL_MIN_S, start), POLL_MAX_S), waiting * SPACING_S
    )


def next_poll(
    average_s: float | None,
    elapsed_s: float | None,
    waiting: int,
    jitter: float,
    interval: float | None = None,
    durations: Sequence[float] = (),
) -> float:
    """Seconds until the next poll. jitter: 0 to 1. `interval` is the caller's own pace; `average_s` the seller's P80."""
    if interval is not None:
        return interval
    low, high = AFTER_ESTIMATE_S
    wish = low + (high - low) * jitter
    start, end = start_of(durations), max(durations, default=0.0)
    if start is None and average_s is not None:
        start, end = UNSURE_SHARE * average_s, average_s
    if start is not None and elapsed_s is not None and elapsed_s < end:
        wish = min(max(POLL_MIN_S, start - elapsed_s), POLL_MAX_S)
    return max(wish, waiting * SPACING_S)


def start_of(durations: Sequence[float]) -> float | None:
    """Seconds after which a job is worth asking for, None while no earlier one is known."""
    known = _rank(durations, START_RANK)
    return None if known is None else (START_SHARE - FEW_SHARE / len(durations)) * known


def p80(durations: Sequence[float]) -> float | None:
    """The 80th percentile of known run times, None without any."""
    return _rank(durations, 0.8)


def kept(durations: Sequence[float], ran: float) -> list[float]:
    """The run times to keep once another is known."""
    return [*durations, ran][-DURATIONS_KEPT:]


def _rank(durations: Sequence[float], share: float) -> float | None:
    ordered = sorted(durations)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
