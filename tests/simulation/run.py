"""`scripts/simulate`: worlds by their seeds, one after the other or on every core; a failing seed tells how to see it again."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.simulation.plan import plan_of
from tests.simulation.world import World, open_world


@dataclass
class Verdict:
    """What came of one world."""

    seed: int
    violations: list[str]
    digest: str
    lines: list[str]
    reached: Counter[tuple[str, str]]
    ends: Counter[str] = field(default_factory=Counter)


def simulate(seed: int, processes: int | None = None) -> Verdict:
    """Live through the world of a seed and judge it."""
    with open_world(plan_of(seed, processes)) as world:
        live(world)
        ends = Counter(world.judge.job_states().values())
        return Verdict(
            seed, world.violations, world.trace.digest(), world.trace.lines, world.trace.reached, ends
        )


def live(world: World) -> None:
    """Storm, healing, verdict."""
    world.trace.say(world.timeline.at, "-", str(world.plan))
    world.storm()
    if not world.violations:
        world.heal()


if __name__ == "__main__":
    first, last = int(sys.argv[1]), int(sys.argv[2])
    began = time.perf_counter()
    ends: Counter[str] = Counter()
    for seed in range(first, last):
        verdict = simulate(seed)
        ends += verdict.ends
        if verdict.violations:
            print(seed, verdict.violations, plan_of(seed))
            if last == first + 1:
                print("\n".join(verdict.lines))
    print((time.perf_counter() - began) / max(1, last - first), "s/world", ends)
