"""Starts a command under `shim.c` and reads what it did: every commit, sync, rename and request, in order.

Knows nothing of payments; Linux only (LD_PRELOAD and /proc).
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS_MAX = 60
_RANDOM = re.compile(r"0x[0-9A-Fa-f]{40}|[0-9a-f]{8,}|(?<=\.)\d+(?=\.)")


@dataclass(frozen=True, slots=True)
class Step:
    """One traced step. `point` is its number, 0 for a plain write, which is no point of its own."""

    point: int
    when: str
    kind: str
    subject: str

    @property
    def name(self) -> str:
        """What it is in every run: wallets and the random parts of temporary names cut."""
        return f"{self.kind} {_RANDOM.sub('…', self.subject)}".rstrip()


@dataclass(frozen=True, slots=True)
class Run:
    """How a command ended and what it did until then."""

    exit_code: int
    stdout: str
    stderr: str
    steps: tuple[Step, ...]

    @property
    def points(self) -> int:
        return max((step.point for step in self.steps), default=0)


def build_shim(source: Path, folder: Path) -> Path:
    """Compile the shim with the system's C compiler."""
    library = folder / "shim.so"
    compile_it = [
        "gcc",
        "-std=c11",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-O1",
        "-shared",
        "-fPIC",
        "-o",
        str(library),
    ]
    subprocess.run([*compile_it, str(source), "-ldl"], check=True, timeout=SECONDS_MAX)
    return library


def run(
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    shim: Path | None = None,
    kill: tuple[int, str] | None = None,
) -> Run:
    """Run a command in `folder`, traced when a shim is given, killed at `kill` (point, before|after).

    It leads a process group of its own, so that killing the group never reaches the test.
    """
    ended = subprocess.run(
        command,
        cwd=folder,
        env=surroundings(folder, environment, shim, kill),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        start_new_session=True,
        check=False,
    )
    return Run(ended.returncode, ended.stdout, ended.stderr, steps_of(folder))


def surroundings(
    folder: Path, environment: Mapping[str, str], shim: Path | None, kill: tuple[int, str] | None
) -> dict[str, str]:
    """The whole environment of a command in `folder`; where an earlier one left a trace, it is removed."""
    trace = _trace_of(folder)
    trace.unlink(missing_ok=True)
    traced = {} if shim is None else {
        "LD_PRELOAD": str(shim), "X402_TRACE_ROOT": str(folder), "X402_TRACE_FILE": str(trace),
    }  # fmt: skip
    if kill is not None:
        traced["X402_TRACE_KILL"] = f"{kill[0]} {kill[1]}"
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", **environment, **traced}


def steps_of(folder: Path) -> tuple[Step, ...]:
    """What the last command in `folder` did; nothing when it was not traced."""
    trace = _trace_of(folder)
    return tuple(_read(trace)) if trace.exists() else ()


def _trace_of(folder: Path) -> Path:
    return folder.parent / f"{folder.name}.trace"


def _read(trace: Path) -> Iterator[Step]:
    for line in trace.read_text().splitlines():
        point, when, kind, subject = line.split("\t")
        yield Step(int(point), when, kind, subject)


def unsynced_before(steps: Sequence[Step], is_watched: Callable[[Step], bool]) -> list[str]:
    """What was written or renamed and not yet synced when each watched step began.

    A rename leaves its folder unsynced ("" for the root). SQLite's shared memory is rebuilt, so it is no record; a log
    that was emptied may come back, and says then what the file holds already.
    """
    found: list[str] = []
    dirty: set[str] = set()
    for step in steps:
        if step.when == "before" and is_watched(step):
            found += [f"{step.subject}: {name or 'the folder'}" for name in sorted(dirty)]
        match step.when, step.kind:
            case "before", "truncate" if step.subject.endswith("-wal"):
                pass
            case "before", "write" | "truncate" if not step.subject.endswith("-shm"):
                dirty.add(step.subject)
            case "before", "commit" if not step.subject.endswith("-wal"):
                dirty.add(step.subject)
            case "before", "rename":
                dirty.add(step.subject.rpartition("/")[0])
            case "after", "sync":
                dirty.discard(step.subject)
            case "after", "commit" if step.subject.endswith("-wal"):
                dirty.discard(step.subject)
    return found
