"""`python -m benchmarks NAME… [--json] [--quick] [--record]`: run some benchmarks or `all`, and compare with the last record.

The record is only reported against: a slow day of a machine fails nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from typing import Final

from benchmarks import record
from benchmarks.measure import Row

NAMES: Final = ("signing", "paid_call", "ledger", "waiting", "polling", "download", "start")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="+", choices=("all", *NAMES), metavar="NAME", help=", ".join(("all", *NAMES))
    )
    parser.add_argument("--json", action="store_true", help="a list of rows on stdout")
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds: to see that it runs, not to believe"
    )
    parser.add_argument(
        "--record", action="store_true", help="with `all`: keep the run, and make RESULTS.md of it"
    )
    asked = parser.parse_args()
    if asked.record and (asked.quick or asked.names != ["all"]):
        parser.error("only one full run is recorded: all --record")
    facts, rows, goals = record.machine(), list[Row](), list[str]()
    for name in NAMES if "all" in asked.names else asked.names:
        module = import_module(f"benchmarks.{name}")
        for found in module.rows(quick=asked.quick):
            rows.append(found)
            print(line(found), file=sys.stderr, flush=True)
        missing = set(module.NAMES) - {each.name for each in rows}
        assert not missing, f"{name} promises other rows than it gives: {missing}"
        goals += module.NAMES
    if record.RECORD.exists():
        for told in record.worse_than(json.loads(record.RECORD.read_text()), rows):
            print(told, file=sys.stderr)
    if asked.record:
        record.keep(facts, rows, goals)
        for told in record.unexplained(rows):
            print(told, file=sys.stderr)
    if asked.json:
        print(json.dumps([each.to_json() for each in rows], indent=1))
    return 0


def line(found: Row) -> str:
    """A row for people."""
    goal = "" if found.goal is None else f"{found.bound} {found.goal:g}: {'met' if found.met else 'MISSED'}"
    return (
        f"{found.name:38} {found.ratio:8.2f}  of {found.floor:28} {found.value:12.1f} {found.unit:6} {goal}"
    )


if __name__ == "__main__":
    sys.exit(main())
