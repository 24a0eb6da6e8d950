"""A process that buys until the shared ledger says stop; started by test_auth.py, prints how often it paid.

Arguments: API base, ledger, key (a test's own), a number that makes its requests differ from the others'.
"""

from __future__ import annotations

import sys

import httpx

from x402_audio.clock import SystemClock, system_random
from x402_audio.errors import BudgetExceeded
from x402_audio.ledger.book import Limit
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc
from x402_audio.payment.auth import X402Auth
from x402_audio.payment.policy import PaymentPolicy
from x402_audio.protocol.signer import LocalSigner

ROOM = Usdc(7 * 690_000)


def spend(api_url: str, ledger_path: str, key: str, number: str) -> int:
    ledger = SqliteLedger(ledger_path, clock=SystemClock(), random=system_random)
    limits = [Limit("wallet", "day", ROOM, source="flag")]
    auth = X402Auth(LocalSigner.from_hex(key), ledger, PaymentPolicy(max_amount="1"), limits=limits)
    paid = 0
    with httpx.Client(auth=auth, trust_env=False, timeout=30) as http:
        while True:
            body = {"model": "elevenlabs-music", "prompt": f"take {paid} of {number}", "duration_seconds": 60}
            try:
                http.post(f"{api_url}/audio/queue", json=body).raise_for_status()
            except BudgetExceeded:
                return paid
            paid += 1


if __name__ == "__main__":
    sys.stdout.write(str(spend(*sys.argv[1:5])))
