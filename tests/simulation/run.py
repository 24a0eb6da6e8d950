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
from tests.simulation.table import CODES, TABLE, read_table, record_in, recorded, whole_table
from tests.simulation.verdict import Verdict, simulate


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many worlds")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="one world, with its trace")
    parser.add_argument("--mutant", choices=MUTANTS, default="", help="with this rule of the product undone")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="cores to use")
    parser.add_argument(
        "--record", action="store_true", help="write what came of it into docs/crash-table.md"
    )
    parser.add_argument("--table", action="store_true", help="write docs/crash-table.md anew")
    asked = parser.parse_args(words)
    if asked.seed is not None:
        verdict = simulate(asked.seed, asked.mutant)
        print("\n".join(verdict.lines))
        print("\n".join(verdict.violations) or "clean", f"({verdict.digest})")
        return 1 if verdict.violations else 0
    if asked.table:
        return _write_table(asked.processes)
    seeds = range(asked.start, asked.start + asked.seeds)
    return _many(seeds, asked.mutant, asked.processes, record=asked.record)


def _write_table(workers: int) -> int:
    text = recorded(whole_table(workers), record_in(TABLE.read_text()) if TABLE.exists() else ())
    TABLE.write_text(text)
    bad = {
        key: codes
        for key, codes in read_table(text).items()
        if not set(codes.split()) <= {*CODES.values(), "·"}
    }
    print(f"{TABLE} is written: {len(read_table(text))} cells, {len(bad)} of them bad")
    for key, codes in bad.items():
        print(*key, codes, sep=" | ")
    return 1 if bad else 0


def _verdicts(seeds: Iterable[int], mutant: str, workers: int) -> Iterator[Verdict]:
    judged = partial(simulate, mutant=mutant)
    if workers == 1:
        yield from map(judged, seeds)
        return
    with get_context("spawn").Pool(workers, maxtasksperchild=500) as pool:
        yield from pool.imap_unordered(judged, seeds, chunksize=10)


def _many(seeds: range, mutant: str, workers: int, *, record: bool) -> int:
    began, tally = time.perf_counter(), Tally()
    for verdict in _verdicts(seeds, mutant, workers):
        tally.add(verdict)
        if verdict.violations:
            print(f"seed {verdict.seed}: {'; '.join(verdict.violations)}\n    {verdict.command}", flush=True)
        if tally.worlds % 1000 == 0:
            print(f"{tally.worlds} worlds, {len(tally.wrong)} of them wrong", flush=True)
    took = time.perf_counter() - began
    lines = [
        *tally.lines(),
        f"{took:.0f} s with {workers} processes, {len(seeds) / took:.1f} worlds a second",
    ]
    print("\n".join(lines))
    if record:
        command = f"scripts/simulate --start {seeds.start} --seeds {len(seeds)}"
        TABLE.write_text(recorded(TABLE.read_text(), [command, *lines]))
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
