"""Where the worlds of a file's tests are counted, so that its last test can tell of all of them."""

from __future__ import annotations

import pytest

from tests.simulation.report import Tally


@pytest.fixture(scope="module")
def tally() -> Tally:
    """Counts every world the tests live through."""
    return Tally()


@pytest.fixture(scope="module")
def killed() -> dict[str, str]:
    """Each mutant that was found out, and where."""
    return {}
