"""Stages, opened and closed; after every test the books of each shopper are proven."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.stage import OpenStage, Stage, open_stage
from x402_audio.sandbox import FaultRule


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[OpenStage]:
    """Opens sellers on free ports; `credit` is what the wallet has there."""
    with ExitStack() as stack:

        def open_one(*rules: FaultRule, **options: Any) -> Stage:
            return stack.enter_context(open_stage(tmp_path, *rules, **options))

        yield open_one
