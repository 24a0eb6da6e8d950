"""One world lived through and judged, by its seed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tests.simulation.mutants import mutated
from tests.simulation.plan import plan_of
from tests.simulation.world import World, open_world


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one world. `reached` counts (what befell, where); `ends` the states of its jobs, `asked` the judge's looks at each rule."""

    seed: int
    mutant: str
    violations: tuple[str, ...]
    digest: str
    lines: tuple[str, ...]
    reached: Counter[tuple[str, str]]
    ends: Counter[str]
    asked: Counter[str]

    @property
    def command(self) -> str:
        """What shows this world again."""
        return f"scripts/simulate --seed {self.seed}" + (f' --mutant "{self.mutant}"' if self.mutant else "")

    @property
    def rules(self) -> set[str]:
        """The promises and invariants that were broken."""
        return {text.partition(":")[0] for text in self.violations}

    def __str__(self) -> str:
        return "\n".join([*self.lines[-60:], *self.violations, f"see all of it: {self.command}"])


def simulate(seed: int, mutant: str = "") -> Verdict:
    """Live through the world of a seed and judge it."""
    with mutated(mutant), open_world(plan_of(seed)) as world:
        live(world)
        return Verdict(
            seed, mutant, tuple(world.violations), world.trace.digest(), tuple(world.trace.lines),
            world.trace.reached, Counter(world.judge.ends()), world.judge.case.asked,
        )  # fmt: skip


def live(world: World) -> None:
    """Storm, healing, verdict."""
    world.trace.say(world.timeline.at, "-", str(world.plan))
    world.storm()
    if not world.violations:
        world.heal()
