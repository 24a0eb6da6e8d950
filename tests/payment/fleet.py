"""One of eight programs that spend from one ledger until it says stop; started by test_eight_processes.py.

Arguments: API base, ledger, key (a test's own), its number, and the take it begins with. Waits for a line that says
how many seconds its clock is ahead of the machine's and how many takes it makes before it waits for the next such
line; prints each delivered take, so that a successor can go on where it was killed.
"""

from __future__ import annotations

import sys
import time

import httpx

from x402_audio.clock import system_random
from x402_audio.errors import BudgetExceeded
from x402_audio.ledger.book import Limit
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc
from x402_audio.payment.auth import X402Auth
from x402_audio.payment.policy import PaymentPolicy
from x402_audio.protocol.signer import LocalSigner

CHEAP, DEAR = Usdc(30_000), Usdc(190_000)
ROOM = {"cheap": 60, "dear": 40}
"""How many of each price the limits leave room for: 100 payments."""
LIMITS = [
    Limit("jobs", "hour", Usdc(60 * CHEAP), scope="label:cheap", source="environment"),
    Limit("jobs", "hour", Usdc(40 * DEAR), scope="label:dear", source="environment"),
    Limit("wallet", "day", Usdc(60 * CHEAP + 40 * DEAR), source="environment"),
    Limit("jobs", "hour", Usdc(100_000_000), source="environment"),  # the built-in ones are smaller
    Limit("jobs", "day", Usdc(100_000_000), source="environment"),
]
BODIES: dict[str, dict[str, object]] = {
    "cheap": {"model": "ace-step-15", "duration_seconds": 60},
    "dear": {"model": "stable-audio-25"},
}


class ShiftedClock:
    """The machine's clock, moved so that a window's edge is crossed on the way."""

    def __init__(self, ahead: float) -> None:
        self.ahead = ahead

    def now(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic()


def body_of(label: str, number: int, take: int) -> dict[str, object]:
    return {**BODIES[label], "prompt": f"take {take} of program {number}, {label}"}


def told(clock: ShiftedClock) -> int:
    """Move the clock as the next line says; the takes to make before another line is waited for."""
    ahead, takes = sys.stdin.readline().split()
    clock.ahead = float(ahead)
    return int(takes)


def buy_until_full(api_url: str, ledger_path: str, key: str, number: int, take: int) -> None:
    clock = ShiftedClock(0)
    pause = take + told(clock)
    ledger = SqliteLedger(ledger_path, clock=clock, random=system_random)
    signer = LocalSigner.from_hex(key)
    auths = {
        label: X402Auth(signer, ledger, PaymentPolicy(), limits=LIMITS, label=label, clock=clock)
        for label in ROOM
    }
    with httpx.Client(trust_env=False, timeout=30) as http:
        while auths:
            if take == pause:
                pause += told(clock)
            for label, auth in list(auths.items()):
                try:
                    body = body_of(label, number, take)
                    http.post(f"{api_url}/audio/queue", json=body, auth=auth).raise_for_status()
                except BudgetExceeded:
                    del auths[label]
            sys.stdout.write(f"{take}\n")
            sys.stdout.flush()
            take += 1


if __name__ == "__main__":
    _, api, books, secret_key, own_number, first_take = sys.argv
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    buy_until_full(api, books, secret_key, int(own_number), int(first_take))
