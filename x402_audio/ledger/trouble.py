"""SQLite's and the disk's failures in the ledger's words, each with the way back. Knows no table and no money."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from x402_audio.errors import LedgerBusy, LedgerError

BUSY: Final = frozenset({apsw.SQLITE_BUSY, apsw.SQLITE_LOCKED, apsw.SQLITE_PROTOCOL})
"""Others use the file. PROTOCOL: too many began to read at once, again and again."""
_DAMAGED: Final = frozenset({apsw.SQLITE_NOTADB, apsw.SQLITE_CORRUPT})
_CLOSED: Final = frozenset({apsw.SQLITE_READONLY, apsw.SQLITE_PERM, apsw.SQLITE_CANTOPEN})
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_LEAVE: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})

RESTORE: Final = (
    "move it and its -wal, -shm and -journal away, restore the newest backup, then: x402-audio reconcile"
)


def kind_of(error: apsw.Error) -> int:
    """The primary result code; 0 where there is none."""
    return getattr(error, "result", 0) & 0xFF


@contextmanager
def spoken(path: str) -> Iterator[None]:
    """Turn a failure into LedgerBusy or LedgerError about the ledger of that path."""
    try:
        yield
    except (apsw.Error, OSError) as error:
        retell(path, error)
        raise


def retell(path: str, error: BaseException) -> None:
    """Raise what SQLite or the system said as our own error; of any other nothing is said."""
    if isinstance(error, apsw.Error):
        raise told(path, error) from None
    if isinstance(error, OSError):
        why = error.strerror or type(error).__name__
        raise LedgerError(
            f"the ledger {path} cannot be used: {why}", next_step=_way_back(path, error.errno)
        ) from None


def told(path: str, error: apsw.Error) -> LedgerError:
    """What SQLite said, as our own error."""
    kind = kind_of(error)
    if kind in BUSY:
        return LedgerBusy(f"the ledger {path} is busy")
    if kind in _DAMAGED:
        return LedgerError(f"{path} is damaged or not a ledger: {error}", next_step=RESTORE)
    if kind == apsw.SQLITE_FULL:
        return LedgerError(
            f"the ledger {path} cannot be used: {error}", next_step=_way_back(path, errno.ENOSPC)
        )
    if kind in _CLOSED:
        return LedgerError(
            f"the ledger {path} cannot be used: {error}", next_step=_way_back(path, errno.EACCES)
        )
    if kind == apsw.SQLITE_IOERR:
        return LedgerError(f"the ledger {path} cannot be used: {error}", next_step=_way_back(path, errno.EIO))
    return LedgerError(f"the ledger {path} cannot be used: {error}")


def _way_back(path: str, number: int | None) -> str:
    if number in _NO_ROOM:
        return f"make room on the disk of {path}, then repeat the same command"
    if number in _NO_LEAVE:
        return (
            f"make {path} and the folder {Path(path).parent} writable for you, then repeat the same command"
        )
    return f"look at the disk of {path} (room, health), then: x402-audio ledger verify"
