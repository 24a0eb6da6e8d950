"""Eight programs, one ledger, room for 100 payments of two prices, three killed on the way, an hour's edge crossed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import cast

from tests.payment.fleet import CHEAP, DEAR, ROOM, ShiftedClock
from x402_audio.clock import system_random
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.sandbox import Limits, SandboxSeller, SandboxServer

LEASE_OVER_S = 150
BEFORE_THE_EDGE_S, PAST_THE_EDGE_S = 50, 80
"""How long before the hour's end the first four begin, and how far the clock is moved before the others do."""
FIRST_TAKES = 4
"""How many takes each program makes for itself: eight times four leave room to quarrel about, of either price."""


def start(server: SandboxServer, books: Path, key: str, number: int, take: int) -> subprocess.Popen[str]:
    words = [server.api_url, str(books), key, str(number), str(take)]
    program = str(Path(__file__).with_name("fleet.py"))
    return subprocess.Popen(
        [sys.executable, program, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip


def go(clock: ShiftedClock, *programs: subprocess.Popen[str], takes: int) -> None:
    """Let programs make so many takes by the clock as it stands now."""
    for program in programs:
        assert program.stdin is not None
        program.stdin.write(f"{clock.ahead} {takes}\n")
        program.stdin.flush()


def ready(program: subprocess.Popen[str]) -> subprocess.Popen[str]:
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    return program


def killed_after(program: subprocess.Popen[str], takes: int) -> int:
    """Kill a program as soon as it printed so many takes; the take it was at."""
    assert program.stdout is not None
    done = [program.stdout.readline() for _ in range(takes)]
    program.send_signal(signal.SIGKILL)
    rest = program.stdout.read()  # `communicate` would pass over what was read ahead
    program.communicate()
    return len(done) + len(rest.split())


def test_eight_processes_make_exactly_the_hundred_payments_there_is_room_for(tmp_path: Path) -> None:
    """An hour by the clock ends while they spend: a rolling window gives nothing back for that."""
    key, books = os.urandom(32).hex(), tmp_path / "state" / "ledger.db"
    clock = ShiftedClock(0)
    seller = SandboxSeller(mode="direct-v2", clock=clock, limits=Limits.off())
    with SandboxServer(seller) as server:
        programs = {number: start(server, books, key, number, 0) for number in range(8)}
        early, late = ([ready(programs[number]) for number in group] for group in (range(4), range(4, 8)))
        clock.ahead = 3600 - time.time() % 3600 - BEFORE_THE_EDGE_S
        go(clock, *early, takes=FIRST_TAKES)
        stopped = {1: killed_after(programs[1], takes=2)}
        clock.ahead += PAST_THE_EDGE_S
        go(clock, *late, takes=FIRST_TAKES)
        stopped |= {number: killed_after(programs[number], takes=2) for number in (4, 6)}
        left = [programs[number] for number in (0, 2, 3, 5, 7)]
        go(clock, *left, takes=100)
        for program in left:
            out, err = program.communicate(timeout=120)
            assert program.returncode == 0, (out, err)
        clock.ahead += LEASE_OVER_S
        for number, take in stopped.items():
            successor = ready(start(server, books, key, number, take))
            go(clock, successor, takes=100)
            out, err = successor.communicate(timeout=60)
            assert successor.returncode == 0, (out, err)
        payments = cast(list[dict[str, object]], seller.books()["payments"])
    ledger = SqliteLedger(books, clock=clock, random=system_random)
    by_price = Counter(payment["value"] for payment in payments)
    assert by_price == {int(CHEAP): ROOM["cheap"], int(DEAR): ROOM["dear"]}
    assert len({payment["nonce"] for payment in payments}) == 100
    states = Counter(hold.state for hold in ledger.holds())
    assert (states["settled"], states["reserved"], states["signed"]) == (100, 0, 0)
    assert len({int(hold.created_at // 3600) for hold in ledger.holds()}) == 2
    assert ledger.verify() == []
