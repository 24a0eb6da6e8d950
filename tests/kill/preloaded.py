"""Runs `x402-audio` again and again without starting an interpreter again: a process that has imported it forks itself.

Each command is still a process of its own, in a session of its own, with its own folder, environment and output files,
that runs `python -m x402_audio` from its first line and can be killed; only the imports are done. That it takes the
same steps as a started one is a test (test_every_line.py). Linux only.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.kill.tracer import SECONDS_MAX, Run, steps_of, surroundings

IMPORTED = (
    "x402_audio.cli.job_commands", "x402_audio.cli.ledger_commands", "x402_audio.cli.money_commands",
    "x402_audio.client", "x402_audio.jobs.advance", "x402_audio.protocol.exact", "coincurve", "Crypto.Hash.keccak", "sha3",
    "encodings.idna", "httpcore", "soundfile",
)  # fmt: skip
"""What a purchase imports on its way. A name that is missing here costs time and nothing else."""


class Preloaded:
    """The waiting process; one command at a time."""

    def __init__(self, shim: Path) -> None:
        """shim: loaded from the start, it traces nothing before a command is told to be traced."""
        self._shim = shim
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kill.preloaded"],
            cwd=Path(__file__).parents[2],
            # One thread: numpy's own would be lost in the fork.
            env={
                "PATH": os.environ["PATH"],
                "LANG": "C.UTF-8",
                "LD_PRELOAD": str(shim),
                "OPENBLAS_NUM_THREADS": "1",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(
        self,
        words: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        traced: bool = False,
        kill: tuple[int, str] | None = None,
    ) -> Run:
        """Run `x402-audio` with these words in `folder`; killed at `kill` (point, before|after) if it is traced."""
        out, err = (folder.parent / f"{folder.name}.{name}" for name in ("stdout", "stderr"))
        order = {
            "words": list(words),
            "folder": str(folder),
            "environment": surroundings(folder, environment, self._shim if traced else None, kill),
            "out": str(out),
            "err": str(err),
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        ended = self._process.stdout.readline()
        return Run(int(ended), out.read_text(), err.read_text(), steps_of(folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process:  # closes what it listens to, so it ends, and waits
            pass


def _become(order: dict[str, Any]) -> None:
    """Make of this forked process what a started one would be."""
    os.setsid()
    signal.alarm(SECONDS_MAX)
    for descriptor, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, order["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, order["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.path[0] = order["folder"]
    sys.argv = ["x402-audio", *order["words"]]
    if "LD_PRELOAD" in order["environment"]:
        ctypes.CDLL(None).x402_trace()


def _serve() -> bool:
    """Fork for every order on stdin and say how each command ended. True in a forked process, at its beginning."""
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            _become(json.loads(line))
            return True
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()
    return False


if __name__ == "__main__" and _serve():
    runpy.run_module("x402_audio", run_name="__main__", alter_sys=True)
