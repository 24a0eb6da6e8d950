"""`python -m benchmarks NAME… [--json] [--quick] [--record]`: run some benchmarks or `all`, and compare with the last record.

The record (`benchmarks/recorded.json`) is only reported against: a slow day of a machine fails nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import Row

RECORD: Final = Path(__file__).with_name("recorded.json")
NAMES: Final = ("signing", "paid_call", "ledger", "waiting", "polling", "download", "start")
WORSE: Final = 1.15
"""How much a ratio may have grown since the record before it is named."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="+", choices=("all", *NAMES), metavar="NAME", help=", ".join(("all", *NAMES))
    )
    parser.add_argument("--json", action="store_true", help="a list of rows on stdout")
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds: to see that it runs, not to believe"
    )
    parser.add_argument("--record", action="store_true", help=f"keep the ratios in {RECORD.name}")
    asked = parser.parse_args()
    rows: list[Row] = []
    for name in NAMES if "all" in asked.names else asked.names:
        for found in import_module(f"benchmarks.{name}").rows(quick=asked.quick):
            rows.append(found)
            print(line(found), file=sys.stderr, flush=True)
    for told in worse_than_recorded(rows):
        print(told, file=sys.stderr)
    if asked.record:
        before = recorded()
        before |= {each.name: each.to_json() for each in rows}
        RECORD.write_text(json.dumps(before, indent=1) + "\n")
    if asked.json:
        print(json.dumps([each.to_json() for each in rows], indent=1))
    return 0


def line(found: Row) -> str:
    """A row for people."""
    goal = "" if found.goal is None else f"{found.bound} {found.goal:g}: {'met' if found.met else 'MISSED'}"
    return (
        f"{found.name:38} {found.ratio:8.2f}  of {found.floor:28} {found.value:12.1f} {found.unit:6} {goal}"
    )


def recorded() -> dict[str, Any]:
    return json.loads(RECORD.read_text()) if RECORD.exists() else {}


def worse_than_recorded(rows: list[Row]) -> list[str]:
    """Ours that fell behind the last record; peers are not ours to guard."""
    found = []
    for each in rows:
        before = recorded().get(each.name)
        if before is None or each.peer or not before["ratio"]:
            continue
        change = each.ratio / before["ratio"] if each.bound == "at most" else before["ratio"] / each.ratio
        if change > WORSE:
            found.append(f"slower than recorded: {each.name} was {before['ratio']}, is {each.ratio}")
    return found


if __name__ == "__main__":
    sys.exit(main())
