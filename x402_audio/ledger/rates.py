"""Waiting shared by every process of a machine: request rates, requests in flight, and the budget of errors.

A file of its own beside the ledger (`LEDGER.rates`), never synced, because it is not money: a broken or foreign one is
deleted and made again, a busy one only means a short wait, and where no such file can be, each process keeps its own
pace and says so once. Knows no seller; the caller brings the figures.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw

from x402_audio.clock import Clock, Random, system_random
from x402_audio.ledger.owner import owner_is_dead, this_owner
from x402_audio.ledger.trouble import BUSY, kind_of

T = TypeVar("T")
BUSY_S: Final = 2
WAIT_S_MAX: Final = 3_600
"""An arrival further ahead than this comes from a clock that was wrong, and is cut."""
ERRORS_MAX: Final = 10
ERRORS_WINDOW_S: Final = 30

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS rate (
    wallet TEXT COLLATE NOCASE, route TEXT, arrival REAL NOT NULL, not_before REAL NOT NULL, PRIMARY KEY (wallet, route)
);
CREATE TABLE IF NOT EXISTS slot (
    token TEXT PRIMARY KEY, wallet TEXT NOT NULL COLLATE NOCASE, owner TEXT NOT NULL, lease_until REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS failure (wallet TEXT NOT NULL COLLATE NOCASE, at REAL NOT NULL);
"""
_RATE: Final = "SELECT arrival, not_before FROM rate WHERE wallet = ? AND route = ?"
_PUT_RATE: Final = (
    "INSERT INTO rate VALUES (?, ?, ?, ?) ON CONFLICT (wallet, route)"
    " DO UPDATE SET arrival = excluded.arrival, not_before = excluded.not_before"
)
_SLOTS: Final = "SELECT token, owner, lease_until FROM slot WHERE wallet = ?"
_PUT_SLOT: Final = "INSERT INTO slot VALUES (?, ?, ?, ?)"
_DROP_SLOT: Final = "DELETE FROM slot WHERE token = ?"
_FORGET: Final = "DELETE FROM failure WHERE at <= ? OR at > ?"
_FAILED: Final = "INSERT INTO failure VALUES (?, ?)"
_FAILURES: Final = "SELECT at FROM failure WHERE wallet = ? AND at > ? ORDER BY at DESC LIMIT ?"


class Rates:
    """Tickets, slots and errors per wallet, beside the ledger of that path. Raises nothing; waits at most 2 s.

    on_trouble: told in one line, once, when the file cannot be kept at all.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        clock: Clock,
        random: Random = system_random,
        on_trouble: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.path = f"{Path(path).absolute()}.rates"
        self._clock = clock
        self._random = random
        self._on_trouble = on_trouble
        self._told = False

    def take(self, wallet: str, route: str, per_minute: float, burst: int) -> float:
        """Take the next ticket of a route and say how many seconds to wait before using it (0: go). GCRA."""
        interval = 60 / per_minute
        now = self._clock.now()

        def take(db: apsw.Connection) -> float:
            arrival, not_before = self._rate(db, wallet, route, now)
            arrival = max(arrival, not_before, now)
            db.execute(_PUT_RATE, (wallet, route, arrival + interval, not_before))
            return max(0.0, arrival - (burst - 1) * interval - now, not_before - now)

        return self._do(take, busy=interval, without=interval)

    def push_back(self, wallet: str, route: str, seconds: float) -> None:
        """The seller said wait: nobody uses this route before so many seconds from now."""
        now = self._clock.now()

        def push_back(db: apsw.Connection) -> None:
            arrival, not_before = self._rate(db, wallet, route, now)
            db.execute(_PUT_RATE, (wallet, route, arrival, max(not_before, now + min(seconds, WAIT_S_MAX))))

        self._do(push_back, busy=None, without=None)

    def slot(self, wallet: str, limit: int = 5, lease_s: float = 120) -> str | None:
        """A place for one request in flight, or None while `limit` are. Places of dead owners are free."""
        now = self._clock.now()
        token = self._random(16).hex()

        def slot(db: apsw.Connection) -> str | None:
            used = 0
            taken: list[Any] = db.execute(_SLOTS, (wallet,)).fetchall()
            for other, owner, until in taken:
                if until <= now or until > now + WAIT_S_MAX or owner_is_dead(owner):
                    db.execute(_DROP_SLOT, (other,))
                else:
                    used += 1
            if used >= limit:
                return None
            db.execute(_PUT_SLOT, (token, wallet, this_owner(), now + lease_s))
            return token

        return self._do(slot, busy=None, without=token)

    def release(self, token: str) -> None:
        """Give a place back; an unknown one is nothing."""
        self._do(lambda db: db.execute(_DROP_SLOT, (token,)), busy=None, without=None)

    def note_error(self, wallet: str) -> None:
        """Count one failed call."""
        now = self._clock.now()

        def note(db: apsw.Connection) -> None:
            db.execute(_FORGET, (now - ERRORS_WINDOW_S, now))
            db.execute(_FAILED, (wallet, now))

        self._do(note, busy=None, without=None)

    def error_budget_wait(self, wallet: str) -> float:
        """Seconds until fewer than 10 calls failed within 30 s; 0 when that is so now."""
        now = self._clock.now()

        def wait(db: apsw.Connection) -> float:
            rows: list[Any] = db.execute(_FAILURES, (wallet, now - ERRORS_WINDOW_S, ERRORS_MAX)).fetchall()
            return float(max(0.0, rows[-1][0] + ERRORS_WINDOW_S - now)) if len(rows) == ERRORS_MAX else 0.0

        return self._do(wait, busy=1.0, without=0.0)

    def _do(self, work: Callable[[apsw.Connection], T], *, busy: T, without: T) -> T:
        """`work` in one exclusive transaction; `busy` while others keep the file, `without` where none can be kept."""
        for again in (True, False):
            try:
                with closing(self._begin()) as db:
                    result = work(db)
                    db.execute("COMMIT")
                    return result
            except (apsw.Error, TypeError, ValueError, AttributeError) as error:
                if isinstance(error, apsw.Error) and kind_of(error) in BUSY:
                    return busy
                if again:  # not ours, or not whole: it is worth nothing, so it is made anew
                    for suffix in ("", "-journal", "-wal", "-shm"):
                        with suppress(OSError):
                            Path(self.path + suffix).unlink(missing_ok=True)
        if not self._told:
            self._told = True
            self._on_trouble(f"{self.path} cannot be kept; this program paces only its own requests")
        return without

    @staticmethod
    def _rate(db: apsw.Connection, wallet: str, route: str, now: float) -> tuple[float, float]:
        arrival, not_before = db.execute(_RATE, (wallet, route)).fetchone() or (0.0, 0.0)
        return min(arrival, now + WAIT_S_MAX), min(not_before, now + WAIT_S_MAX)

    def _begin(self) -> apsw.Connection:
        with suppress(OSError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        db = apsw.Connection(self.path, flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            db.set_busy_timeout(int(BUSY_S * 1000))
            db.execute("PRAGMA synchronous = OFF")
            db.execute("PRAGMA journal_mode = MEMORY")  # a torn file costs a ticket or a place, never money
            db.execute("BEGIN IMMEDIATE")
            for statement in _TABLES.split(";\n"):
                db.execute(statement)
        except BaseException:
            db.close()
            raise
        return db
