"""The simulation's own lines at the end of the tests' output: what was lived through, and which mutants were killed."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import MUTANTS
from tests.simulation.report import Tally

TALLY = pytest.StashKey[Tally]()
KILLED = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Tally:
    """Counts every world the tests live through."""
    return pytestconfig.stash.setdefault(TALLY, Tally())


@pytest.fixture(scope="session")
def killed(pytestconfig: pytest.Config) -> list[str]:
    """One line for each mutant that was found out."""
    return pytestconfig.stash.setdefault(KILLED, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    tally, killed = config.stash.get(TALLY, None), config.stash.get(KILLED, None)
    if tally is not None:
        terminalreporter.section("simulated worlds")
        for line in tally.lines():
            terminalreporter.write_line(line)
    if killed is not None:
        terminalreporter.section("mutants of the simulation")
        for line in killed:
            terminalreporter.write_line(line)
        left = sorted(set(MUTANTS) - {line.removeprefix("killed: ").partition(" (")[0] for line in killed})
        terminalreporter.write_line(
            f"not killed: {', '.join(left)}" if left else f"all {len(killed)} mutants killed"
        )
