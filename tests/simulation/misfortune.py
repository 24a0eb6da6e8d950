"""Who decides what goes wrong next: the dice of a seed, or one exact order ("kill it after its 17th step").

Only decides; the driver kills, the network loses. `calm` ends all misfortune, so that a world can be healed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal, Protocol

from tests.simulation.plan import FATES, Plan

When = Literal["before", "after", "at"]

KILLS = ("killed before", "killed at", "killed after", "power cut before", "power cut at", "power cut after")
"""Before or after a step's effect, or at the first commit, sync or rename inside it."""


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
        return 0.02 if self.quiet or self.plan.crowd else self.dice.choice((0.005, 0.05, 0.5, 2.0))

    def fate(self, step: int, path: str) -> str:
        if self.quiet or self.faults_left == 0 or self.dice.random() >= self.plan.trouble:
            return ""
        self.faults_left -= 1
        return self.dice.choice(FATES)

    def calm(self) -> None:
        self.quiet = True


@dataclass
class Ordered:
    """Exactly one misfortune, at one step of the first process: a fate of its request, or one of KILLS."""

    step: int
    fault: str
    happened: bool = False
    quiet: bool = False
    power_cut: Callable[[], None] = lambda: None

    def kills(self, when: When, step: int) -> bool:
        if self.fault not in KILLS or not self.fault.endswith(when):
            return False
        struck = self._strikes(step)
        if struck and self.fault.startswith("power"):
            self.power_cut()
        return struck

    def stall(self) -> float:
        return 0.001

    def latency(self) -> float:
        return 0.02

    def fate(self, step: int, path: str) -> str:
        return self.fault if self.fault in FATES and self._strikes(step) else ""

    def calm(self) -> None:
        self.quiet = True

    def _strikes(self, step: int) -> bool:
        if self.quiet or self.happened or step != self.step:
            return False
        self.happened = True
        return True
