"""What ledger tests stand on: a clock that moves when told, counted randomness, and a wish to pay a plain seller."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

from x402_audio.ledger.book import Limit, NewJob, Purse, Reserve, Window
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc

NOON = 1_767_268_800.0
"""2026-01-01 12:00:00 UTC."""
WALLET = "0x" + "a1" * 20
SELLER = "0x" + "b2" * 20
OTHER_SELLER = "0x" + "c3" * 20
ORIGIN = "https://seller.example"
DOLLAR = Usdc(1_000_000)

_nonces = count(1)


class SteppedClock:
    """Stands still until it is told."""

    def __init__(self, now: float = NOON) -> None:
        self.at = now

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


def counted_random() -> Any:
    """Different bytes each time, the same in every run."""
    numbers = count(1)
    return lambda length: next(numbers).to_bytes(length, "big")


def wish(cents: int = 100, **fields: Any) -> Reserve:
    """A direct payment with a nonce and a purchase of its own; `fields` say otherwise."""
    number = next(_nonces)
    plain = Reserve(
        kind="direct", wallet=WALLET, network="eip155:8453", asset="0x" + "d4" * 20, environment="live",
        origin=ORIGIN, pay_to=SELLER, amount=Usdc(cents * 10_000), nonce=f"0x{number:064x}", valid_after=0,
        valid_before=int(NOON) + 300, method="POST", resource=ORIGIN + "/audio", body_digest="body",
        purchase=f"purchase-{number}",
    )  # fmt: skip
    return plain._replace(**fields)


def draw(cents: int = 100, **fields: Any) -> Reserve:
    """A draw on prepaid credit."""
    return wish(cents, **{"kind": "credit", "pay_to": "", "asset": "", **fields})


def top_up(cents: int = 500, **fields: Any) -> Reserve:
    """A top-up of the wallet's credit."""
    return wish(cents, **{"kind": "topup", **fields})


def limit(purse: Purse, window: Window, cents: int, **fields: Any) -> Limit:
    """A limit in cents, from the environment unless `fields` say otherwise."""
    return Limit(purse, window, Usdc(cents * 10_000), **{"source": "environment", **fields})


def new_job(job_id: str = "jingle", **fields: Any) -> NewJob:
    """A job of the wallet at the seller."""
    plain = NewJob(
        id=job_id, digest=f"digest of {job_id}", wallet=WALLET, network="eip155:8453", environment="live", label="",
        provider="direct", api_url=ORIGIN, origin=ORIGIN, model="elevenlabs-music", request='{"prompt":"warm folk"}',
        options="{}", deadline=NOON + 86_400,
    )  # fmt: skip
    return replace(plain, **fields)


def pay(ledger: SqliteLedger, reserve: Reserve, *limits: Limit) -> str:
    """Reserve, sign and settle; the hold's id."""
    hold = ledger.reserve(reserve, limits)
    ledger.depart(hold.id, b"header")
    return ledger.settle(hold.id, evidence="receipt").id


def signed(ledger: SqliteLedger, reserve: Reserve, *limits: Limit) -> str:
    """Reserve and sign; the hold's id."""
    return ledger.depart(ledger.reserve(reserve, limits).id, b"header").id
