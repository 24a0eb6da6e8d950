"""What a run of many worlds says of itself: how many, what befell them and where, how their jobs ended. Plain counting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.simulation.promises import RULES
from tests.simulation.verdict import Verdict


@dataclass
class Tally:
    """Adds up verdicts."""

    worlds: int = 0
    wrong: list[Verdict] = field(default_factory=list)
    reached: Counter[tuple[str, str]] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)

    def add(self, verdict: Verdict) -> None:
        self.worlds += 1
        self.reached += verdict.reached
        self.ends += verdict.ends
        self.asked += verdict.asked
        if verdict.violations:
            self.wrong.append(verdict)

    @property
    def crash_points(self) -> set[tuple[str, str]]:
        """Each (when, line) at which a process was killed."""
        return {point for point in self.reached if point[0].startswith("killed")}

    @property
    def faults(self) -> set[tuple[str, str]]:
        """Each (fault, where) that befell something."""
        return set(self.reached) - self.crash_points

    def lines(self) -> Iterable[str]:
        kills = sum(self.reached[point] for point in self.crash_points)
        befell = sum(self.reached[point] for point in self.faults)
        yield f"{self.worlds} worlds, {len(self.wrong)} of them wrong"
        yield f"{len(self.crash_points)} distinct crash points reached, {kills} kills"
        yield f"{len(self.faults)} distinct faults of a place reached, {befell} times"
        yield "rules looked at: " + ", ".join(f"{rule} {self.asked[rule]}" for rule in RULES)
        yield "how jobs ended: " + ", ".join(f"{state} {number}" for state, number in self.ends.most_common())
