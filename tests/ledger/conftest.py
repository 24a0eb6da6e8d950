"""A ledger in a folder of its own, on a clock that stands still."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ledger.desk import SteppedClock, counted_random
from x402_audio.ledger.sqlite import SqliteLedger


@pytest.fixture
def clock() -> SteppedClock:
    """The ledger's clock."""
    return SteppedClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger is."""
    return tmp_path / "state" / "ledger.db"


@pytest.fixture
def ledger(path: Path, clock: SteppedClock) -> Iterator[SqliteLedger]:
    """A new ledger; whatever a test did with it, its proof must be clean."""
    kept = SqliteLedger(path, clock=clock, random=counted_random())
    yield kept
    assert kept.verify() == []
    kept.close()
