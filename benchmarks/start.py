"""What the command costs before it does anything: processor time of whole processes, beside a bare interpreter and httpx.

`start version`: to the answer. `start jobs`: the list of some stored jobs as JSON. `start generate`: until its first
request has reached a local socket that never answers, where the process is ended. The SDK's own start is its imports
beside `import httpx` in the environment it is installed in. Processes of a round run in turn.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from benchmarks import peers
from benchmarks.measure import Row, row
from x402_audio.ledger.book import NewJob
from x402_audio.ledger.sqlite import SqliteLedger

NAMES: Final = ("start version", "start jobs", "start generate", "start generate sdk")
COMMAND: Final = (sys.executable, "-c", "import sys; from x402_audio.cli import main; sys.exit(main())")
"""What the installed script `x402-audio` does."""
BARE: Final = (sys.executable, "-c", "pass")
HTTPX: Final = ("-c", "import httpx")
_SDK_IMPORTS: Final = """
from eth_account import Account
from x402 import x402Client
from x402.http.clients.httpx import x402HttpxClient
from x402.mechanisms.evm.exact import register_exact_evm_client
from x402.mechanisms.evm.signers import EthAccountSigner
"""
SDK: Final = ("-c", _SDK_IMPORTS)
GENERATE: Final = (
    "beside httpx itself: its connection pool and h11 (which httpx loads at the first request), the curve, some fifty frozen"
    " dataclasses, and the books"
)
JOBS: Final = 20
WAIT_S: Final = 60


def rows(*, quick: bool) -> Iterator[Row]:
    rounds = 5 if quick else 21
    with tempfile.TemporaryDirectory() as folder, closing(socket.create_server(("127.0.0.1", 0))) as seller:
        seller.settimeout(WAIT_S)
        env = _environment(Path(folder), seller.getsockname()[1])
        _fill(Path(folder) / "ledger.db")
        found = [_round(env, folder, seller) for _ in range(rounds + 1)][1:]
    yield row(
        "start version", found, ours="version", floor="bare", floor_name="bare interpreter", goal=3, unit="ms"
    )
    yield row("start jobs", found, ours="jobs", floor="httpx", floor_name="import httpx", goal=1, unit="ms")
    yield row(
        "start generate",
        found,
        ours="generate",
        floor="httpx",
        floor_name="import httpx",
        goal=2,
        unit="ms",
        remark=GENERATE,
    )
    theirs = [_sdk_round() for _ in range(rounds + 1)][1:]
    yield row(
        "start generate sdk", theirs, ours="sdk", floor_name="import httpx", peer="x402 (Python)", unit="ms",
        remark="its imports alone",
    )  # fmt: skip


def _environment(folder: Path, port: int) -> Mapping[str, str]:
    """Nothing of the caller's settings."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "SYSTEMROOT") if name in os.environ}
    return {
        **kept, "HOME": str(folder), "PYTHONPATH": str(peers.ROOT), "X402_AUDIO_STATE_DIR": str(folder),
        "X402_AUDIO_PRIVATE_KEY": "0x" + "5a" * 32, "X402_AUDIO_API_URL": f"http://127.0.0.1:{port}/api/v1",
    }  # fmt: skip


def _fill(path: Path) -> None:
    """Some jobs that were stored and never bought."""
    with closing(SqliteLedger(path)) as ledger:
        for number in range(JOBS):
            ledger.add_job(
                NewJob(
                    id=f"job-{number}", digest=f"{number:064x}", wallet="0x" + "11" * 20, network="base",
                    environment="live", label="", provider="venice", api_url="https://api.venice.ai/api/v1",
                    origin="https://api.venice.ai", model="elevenlabs-music", request="{}", options="{}", deadline=2e9,
                )
            )  # fmt: skip


def _round(env: Mapping[str, str], folder: str, seller: socket.socket) -> Mapping[str, float]:
    def cost(*command: str) -> float:
        return _cpu_ms(_start(command, env, folder))

    return {
        "bare": cost(*BARE),
        "version": cost(*COMMAND, "--version"),
        "httpx": cost(sys.executable, *HTTPX),
        "jobs": cost(*COMMAND, "jobs", "--json"),
        "generate": _to_first_request(env, folder, seller),
    }


def _sdk_round() -> Mapping[str, float]:
    python = str(peers.PYTHON)
    if not peers.PYTHON.exists():
        raise peers.NoPeers("other people's software is not installed here; run: bash scripts/benchmark")
    return {
        "floor": _cpu_ms(_start((python, *HTTPX), os.environ, None)),
        "sdk": _cpu_ms(_start((python, *SDK), os.environ, None)),
    }


def _start(command: tuple[str, ...], env: Mapping[str, str], folder: str | None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )  # fmt: skip


def _to_first_request(env: Mapping[str, str], folder: str, seller: socket.socket) -> float:
    words = ("generate", "warm indie folk", "--model", "elevenlabs-music", "--duration", "60")
    wishes = ("--max-price", "1", "--output", str(Path(folder) / "never.mp3"))
    process = _start((*COMMAND, *words, *wishes), env, folder)
    connection, _ = seller.accept()
    with connection:
        assert connection.recv(4096).startswith(b"GET /")
        process.kill()
    return _cpu_ms(process, killed=True)


def _cpu_ms(process: subprocess.Popen[bytes], *, killed: bool = False) -> float:
    """Wait for it: its processor time, user and system, milliseconds."""
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode and not killed:
        raise SystemExit(f"{process.args!r}: {said.decode()[-2000:]}")
    return (used.ru_utime + used.ru_stime) * 1000
