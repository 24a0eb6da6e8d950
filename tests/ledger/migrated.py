"""Stands in for a program of another version: the steps of this one, and one that a later version might take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.books import books
from x402_audio.ledger import schema

NOW = schema.SCHEMA_VERSION
LATER = NOW + 1
STEPS = {
    **schema.MIGRATIONS,
    LATER: "CREATE TABLE later (id TEXT PRIMARY KEY, why TEXT NOT NULL) WITHOUT ROWID;\n"
    "CREATE TRIGGER later_stays BEFORE DELETE ON later\n"
    "BEGIN SELECT RAISE(ABORT, 'kept; always'); END;\n"
    "-- a note; with a semicolon\nALTER TABLE later ADD COLUMN at REAL NOT NULL DEFAULT 0;\n"
    "INSERT INTO later VALUES ('old', 'from before', 1.5);\n",
}


def as_version(version: int, patch: pytest.MonkeyPatch | None = None) -> None:
    """Make this process a program of that version."""
    steps: Any = {number: STEPS[number] for number in range(2, version + 1)}
    set_it = patch.setattr if patch else setattr
    set_it(schema, "MIGRATIONS", steps)
    set_it(schema, "SCHEMA_VERSION", version)


def old_ledger(path: Path) -> Path:
    """A ledger as version 0.1.0 wrote it."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.touch(0o600)
    with books(path) as connection:
        connection.execute((Path(__file__).parent.parent / "data" / "ledger-v1.sql").read_text()).fetchall()
    return path
