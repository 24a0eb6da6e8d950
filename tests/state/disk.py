"""A disk that is full from one moment on, for ledgers of this very process: every write of SQLite's fails then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import apsw
import httpx
import pytest

from x402_audio.ledger.database import Transaction


@dataclass
class Disk:
    """Full or not."""

    full: bool = False

    def full_after(self, http: httpx.Client, route: str, status: int = 200) -> None:
        """Fill it when the seller's answer to that route arrives."""

        def fill(response: httpx.Response) -> None:
            if response.request.url.path.endswith(route) and response.status_code == status:
                self.full = True

        http.event_hooks = {"response": [fill]}


def full_disk(patch: pytest.MonkeyPatch) -> Disk:
    """Stands between the ledger and its disk."""
    disk, write = Disk(), Transaction.run

    def run(transaction: Transaction, statement: str, values: Sequence[object] = ()) -> int:
        if disk.full:
            error = apsw.FullError("database or disk is full")
            vars(error)["result"] = apsw.SQLITE_FULL
            raise error
        return write(transaction, statement, values)

    patch.setattr(Transaction, "run", run)
    return disk


FullDisk = Callable[[pytest.MonkeyPatch], Disk]
