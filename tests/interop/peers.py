"""Starts software we did not write, each in a process group of its own on 127.0.0.1, and ends it with all its children.

Knows where `bash scripts/test` puts it (`.peers`) and nothing of what it does.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

ROOT = Path(__file__).parents[2]
PEERS = ROOT / ".peers"
READY_S = 60
NODE = "node"


def peer(pattern: str) -> Path:
    """The one file of `.peers` that a pattern names. Fails the test when it is not installed."""
    found = next(iter(sorted(PEERS.glob(pattern))), None)
    if found is None:
        pytest.fail(f".peers/{pattern} is missing; `bash scripts/test` installs it", pytrace=False)
    return found


def python_module(module: str) -> list[str]:
    """The command that runs a module of this folder in the environment of the foreign packages."""
    return [str(peer("python/bin/python")), "-m", f"tests.interop.{module}"]


def node_script(name: str) -> list[str]:
    """The command that runs a script of `tests/interop/node`; it finds packages by its PEERS_MODULES folder."""
    peer("node/node_modules")
    return [NODE, str(ROOT / "tests" / "interop" / "node" / name)]


class Peer:
    """A running process that has said it is ready. `said`: what `ready` found in its output, by group."""

    def __init__(
        self, command: list[str], folder: Path, *, ready: str = r"listening on (\d+)", **env: str
    ) -> None:
        """ready: a pattern searched for in each line of its output. folder: its home. Fails the test on no such line."""
        self._ready = re.compile(ready)
        self._found = threading.Event()
        self._last: deque[str] = deque(maxlen=40)
        self.said: tuple[str, ...] = ()
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=_environment(folder, env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._found.wait(READY_S)
        if not self.said:
            self.stop()
            pytest.fail(f"{' '.join(command)} did not start:\n{self.output}", pytrace=False)

    @property
    def url(self) -> str:
        """Where it listens, when `ready` found its port."""
        return f"http://127.0.0.1:{self.said[0]}"

    @property
    def output(self) -> str:
        """The last lines it wrote."""
        return "".join(self._last)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._last.append(line)
            match = None if self.said else self._ready.search(line)
            if match is not None:
                self.said = match.groups()
                self._found.set()
        self._found.set()

    def stop(self) -> None:
        """End it and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._listener.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _environment(folder: Path, more: Mapping[str, str]) -> dict[str, str]:
    """A stranger's: nothing of the machine's owner, no proxy."""
    modules = str(PEERS / "node" / "node_modules")
    return {
        "PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1",
        "PEERS_MODULES": modules, "NODE_PATH": modules, **more,
    }  # fmt: skip
