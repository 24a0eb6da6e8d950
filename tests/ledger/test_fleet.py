"""Eight real processes on one ledger, three of them killed, the clock moving over a window's edge."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ledger.desk import NOON, limit
from tests.ledger.spender import CENT, LIMITS, ROOM, FileClock, one_cent
from x402_audio.clock import system_random
from x402_audio.errors import BudgetExceeded
from x402_audio.ledger.sqlite import SqliteLedger

EDGES = {50: 301, 70: 86_700}
"""After so many payments the clock shows so many seconds more: the next bucket, then the first one's end."""
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """The file every process reads the time from."""
    clock = tmp_path / "clock"
    clock.write_text(str(NOON))
    return clock


@pytest.fixture
def shared(tmp_path: Path, told: Path) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(tmp_path / "ledger.db", clock=FileClock(told), random=system_random)
    yield ledger
    ledger.close()


def in_use(ledger: SqliteLedger) -> int:
    """Cents live, settled or presumed that lie within the day's buckets, by the holds themselves."""
    first = (ledger.now() - 86_400) // 300 * 300
    return sum(
        hold.amount // CENT
        for hold in ledger.holds()
        if hold.state in ("reserved", "signed") or (hold.counted_at is not None and hold.counted_at >= first)
    )


def test_a_fleet_spends_its_room_exactly_and_never_more(shared: SqliteLedger, told: Path) -> None:
    reading, writing = os.pipe()
    fleet = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.ledger.spender", shared.path, str(told), str(seed)],
            stdout=writing,
            cwd=ROOT,
        )
        for seed in range(8)
    ]
    os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as payments:
        left = 0
        while payments.read(1):
            left += 1
            if left in (20, 40, 60):
                fleet[left // 20].kill()
            if left in EDGES:
                moved = told.with_name("clock.new")
                moved.write_text(str(NOON + EDGES[left]))
                moved.rename(told)
    codes = [one.wait(60) for one in fleet]
    assert codes.count(-9) == 3
    assert codes.count(0) == 5
    assert left > ROOM

    while True:  # what a killed process freed and did not use again
        try:
            shared.reserve(one_cent("direct", "b"), LIMITS)
        except BudgetExceeded:
            break
    assert in_use(shared) == ROOM
    (day,) = shared.allowances([limit("jobs", "day", ROOM)])
    assert (day.spent + day.held, day.left) == (CENT * ROOM, 0)
    assert shared.verify() == []
