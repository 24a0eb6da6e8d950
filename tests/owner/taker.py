"""A process that takes whatever the approvals of a ledger let through, again and again; started by test_approvals.py.

Says `ready`, waits for a line, then writes the ids of the holds it got as one JSON list.
"""

from __future__ import annotations

import json
import sys

from tests.ledger.desk import limit, wish
from x402_audio.clock import system_random
from x402_audio.errors import ApprovalWanted, LedgerError, PaymentUnsettled
from x402_audio.ledger.sqlite import SqliteLedger


def main() -> None:
    """Five rounds over the three purchases, each freed at once so that the next process could have it."""
    ledger = SqliteLedger(sys.argv[1], create=False)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    taken = set()
    for turn in range(15):
        reserve = wish(60, purchase=f"purchase {turn % 3}", nonce="0x" + system_random(32).hex())
        try:
            hold = ledger.reserve(reserve, [limit("jobs", "unasked", 50)])
            if not hold.adopted:
                taken.add(hold.id)
            ledger.void(hold.id, evidence="never sent", unsigned=True)
        except (ApprovalWanted, LedgerError, PaymentUnsettled):
            continue
    sys.stdout.write(json.dumps(sorted(taken)))


if __name__ == "__main__":
    main()
