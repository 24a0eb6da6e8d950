"""Books with a long past, and what one question to them costs: copies of what was really done, and SQLite's own steps.

A step is one instruction of SQLite's machine, so a count is the same on every computer. The copies' hashes are not
made: `verify` would not take such books.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw
import pytest

from tests.books import books
from x402_audio.ledger.database import Transaction, View

COPIES = 3_000
STEPS_MAX = 3_000
"""What looks at one row takes some ten steps, what looks at each of the copies many times this."""
_EVERY = 50
_NEW = ("id", "nonce", "purchase", "job_id", "charge_id", "queue_id", "digest", "hold_id")
Asked = list[tuple[str, tuple[object, ...]]]


def lengthen(path: str | Path, *, until: float, copies: int = COPIES) -> None:
    """Copy whatever is over in these books so many times, up to the day before that moment."""
    with books(path) as db:
        db.execute("BEGIN IMMEDIATE")
        ((since,),) = db.execute("SELECT max(created_at) FROM hold").fetchall()
        assert isinstance(since, float)
        db.execute("CREATE TEMP TABLE copy (n INTEGER PRIMARY KEY, later REAL)")
        gap = (until - 86_400 - since) / copies
        db.executemany("INSERT INTO copy VALUES (?, ?)", ((n, n * gap) for n in range(1, copies + 1)))
        for table, over in (
            ("job", "state IN ('completed', 'failed', 'expired')"),
            ("hold", "state IN ('settled', 'void') OR (state = 'signed' AND delivered_at IS NOT NULL)"),
        ):
            columns = [(name, kind) for _, name, kind, *_ in db.execute(f"PRAGMA table_info({table})")]
            values = ", ".join(_copied(name, kind) for name, kind in columns)
            db.execute(f"CREATE TEMP TABLE one AS SELECT * FROM main.{table} WHERE {over}")
            db.execute(
                f"INSERT INTO main.{table} SELECT {values} FROM temp.copy CROSS JOIN temp.one ORDER BY n, one.rowid"
            )
            db.execute("DROP TABLE temp.one")
        db.execute("COMMIT")


def _copied(name: str, kind: str) -> str:
    if kind == "REAL" and name not in ("lease_until", "lease_s"):
        return f'one."{name}" + copy.later'
    if name in ("valid_after", "valid_before"):
        return f'one."{name}" + CAST(copy.later AS INTEGER)'
    if name == "nonce":
        return "CASE WHEN nonce = '' THEN '' ELSE printf('0x%08x', n) || substr(nonce, 11) END"
    if name in _NEW:
        return f"CASE WHEN \"{name}\" = '' THEN '' ELSE \"{name}\" || '-' || n END"
    return f'one."{name}"'


@contextmanager
def asked_of_the_books(monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    """Every statement that is put to any ledger meanwhile, with its values."""
    kept: Asked = []
    with monkeypatch.context() as patch:
        for owner, name in ((View, "one"), (View, "all"), (View, "each"), (Transaction, "run")):
            _listen(patch, owner, name, kept)
        yield kept


def _listen(patch: pytest.MonkeyPatch, owner: type, name: str, kept: Asked) -> None:
    plain = getattr(owner, name)

    def listening(self: View, statement: str, values: tuple[object, ...] = ()) -> object:
        kept.append((statement, tuple(values)))
        return plain(self, statement, values) if name != "each" else plain(self, statement)

    patch.setattr(owner, name, listening)


def dear(path: str | Path, asked: Asked, *, most: int = STEPS_MAX) -> list[tuple[int, str]]:
    """Those of the statements that take more steps than that in these books, each once, with the steps."""
    found: dict[str, int] = {}
    with books(path) as db:
        for statement, values in dict.fromkeys(asked):
            steps = _steps(db, statement, values)
            if steps > most:
                found[statement] = max(steps, found.get(statement, 0))
    return sorted(((steps, statement) for statement, steps in found.items()), reverse=True)


def _steps(db: apsw.Connection, statement: str, values: tuple[object, ...]) -> int:
    taken = 0

    def count() -> bool:
        nonlocal taken
        taken += _EVERY
        return False

    db.execute("SAVEPOINT tried")
    db.set_progress_handler(count, _EVERY)
    try:
        with suppress(apsw.ConstraintError):  # it was done once already
            db.execute(statement, values).fetchall()
    finally:
        db.set_progress_handler(None, 0)
        db.execute("ROLLBACK TO tried")
        db.execute("RELEASE tried")
    return taken
