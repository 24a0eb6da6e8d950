"""What a benchmark is made of: arms that take turns in one run, and rows that say what came of them.

A ratio is the median over rounds of ours by the floor of the same round, so that a slow moment of the machine meets
both. Time is processor time of this process (user and system) unless a benchmark says otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the result. goal: what `ratio` must not pass (`at most`) or must reach; None where none is set."""

    name: str
    ratio: float
    goal: float | None
    bound: Literal["at most", "at least"]
    floor: str
    peer: str
    unit: str
    value: float
    floor_value: float
    least: float
    most: float
    remark: str = ""
    profile: str = ""
    """What the time went to, in counts."""

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.ratio <= self.goal if self.bound == "at most" else self.ratio >= self.goal

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}


def beside(
    name: str, one: Row, other: Row, *, goal: float, bound: Literal["at most", "at least"] = "at most"
) -> Row:
    """The row of two arms that ran in environments of their own: by how much their ratios differ."""
    ratio = round(one.ratio / other.ratio, 3)
    return Row(name, ratio, goal, bound, other.name, "", "x", one.ratio, other.ratio, ratio, ratio)


def cpu_us() -> float:
    """Processor time of this process and its threads, microseconds."""
    return time.process_time_ns() / 1000


def burst(act: Callable[[], object], calls: int) -> float:
    """Microseconds of processor time a call."""
    start = cpu_us()
    for _ in range(calls):
        act()
    return (cpu_us() - start) / calls


async def burst_async(act: Callable[[], Awaitable[object]], calls: int) -> float:
    start = cpu_us()
    for _ in range(calls):
        await act()
    return (cpu_us() - start) / calls


def row(
    name: str,
    rounds: Sequence[Mapping[str, float]],
    *,
    ours: str = "ours",
    floor: str = "floor",
    floor_name: str = "",
    goal: float | None = None,
    bound: Literal["at most", "at least"] = "at most",
    peer: str = "",
    unit: str = "us",
    remark: str = "",
    profile: str = "",
) -> Row:
    """The row of one arm against another of the same rounds."""
    ratios = [each[ours] / each[floor] for each in rounds]
    return Row(
        name, round(median(ratios), 3), goal, bound, floor_name or floor, peer, unit,
        round(median(each[ours] for each in rounds), 2), round(median(each[floor] for each in rounds), 2),
        round(min(ratios), 3), round(max(ratios), 3), remark, profile,
    )  # fmt: skip
