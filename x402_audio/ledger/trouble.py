"""SQLite's and the disk's failures in the ledger's words, each with the way back. Knows no table and no money."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from x402_audio.errors import LedgerBusy, LedgerError, X402AudioError

BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DAMAGED: Final = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})
_CLOSED: Final = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN})
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_LEAVE: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})

RESTORE: Final = "move it and its -journal away, restore the newest backup, then: x402-audio reconcile"


def kind_of(error: sqlite3.Error) -> int:
    """The primary result code; 0 where there is none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


@contextmanager
def spoken(path: str) -> Iterator[None]:
    """Turn a failure into LedgerBusy or LedgerError about the ledger of that path."""
    try:
        yield
    except X402AudioError:
        raise
    except sqlite3.Error as error:
        raise told(path, error) from None
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise LedgerError(
            f"the ledger {path} cannot be used: {why}", next_step=_way_back(path, error.errno)
        ) from None


def told(path: str, error: sqlite3.Error) -> LedgerError:
    """What SQLite said, as our own error."""
    kind = kind_of(error)
    if kind in BUSY:
        return LedgerBusy(f"the ledger {path} is busy")
    if kind in _DAMAGED:
        return LedgerError(f"{path} is damaged or not a ledger: {error}", next_step=RESTORE)
    if kind == sqlite3.SQLITE_FULL:
        return LedgerError(
            f"the ledger {path} cannot be used: {error}", next_step=_way_back(path, errno.ENOSPC)
        )
    if kind in _CLOSED:
        return LedgerError(
            f"the ledger {path} cannot be used: {error}", next_step=_way_back(path, errno.EACCES)
        )
    if kind == sqlite3.SQLITE_IOERR:
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
