"""What a paid call costs beside two bare posts with a ready header: 402, policy, limits, signature, the request again.

`memory` keeps its books in memory, `sqlite` in the durable ledger (FULL); the SDK and npm's buyers keep none. The seller
is a process of its own and not counted. Server, body and header sizes are the same for every arm.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks import peers
from benchmarks.ledger import bare
from benchmarks.measure import Row, beside, burst, burst_async, row, shares
from benchmarks.memory_ledger import MemoryLedger
from benchmarks.seller import PATH, open_seller
from x402_audio.ledger.limits import DEFAULTS
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc
from x402_audio.payment.auth import X402Auth
from x402_audio.payment.policy import PaymentPolicy
from x402_audio.protocol.signer import LocalSigner

NAMES: Final = (
    "paid-call memory", "paid-call memory sdk", "paid-call memory ours-by-sdk", "paid-call memory @x402/fetch",
    "paid-call memory x402-fetch", "paid-call sqlite", "paid-call sync",
)  # fmt: skip
KEY: Final = "0x" + "5a" * 32
BODY: Final = {"model": "elevenlabs-music", "prompt": "warm indie folk", "duration_seconds": 60}
READY: Final = {"PAYMENT-SIGNATURE": "x" * 900}
FLOOR: Final = "two bare posts"
WIDE: Final = tuple(limit._replace(amount=Usdc(10**14), source="flag") for limit in DEFAULTS)
"""Every built-in limit is checked and none is in the way."""


def auth_on(ledger: Any) -> X402Auth:
    return X402Auth(LocalSigner.from_hex(KEY), ledger, PaymentPolicy(max_amount="1"), limits=WIDE, prepaid=())


async def _rounds_async(url: str, ledger: Any, rounds: int, calls: int) -> list[Mapping[str, float]]:
    async with (
        httpx.AsyncClient(trust_env=False) as bare,
        httpx.AsyncClient(auth=auth_on(ledger), trust_env=False) as paying,
    ):

        async def floor() -> None:
            assert (await bare.post(url, json=BODY)).status_code == 402
            assert (await bare.post(url, json=BODY, headers=READY)).status_code == 200

        async def ours() -> None:
            assert (await paying.post(url, json=BODY)).status_code == 200

        await burst_async(floor, calls)
        await burst_async(ours, calls)
        return [
            {"floor": await burst_async(floor, calls), "ours": await burst_async(ours, calls)}
            for _ in range(rounds)
        ]


async def _beside_another(url: str, ledger: Any, rounds: int, calls: int) -> list[Mapping[str, float]]:
    other = asyncio.ensure_future(asyncio.Event().wait())
    try:
        return await _rounds_async(url, ledger, rounds, calls)
    finally:
        other.cancel()


def _rounds(url: str, ledger: Any, rounds: int, calls: int) -> list[Mapping[str, float]]:
    with httpx.Client(trust_env=False) as bare, httpx.Client(auth=auth_on(ledger), trust_env=False) as paying:

        def floor() -> None:
            assert bare.post(url, json=BODY).status_code == 402
            assert bare.post(url, json=BODY, headers=READY).status_code == 200

        def ours() -> None:
            assert paying.post(url, json=BODY).status_code == 200

        burst(floor, calls)
        burst(ours, calls)
        return [{"floor": burst(floor, calls), "ours": burst(ours, calls)} for _ in range(rounds)]


def _profile(url: str, ledger: Any, calls: int) -> str:
    """On the plain client, whose whole work is done in the thread that asks."""
    with httpx.Client(auth=auth_on(ledger), trust_env=False) as paying:
        paying.post(url, json=BODY)
        return f"of a call on httpx.Client {shares(lambda: paying.post(url, json=BODY), calls)}"


def rows(*, quick: bool) -> Iterator[Row]:
    rounds, calls = (5, 20) if quick else (30, 80)
    with open_seller() as url, tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(_rounds_async(url, MemoryLedger(), rounds, calls))
        memory = _profile(url, MemoryLedger(), calls)
        mine = row("paid-call memory", found, goal=1.25, floor_name=FLOOR, profile=memory)
        yield mine
        for arm, curve in peers.CURVES.items():
            found = peers.sdk("paid-call", url, rounds=rounds, calls=calls, curve=curve)
            theirs = row(
                f"paid-call memory {arm}", found, ours="sdk", peer=f"x402 (Python), {curve}", floor_name=FLOOR,
                remark="keeps no books",
            )  # fmt: skip
            yield theirs
            if arm == "sdk":
                yield beside("paid-call memory ours-by-sdk", mine, theirs, goal=1.0)
        for package, where in (("@x402/fetch", url), ("x402-fetch", url.replace(PATH, "/v1" + PATH))):
            found = peers.fetch(package, where, rounds=rounds, calls=calls)
            yield row(
                f"paid-call memory {package}", found, ours="sdk", peer=package, floor_name="two bare fetches"
            )
        ledger = SqliteLedger(Path(folder) / "ledger.db")
        found = asyncio.run(_rounds_async(url, ledger, rounds, calls))
        yield row(
            "paid-call sqlite", found, goal=1.6, floor_name=FLOOR, profile=_profile(url, ledger, calls),
            remark="Every commit is synced (FULL). One call at a time, by the only task of its loop.",
        )  # fmt: skip
        found_beside = asyncio.run(_beside_another(url, ledger, rounds, calls))
        yield row(
            "paid-call sqlite beside-another", found_beside, floor_name=FLOOR,
            remark="The same where the loop has another task, which must not wait for the disk: each commit in a thread.",
        )  # fmt: skip
        ledger.close()
        commits = bare(Path(folder) / "bare.db")
        least = [{**each, "ours": each["floor"] + burst(commits, calls)} for each in found]
        yield row(
            "paid-call sqlite floor", least, floor_name=FLOOR,
            remark="Two bare posts and two bare durable commits: what no buyer with durable books can do without.",
        )  # fmt: skip
        found = _rounds(url, MemoryLedger(), rounds, calls)
        yield row("paid-call sync", found, goal=1.4, floor_name=FLOOR, profile=memory)
