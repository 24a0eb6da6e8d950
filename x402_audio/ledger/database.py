"""The SQLite file itself: made safely, opened only if sound, written in short exclusive transactions.

Knows nothing of money; it knows files, locks, ledger time and the event chain. One connection per process under a
lock; a fork closes it first, because SQLite must not be carried over one. A transaction may be begun in one thread, its
pages written, and committed, which waits for the disk, in another (`begin`). The file keeps a write-ahead log, so a commit is one sync of
`-wal`; the main file takes it up later (a checkpoint), and when the last program closes it.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, NoReturn, TypeVar

import apsw

from x402_audio.clock import Clock, Random
from x402_audio.errors import LedgerBusy, LedgerError
from x402_audio.jsontext import write_json
from x402_audio.ledger import schema
from x402_audio.ledger.book import Event
from x402_audio.ledger.chain_of_events import canonical, link, plain
from x402_audio.ledger.migration import bring_forward, copy_whole, refuse_newer, refuse_other, version_of
from x402_audio.ledger.place import (
    COMPANIONS,
    Identity,
    Stamp,
    check_file,
    check_folder,
    check_still,
    check_whole,
    create_empty,
    identities_of,
    shares_memory,
    sync,
)
from x402_audio.ledger.rows import event_from
from x402_audio.ledger.trouble import retell, spoken

BUSY_S: Final = 30
TICK_S: Final = 1e-6
"""Ledger time moves on at least this much with every event, so that order is total."""

_LAST_EVENT: Final = "SELECT seq, at, wallet, hash FROM event ORDER BY seq DESC LIMIT 1"
_HEAD: Final = "SELECT hash FROM head WHERE wallet = ?"
_KEEP_HEAD: Final = "INSERT INTO head VALUES (?, ?) ON CONFLICT (wallet) DO UPDATE SET hash = excluded.hash"
_INSERT_EVENT: Final = "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SETTINGS: Final = (
    "synchronous = FULL",
    "foreign_keys = ON",
    "secure_delete = ON",
    "wal_autocheckpoint = 4000",
) + (("fullfsync = ON", "checkpoint_fullfsync = ON") if sys.platform == "darwin" else ())
"""Each a statement of its own: apsw stops a script at the first one that answers, until the answer is read.

A log of 16 MB is taken up at once, some 200 payments: each time costs two more syncs.
"""
_KEEPS_LOG: Final = (18, 2)
_LOGGED: Final = b"\2\2"
"""Place and length of two bytes in a database's header, and what they are in WAL mode."""
_COUNT_SECRETS: Final = "SELECT count(*) FROM secret"
_MAKING = threading.Lock()
_OPEN: weakref.WeakSet[Database] = weakref.WeakSet()
_FORKING: list[Database] = []
_fork = threading.Lock()
"""One thread forks at a time: they share the list of what is to be let go again."""

Row = tuple[Any, ...]
T = TypeVar("T")


def wal_is_safe(version: tuple[int, int, int]) -> bool:
    """Whether this SQLite has the mend of the WAL-reset race, in which a committed transaction can vanish."""
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51, 0) or (3, 44, 6) <= version < (3, 45, 0)


class Tail(NamedTuple):
    """What the next event follows: the newest one of all."""

    seq: int
    at: float
    wallet: str | None
    hash: str


_EMPTY: Final = Tail(0, 0.0, None, "")


class View:
    """One consistent state of the tables, to read."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._cursor = connection.cursor()

    def one(self, statement: str, values: Sequence[Any] = ()) -> Row | None:
        """The row of a statement that gives one or none."""
        rows = self.all(statement, values)
        return rows[0] if rows else None

    def all(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        # To its end: a statement that is not keeps this state of the file.
        return self._cursor.execute(statement, values).fetchall()

    def each(self, statement: str) -> Iterator[Row]:
        return iter(self._connection.execute(statement))


class Transaction(View):
    """One open transaction: statements, the ledger's time in it, and the events it writes."""

    def __init__(
        self, connection: apsw.Connection, clock: Clock, random: Random, tail: Tail | None = None
    ) -> None:
        super().__init__(connection)
        self._random = random
        self.events: list[Row] = []
        """What this transaction appended, in order."""
        self.puts_secrets = self.drops_secrets = False
        """Whether it stored a secret; and whether it deleted or replaced one."""
        if tail is None:
            row = self.one(_LAST_EVENT)
            tail = Tail._make(row) if row else _EMPTY
        self.tail: Tail = tail
        self.now = max(_sane(clock.now()), tail.at + TICK_S)
        """Ledger time of everything in this transaction, Unix seconds."""

    def is_on(self, connection: apsw.Connection | None) -> bool:
        return self._connection is connection

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Execute; how many rows it touched."""
        if "secret" in statement:
            return self._run_on_secrets(statement, values)
        self._cursor.execute(statement, values)
        return self._connection.changes()

    def _run_on_secrets(self, statement: str, values: Sequence[Any]) -> int:
        """Execute, and notice stored secrets that went; one that is put in adds a row or replaces another."""
        puts_in = statement.startswith("INSERT")
        self.puts_secrets |= puts_in
        before = self.one(_COUNT_SECRETS) if puts_in else None
        self._cursor.execute(statement, values)
        touched = self._connection.changes()
        if touched and (not puts_in or self.one(_COUNT_SECRETS) == before):
            self.drops_secrets = True
        return touched

    def new_id(self, prefix: str) -> str:
        """Ids of one time stand side by side in their index: a page that is still in memory, however long the past is."""
        return f"{prefix}{int(self.now * 1000):012x}{self._random(10).hex()}"

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
        seq, previous = self.tail.seq + 1, self._head_of(wallet)
        words = (seq, self.now, wallet, subject, from_, to, int(amount), plain(why), write_json(data))
        head = link(previous, canonical(*words))
        row = (*words, previous, head)
        self._cursor.execute(_INSERT_EVENT, row)
        self.tail = Tail(seq, self.now, wallet, head)
        self.events.append(row)

    def _head_of(self, wallet: str) -> str:
        """The newest hash of a wallet's chain. Kept in a table when another wallet's event comes: else it is the tail's."""
        known = self.tail.wallet
        if known == wallet:
            return self.tail.hash
        if known is not None:
            self.run(_KEEP_HEAD, (known, self.tail.hash))
        row = self.one(_HEAD, (wallet,))
        return str(row[0]) if row else ""


class _Turn:
    """Work on a database's connection: its failures come in the ledger's words."""

    __slots__ = ("_database", "_look")

    def __init__(self, database: Database, *, look: bool = True) -> None:
        self._database = database
        self._look = look

    def __enter__(self) -> apsw.Connection:
        return self._database.take(look=self._look)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._database.give_back()
        if error is not None:
            retell(self._database.path, error)


class _Write:
    """One exclusive transaction: committed when it is left without an exception, else undone."""

    __slots__ = ("_connection", "_database", "_tx")

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> Transaction:
        database = self._database
        self._connection = database.take(look=True)
        try:
            self._tx = database.start(self._connection)
        except BaseException as error:
            _undo(self._connection)
            database.give_back()
            retell(database.path, error)
            raise
        return self._tx

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        database, is_committed = self._database, False
        try:
            if error is None:
                is_committed = database.end(self._connection, self._tx)
            else:
                _undo(self._connection)
        except BaseException as failed:
            _undo(self._connection)
            retell(database.path, failed)
            raise
        finally:
            database.give_back()
        if error is not None:
            retell(database.path, error)
        elif is_committed:
            database.tell(self._tx)


class _Open(Generic[T]):
    """A verb done but for its commit. Called once, in any thread, it commits; then it gives or raises what the verb did."""

    database: Database | None = None
    """Whose lock this keeps, from `keep` to the commit."""

    def keep(self, database: Database, tx: Transaction, outcome: Callable[[], T]) -> None:
        self._tx = tx
        self._outcome = outcome
        self.database = database

    def __call__(self) -> T:
        database, self.database = self.database, None
        assert database is not None, "a transaction is committed once"
        database.commit(self._tx)
        return self._outcome()

    def __del__(self) -> None:
        if self.database is not None:  # who began it was interrupted: nothing of it happened
            self.database.give_up(self._tx)


class Database:
    """A ledger's file, opened. Raises LedgerError when it is not safe to keep money's books in, LedgerBusy on locks."""

    def __init__(self, path: str | os.PathLike[str], *, clock: Clock, random: Random, create: bool) -> None:
        self.path = str(Path(path).absolute())
        self._clock = clock
        self._random = random
        self._lock = threading.Lock()
        self._holder: int | None = None
        """The thread that is at work under the lock; nobody while what was begun waits for its commit."""
        self._begins_in: int | None = None
        """The thread that does a verb under `begin`, and so holds the lock already."""
        self._begun: Transaction | None = None
        self._connection: apsw.Connection | None = None
        self._identities: dict[str, Identity] = {}
        self._looks: Stamp | None = None
        self._sound: Stamp | None = None
        """The main file as it looked last, and when it was found sound: with a log only a checkpoint changes it."""
        self._page_bytes = 1
        self._patience_s: float = BUSY_S
        """How long SQLite waits for the locks of other programs."""
        self._secrets_in_log = False
        self._tail: Tail | None = None
        self._tail_version = 0
        """The newest event after our last commit, and SQLite's number of the file's state then."""
        self._latest = 0.0
        self._listeners: list[Callable[[Event], None]] = []
        refuse_raced_sqlite()
        with _MAKING, spoken(self.path):
            if not os.path.lexists(self.path):
                if not create:
                    raise LedgerError(
                        f"there is no ledger at {self.path}", next_step="check LEDGER or --ledger"
                    )
                _make(self.path, random)
            self._connect()
        _OPEN.add(self)

    @property
    def journal(self) -> str:
        """SQLite's journal mode, in capitals."""
        with _Turn(self) as connection:
            return str(connection.pragma("journal_mode")).upper()

    def now(self) -> float:
        """Ledger time, Unix seconds: never before the newest event nor an earlier answer."""
        with self.reading() as view:
            last = view.one(_LAST_EVENT)
            self._latest = max(_sane(self._clock.now()), last[1] if last else 0.0, self._latest)
            return self._latest

    def transaction(self) -> _Write:
        """An exclusive transaction, durable when left without an exception. Never do other I/O inside (I9)."""
        return _Write(self)

    def start(self, connection: apsw.Connection) -> Transaction:
        """Begin an exclusive transaction on the connection that was taken."""
        connection.execute("BEGIN IMMEDIATE")
        if self._looks != self._sound or not self._has_log:
            _refuse_half_a_page(connection, self.path, self._page_bytes)
            self._sound = self._looks
        # Whoever else writes changes the number: a schema, too.
        tail = self._tail if connection.data_version() == self._tail_version else None
        if tail is None:
            refuse_other(connection, self.path)
        return Transaction(connection, self._clock, self._random, tail)

    def end(self, connection: apsw.Connection, tx: Transaction) -> bool:
        """Commit it, unless that is left to whoever ends what is begun; whether it is committed."""
        if self._begins_in == threading.get_ident():
            if self._has_log and not tx.puts_secrets:  # what is given up leaves its bytes in the log
                connection.cache_flush()  # here these pages are at hand; only the disk is left to wait for
            self._begun = tx
            return False
        self._commit(connection, tx)
        return True

    def begin(self, verb: Callable[[], T]) -> tuple[bool, Callable[[], T]]:
        """Do a verb of one transaction at once, but for its commit: whether there is one, and what ends it.

        What is returned must be called, in any thread: until then the ledger is locked. Waits for nobody: LedgerBusy while
        another thread or program writes, or where the file must be opened first, and nothing was done.
        """
        opened: _Open[T] = _Open()
        if not self._lock.acquire(blocking=False):
            raise LedgerBusy("the ledger is busy: another thread is writing")
        try:
            self._holder = self._begins_in = threading.get_ident()
            if self._connection is None:
                raise LedgerBusy("the ledger is not open")
            self._wait_for_others(self._connection, 0)
            outcome = _outcome_of(verb)
            if self._begun is not None:
                opened.keep(self, self._begun, outcome)
        finally:
            # First and without a call, where an interrupt could come: who is taken for beginning commits nothing.
            self._begins_in = self._begun = None
            if opened.database is not None:
                self._holder = None
            elif self._holder == threading.get_ident():
                self._let_go()
        return (False, outcome) if opened.database is None else (True, opened)

    def commit(self, tx: Transaction) -> None:
        """End what `begin` began."""
        connection = self._connection
        assert connection is not None
        try:
            if not self._has_log:
                self._wait_for_others(connection, BUSY_S)  # who reads without a log stands in a commit's way
            self._commit(connection, tx)
        except BaseException as error:
            _undo(connection)
            retell(self.path, error)
            raise
        finally:
            self._let_go()
        self.tell(tx)

    def _commit(self, connection: apsw.Connection, tx: Transaction) -> None:
        self._secrets_in_log |= tx.drops_secrets  # before: an interrupt comes as soon as the disk has it
        connection.execute("COMMIT")
        self._tail, self._tail_version = tx.tail, connection.data_version()
        if self._secrets_in_log:
            self._empty_log(connection)

    def give_up(self, tx: Transaction) -> None:
        """Undo what `begin` began; where this thread's `close` broke it off, that is done."""
        if tx.is_on(self._connection):
            self._let_go()

    def _let_go(self) -> None:
        try:
            self._end_of_use()
        finally:
            self._holder = None
            self._lock.release()

    def tell(self, tx: Transaction) -> None:
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
        with _Turn(self) as connection:
            connection.execute("BEGIN")
            try:
                refuse_other(connection, self.path)
                yield View(connection)
            finally:
                _undo(connection)

    def glance(self, statement: str, values: Sequence[Any] = ()) -> Row | None:
        """The first row of one statement, which is a consistent view by itself; no look at the files, as transactions take."""
        with _Turn(self, look=False) as connection:
            rows: list[Row] = connection.execute(statement, values).fetchall()
        return rows[0] if rows else None

    def backup(self, path: str) -> None:
        """Copy the whole ledger, secrets included, into a new file of mode 0600. Raises LedgerError if it exists."""
        target = str(Path(path).absolute())
        with _Turn(self) as connection:
            create_empty(target)
            copy_whole(connection, target)
            sync(target)
            sync(str(Path(target).parent))

    def close(self) -> None:
        """Raises LedgerBusy when another thread does not let go of it."""
        self._break_off()
        if not self._lock.acquire(timeout=BUSY_S):
            raise LedgerBusy(f"the ledger is busy: another thread has been writing for {BUSY_S} s")
        try:
            if self._connection is not None:
                with suppress(LedgerError, OSError, apsw.Error):
                    self._check_files(self._connection)
                    if self._secrets_in_log:
                        self._empty_log(self._connection)
            self._disconnect()
        finally:
            self._lock.release()

    def _break_off(self) -> None:
        """This very thread was interrupted at work, or a signal is handled in it: waiting for itself would never end.

        What it had not committed is undone; what of that work still runs finds its connection closed and another lock.
        """
        if self._holder == threading.get_ident():
            self._end_of_use()
            self._holder = self._begins_in = self._begun = None
            self._lock = threading.Lock()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close(True)

    def take(self, *, look: bool) -> apsw.Connection:
        """The connection, locked for this thread; `give_back` follows in any case. look: that its files still lie there."""
        thread = threading.get_ident()
        if self._begins_in != thread:
            if self._holder == thread:
                raise LedgerBusy("the ledger is busy: this thread was interrupted while it used it")
            if not (self._lock.acquire(blocking=False) or self._lock.acquire(timeout=BUSY_S)):
                raise LedgerBusy(f"the ledger is busy: another thread has been writing for {BUSY_S} s")
        assert self._begun is None, "a verb that is begun has one transaction, and nothing after it"
        try:
            self._holder = thread
            if (connection := self._connection) is None:
                connection = self._connect()
            elif look:
                self._check_files(connection)
            if self._begins_in != thread:
                self._wait_for_others(connection, BUSY_S)
            return connection
        except BaseException as error:
            self.give_back()
            retell(self.path, error)
            raise

    def give_back(self) -> None:
        thread = threading.get_ident()
        if self._holder != thread:
            return  # this thread's `close` broke it off
        if self._begins_in != thread:
            self._let_go()
        elif self._begun is None:
            self._end_of_use()

    def _end_of_use(self) -> None:
        """What was broken off may still hold its state of the file: it would hold up every writing of ours."""
        if self._connection is not None and self._connection.txn_state() != apsw.SQLITE_TXN_NONE:
            self._disconnect()

    def _wait_for_others(self, connection: apsw.Connection, seconds: float) -> None:
        if self._patience_s != seconds:
            self._patience_s = -1.0  # an interrupt may come between the two, and the next one sets it anew
            connection.set_busy_timeout(int(seconds * 1000))
            self._patience_s = seconds

    def _connect(self) -> apsw.Connection:
        check_file(self.path)
        _refuse_other_log(self.path)
        connection = _open(self.path)
        try:
            self._page_bytes = connection.pragma("page_size")
            # Only now: some systems copy a file that is opened to be written.
            self._identities = identities_of(self.path, wal=connection.pragma("journal_mode") == "wal")
        except BaseException:
            connection.close(True)
            raise
        self._patience_s = BUSY_S
        self._tail = None
        self._connection = connection
        return connection

    def _check_files(self, connection: apsw.Connection) -> None:
        """See `check_still`; and the file keeps a log, as a copy written over it does not (see `copy_whole`).

        Otherwise our log is never written into files that are not ours any more: no checkpoint comes when we close. A
        log that is only gone is still taken up: nobody else has what it holds, and nobody could read the books without it.
        """
        try:
            self._looks = check_still(self._identities)
            if self._looks != self._sound and not self._is_ours(connection):
                raise LedgerError(
                    f"the ledger {self.path} was replaced while this program had it open",
                    next_step="start this program again, then: x402-audio reconcile",
                )
        except LedgerError:
            if not self._is_ours(connection) or os.path.lexists(f"{self.path}-wal"):
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            raise

    @property
    def _has_log(self) -> bool:
        return len(self._identities) > 1

    def _is_ours(self, connection: apsw.Connection) -> bool:
        return not self._has_log or connection.read("main", 0, *_KEEPS_LOG)[1] == _LOGGED

    def _empty_log(self, connection: apsw.Connection) -> None:
        """Take secrets that are gone from the tables out of the log, too: bytes stay in it until they are overwritten.

        Waits for nobody: what a reader or writer holds up is done after the next transaction, or at the end. Raises
        nothing, because the transaction before it is committed.
        """
        self._wait_for_others(connection, 0)
        with suppress(apsw.Error):
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            self._secrets_in_log = False

    def before_fork(self) -> None:
        """Wait for the running transaction and close: nothing of SQLite is carried into the child."""
        self._break_off()
        self._lock.acquire()
        self._disconnect()

    def after_fork_in_parent(self) -> None:
        self._lock.release()

    def after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
        self._holder = None


def _undo(connection: apsw.Connection) -> None:
    with suppress(apsw.Error):
        connection.execute("ROLLBACK")


def _outcome_of(verb: Callable[[], T]) -> Callable[[], T]:
    """Do it now, and tell later how it ended. Raises LedgerBusy at once."""
    try:
        result = verb()
    except LedgerBusy:
        raise
    except Exception as error:
        return partial(_raise, error)
    return lambda: result


def _raise(error: Exception) -> NoReturn:
    raise error


def _make(path: str, random: Random) -> None:
    """Make a whole new ledger beside the path and link it into place: a half-made one is never seen."""
    folder = Path(path).parent
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync(str(folder.parent))
    check_folder(folder)
    _refuse_remains(path)
    draft = f"{path}.new-{random(8).hex()}"
    create_empty(draft)
    try:
        with closing(apsw.Connection(draft, flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
            connection.execute(schema.create_script()).fetchall()
            if shares_memory(folder):
                connection.pragma("journal_mode", "wal")  # last, so that the draft is one file
        sync(draft)
        with suppress(FileExistsError):  # another process was first; its ledger is the ledger
            Path(path).hardlink_to(draft)
    finally:
        for suffix in ("", *COMPANIONS):
            Path(draft + suffix).unlink(missing_ok=True)
    sync(str(folder))


def _refuse_remains(path: str) -> None:
    """SQLite would take a deleted ledger's log for the new one's; an empty journal is what a commit without a log leaves."""
    for suffix in COMPANIONS:
        with suppress(FileNotFoundError):
            size = os.lstat(path + suffix).st_size
            if (size or suffix != "-journal") and not os.path.lexists(path):
                raise LedgerError(f"{path} is gone but {path + suffix} is there: a ledger was deleted in mid-write",
                                  next_step=f"restore {path} from a backup, or move {path + suffix} away")  # fmt: skip


def _refuse_other_log(path: str) -> None:
    """A copy put in a ledger's place while that one's log lies there: SQLite would write the log into it."""
    with suppress(FileNotFoundError):
        if not os.lstat(f"{path}-wal").st_size:
            return
        # Through SQLite, which keeps the locks of a file that this process may have open already.
        file = apsw.VFSFile("", path, [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READONLY, 0])
        try:
            logged = file.xRead(_KEEPS_LOG[1], _KEEPS_LOG[0]) == _LOGGED
        finally:
            file.xClose()
        if not logged:
            raise LedgerError(
                f"{path}-wal is the log of another ledger than {path}",
                next_step=f"move {path}-wal and {path}-shm away, then: x402-audio reconcile",
            )


def _open(path: str) -> apsw.Connection:
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.set_busy_timeout(int(BUSY_S * 1000))
        # Else some plans are made anew for every value.
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        for setting in _SETTINGS:
            connection.execute(f"PRAGMA {setting}").fetchall()
        if connection.pragma("application_id") != schema.APPLICATION_ID:
            raise LedgerError(
                f"{path} is not a ledger of x402-audio", next_step="name another file with --ledger"
            )
        refuse_newer(version_of(connection), path)
        logged = connection.pragma("journal_mode") == "wal"
        if logged:
            _refuse_half_a_page(connection, path, connection.pragma("page_size"))
        bring_forward(connection, path)
        if not logged:
            _keep_log(connection, path)
        refuse_newer(version_of(connection), path)  # and the first reading of a log, which makes its files
    except BaseException:
        connection.close(True)
        raise
    return connection


def refuse_raced_sqlite() -> str:
    """SQLite's version. Raises LedgerError for an old one: an apsw built on a system's own SQLite may have it."""
    version = apsw.sqlite_lib_version()
    first, second, third = (int(word) for word in version.split(".")[:3])
    if not wal_is_safe((first, second, third)):
        raise LedgerError(
            f"apsw runs on SQLite {version}, which can lose a committed payment (WAL-reset race)",
            next_step="pip install --force-reinstall --only-binary apsw 'apsw>=3.51.3'",
        )
    return version


def _refuse_half_a_page(connection: apsw.Connection, path: str, page_bytes: int) -> None:
    """See `check_whole`. A checkpoint would fill the missing half with zeros and hide the damage, so none comes."""
    try:
        check_whole(path, page_bytes)
    except LedgerError:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        raise


def _keep_log(connection: apsw.Connection, path: str) -> None:
    """Write-ahead logging from now on. While others use the file, and where no memory can be shared, it stays as it is."""
    connection.set_busy_timeout(0)
    with suppress(apsw.BusyError):
        if shares_memory(Path(path).parent):
            connection.pragma("journal_mode", "wal")
    connection.set_busy_timeout(int(BUSY_S * 1000))
    if connection.pragma("journal_mode") != "wal":
        connection.pragma("journal_mode", "truncate")


def _sane(now: float) -> float:
    if not 0 < now < 1e11:
        raise LedgerError(
            f"the clock says {now}, which is no time", next_step="set this machine's clock (NTP)"
        )
    return now + 0.0  # a clock may tell whole seconds; the books keep one kind of number


def _before_fork() -> None:
    _fork.acquire()
    _FORKING[:] = _OPEN
    for database in _FORKING:
        database.before_fork()


def _after_fork_in_parent() -> None:
    while _FORKING:
        _FORKING.pop().after_fork_in_parent()
    _fork.release()


def _after_fork_in_child() -> None:
    while _FORKING:
        _FORKING.pop().after_fork_in_child()
    _fork.release()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
