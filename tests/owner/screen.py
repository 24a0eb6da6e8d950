"""An owner at a pseudo-terminal, who answers a command's questions; and a pipe that pretends to be one."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from tests.cli.conftest import Ended, environment

PATIENCE_S = 60.0


class Owner:
    """Each command has a screen of its own: its stdin and stderr."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def type(self, words: Sequence[str], *answers: tuple[str, str]) -> Ended:
        """Run a command; of each answer (question, reply) the reply is typed once the question was seen, in order."""
        screen, line = os.openpty()
        self._stack.callback(os.close, screen)
        process = subprocess.Popen(
            [sys.executable, "-m", "x402_audio", *words],
            env=environment(), stdin=line, stderr=line, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        os.close(line)
        self._stack.callback(_end, process)
        said, read_to, waiting = b"", 0, list(answers)
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            ready, _, _ = select.select([screen], [], [], 1.0)
            if not ready:
                continue
            try:
                said += os.read(screen, 4096)
            except OSError:  # the other side is closed: the command has ended
                break
            while waiting and (at := said.find(waiting[0][0].encode(), read_to)) >= 0:
                read_to = at + len(waiting[0][0])
                os.write(screen, waiting.pop(0)[1].encode() + b"\n")
        out, _ = process.communicate(timeout=PATIENCE_S)
        assert not waiting, f"never asked: {waiting[0][0]!r} in {said.decode()!r}"
        return Ended(process.returncode, out.decode(), said.decode())


def until(happened: Callable[[], object]) -> None:
    """Wait for what other programs do."""
    end = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.communicate()
