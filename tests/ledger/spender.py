"""A process that spends one cent at a time until its ledger says stop; started by test_fleet.py.

Arguments: ledger, clock file, seed. Writes one byte to stdout for each payment that left.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from x402_audio.clock import system_random
from x402_audio.errors import BudgetExceeded
from x402_audio.ledger.book import HoldKind, Limit, Reserve
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc

CENT = Usdc(10_000)
ROOM = 100
LIMITS = (
    Limit("jobs", "day", Usdc(CENT * ROOM), source="environment"),
    Limit("jobs", "payment", CENT, source="environment"),
    Limit("jobs", "hour", Usdc(CENT * 60), "model:a", "environment"),
)


class FileClock:
    """The time that stands in a file, so that a test can move it for every process at once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def now(self) -> float:
        return float(self._path.read_text())

    def monotonic(self) -> float:
        return time.monotonic()


def one_cent(kind: HoldKind, model: str) -> Reserve:
    nonce = system_random(32).hex()
    return Reserve(
        kind=kind, wallet="0x" + "a1" * 20, network="eip155:8453", asset="0x" + "d4" * 20, environment="live",
        origin="https://seller.example", pay_to="0x" + "b2" * 20 if kind == "direct" else "", amount=CENT,
        nonce="0x" + nonce if kind == "direct" else "", valid_after=0, valid_before=2**31, method="POST",
        resource="https://seller.example/audio", body_digest=nonce, purchase=nonce, model=model, lease_s=None,
    )  # fmt: skip


def spend(path: Path, clock: Path, seed: int) -> None:
    dice = random.Random(seed)
    ledger = SqliteLedger(path, clock=FileClock(clock), random=system_random, create=False)
    refused = 0
    while refused < 2:
        try:
            hold = ledger.reserve(one_cent(dice.choice(("direct", "account")), "ab"[refused]), LIMITS)
        except BudgetExceeded:
            refused += 1
            continue
        ledger.depart(hold.id, b"header")
        sys.stdout.write(".")
        sys.stdout.flush()
        end = dice.random()
        if end < 0.6:
            ledger.settle(hold.id, evidence="receipt")
        elif end < 0.8:
            ledger.void(hold.id, evidence="unused")
        elif end < 0.9:
            ledger.presume(hold.id, why="no witness")


if __name__ == "__main__":
    spend(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
