"""Opens a ledger's file beside the ledger, with the same library.

Never with `sqlite3`: two SQLite libraries in one process end each other's locks on a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

READ_ONLY = apsw.SQLITE_OPEN_READONLY
READ_WRITE = apsw.SQLITE_OPEN_READWRITE
MAKE = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE


@contextmanager
def books(path: str | Path, flags: int = READ_WRITE) -> Iterator[apsw.Connection]:
    """A connection to the file, closed at the end; every statement outside a transaction commits at once."""
    connection = apsw.Connection(str(path), flags=flags)
    try:
        yield connection
    finally:
        connection.close(True)


def asked(path: str | Path, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """What a statement answers, from a connection of its own."""
    with books(path) as connection:
        return connection.execute(statement, values).fetchall()
