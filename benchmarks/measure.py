"""What a benchmark is made of: arms that take turns in one run, and rows that say what came of them.

A ratio is the median over rounds of ours by the floor of the same round, so that a slow moment of the machine meets
both. Time is processor time of this process (user and system) unless a benchmark says otherwise.
"""

from __future__ import annotations

import cProfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from types import CodeType
from typing import Any, Final, Literal

JOURNAL: Final = "WAL"
"""How the ledger's SQLite makes a commit whole on this machine's disk."""
_IN_C: Final = ("apsw", "_socket", "coincurve", "_cffi", "sha3", "select", "zlib", "hashlib", "_json")


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


def shares(act: Callable[[], object], calls: int) -> str:
    """Whose code the time goes to, by the profiler: packages, rooms of ours, and what they call in C."""
    profiler = cProfile.Profile(time.process_time)
    profiler.enable()
    for _ in range(calls):
        act()
    profiler.disable()
    spent: Counter[str] = Counter()
    for each in profiler.getstats():
        spent[_whose(each.code)] += int(each.inlinetime * 1e9)
    whole = sum(spent.values())
    return ", ".join(f"{each * 100 // whole} % {name}" for name, each in spent.most_common(8))


def _whose(code: CodeType | str) -> str:
    if isinstance(code, str):
        return next((name for name in _IN_C if name in code), "built into Python")
    path = Path(code.co_filename)
    for number, part in enumerate(path.parts):
        if part in ("site-packages", "x402_audio", "benchmarks"):
            here = path.parts[number + 1 :] if part == "site-packages" else path.parts[number:]
            return "/".join(here[: 1 if part == "site-packages" else 2]).removesuffix(".py")
    return "Python's library"


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
