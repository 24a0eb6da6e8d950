"""Sellers, and disks that fail, for the tests of what bad luck does to the state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.cli.conftest import _impatient, cli, open_shop
from tests.jobs.stage import OpenStage, Stage, open_stage
from tests.state.disk import Disk, full_disk
from tests.state.walker import MEMORY
from x402_audio.sandbox import FaultRule

__all__ = ["_impatient", "cli", "open_shop"]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """The disk below every ledger of this process."""
    return full_disk(monkeypatch)


@pytest.fixture
def stage() -> Iterator[OpenStage]:
    """Opens sellers on free ports; `credit` is what the wallet has there. In memory, where no sync takes time."""
    with ExitStack() as stack, TemporaryDirectory(dir=MEMORY) as folder:

        def open_one(*rules: FaultRule, **options: Any) -> Stage:
            return stack.enter_context(open_stage(Path(folder), *rules, **options))

        yield open_one
