"""`scripts/simulate`: worlds by their seeds, one after the other or on every core; a failing seed tells how to see it again."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from tests.simulation.mutants import MUTANTS, mutated
from tests.simulation.plan import plan_of
from tests.simulation.world import World, open_world

TABLE = Path(__file__).parents[2] / "docs" / "crash-table.md"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one world. `reached` counts (what befell, where); `ends` the states of its jobs."""

    seed: int
    mutant: str
    violations: tuple[str, ...]
    digest: str
    lines: tuple[str, ...]
    reached: Counter[tuple[str, str]]
    ends: Counter[str]

    @property
    def command(self) -> str:
        """What shows this world again."""
        return f"scripts/simulate --seed {self.seed}" + (f' --mutant "{self.mutant}"' if self.mutant else "")

    def __str__(self) -> str:
        return "\n".join([*self.lines[-60:], *self.violations, f"see all of it: {self.command}"])


def simulate(seed: int, mutant: str = "") -> Verdict:
    """Live through the world of a seed and judge it."""
    with mutated(mutant), open_world(plan_of(seed)) as world:
        live(world)
        return Verdict(
            seed, mutant, tuple(world.violations), world.trace.digest(), tuple(world.trace.lines),
            world.trace.reached, Counter(world.judge.ends()),
        )  # fmt: skip


def live(world: World) -> None:
    """Storm, healing, verdict."""
    world.trace.say(world.timeline.at, "-", str(world.plan))
    world.storm()
    if not world.violations:
        world.heal()


def _verdicts(seeds: Iterable[int], mutant: str, workers: int) -> Iterator[Verdict]:
    judged = partial(simulate, mutant=mutant)
    if workers == 1:
        yield from map(judged, seeds)
        return
    with get_context("spawn").Pool(workers, maxtasksperchild=500) as pool:
        yield from pool.imap_unordered(judged, seeds, chunksize=10)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many worlds")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="one world, with its trace")
    parser.add_argument("--mutant", choices=MUTANTS, default="", help="with this rule of the product undone")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="cores to use")
    parser.add_argument("--table", action="store_true", help="write docs/crash-table.md")
    asked = parser.parse_args(words)
    if asked.table:
        from tests.simulation.table import whole_table

        TABLE.write_text(whole_table(asked.processes))
        print(f"{TABLE} is written")
        return 0
    if asked.seed is not None:
        verdict = simulate(asked.seed, asked.mutant)
        print("\n".join(verdict.lines))
        print("\n".join(verdict.violations) or "clean", f"({verdict.digest})")
        return 1 if verdict.violations else 0
    return _many(range(asked.start, asked.start + asked.seeds), asked.mutant, asked.processes)


def _many(seeds: range, mutant: str, workers: int) -> int:
    began, wrong = time.perf_counter(), 0
    reached, ends = Counter[tuple[str, str]](), Counter[str]()
    for done, verdict in enumerate(_verdicts(seeds, mutant, workers), start=1):
        reached += verdict.reached
        ends += verdict.ends
        if verdict.violations:
            wrong += 1
            print(f"seed {verdict.seed}: {'; '.join(verdict.violations)}\n    {verdict.command}", flush=True)
        if done % 1000 == 0:
            print(f"{done} worlds, {wrong} of them wrong", flush=True)
    took = time.perf_counter() - began
    kills = {where for what, where in reached if what.startswith("killed")}
    faults = {(what, where) for what, where in reached if not what.startswith("killed")}
    print(f"{len(seeds)} worlds in {took:.0f} s ({len(seeds) / took:.1f} a second), {wrong} of them wrong")
    print(
        f"killed {sum(n for (what, _), n in reached.items() if what.startswith('killed'))} times"
        f" at {len(kills)} different lines; {len(faults)} different faults of a route"
    )
    print("how jobs ended:", ", ".join(f"{state} {number}" for state, number in ends.most_common()))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
