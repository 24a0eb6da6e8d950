"""The stages of other rooms, and an owner who sits at a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.cli.conftest import _impatient, cli, open_shop
from tests.jobs.conftest import stage
from tests.ledger.conftest import clock, ledger, path
from tests.owner.screen import Owner

__all__ = ["_impatient", "cli", "clock", "ledger", "open_shop", "path", "stage"]


@pytest.fixture
def owner() -> Iterator[Owner]:
    """Runs commands at pseudo-terminals."""
    with ExitStack() as stack:
        yield Owner(stack)
