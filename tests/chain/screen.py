"""A terminal in this process: the streams of the command line are one, and what was typed ahead waits there."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack

import pytest

from x402_audio.cli import main


def at_a_terminal(words: Sequence[str], *answers: str) -> tuple[int, str]:
    """(exit code, all that was shown) of a command line; answers: lines typed ahead."""
    screen, line = os.openpty()
    with ExitStack() as stack:
        stack.callback(os.close, screen)
        with ExitStack() as streams:
            streams.callback(os.close, line)
            patch = streams.enter_context(pytest.MonkeyPatch.context())
            for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
                patch.setattr(sys, name, streams.enter_context(open(os.dup(line), mode)))
            os.write(screen, "".join(f"{answer}\n" for answer in answers).encode())
            code = main(words)
        return code, _shown(screen)


def _shown(screen: int) -> str:
    said = b""
    while True:
        try:
            said += os.read(screen, 4096)
        except OSError:  # nobody holds the other side any more
            return said.decode()
