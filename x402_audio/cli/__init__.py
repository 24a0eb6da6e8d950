"""The command line `x402-audio`. Its version is said without loading anything else."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

from x402_audio import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (`sys.argv` by default); its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words == ["--version"]:
        print(f"x402-audio {__version__}")
        return 0
    gc.set_threshold(50_000)  # what is loaded stays: looking through it every 700 objects finds nothing
    from x402_audio.cli.run import run

    return run(words)
