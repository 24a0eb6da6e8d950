"""One full run kept: the machine it ran on, its rows, and `RESULTS.md` made from both and from what a person remarked.

`python -m benchmarks.record` makes the page again after `remarks.toml` was changed. Measures nothing.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import apsw

from benchmarks.measure import JOURNAL, Row
from x402_audio import __version__

RECORD: Final = Path(__file__).with_name("recorded.json")
REMARKS: Final = Path(__file__).with_name("remarks.toml")
"""Why a goal is missed, in words, by the row's name."""
RESULTS: Final = Path(__file__).with_name("RESULTS.md")
WORSE: Final = 1.15
"""How much a ratio may have changed for the worse since the record before it is named."""
_HEAD: Final = """\
# One full run of the benchmarks

Made by `bash scripts/benchmark all --record`; the same figures are in `benchmarks/recorded.json`. A ratio is the median over
rounds in which ours and its floor took turns; beside it stand the least and the most. Ratios are to be compared, figures
belong to the machine."""


def machine() -> dict[str, str]:
    """Facts that the figures depend on; asked before the run, as the load is one of them."""
    found = subprocess.run(
        ["findmnt", "-no", "FSTYPE", "-T", tempfile.gettempdir()], capture_output=True, text=True, check=False
    )
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "begun": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "x402_audio": __version__,
        "processor": f"{model[0].partition(': ')[2] if model else platform.machine()}, {os.cpu_count()} cores",
        "load at the start": f"{os.getloadavg()[0]:.2f}",
        "system": f"{platform.system()} {platform.release()}",
        "file system": found.stdout.strip() or "unknown",
        "Python": platform.python_version(),
        "SQLite": f"{apsw.sqlite_lib_version()}, journal mode {JOURNAL}",
    }


def keep(facts: dict[str, str], rows: Sequence[Row], goals: Sequence[str]) -> None:
    """The record and its page. goals: the names of the rows that have one line each in the first table, in order."""
    kept = {"machine": facts, "goals": list(goals), "rows": [each.to_json() for each in rows]}
    RECORD.write_text(json.dumps(kept, indent=1) + "\n")
    RESULTS.write_text(page(kept, tomllib.loads(REMARKS.read_text())))


def unexplained(rows: Sequence[Row]) -> Iterator[str]:
    """Missed goals to which nobody said why."""
    remarks = tomllib.loads(REMARKS.read_text())
    for each in rows:
        if each.met is False and not each.remark and each.name not in remarks:
            yield f"missed, and {REMARKS.name} does not say why: {each.name}"


def worse_than(kept: dict[str, Any], rows: Sequence[Row]) -> Iterator[str]:
    """Ours that fell behind a record, or left it; peers are not ours to guard."""
    before = {each["name"]: each["ratio"] for each in kept["rows"]}
    for each in rows:
        was = before.get(each.name)
        if each.peer or not was or not each.ratio:
            continue
        change = each.ratio / was if each.bound == "at most" else was / each.ratio
        if change > WORSE:
            yield f"worse than recorded: {each.name} was {was}, is {each.ratio} ({each.bound})"


def page(kept: dict[str, Any], remarks: dict[str, str]) -> str:
    """RESULTS.md. A remark is shown only while its goal is missed."""
    rows, goals = kept["rows"], kept["goals"]
    ours = sorted(
        (each for each in rows if each["name"] in goals and not each["peer"]),
        key=lambda one: goals.index(one["name"]),
    )
    theirs = [each for each in rows if each["peer"]]
    others = [each for each in rows if each not in ours and not each["peer"]]
    missed = [each for each in rows if each["met"] is False]
    profiled = [each for each in rows if (each["profile"] or each["remark"]) and each not in missed]
    parts = [_HEAD, "\n".join(f"- {name}: {value}" for name, value in kept["machine"].items())]
    for title, some in (
        ("Goals", ours),
        ("Other people's software, in the same run", theirs),
        ("The parts behind these figures", others),
    ):
        parts += [f"## {title}", "\n".join(_table(some))]
    parts.append("## What is missed, and why" if missed else "No goal is missed.")
    for each in missed + profiled:
        said = [
            remarks.get(each["name"], "").strip() if each in missed else "",
            each["remark"],
            each["profile"] and f"Profile: {each['profile']}.",
        ]
        if each is (profiled or [None])[0]:
            parts.append("## Of the rest")
        parts += [f"### {each['name']}", *filter(None, said)]
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "| Row | Ratio | Least to most | Goal | Met | Of | Figure | Of the floor |"
    yield "| --- | ---: | --- | --- | --- | --- | ---: | ---: |"
    for each in rows:
        goal = "" if each["goal"] is None else f"{each['bound']} {each['goal']:g}"
        met = {True: "yes", False: "**no**", None: ""}[each["met"]]
        floor = each["floor"] + (f" ({each['peer']})" if each["peer"] else "")
        yield (
            f"| `{each['name']}` | {each['ratio']:.2f} | {each['least']:.2f} to {each['most']:.2f} | {goal} | {met} | {floor}"
            f" | {each['value']:,.1f} {each['unit']} | {each['floor_value']:,.1f} |"
        )


if __name__ == "__main__":
    RESULTS.write_text(page(json.loads(RECORD.read_text()), tomllib.loads(REMARKS.read_text())))
