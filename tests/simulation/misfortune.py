"""Who decides what goes wrong next: the dice of a seed, or one exact order ("kill it after its 17th step").

Only decides; the driver kills, the network loses. `calm` ends all misfortune, so that a world can be healed.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal, Protocol

from tests.simulation.plan import FATES, Plan

When = Literal["before", "after", "at"]


class Misfortune(Protocol):
    """Asked at every step, in the order things happen."""

    def kills(self, when: When, step: int) -> bool:
        """Is the process killed before or after its step's effect, or at a commit, sync or rename inside it."""

    def stall(self) -> float:
        """Seconds the process stands still before its next step."""

    def latency(self) -> float:
        """Seconds one way on the network."""

    def fate(self, step: int, path: str) -> str:
        """What befalls a request, empty for nothing."""

    def calm(self) -> None: ...


@dataclass
class Dice:
    """By the rates of a plan. Crashes and faults are bounded, so that every world ends."""

    plan: Plan
    dice: Random
    crashes_left: int = 8
    faults_left: int = 40
    quiet: bool = False

    def kills(self, when: When, step: int) -> bool:
        if self.quiet or self.crashes_left == 0 or not self.plan.crash:
            return False
        killed = self.dice.random() < self.plan.crash / 2
        self.crashes_left -= killed
        return killed

    def stall(self) -> float:
        if self.quiet or self.dice.random() >= self.plan.stall:
            return self.dice.choice((0.0, 0.0005, 0.001, 0.002))
        return self.dice.choice((1.0, 30.0, 150.0, 300.0, 700.0))

    def latency(self) -> float:
        return 0.02 if self.quiet else self.dice.choice((0.005, 0.05, 0.5, 2.0))

    def fate(self, step: int, path: str) -> str:
        if self.quiet or self.faults_left == 0 or self.dice.random() >= self.plan.trouble:
            return ""
        self.faults_left -= 1
        return self.dice.choice(FATES)

    def calm(self) -> None:
        self.quiet = True


@dataclass
class Ordered:
    """Exactly one misfortune: at a step of the first process, counted from 0. `fault` is a fate, or a way to be killed."""

    step: int
    fault: str
    happened: bool = False
    quiet: bool = False

    def kills(self, when: When, step: int) -> bool:
        return self._strikes(step, f"killed {when}")

    def stall(self) -> float:
        return 0.001

    def latency(self) -> float:
        return 0.02

    def fate(self, step: int, path: str) -> str:
        return self.fault if self._strikes(step, self.fault) and self.fault in FATES else ""

    def calm(self) -> None:
        self.quiet = True

    def _strikes(self, step: int, what: str) -> bool:
        if self.quiet or self.happened or step != self.step or what != self.fault:
            return False
        self.happened = True
        return True
