"""The tracer's library, built once a run. Linux only: elsewhere there is no LD_PRELOAD and no /proc to read."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kill.preloaded import Preloaded
from tests.kill.tracer import build_shim

AT_ONCE = 6
"""Purchases at a time: one that goes on after a kill mostly waits until it may ask for its balance again."""

collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--points", default="", help="kill only at these: pytest tests/kill --points 84,91 -k topup"
    )


@pytest.fixture(scope="session")
def only_points(pytestconfig: pytest.Config) -> frozenset[int]:
    """The points to replay; none named means all of them. Known only when pytest is started on this folder."""
    words = str(pytestconfig.getoption("--points", default=""))
    return frozenset(int(word) for word in words.split(",") if word)


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shim(Path(__file__).with_name("shim.c"), tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="session")
def preloaded(shim: Path) -> Iterator[Sequence[Preloaded]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Preloaded(shim)) for _ in range(AT_ONCE)]
