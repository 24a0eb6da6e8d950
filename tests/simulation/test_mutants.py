"""The test of the test: with one rule of the product undone, the same worlds are no longer clean, and the judge says why."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import pytest

from tests.simulation.mutants import MUTANTS, seeds_about
from tests.simulation.verdict import simulate

SEEDS = 40
"""How many worlds a mutant is given to be found in."""


@pytest.mark.parametrize("name", MUTANTS)
def test_the_simulation_finds_out(name: str, killed: dict[str, str]) -> None:
    for number, seed in enumerate(islice(seeds_about(name), SEEDS), start=1):
        verdict = simulate(seed, name)
        broken = verdict.rules & set(MUTANTS[name].rules)
        if broken:
            killed[name] = f"world {number}, seed {seed}, {' '.join(sorted(broken))}"
            return
    raise AssertionError(f"{name}: {SEEDS} worlds did not notice")


def test_all_mutants_are_killed(killed: dict[str, str], tell: Callable[[str], None]) -> None:
    lines = [f"killed: {name} ({where})" for name, where in killed.items()]
    left = [f"NOT killed: {name}" for name in MUTANTS if name not in killed]
    tell(
        "\n".join(
            ["", "mutants of the simulation:", *lines, *left, *([] if left else ["all mutants killed"])]
        )
    )
    assert not left
