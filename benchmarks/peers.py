"""Runs the arms that need other people's software, each in the environment it is installed in (`scripts/benchmark`)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PYTHON: Final = ROOT / ".peers" / "python" / "bin" / "python"
NODE: Final = ROOT / ".peers" / "node"
ARMS: Final = Path(__file__).with_name("arms")
CURVES: Final = {"sdk": "C curve", "sdk-as-installed": "as installed"}
"""The SDK's arms: with the curve library we sign with, and with what its installation brings."""
_BACKENDS: Final = {
    "C curve": "eth_keys.backends.CoinCurveECCBackend",
    "as installed": "eth_keys.backends.NativeECCBackend",
}


class NoPeers(SystemExit):
    """The peers are not installed."""


def sdk(what: str, subject: str, *, rounds: int, calls: int, curve: str) -> list[Mapping[str, float]]:
    """Rounds of the official Python SDK: {"floor", "sdk"}, microseconds of processor time."""
    env = {**os.environ, "ECC_BACKEND_CLASS": _BACKENDS[curve]}
    return _rounds([str(PYTHON), str(ARMS / "sdk.py"), what, subject, str(rounds), str(calls)], env=env)


def fetch(package: str, url: str, *, rounds: int, calls: int) -> list[Mapping[str, float]]:
    """Rounds of one of npm's buyers beside bare fetch."""
    return _rounds(["node", str(ARMS / "fetch.mjs"), package, url, str(rounds), str(calls)], cwd=NODE)


def _rounds(
    command: list[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> list[Mapping[str, float]]:
    if not PYTHON.exists():
        raise NoPeers("other people's software is not installed here; run: bash scripts/benchmark")
    ended = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{command[1]}: {ended.stderr.strip()[-2000:]}")
    found: list[Mapping[str, float]] = json.loads(ended.stdout)
    return found
