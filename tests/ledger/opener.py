"""A program of another version on one ledger: `python -m tests.ledger.opener PATH VERSION`, told what to do by lines.

It says `open` once it has the ledger; then each line `spend` or `verify` on stdin is answered with `done` or the error.
"""

from __future__ import annotations

import sys

from tests.ledger.desk import wish
from tests.ledger.migrated import as_version
from x402_audio.errors import LedgerError
from x402_audio.ledger.sqlite import SqliteLedger


def main() -> None:
    """Open, say so, and do what stdin says."""
    as_version(int(sys.argv[2]))
    try:
        ledger = SqliteLedger(sys.argv[1], create=False)
    except LedgerError as error:
        sys.stdout.write(f"{error.code}: {error}\n")
        return
    sys.stdout.write("open\n")
    sys.stdout.flush()
    for line in sys.stdin:
        try:
            if line.strip() == "spend":
                said = str(ledger.reserve(wish(1, nonce="0x" + "88" * 32, purchase=sys.argv[2]), []).state)
            else:
                said = str(ledger.verify())
        except LedgerError as error:
            said = f"{error.code}: {error}"
        sys.stdout.write(said + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
