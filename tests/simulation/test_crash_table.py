"""`docs/crash-table.md` has no bad cell, and its cells are what the same worlds give today."""

from __future__ import annotations

from functools import cache

import pytest

from tests.simulation.cells import FAULTS, PAYMENTS, cell, walk
from tests.simulation.misfortune import KILLS
from tests.simulation.table import CODES, TABLE, code, read_table, record_in

EVERY = 31
"""Of each walk's cells so many are lived through again."""
GOOD = {*CODES.values(), "·"}


@cache
def _written() -> dict[tuple[str, str, str, str], str]:
    return read_table(TABLE.read_text())


def test_the_table_shows_every_kind_of_payment_and_every_misfortune() -> None:
    payments = {payment for payment, *_ in _written()}
    misfortunes = {misfortune for *_, misfortune in _written()}
    assert (payments, misfortunes) == ({*PAYMENTS}, {*KILLS, *FAULTS})


def test_no_cell_of_the_table_loses_or_doubles_money() -> None:
    assert {key: codes for key, codes in _written().items() if not set(codes.split()) <= GOOD} == {}


def test_a_program_that_holds_the_job_itself_always_ends_with_the_track() -> None:
    """Nothing, or paid and no answer, is an end only where the job is a stranger's."""
    ours = {key: codes for key, codes in _written().items() if not key[0].startswith("X402Auth")}
    assert {key: codes for key, codes in ours.items() if not set(codes.split()) <= {"D1", "D1T", "·"}} == {}


def test_the_last_long_run_is_recorded_and_was_clean() -> None:
    command, worlds, *_ = record_in(TABLE.read_text())
    assert command.startswith("scripts/simulate")
    assert worlds.endswith("worlds, 0 of them wrong")


@pytest.mark.parametrize("payment", PAYMENTS)
def test_the_same_worlds_give_the_same_cells_today(payment: str) -> None:
    """When this fails because a flow has changed: look at what changed, then `scripts/simulate --table`."""
    asked = [
        (point, misfortune)
        for point in walk(payment)
        for misfortune in (*KILLS, *(FAULTS if point.sends else ()))
    ]
    for point, misfortune in asked[len(payment) % EVERY :: EVERY]:
        found = cell(payment, point, misfortune)
        if found is not None:
            key = (payment, point.books, point.asks, misfortune)
            assert code(found) in _written().get(key, "").split(), (key, found)
