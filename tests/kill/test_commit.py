"""A program killed at any point of one commit, also between the sync of its log and the return of COMMIT.

The log is synced first and the memory that programs share is told after: who dies between the two has committed for those
who come when nobody is left, and not for those who had the ledger open. Either way nothing is half there.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kill.tracer import Run, Step, run
from tests.ledger.desk import SteppedClock, wish
from tests.ledger.dying import nonce_of
from x402_audio.clock import system_random
from x402_audio.ledger.sqlite import SqliteLedger

COMMAND = """
import sys
from tests.ledger.desk import SteppedClock, wish
from tests.ledger.dying import nonce_of
from x402_audio.clock import system_random
from x402_audio.ledger.sqlite import SqliteLedger
ledger = SqliteLedger(sys.argv[1], clock=SteppedClock(), random=system_random)
for purchase in ("one", "two"):
    ledger.reserve(wish(1, purchase=purchase, nonce=nonce_of(purchase)), [])
    print(purchase, flush=True)
hold = next(hold for hold in ledger.holds() if hold.purchase == "one")
ledger.settle(ledger.depart(hold.id, b"header").id, evidence="receipt")
print("settled", flush=True)
ledger.close()
"""
ROOT = Path(__file__).parents[2]


def open_ledger(folder: Path) -> SqliteLedger:
    return SqliteLedger(folder / "ledger.db", clock=SteppedClock(), random=system_random)


def walk(shim: Path, folder: Path, kill: tuple[int, str] | None = None) -> Run:
    command = [sys.executable, "-c", COMMAND, str(folder / "ledger.db")]
    return run(command, folder=folder, environment={"PYTHONPATH": str(ROOT)}, shim=shim, kill=kill)


@pytest.fixture(params=["alone", "beside another"])
def folders(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Iterator[Path]]:
    """New ledgers, each in a folder of its own; perhaps another program has it open all the while."""
    with ExitStack() as others:

        def new() -> Iterator[Path]:
            for number in range(10**6):
                folder = tmp_path / f"{number}"
                folder.mkdir(mode=0o700)
                ledger = open_ledger(folder)
                if request.param == "alone":
                    ledger.close()
                else:
                    others.callback(ledger.close)
                    ledger.now()
                yield folder

        yield new()


def points(steps: tuple[Step, ...]) -> list[tuple[int, str]]:
    return [(step.point, step.when) for step in steps if step.point]


def test_a_program_killed_at_any_point_of_its_commits_leaves_each_whole(
    shim: Path, folders: Iterator[Path]
) -> None:
    done = walk(shim, next(folders))
    assert done.exit_code == 0, done.stderr
    assert sum(step.kind == "commit" and step.when == "after" for step in done.steps) >= 4
    for point in points(done.steps):
        folder = next(folders)
        killed = walk(shim, folder, point)
        assert killed.exit_code == -signal.SIGKILL, (point, killed.stderr)
        told = killed.stdout.split()
        ledger = open_ledger(folder)
        kept = {hold.purchase: hold.state for hold in ledger.holds()}
        assert ledger.verify() == [], point
        assert {*told} - {"settled"} <= {*kept}, (point, "what was said to be committed is")
        assert "settled" not in told or kept["one"] == "settled", point
        for purchase in ("one", "two"):
            if kept.get(purchase) != "settled":
                same = ledger.reserve(wish(1, purchase=purchase, nonce=nonce_of(purchase)), [])
                assert same.adopted == (purchase in kept), point
        assert sorted(hold.purchase for hold in ledger.holds()) == ["one", "two"], point
        assert ledger.verify() == [], point
        ledger.close()


def test_a_commit_whose_log_is_synced_is_one_for_whoever_comes_next(shim: Path, tmp_path: Path) -> None:
    folder = tmp_path / "0"
    folder.mkdir(mode=0o700)
    open_ledger(folder).close()
    done = walk(shim, folder)
    synced = next(step for step in done.steps if (step.kind, step.when) == ("commit", "after"))
    commits = [step.point for step in done.steps if step.kind == "commit" and step.when == "after"]
    assert synced.subject == "ledger.db-wal"
    for number, point in enumerate(commits[:3]):
        folder = tmp_path / f"killed-{number}"
        folder.mkdir(mode=0o700)
        open_ledger(folder).close()
        killed = walk(shim, folder, (point, "after"))
        assert killed.exit_code == -signal.SIGKILL
        ledger = open_ledger(folder)
        # The first sync is of the log's head alone, the next ones of a commit each.
        assert [hold.purchase for hold in ledger.holds()] == ["one", "two"][:number]
        assert killed.stdout.split() == ["one", "two"][: max(0, number - 1)], "COMMIT had not returned"
        assert ledger.verify() == []
        ledger.close()
