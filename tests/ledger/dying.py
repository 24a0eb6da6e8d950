"""A process that dies with the ledger open: `python -m tests.ledger.dying PATH PURCHASE...` reserves each and is killed.

So its log lies there as the last commit left it: nobody took it up.
"""

from __future__ import annotations

import os
import signal
import sys

from tests.ledger.desk import SteppedClock, wish
from x402_audio.clock import system_random
from x402_audio.ledger.sqlite import SqliteLedger


def nonce_of(purchase: str) -> str:
    """The nonce that purchase is paid with, whoever reserves it."""
    return "0x" + purchase.encode().hex().rjust(64, "0")


def main() -> None:
    """Reserve what is named, and die."""
    ledger = SqliteLedger(sys.argv[1], clock=SteppedClock(), random=system_random)
    for purchase in sys.argv[2:]:
        ledger.reserve(wish(1, purchase=purchase, nonce=nonce_of(purchase)), [])
        sys.stdout.write(f"{purchase}\n")
        sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
