"""What stands beside a test in a process of its own: the practice seller's command, and programs in .peers by others.

Nothing here is installed or downloaded; what is missing fails with the line to type.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.conftest import OWNER_SETTINGS, PROXIES
from x402_audio.protocol.signer import LocalSigner

ROOT: Final = Path(__file__).parents[2]
NODE_FOLDER: Final = ROOT / ".peers" / "node"
SCRIPTS: Final = Path(__file__).parent / "node"
PATIENCE_S: Final = 60
"""How long a foreign program may take before the test gives up on it."""


def environment(folder: Path, **more: str) -> dict[str, str]:
    """A stranger's environment for a program: no settings, no proxy, state below `folder`."""
    plain = {
        name: value for name, value in os.environ.items()
        if not name.startswith(OWNER_SETTINGS) and name.lower() not in PROXIES
    }  # fmt: skip
    return {**plain, "PYTHONPATH": str(ROOT), "X402_AUDIO_STATE_DIR": str(folder / "state"), **more}


def peer(*path: str) -> Path:
    """A file of other people's software. Fails the test when it is not there."""
    found = ROOT.joinpath(".peers", *path)
    if not found.exists():
        pytest.fail(f"{found.relative_to(ROOT)} is missing: run `bash scripts/test` once", pytrace=False)
    return found


def node_command(script: str, *words: str) -> list[str]:
    """The command line of a script in tests/interop/node; it is run in the folder that holds the packages."""
    peer("node", "node_modules")
    return ["node", str(SCRIPTS / script), *words]


def run_node(script: str, *words: str) -> dict[str, Any]:
    """Run a script to its end and read the one JSON object it says."""
    ended = subprocess.run(
        node_command(script, *words),
        cwd=NODE_FOLDER,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 0, f"{script} failed:\n{ended.stderr}"
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


@dataclass(frozen=True, slots=True)
class Started:
    """A program that listens, and the JSON object it said when it did."""

    program: subprocess.Popen[str]
    told: dict[str, Any]


@contextmanager
def started(command: list[str], *, folder: Path, log: str, cwd: Path | None = None) -> Iterator[Started]:
    """Start a program, wait for its one line of JSON on stdout, and interrupt it in the end; stderr goes to `log`."""
    with (folder / log).open("w") as errors:
        program = subprocess.Popen(
            command, cwd=cwd or folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            env=environment(folder),
        )  # fmt: skip
        try:
            assert program.stdout is not None
            line = program.stdout.readline()
            assert line, f"{command[0]} did not start:\n{(folder / log).read_text()}"
            yield Started(program, json.loads(line))
        finally:
            program.send_signal(signal.SIGINT)
            try:
                program.communicate(timeout=PATIENCE_S)
            except subprocess.TimeoutExpired:
                program.kill()
                program.communicate()
                raise


@dataclass(frozen=True, slots=True)
class PracticeSeller:
    """A running `x402-audio sandbox`: where it listens, the wallet it made, and its owner's door."""

    api_url: str
    key: str

    @property
    def origin(self) -> str:
        return self.api_url.removesuffix("/api/v1")

    @property
    def wallet(self) -> str:
        return LocalSigner.from_hex(self.key).address.lower()

    def books(self) -> dict[str, Any]:
        """The seller's own books."""
        found: dict[str, Any] = httpx.get(self.origin + "/sandbox/books", trust_env=False).json()
        return found

    def faults(self, *rules: dict[str, object]) -> None:
        """What goes wrong from now on."""
        body = {"rules": list(rules)}
        answer = httpx.post(self.origin + "/sandbox/faults", json=body, trust_env=False)
        assert answer.status_code == 200, answer.text

    def statuses(self, path: str) -> list[int]:
        """How each request whose path begins like this was answered."""
        return [entry["status"] for entry in self.books()["requests"] if entry["path"].startswith(path)]


@contextmanager
def practice_seller(folder: Path, mode: str, *, job_seconds: float = 0.3) -> Iterator[PracticeSeller]:
    """`x402-audio sandbox` as a process of its own; its state goes into `folder`."""
    state = folder / f"sandbox-{mode}"
    words = ["sandbox", "--json", "--mode", mode, "--job-seconds", str(job_seconds), "--state", str(state)]
    command = [sys.executable, "-m", "x402_audio", *words]
    with started(command, folder=folder, log=f"sandbox-{mode}.log") as running:
        assert running.told["ok"], running.told
        yield PracticeSeller(running.told["result"]["api_url"], (state / "key").read_text().strip())
