"""The command line `x402-audio` with one wallet and one set of books, in this process or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from tests.interop.peers import ROOT
from x402_audio.cli import main

PROMPT = "warm indie folk, 120 BPM"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command line ended; its output with `--json`."""

    code: int
    told: dict[str, Any]
    err: str

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = self.told["result"]
        return found


class Customer:
    """Its settings are in the environment of this process already."""

    def __init__(self, address: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.address = address
        self._capsys = capsys

    def run(self, *words: str) -> Ended:
        """One command line in this process."""
        self._capsys.readouterr()
        code = main([*words, "--json"])
        said = self._capsys.readouterr()
        return Ended(code, json.loads(said.out), said.err)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """One command line in a process of its own, as a person starts it."""
        command = [sys.executable, "-m", "x402_audio", *words, "--json"]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    @staticmethod
    def wait_for(process: subprocess.Popen[str]) -> Ended:
        out, err = process.communicate(timeout=60)
        return Ended(process.returncode, json.loads(out), err)

    def generate(self, api_url: str, *, job_id: str = "track", prompt: str = PROMPT) -> Ended:
        """Buy three seconds of sound from a direct seller."""
        return self.run(*buying(api_url, job_id, prompt))

    def resume(self, api_url: str, job_id: str = "track") -> Ended:
        words = ("--provider", "direct", "--api-url", api_url, "--poll-interval", "0.05", "--timeout", "20")
        return self.run("resume", job_id, *words)

    def reconcile(self, api_url: str) -> Ended:
        return self.run("reconcile", "--provider", "direct", "--api-url", api_url)

    def authorizations(self) -> list[dict[str, Any]]:
        """Every authorization the books name, as an outsider reads them."""
        found: list[dict[str, Any]] = self.run("ledger", "export", "--format", "json").result[
            "authorizations"
        ]
        return found


def buying(
    api_url: str, job_id: str = "track", prompt: str = PROMPT, *, provider: str = "direct"
) -> tuple[str, ...]:
    """The words that buy three seconds of sound."""
    return (
        "generate", prompt, "--model", "elevenlabs-music", "--duration", "3", "--max-price", "1",
        "--provider", provider, "--api-url", api_url, "--job-id", job_id, "--output", f"{job_id}.wav",
        "--poll-interval", "0.05", "--timeout", "20",
    )  # fmt: skip
