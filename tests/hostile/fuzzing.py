"""The fuzzer behind `scripts/fuzz`: runs each group of readers under libFuzzer (atheris), each in a process of its own.

Not a test: it wants the environment that script makes. A crash, a hang past ten seconds or a gigabyte of memory is a
finding; its input is kept and named. Corpora are kept too, so a later run goes on where this one ended.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

HOUSE: Final = Path(__file__).parents[2]
INPUT_BYTES_MAX: Final = 16 * 1024
INPUT_SECONDS_MAX: Final = 10
MEMORY_MB_MAX: Final = 1024
WORDS_MAX: Final = 600
_STATUS: Final = re.compile(r"#(\d+)\s+\w+\s+cov: (\d+) ft: (\d+)")
_EXECUTED: Final = re.compile(r"stat::number_of_executed_units:\s+(\d+)")
_PEAK: Final = re.compile(r"stat::peak_rss_mb:\s+(\d+)")
_KEPT: Final = re.compile(r"Test unit written to (\S+)")
_WORD: Final = re.compile(rb"[A-Za-z0-9_.:/-]{3,40}")
_HEAD: Final = (
    f"{'group':<10}{'minutes':>8}{'executions':>12}{'per s':>8}{'edges':>7}{'features':>9}{'peak MB':>8}{'lines':>7}"
    "  lines of each file reached, and by how many inputs"
)


def main() -> int:
    """`[--minutes M] [--jobs N] [--folder F] [GROUP…]`; exit code 1 when something was found."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description="Fuzz the readers of foreign text.")
    parser.add_argument("--minutes", type=float, default=10.0, help="for each group")
    parser.add_argument("--jobs", type=int, default=1, help="how many groups at a time")
    parser.add_argument("--folder", type=Path, default=HOUSE / ".fuzz", help="corpora and findings")
    parser.add_argument("groups", nargs="*", metavar="GROUP")
    parser.add_argument("--list", action="store_true", help="name the groups and their readers")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--lines", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        _fuzz(args.groups[0], args.folder, args.minutes)
        return 0
    if args.lines:
        print(_lines(args.groups[0], args.folder))
        return 0
    from tests.hostile.readers import GROUPS

    if args.list:
        print("\n".join(f"{name}: {', '.join(one.name for one in GROUPS[name])}" for name in GROUPS))
        return 0
    unknown = set(args.groups) - set(GROUPS)
    if unknown:
        parser.error(f"no such group: {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    print(_HEAD, flush=True)
    with ThreadPoolExecutor(max(1, args.jobs)) as pool:
        run = partial(_run, folder=args.folder, minutes=args.minutes)
        found = list(pool.map(run, args.groups or GROUPS))
    return int(any(found))


def _run(name: str, folder: Path, minutes: float) -> bool:
    """Fuzz one group in a child and say in one row how it went; whether something was found."""
    me = [sys.executable, "-m", "tests.hostile.fuzzing", "--folder", str(folder)]
    began = time.monotonic()
    child = subprocess.run(
        [*me, "--child", "--minutes", str(minutes), name], cwd=HOUSE, capture_output=True, text=True, errors="replace",
        check=False,
    )  # fmt: skip
    spent = time.monotonic() - began
    said = child.stderr + child.stdout
    runs = _STATUS.findall(said) or [("0", "0", "0")]
    executed, peak = _EXECUTED.search(said), _PEAK.search(said)
    count = int(executed[1] if executed else runs[-1][0])
    lines = subprocess.run([*me, "--lines", name], cwd=HOUSE, capture_output=True, text=True, check=False)
    print(
        f"{name:<10}{spent / 60:>8.1f}{count:>12,}{count / spent:>8.0f}{runs[-1][1]:>7}{runs[-1][2]:>9}"
        f"{peak[1] if peak else '?':>8}  {lines.stdout.strip() or lines.stderr.strip()[-200:]}",
        flush=True,
    )
    if child.returncode == 0:
        return False
    kept = _KEPT.search(said)
    print(f"  FOUND in {name}: {kept[1] if kept else 'no input was kept'}\n{said[-3000:]}", flush=True)
    return True


def _fuzz(name: str, folder: Path, minutes: float) -> None:
    """Runs until its time is over; libFuzzer ends the process itself."""
    atheris = import_module("atheris")
    with atheris.instrument_imports(include=["x402_audio"], enable_loader_override=False):
        readers = import_module("tests.hostile.readers")
    group = readers.GROUPS[name]
    corpus, seeds, findings = (folder / kind / name for kind in ("corpus", "seeds", "findings"))
    for place in (corpus, seeds, findings):
        place.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(_seeds(readers, group)):
        (seeds / f"{number:03}").write_bytes(seed)
    words = seeds.with_suffix(".words")
    words.write_text("".join(f'"{word}"\n' for word in _words(group)), "ascii")
    # The decoder behind `track` writes notes to stderr by the megabyte.
    options = [
        name, f"-max_total_time={int(minutes * 60)}", f"-max_len={INPUT_BYTES_MAX}", f"-timeout={INPUT_SECONDS_MAX}",
        f"-rss_limit_mb={MEMORY_MB_MAX}", f"-close_fd_mask={2 if name == 'tracks' else 0}", f"-dict={words}",
        f"-artifact_prefix={findings}/", "-print_final_stats=1", str(corpus), str(seeds),
    ]  # fmt: skip
    atheris.Setup(options, _reader(group))
    atheris.Fuzz()


def _reader(group: Sequence[Any]) -> Callable[[bytes], object]:
    """All readers of a group as one: the first byte of the input says whose the rest is."""

    def read(data: bytes) -> object:
        return group[data[0] % len(group)].try_out(data[1:]) if data else None

    return read


def _seeds(readers: Any, group: Sequence[Any]) -> Iterator[bytes]:
    for number, target in enumerate(group):
        for seed in (*target.seeds, *readers.BUILT_IN):
            yield bytes([number]) + seed


def _words(group: Sequence[Any]) -> list[str]:
    """The words of the seeds, for the fuzzer to put elsewhere."""
    found = {
        word.decode("ascii"): None
        for target in group
        for seed in target.seeds
        for word in _WORD.findall(seed[:4096])
    }
    return list(found)[:WORDS_MAX]


def _lines(name: str, folder: Path) -> str:
    """How much of the group's own files its corpus and seeds reach: in all, and file by file."""
    coverage = import_module("coverage")
    tracer = coverage.Coverage(data_file=None, source=["x402_audio"], messages=False)
    tracer.start()
    group = import_module("tests.hostile.readers").GROUPS[name]
    read = _reader(group)
    places = [*(folder / "corpus" / name).glob("*"), *(folder / "seeds" / name).glob("*")]
    for place in places:
        read(place.read_bytes())
    tracer.stop()
    rows, reached, whole = [], 0, 0
    for room in dict.fromkeys(room for target in group for room in target.rooms):
        _, all_lines, missing, _ = tracer.analysis(str(HOUSE / "x402_audio" / f"{room}.py"))
        reached, whole = reached + len(all_lines) - len(missing), whole + len(all_lines)
        rows.append(f"{room} {100 * (len(all_lines) - len(missing)) // max(1, len(all_lines))}")
    return f"{100 * reached // max(1, whole)} %  {', '.join(rows)} ({len(places):,})"


if __name__ == "__main__":
    sys.exit(main())
