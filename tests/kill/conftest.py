"""The tracer's library, built once a run. Linux only: elsewhere there is no LD_PRELOAD and no /proc to read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.kill.tracer import build_shim

collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shim(Path(__file__).with_name("shim.c"), tmp_path_factory.mktemp("shim"))
