"""Waiting shared by the processes of a machine: rates, requests in flight, errors."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.books import books
from tests.ledger.desk import ORIGIN, WALLET, SteppedClock, counted_random
from x402_audio.ledger.rates import Rates

OTHER = "0x" + "77" * 20


@pytest.fixture
def rates(path: Path, clock: SteppedClock) -> Rates:
    path.parent.mkdir(mode=0o700)
    return Rates(path, clock, counted_random())


def test_tickets_come_at_their_rate_after_the_burst(rates: Rates, path: Path, clock: SteppedClock) -> None:
    other = Rates(path, clock)
    waits = [one.take(WALLET, ORIGIN, 60, 2) for one in (rates, other, rates, other)]
    assert waits == [0.0, 0.0, 1.0, 2.0]
    clock.at += 10
    assert [rates.take(WALLET, ORIGIN, 60, 1) for _ in range(2)] == [0.0, 1.0]
    assert rates.take(OTHER, ORIGIN, 60, 1) == 0.0
    assert rates.take(WALLET, "another route", 60, 1) == 0.0


def test_pushed_back_means_everybody(rates: Rates, path: Path, clock: SteppedClock) -> None:
    Rates(path, clock).push_back(WALLET, ORIGIN, 30)
    assert rates.take(WALLET, ORIGIN, 60, 5) == 30.0
    clock.at += 31
    assert rates.take(WALLET, ORIGIN, 60, 5) == 0.0


def test_a_clock_that_was_wrong_blocks_nobody_for_ever(rates: Rates, clock: SteppedClock) -> None:
    clock.at += 10**7
    rates.take(WALLET, ORIGIN, 60, 1)
    rates.push_back(WALLET, ORIGIN, 10**6)
    rates.slot(WALLET, 1, 60)
    clock.at -= 10**7
    assert rates.take(WALLET, ORIGIN, 60, 1) <= 3_600
    assert rates.slot(WALLET, 1, 60) is not None


def test_so_many_requests_are_in_flight_and_no_more(rates: Rates, clock: SteppedClock) -> None:
    tokens = [rates.slot(WALLET, 2, 60) for _ in range(3)]
    assert [one is None for one in tokens] == [False, False, True]
    assert rates.slot(OTHER, 2, 60) is not None
    assert tokens[0] is not None
    rates.release(tokens[0])
    assert rates.slot(WALLET, 2, 60) is not None
    clock.at += 61
    assert rates.slot(WALLET, 1, 60) is not None


def test_the_place_of_a_dead_process_is_free(rates: Rates, path: Path) -> None:
    code = (
        "import sys; from x402_audio.clock import SystemClock; from x402_audio.ledger.rates import Rates\n"
        "class Clock(SystemClock):\n    def now(self): return float(sys.argv[3])\n"
        "assert Rates(sys.argv[1], Clock()).slot(sys.argv[2], 1, 600)\n"
    )
    root = str(Path(__file__).parent.parent.parent)
    subprocess.run(
        [sys.executable, "-c", code, str(path), WALLET, str(SteppedClock().at)], check=True, cwd=root
    )
    assert rates.slot(WALLET, 1, 60) is not None


def test_ten_failed_calls_in_half_a_minute_make_everybody_wait(rates: Rates, clock: SteppedClock) -> None:
    for _ in range(10):
        assert rates.error_budget_wait(WALLET) == 0.0
        rates.note_error(WALLET)
        clock.at += 1
    assert rates.error_budget_wait(WALLET) == 20.0
    assert rates.error_budget_wait(OTHER) == 0.0
    clock.at += 21
    assert rates.error_budget_wait(WALLET) == 0.0


def test_a_broken_file_is_made_again(rates: Rates) -> None:
    rates.take(WALLET, ORIGIN, 60, 1)
    Path(rates.path).write_bytes(b"rubbish" * 1_000)
    assert rates.take(WALLET, ORIGIN, 60, 1) == 0.0
    assert rates.take(WALLET, ORIGIN, 60, 1) == 1.0
    assert stat.S_IMODE(Path(rates.path).stat().st_mode) == 0o600


def test_a_busy_file_means_a_short_wait_and_no_error(rates: Rates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("x402_audio.ledger.rates.BUSY_S", 0.01)
    rates.take(WALLET, ORIGIN, 60, 1)
    with books(rates.path) as other:
        other.execute("BEGIN IMMEDIATE")
        assert rates.take(WALLET, ORIGIN, 60, 1) == 1.0
        assert rates.slot(WALLET) is None
        rates.release("token")
        rates.note_error(WALLET)
        rates.push_back(WALLET, ORIGIN, 9)
        assert rates.error_budget_wait(WALLET) == 1.0
