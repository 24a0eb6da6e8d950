"""`scripts/simulate`: worlds by their seeds, one after the other or on every core; a failing seed tells how to see it again."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial
from multiprocessing import get_context

from tests.simulation.mutants import MUTANTS
from tests.simulation.report import Tally
from tests.simulation.verdict import Verdict, simulate


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many worlds")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="one world, with its trace")
    parser.add_argument("--mutant", choices=MUTANTS, default="", help="with this rule of the product undone")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="cores to use")
    asked = parser.parse_args(words)
    if asked.seed is not None:
        verdict = simulate(asked.seed, asked.mutant)
        print("\n".join(verdict.lines))
        print("\n".join(verdict.violations) or "clean", f"({verdict.digest})")
        return 1 if verdict.violations else 0
    return _many(range(asked.start, asked.start + asked.seeds), asked.mutant, asked.processes)


def _verdicts(seeds: Iterable[int], mutant: str, workers: int) -> Iterator[Verdict]:
    judged = partial(simulate, mutant=mutant)
    if workers == 1:
        yield from map(judged, seeds)
        return
    with get_context("spawn").Pool(workers, maxtasksperchild=500) as pool:
        yield from pool.imap_unordered(judged, seeds, chunksize=10)


def _many(seeds: range, mutant: str, workers: int) -> int:
    began, tally = time.perf_counter(), Tally()
    for verdict in _verdicts(seeds, mutant, workers):
        tally.add(verdict)
        if verdict.violations:
            print(f"seed {verdict.seed}: {'; '.join(verdict.violations)}\n    {verdict.command}", flush=True)
        if tally.worlds % 1000 == 0:
            print(f"{tally.worlds} worlds, {len(tally.wrong)} of them wrong", flush=True)
    took = time.perf_counter() - began
    print("\n".join(tally.lines()))
    print(f"{took:.0f} s, {len(seeds) / took:.1f} worlds a second")
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
