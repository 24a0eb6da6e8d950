"""An older ledger brought to this program's schema: a copy kept beside it, then every step in one transaction.

Knows the file's version and SQL texts, no table and no rule of money. Two programs that open the ledger at once take
turns at its write lock, and the second finds it done; a program that had the ledger open notices in its next
transaction (`Database`) and stops. There is no way back but the copy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import chain, count
from pathlib import Path

import apsw

from x402_audio.errors import LedgerError
from x402_audio.ledger import schema
from x402_audio.ledger.place import create_empty, sync
from x402_audio.ledger.trouble import RESTORE


def version_of(connection: apsw.Connection) -> int:
    """The schema of the file as this connection's transaction sees it."""
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    assert isinstance(version, int)
    return version


def refuse_newer(version: int, path: str) -> None:
    """Raise LedgerError for a ledger that only a newer program can read."""
    if version > schema.SCHEMA_VERSION:
        raise LedgerError(f"{path} was written by a newer x402-audio (schema {version}, this one knows {schema.SCHEMA_VERSION})",
                          next_step="upgrade: pip install -U x402-audio")  # fmt: skip


def refuse_other(connection: apsw.Connection, path: str) -> None:
    """Within a transaction: raise LedgerError when the ledger was brought to another schema since it was opened."""
    version = version_of(connection)
    if version != schema.SCHEMA_VERSION:
        raise LedgerError(
            f"{path} became schema {version} while this program, which knows {schema.SCHEMA_VERSION}, had it open",
            next_step="end this program and start the newer one; x402-audio resume takes up open jobs",
        )


def bring_forward(connection: apsw.Connection, path: str) -> None:
    """Take every step that is missing. All or nothing; raises LedgerError for a damaged file, which stays as it is."""
    if version_of(connection) >= schema.SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        first = version_of(connection) + 1  # another program may have taken the steps while we waited
        if first <= schema.SCHEMA_VERSION:
            _refuse_damaged(connection, path)
            _keep_copy(path, f"{path}.before-v{schema.SCHEMA_VERSION}")
        for number in range(first, schema.SCHEMA_VERSION + 1):
            for statement in statements(schema.MIGRATIONS[number]):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
    except BaseException:
        with suppress(apsw.Error):
            connection.execute("ROLLBACK")
        raise


def statements(script: str) -> Iterator[str]:
    """The statements of a script one by one, so that each is of the transaction and half a one is noticed."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if apsw.complete(statement):
            yield statement
            statement = ""
    if statement.strip():
        raise ValueError(f"a migration ends in half a statement: {statement.strip()[:40]}")


def copy_whole(source: apsw.Connection, target: str) -> None:
    """Copy all that is committed, what only the log holds too, into an empty file that needs no other beside it.

    It keeps no log until it is opened as a ledger; so one that is put in a ledger's place is known by its header.
    """
    with closing(apsw.Connection(target, flags=apsw.SQLITE_OPEN_READWRITE)) as copy:
        with copy.backup("main", source, "main") as backup:
            backup.step()
        copy.pragma("journal_mode", "delete")


def _refuse_damaged(connection: apsw.Connection, path: str) -> None:
    sound = connection.pragma("integrity_check", 1)
    if sound != "ok":
        raise LedgerError(f"{path} is damaged and was not changed: {sound}",
                          next_step=RESTORE)  # fmt: skip


def _keep_copy(path: str, wished: str) -> None:
    """Copy what is there now, secrets included, mode 0600, durable; nothing that lies there already is overwritten.

    Some filesystems know no second name of a file. There the name is taken by an empty file first, which the copy then
    replaces: a crash in between leaves that, and the next copy takes another name.

    We hold the ledger's write lock, so a draft found here is a dead program's. Read through a connection of its own:
    one that holds the lock cannot be copied from.
    """
    draft = f"{wished}.part"
    Path(draft).unlink(missing_ok=True)
    create_empty(draft)
    try:
        with closing(apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)) as source:
            copy_whole(source, draft)
        sync(draft)
        for name in chain([wished], (f"{wished}.{number}" for number in count(2))):
            with suppress(FileExistsError):
                try:
                    os.link(draft, name)
                except FileExistsError:
                    raise
                except OSError:
                    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
                    try:
                        os.replace(draft, name)
                    except OSError:
                        Path(name).unlink()
                        raise
                break
    finally:
        Path(draft).unlink(missing_ok=True)
    sync(str(Path(wished).parent))
