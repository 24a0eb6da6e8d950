"""Runs the real command on a disk that fails from one point on, again and again: `python -m tests.state.walker MODE`.

Wants the shim (`fault.c`) preloaded. Each line of stdin names a point, an errno and the kinds of calls that fail; each
walk has a new wallet, a new ledger and a new folder, and its line on stdout says how the command ended, how `resume`
ended once the disk was well, and what the seller's books hold. Point 0 only counts.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from x402_audio import client
from x402_audio.cli import main
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.sandbox import Limits, SandboxSeller, SandboxServer

BUY = (
    "generate", "warm indie folk", "--model", "elevenlabs-music", "--duration", "3", "--max-price", "1", "--job-id", "j1",
    "--max-top-up", "5", "--output", "t.mp3", "--timeout", "20", "--poll-interval", "0.05", "--json",
)  # fmt: skip
RESUMES_MAX = 2
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Hundreds of syncs that nobody has to wait for."""
RESUME = ("resume", "j1", "--timeout", "20", "--poll-interval", "0.05", "--json")


def run(words: tuple[str, ...]) -> dict[str, Any]:
    """One command line; how it ended."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(words)
    return {"code": code, "told": json.loads(out.getvalue()), "err": err.getvalue()}


def counted(server: SandboxServer) -> tuple[int, int]:
    """Payments and jobs in the seller's books."""
    books: dict[str, Any] = server.seller.books()
    return len(books["payments"]), len(books["jobs"])


@contextmanager
def customer(folder: Path, number: int, server: SandboxServer) -> Iterator[None]:
    """A new wallet in its own folder."""
    key = f"0x{number + 1:064x}"
    before = dict(os.environ)
    os.environ |= {
        "X402_AUDIO_PRIVATE_KEY": key, "X402_AUDIO_STATE_DIR": str(folder / "state"),
        "X402_AUDIO_API_URL": server.api_url,
    }  # fmt: skip
    os.chdir(folder)
    yield
    os.environ.clear()
    os.environ.update(before)


def walk(folder: Path, number: int, server: SandboxServer, order: dict[str, Any]) -> dict[str, Any]:
    """One purchase on a disk that fails as ordered, and its `resume` on one that is well."""
    disk = ctypes.CDLL(None)
    with customer(folder, number, server):
        before = counted(server)
        disk.fault_arm(
            str(folder).encode(), order["named"].encode(), order["point"], order["errno"], order["kinds"]
        )
        first = run(BUY)
        points = disk.fault_disarm()
        bought = counted(server)
        ledger = folder / "state" / "ledger.db"
        known = ledger.exists() and _has_job(ledger)
        then = run(RESUME if known else BUY)
        for _ in range(RESUMES_MAX):
            then = then if then["code"] == 0 else run(RESUME)
        after = counted(server)
        with_books = SqliteLedger(ledger, create=False)
        findings = with_books.verify()
        with_books.close()
        return {
            "order": order, "points": points, "first": first, "then": then, "bought": [now - then for now, then in zip(bought, before, strict=True)],
            "at_last": [now - then for now, then in zip(after, before, strict=True)],
            "findings": [repr(one) for one in findings],
            "left": sorted(one.name for one in folder.iterdir() if one.name != "state"),
            "bytes": (folder / "t.mp3").stat().st_size if (folder / "t.mp3").exists() else 0,
        }  # fmt: skip


def _has_job(path: Path) -> bool:
    ledger = SqliteLedger(path, create=False)
    try:
        return bool(ledger.jobs())
    finally:
        ledger.close()


def serve(mode: str) -> None:
    """Do what stdin orders."""
    vars(client)["time"] = SimpleNamespace(sleep=lambda seconds: time.sleep(min(seconds, 0.01)))
    seller = SandboxSeller(mode=mode, job_seconds=0.02, limits=Limits.off())
    with tempfile.TemporaryDirectory(dir=MEMORY) as base, SandboxServer(seller) as server:
        for number, line in enumerate(sys.stdin):
            folder = Path(base) / str(number)
            folder.mkdir()
            told = walk(folder, number, server, json.loads(line))
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()
        os.chdir("/")


if __name__ == "__main__":
    serve(sys.argv[1])
