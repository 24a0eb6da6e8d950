"""What a waiting job costs a program that waits for many: memory a job, and processor time a poll.

The real way to wait, `AsyncAudioClient.work`, one client a wallet, all on one ledger and one HTTP client, in a process of
its own whose clock runs ahead whenever nobody has anything to do. The seller answers from memory and finishes nothing.
Both arms ask equally often: many jobs seldom, or few jobs often. So what differs is what waiting itself takes.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import apsw
import httpx

from benchmarks.measure import Row, row
from x402_audio import threads
from x402_audio.client import AsyncAudioClient
from x402_audio.ledger.book import NewJob
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.protocol.signer import LocalSigner
from x402_audio.providers.provider import AudioRequest
from x402_audio.settings import load_settings

NAMES: Final = ("waiting kb-per-job", "waiting cpu-per-poll")
WALLETS: Final = 5
"""Two of the few jobs each: a single one would be kept in hand, as nobody else wants a turn."""
FEW: Final = 10
MANY: Final = 1000
POLLS: Final = 1000
"""In both arms, over WAIT_S of the simulated clock."""
WAIT_S: Final = 600.0
API: Final = "https://api.venice.ai/api/v1"
START: Final = 1_790_000_000.0
MEMORY: Final = Path("/dev/shm")
"""A ledger without a disk's moods: what is measured is the program."""


class Ahead(asyncio.SelectorEventLoop):
    """A loop whose time jumps to the next timer when no call runs in a thread and nothing is to be read."""

    def __init__(self) -> None:
        self.skipped, self.calls = 0.0, 0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return time.monotonic() + self.skipped

    def count(self, threads: type[Any]) -> None:
        """Know of every call that is given to a thread, until whoever waits for it knows that it ended."""
        call = threads.call

        def counted(crew: Any, function: Callable[[], Any], waiter: asyncio.Future[Any]) -> None:
            self.calls += 1
            waiter.add_done_callback(self._called)
            call(crew, function, waiter)

        threads.call = counted

    def _called(self, _: object) -> None:
        self.calls -= 1


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: Ahead) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found or timeout == 0:
            return found
        if self._loop.calls or timeout is None:
            return super().select(timeout)
        self._loop.skipped += timeout
        return []


class LoopClock:
    """Simulated time, from a fixed day on."""

    def __init__(self, loop: Ahead) -> None:
        self._loop, self._start = loop, loop.time()

    def now(self) -> float:
        return START + self._loop.time() - self._start

    def monotonic(self) -> float:
        return self._loop.time()


class Yesterday:
    """When the jobs were stored."""

    def now(self) -> float:
        return START - 86_400.0

    def monotonic(self) -> float:
        return 0.0


class Seller:
    """Works for ever, and counts how often it was asked."""

    def __init__(self) -> None:
        self.polls = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/audio/retrieve"):
            self.polls += 1
            return httpx.Response(
                200,
                json={
                    "status": "PROCESSING",
                    "average_execution_time": 7_200_000,
                    "execution_duration": 1000,
                },
            )
        wallet = request.url.path.rpartition("/")[2]
        figures = {"walletAddress": wallet, "balanceUsd": 100.0, "minimumTopUpUsd": 5.0}
        return httpx.Response(200, json={"success": True, "data": figures})


def resident_pages() -> int:
    """What the process holds, once the C library gave back what it only keeps for later."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1])


def signers() -> list[LocalSigner]:
    return [LocalSigner.from_hex(f"0x{number + 1:064x}") for number in range(WALLETS)]


def fill(path: Path, jobs: int) -> None:
    """A ledger in which so many jobs wait, their next questions spread evenly."""
    interval = jobs * WAIT_S / POLLS
    ledger = SqliteLedger(path, clock=Yesterday())
    for number in range(jobs):
        signer = signers()[number % WALLETS] if number < WALLETS else None
        wallet = signer.address if signer else ledger.job(f"job-{number % WALLETS}").wallet
        audio = AudioRequest(prompt=f"Warm indie folk {number}", model="elevenlabs-music")
        ledger.add_job(
            NewJob(
                id=f"job-{number}", digest=audio.digest(seller=API, wallet=wallet), wallet=wallet, network="eip155:8453",
                environment="production", label="", provider="venice", api_url=API, origin="https://api.venice.ai",
                model=audio.model, request=audio.canonical(), options=json.dumps({"poll_interval": str(interval)}),
                deadline=2e9,
            )
        )  # fmt: skip
    ledger.close()
    with closing(apsw.Connection(str(path))) as db:
        db.execute(
            "UPDATE job SET state = 'queued', queue_id = id, queued_at = 1790000000,"
            " due = 1790000000 + (CAST(substr(id, 5) AS REAL) + 0.5) * ?", (interval / jobs,),
        )  # fmt: skip


async def wait(path: Path, jobs: int, loop: Ahead) -> dict[str, float]:
    """All wallets' jobs waited for; what that took."""
    clock, seller = LoopClock(loop), Seller()
    ledger = SqliteLedger(path, clock=clock)
    async with httpx.AsyncClient(transport=httpx.MockTransport(seller)) as http:
        clients = [
            AsyncAudioClient(
                load_settings(env={"X402_AUDIO_STATE_DIR": str(path.parent), "X402_AUDIO_LEDGER": str(path)}, cwd=path.parent),
                http=http, signer=signer, ledger=ledger, clock=clock,
            )
            for signer in signers()
        ]  # fmt: skip
        start = time.process_time()
        waits = [asyncio.create_task(client.work(timeout=2 * WAIT_S)) for client in clients]
        await asyncio.sleep(WAIT_S)
        spent = time.process_time() - start
        pages = resident_pages()
        for each in waits:
            each.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
    assert seller.polls, "no job was asked for: the loop's time ran ahead of its calls"
    return {
        "jobs": jobs,
        "polls": seller.polls,
        "cpu_s": spent,
        "kb": pages * os.sysconf("SC_PAGE_SIZE") / 1024,
    }


def arm(jobs: int) -> dict[str, float]:
    """One measurement in a process of its own."""
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        path = Path(folder) / "ledger.db"
        words = [sys.executable, "-m", "benchmarks.waiting"]
        subprocess.run([*words, "fill", str(path), str(jobs)], check=True)
        told = subprocess.run([*words, "wait", str(path), str(jobs)], check=True, stdout=subprocess.PIPE)
    found: dict[str, float] = json.loads(told.stdout)
    return found


def rows(*, quick: bool) -> Iterator[Row]:
    rounds: list[Mapping[str, float]] = []
    for _ in range(1 if quick else 3):
        few, many = arm(FEW), arm(MANY)
        rounds.append({
            "kb": (many["kb"] - few["kb"]) / (MANY - FEW), "one": 1.0,
            "few": few["cpu_s"] * 1e6 / few["polls"], "many": many["cpu_s"] * 1e6 / many["polls"],
        })  # fmt: skip
    named = f"{FEW} jobs, the same number of polls"
    yield row(
        "waiting kb-per-job", rounds, ours="kb", floor="one", floor_name=named, goal=2.0, unit="KB",
        remark=f"{MANY} jobs of {WALLETS} wallets; the ratio is KB of resident memory a job more",
    )  # fmt: skip
    yield row("waiting cpu-per-poll", rounds, ours="many", floor="few", floor_name=named, goal=1.25)


def main(step: str, path: Path, jobs: int) -> None:
    if step == "fill":
        fill(path, jobs)
        return
    with asyncio.Runner(loop_factory=Ahead) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, Ahead)
        loop.count(threads.Crew)
        print(json.dumps(runner.run(wait(path, jobs, loop))))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
