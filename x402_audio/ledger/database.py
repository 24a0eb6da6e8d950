"""The SQLite file itself: made safely, opened only if sound, written in short exclusive transactions.

Knows nothing of money; it knows files, locks, ledger time and the event chain. One connection per process under a
lock; a fork closes it first, because SQLite must not be carried over one.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from x402_audio.clock import Clock, Random
from x402_audio.errors import LedgerBusy, LedgerError
from x402_audio.jsontext import write_json
from x402_audio.ledger import schema
from x402_audio.ledger.book import Event
from x402_audio.ledger.chain_of_events import canonical, link, plain
from x402_audio.ledger.migration import bring_forward, refuse_newer, refuse_other, version_of
from x402_audio.ledger.place import (
    Identity,
    check_file,
    check_folder,
    check_still,
    check_whole,
    create_empty,
    identity_of,
    sync,
)
from x402_audio.ledger.rows import event_from
from x402_audio.ledger.trouble import spoken

BUSY_S: Final = 30
TICK_S: Final = 1e-6
"""Ledger time moves on at least this much with every event, so that order is total."""

_LAST_EVENT: Final = "SELECT seq, at, wallet, hash FROM event ORDER BY seq DESC LIMIT 1"
_HEAD: Final = "SELECT hash FROM event WHERE wallet = ? ORDER BY seq DESC LIMIT 1"
_INSERT_EVENT: Final = "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SETTINGS: Final = "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON;" + (
    "PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON;" if sys.platform == "darwin" else ""
)
_MAKING = threading.Lock()
_OPEN: weakref.WeakSet[Database] = weakref.WeakSet()
_FORKING: list[Database] = []

Row = tuple[Any, ...]


def wal_is_safe(version: tuple[int, int, int]) -> bool:
    """Whether this SQLite has the mend of the WAL-reset race, in which a committed transaction can vanish."""
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51, 0) or (3, 44, 6) <= version < (3, 45, 0)


class View:
    """One consistent state of the tables, to read."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def one(self, statement: str, values: Sequence[object] = ()) -> Row | None:
        row: Row | None = self._connection.execute(statement, values).fetchone()
        return row

    def all(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        return self._connection.execute(statement, values).fetchall()

    def each(self, statement: str) -> Iterator[Row]:
        return iter(self._connection.execute(statement))


class Transaction(View):
    """One open transaction: statements, the ledger's time in it, and the events it writes."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock, random: Random) -> None:
        super().__init__(connection)
        self._random = random
        self.events: list[Row] = []
        """What this transaction appended, in order."""
        self._seq, latest, wallet, head = self.one(_LAST_EVENT) or (0, 0.0, None, "")
        self._heads: dict[str, str] = {} if wallet is None else {wallet.lower(): head}
        self.now = max(_sane(clock.now()), latest + TICK_S)
        """Ledger time of everything in this transaction, Unix seconds."""

    def run(self, statement: str, values: Sequence[object] = ()) -> int:
        """Execute; how many rows it touched."""
        return self._connection.execute(statement, values).rowcount

    def many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        self._connection.executemany(statement, rows)

    def new_id(self, prefix: str) -> str:
        return prefix + self._random(16).hex()

    def event(
        self,
        wallet: str,
        subject: str,
        from_: str,
        to: str,
        *,
        amount: int = 0,
        why: str = "",
        **data: object,
    ) -> None:
        """Append one event to the wallet's chain ('' for what concerns all)."""
        self._seq += 1
        chain = wallet.lower()
        previous = self._heads.get(chain)
        if previous is None:
            head = self.one(_HEAD, (wallet,))
            previous = head[0] if head else ""
        words = (self._seq, self.now, wallet, subject, from_, to, int(amount), plain(why), write_json(data))
        self._heads[chain] = link(previous, canonical(*words))
        row = (*words, previous, self._heads[chain])
        self.run(_INSERT_EVENT, row)
        self.events.append(row)


class Database:
    """A ledger's file, opened. Raises LedgerError when it is not safe to keep money's books in, LedgerBusy on locks."""

    def __init__(self, path: str | os.PathLike[str], *, clock: Clock, random: Random, create: bool) -> None:
        self.path = str(Path(path).absolute())
        self._clock = clock
        self._random = random
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._identity = Identity(0, 0)
        self._page_bytes = 1
        self._latest = 0.0
        self._listeners: list[Callable[[Event], None]] = []
        with _MAKING, spoken(self.path):
            if not os.path.lexists(self.path):
                if not create:
                    raise LedgerError(
                        f"there is no ledger at {self.path}", next_step="check LEDGER or --ledger"
                    )
                _make(self.path, random)
            self._connect()
        _OPEN.add(self)

    def now(self) -> float:
        """Ledger time, Unix seconds: never before the newest event nor an earlier answer."""
        with self.reading() as view:
            last = view.one(_LAST_EVENT)
            self._latest = max(_sane(self._clock.now()), last[1] if last else 0.0, self._latest)
            return self._latest

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """An exclusive transaction, durable when left without an exception. Never do other I/O inside (I9)."""
        with self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                check_whole(self.path, self._page_bytes)
                refuse_other(connection, self.path)
                tx = Transaction(connection, self._clock, self._random)
                yield tx
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
        for listener in tuple(self._listeners):
            for row in tx.events:
                listener(event_from(row))

    def listen(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Tell every event of this object's own transactions, after its commit; what is returned ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    @contextmanager
    def reading(self) -> Iterator[View]:
        """One consistent view for several reads."""
        with self._connected() as connection:
            connection.execute("BEGIN")
            try:
                refuse_other(connection, self.path)
                yield View(connection)
            finally:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")

    def glance(self, statement: str, values: Sequence[object] = (), *, wait: bool = True) -> Row | None:
        """The first row of one statement, which is a consistent view by itself. Not waiting: LedgerBusy at once."""
        with self._connected(wait=wait) as connection:
            if not wait:
                connection.execute("PRAGMA busy_timeout = 0")
            try:
                return View(connection).one(statement, values)
            finally:
                if not wait:
                    connection.execute(f"PRAGMA busy_timeout = {BUSY_S * 1000}")

    def backup(self, path: str) -> None:
        """Copy the whole ledger, secrets included, into a new file of mode 0600. Raises LedgerError if it exists."""
        target = str(Path(path).absolute())
        with self._connected() as connection:
            create_empty(target)
            copy = sqlite3.connect(target)
            try:
                connection.backup(copy)
            finally:
                copy.close()
            sync(target)
            sync(str(Path(target).parent))

    def close(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    @contextmanager
    def _connected(self, *, wait: bool = True) -> Iterator[sqlite3.Connection]:
        if not self._lock.acquire(timeout=BUSY_S if wait else 0):
            raise LedgerBusy(
                f"the ledger is busy: another thread is writing{f' for {BUSY_S} s' if wait else ''}"
            )
        try:
            with spoken(self.path):
                if self._connection is None:
                    self._connect()
                else:
                    check_still(self.path, self._identity)
                assert self._connection is not None
                yield self._connection
        finally:
            self._lock.release()

    def _connect(self) -> None:
        check_file(self.path)
        self._connection = _open(self.path)
        (self._page_bytes,) = self._connection.execute("PRAGMA page_size").fetchone()
        self._identity = identity_of(
            self.path
        )  # only now: some systems copy a file that is opened to be written

    def before_fork(self) -> None:
        """Wait for the running transaction and close: nothing of SQLite is carried into the child."""
        self._lock.acquire()
        self.close()

    def after_fork_in_parent(self) -> None:
        self._lock.release()

    def after_fork_in_child(self) -> None:
        self._lock = threading.RLock()


def _make(path: str, random: Random) -> None:
    """Make a whole new ledger beside the path and link it into place: a half-made one is never seen."""
    folder = Path(path).parent
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync(str(folder.parent))
    check_folder(folder)
    for suffix in ("-journal", "-wal"):
        with suppress(FileNotFoundError):
            if Path(path + suffix).stat().st_size and not os.path.lexists(path):
                raise LedgerError(f"{path} is gone but {path + suffix} is there: a ledger was deleted in mid-write",
                                  next_step=f"restore {path} from a backup, or move {path + suffix} away")  # fmt: skip
    draft = f"{path}.new-{random(8).hex()}"
    create_empty(draft)
    try:
        connection = sqlite3.connect(draft, isolation_level=None)
        try:
            if wal_is_safe(_version()):
                connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(schema.create_script())
        finally:
            connection.close()
        sync(draft)
        with suppress(FileExistsError):  # another process was first; its ledger is the ledger
            Path(path).hardlink_to(draft)
    finally:
        Path(draft).unlink()
    sync(str(folder))


def _open(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(path)}?mode=rw", uri=True, isolation_level=None, timeout=BUSY_S, check_same_thread=False
    )
    try:
        connection.executescript(_SETTINGS)
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if application != schema.APPLICATION_ID:
            raise LedgerError(
                f"{path} is not a ledger of x402-audio", next_step="name another file with --ledger"
            )
        refuse_newer(version_of(connection), path)
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        if mode != "wal" or not wal_is_safe(_version()):
            connection.execute("PRAGMA journal_mode = TRUNCATE")
        bring_forward(connection, path)
        refuse_newer(version_of(connection), path)
    except BaseException:
        connection.close()
        raise
    return connection


def _version() -> tuple[int, int, int]:
    return sqlite3.sqlite_version_info[0], sqlite3.sqlite_version_info[1], sqlite3.sqlite_version_info[2]


def _sane(now: float) -> float:
    if not 0 < now < 1e11:
        raise LedgerError(
            f"the clock says {now}, which is no time", next_step="set this machine's clock (NTP)"
        )
    return now + 0.0  # a clock may tell whole seconds; the books keep one kind of number


def _before_fork() -> None:
    _FORKING[:] = _OPEN
    for database in _FORKING:
        database.before_fork()


def _after_fork_in_parent() -> None:
    while _FORKING:
        _FORKING.pop().after_fork_in_parent()


def _after_fork_in_child() -> None:
    while _FORKING:
        _FORKING.pop().after_fork_in_child()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
