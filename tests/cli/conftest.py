"""Runs command lines in this process or in one of their own, against sellers that keep books of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from x402_audio.cli import main
from x402_audio.sandbox import Limits, SandboxSeller, SandboxServer

ROOT = Path(__file__).parents[2]
KEY = "0x" + "5a" * 32
"""A made-up key whose digits no message of ours contains by chance."""
PROMPT = "warm indie folk, 120 BPM"
RESUME = ("resume", "--poll-interval", "0.05", "--timeout", "20")
BUY = (
    "generate",
    PROMPT,
    "--model",
    "elevenlabs-music",
    "--duration",
    "60",
    "--poll-interval",
    "0.05",
    "--timeout",
    "20",
)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command line ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """stdout is exactly one JSON object."""
        told = json.loads(self.out)
        assert isinstance(told, dict)
        assert self.out.count("\n") == 1
        return told


CommandLine = Callable[..., Ended]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between two asks are cut short; what is waited for still has to happen."""

    def pause(seconds: float) -> None:
        time.sleep(min(seconds, 0.02))

    monkeypatch.setattr("x402_audio.client.time", SimpleNamespace(sleep=pause))


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """One command line in this process."""

    def run(*words: str) -> Ended:
        capsys.readouterr()
        code = main(words)
        said = capsys.readouterr()
        return Ended(code, said.out, said.err)

    return run


@dataclass
class Shop:
    """A seller of the sandbox, and what its own books say."""

    server: SandboxServer

    @property
    def seller(self) -> SandboxSeller:
        return self.server.seller

    def counted(self) -> tuple[int, int]:
        """(payments, jobs) in the seller's books."""
        books: dict[str, Any] = self.seller.books()
        return len(books["payments"]), len(books["jobs"])


@pytest.fixture
def open_shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Shop]]:
    """Opens a seller and points the settings at it, with a wallet that has a thousand USDC."""
    with ExitStack() as stack:

        def open_one(mode: str = "venice", **how: Any) -> Shop:
            seller = SandboxSeller(mode=mode, limits=Limits.off(), **{"job_seconds": 0.02, **how})
            server = stack.enter_context(SandboxServer(seller))
            monkeypatch.setenv("X402_AUDIO_API_URL", server.api_url)
            monkeypatch.setenv("X402_AUDIO_PRIVATE_KEY", KEY)
            return Shop(server)

        yield open_one


def environment(**more: str) -> dict[str, str]:
    """The environment of a command in a process of its own."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **more}


def start(*words: str, env: Mapping[str, str] | None = None, **how: Any) -> subprocess.Popen[bytes]:
    """A command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "x402_audio", *words], env=environment(**(env or {})), **how
    )
