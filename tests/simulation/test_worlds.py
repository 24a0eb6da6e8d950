"""Hundreds of seeded worlds, each judged after every step; one seed is always the same world."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulation.plan import FATES
from tests.simulation.promises import RULES
from tests.simulation.report import Tally
from tests.simulation.verdict import simulate

WORLDS = 200
BATCH = 20


@pytest.mark.parametrize("first", range(0, WORLDS, BATCH))
def test_in_no_simulated_world_is_money_lost_doubled_or_unnamed(first: int, tally: Tally) -> None:
    for seed in range(first, first + BATCH):
        verdict = simulate(seed)
        tally.add(verdict)
        assert not verdict.violations, str(verdict)


def test_these_worlds_had_the_judge_look_at_every_rule(tally: Tally, tell: Callable[[str], None]) -> None:
    """A rule nobody looks at would hold in every world."""
    tell("\n".join(["", "simulated worlds:", *tally.lines()]))
    assert tally.worlds >= WORLDS
    assert {rule for rule in RULES if not tally.asked[rule]} == set()
    assert {*FATES, "overtaken", "power cut", "the seller lies", "a node lies"} <= {
        what for what, _ in tally.faults
    }


@pytest.mark.parametrize("seed", [3, 22, 53])
def test_a_seed_is_always_the_same_world(seed: int) -> None:
    assert simulate(seed).digest == simulate(seed).digest
