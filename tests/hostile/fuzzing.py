"""The fuzzer behind `scripts/fuzz`: runs each reader under libFuzzer (atheris), each in a process of its own.

Not a test: it wants the environment that script makes. A crash, a hang past ten seconds or a gigabyte of memory is a
finding; its input is kept and named. Corpora are kept too, so a later run goes on where this one ended.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Final

HOUSE: Final = Path(__file__).parents[2]
INPUT_BYTES_MAX: Final = 16 * 1024
INPUT_SECONDS_MAX: Final = 10
MEMORY_MB_MAX: Final = 1024
_STATUS: Final = re.compile(r"#(\d+)\s+\w+\s+cov: (\d+) ft: (\d+)")
_EXECUTED: Final = re.compile(r"stat::number_of_executed_units:\s+(\d+)")
_PEAK: Final = re.compile(r"stat::peak_rss_mb:\s+(\d+)")
_KEPT: Final = re.compile(r"Test unit written to (\S+)")


def main() -> int:
    """`[--minutes M] [--folder F] [TARGET…]`; exit code 1 when something was found."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description="Fuzz the readers of foreign text.")
    parser.add_argument("--minutes", type=float, default=10.0, help="for each target")
    parser.add_argument("--folder", type=Path, default=HOUSE / ".fuzz", help="corpora and findings")
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--list", action="store_true", help="name the targets")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--lines", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        _fuzz(args.targets[0], args.folder, args.minutes)
        return 0
    if args.lines:
        print(_lines(args.targets[0], args.folder))
        return 0
    from tests.hostile.readers import TARGETS

    if args.list:
        print("\n".join(TARGETS))
        return 0
    unknown = set(args.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    print(f"{'target':<14}{'minutes':>8}{'executions':>12}{'edges':>7}{'features':>9}{'MB':>6}  lines")
    found = [_run(name, args.folder, args.minutes) for name in args.targets or TARGETS]
    return int(any(found))


def _run(name: str, folder: Path, minutes: float) -> bool:
    """Fuzz one target in a child and say in one row how it went; whether something was found."""
    me = [sys.executable, "-m", "tests.hostile.fuzzing", "--folder", str(folder)]
    began = time.monotonic()
    child = subprocess.run(
        [*me, "--child", "--minutes", str(minutes), name], cwd=HOUSE, capture_output=True, text=True, errors="replace",
        check=False,
    )  # fmt: skip
    spent = (time.monotonic() - began) / 60
    said = child.stderr + child.stdout
    runs = _STATUS.findall(said) or [("0", "0", "0")]
    executed, peak = _EXECUTED.search(said), _PEAK.search(said)
    lines = subprocess.run([*me, "--lines", name], cwd=HOUSE, capture_output=True, text=True, check=False)
    print(
        f"{name:<14}{spent:>8.1f}{executed[1] if executed else runs[-1][0]:>12}{runs[-1][1]:>7}{runs[-1][2]:>9}"
        f"{peak[1] if peak else '?':>6}  {lines.stdout.strip() or lines.stderr.strip()[-200:]}",
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
    target = readers.TARGETS[name]
    corpus, seeds, findings = (folder / kind / name for kind in ("corpus", "seeds", "findings"))
    for place in (corpus, seeds, findings):
        place.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate((*target.seeds, *readers.BUILT_IN)):
        (seeds / f"{number:03}").write_bytes(seed)
    # The decoder behind `track` writes notes to stderr by the megabyte.
    words = [
        name, f"-max_total_time={int(minutes * 60)}", f"-max_len={INPUT_BYTES_MAX}", f"-timeout={INPUT_SECONDS_MAX}",
        f"-rss_limit_mb={MEMORY_MB_MAX}", f"-close_fd_mask={2 if name == 'track' else 0}", f"-artifact_prefix={findings}/", "-print_final_stats=1", str(corpus), str(seeds),
    ]  # fmt: skip
    atheris.Setup(words, target.try_out)
    atheris.Fuzz()


def _lines(name: str, folder: Path) -> str:
    """Lines of the target's own files that its corpus and seeds reach."""
    coverage = import_module("coverage")
    tracer = coverage.Coverage(data_file=None, source=["x402_audio"], messages=False)
    tracer.start()
    readers = import_module("tests.hostile.readers")
    target = readers.TARGETS[name]
    places = [*(folder / "corpus" / name).glob("*"), *(folder / "seeds" / name).glob("*")]
    for place in places:
        target.try_out(place.read_bytes())
    tracer.stop()
    rows = []
    for room in target.rooms:
        _, all_lines, missing, _ = tracer.analysis(str(HOUSE / "x402_audio" / f"{room}.py"))
        rows.append(f"{room} {100 * (len(all_lines) - len(missing)) // max(1, len(all_lines))} %")
    return f"{', '.join(rows)} ({len(places)} inputs kept)"


if __name__ == "__main__":
    sys.exit(main())
