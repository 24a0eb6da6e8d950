"""The ledger in one SQLite file: the contract of `book.Ledger`, put together from its parts.

The verbs live in `holds`, `jobs_book`, `credit_book`, `approvals` and `owner_acts`; the file in `database`; proof in `replay`.
Knows no wire, no HTTP and no keys.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from x402_audio.clock import Clock, Random, SystemClock, system_random
from x402_audio.ledger.approvals import ApprovalVerbs
from x402_audio.ledger.book import Event, Finding
from x402_audio.ledger.credit_book import CreditVerbs
from x402_audio.ledger.database import Database
from x402_audio.ledger.holds import HoldVerbs
from x402_audio.ledger.jobs_book import JobVerbs
from x402_audio.ledger.owner_acts import OwnerActs
from x402_audio.ledger.rows import SELECT_EVENT, SELECT_HEADS, event_from

T = TypeVar("T")


class SqliteLedger(HoldVerbs, JobVerbs, CreditVerbs, ApprovalVerbs, OwnerActs):
    """Books in a file of mode 0600, shared by any number of threads and processes of one machine.

    Raises LedgerError when the file is not safe to keep money's books in, LedgerBusy after 30 s of waiting.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Clock | None = None,
        random: Random = system_random,
        create: bool = True,
    ) -> None:
        self._database = Database(path, clock=clock or SystemClock(), random=random, create=create)

    @property
    def path(self) -> str:
        """The file, absolute."""
        return self._database.path

    @property
    def journal(self) -> str:
        """How SQLite makes a commit whole there: WAL; TRUNCATE on a disk where programs can share no memory."""
        return self._database.journal

    def now(self) -> float:
        """See `Ledger.now`."""
        return self._database.now()

    def begin(self, verb: Callable[[], T]) -> tuple[bool, Callable[[], T]]:
        """See `Ledger.begin`."""
        return self._database.begin(verb)

    def events(self, *, wallet: str | None = None, subject: str | None = None) -> list[Event]:
        """See `Ledger.events`. Oldest first."""
        words, values = ["1"], list[str]()
        by_wallet = "wallet" if subject is None else "+wallet"  # the subject finds fewer rows
        if subject is not None and subject.startswith("reading:"):  # these rows have an index of their own
            words.append("substr(subject, 1, 8) = 'reading:'")
        for column, value in ((by_wallet, wallet), ("subject", subject)):
            if value is not None:
                words.append(f"{column} = ?")
                values.append(value)
        with self._database.reading() as view:
            rows = view.all(f"{SELECT_EVENT} WHERE {' AND '.join(words)} ORDER BY seq", values)
        return [event_from(row) for row in rows]

    def listen(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """See `Ledger.listen`."""
        return self._database.listen(listener)

    def verify(self) -> list[Finding]:
        """See `Ledger.verify`."""
        from x402_audio.ledger import replay

        with self._database.reading() as view:
            return replay.verify(view)

    def heads(self) -> dict[str, str]:
        """See `Ledger.heads`."""
        with self._database.reading() as view:
            return {row[0]: row[1] for row in view.all(SELECT_HEADS)}

    def backup(self, path: str) -> None:
        """See `Ledger.backup`: the whole ledger, secrets included, into a new file of mode 0600."""
        self._database.backup(path)

    def close(self) -> None:
        """See `Ledger.close`. Any later call opens the file again."""
        self._database.close()
