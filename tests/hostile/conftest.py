"""Tills and stages for the hard lessons, on clocks that move only when somebody waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.stage import OpenStage, Stage, open_stage
from tests.payment.till import Buyer, Till, WaitingClock, WaitingLoop
from x402_audio.sandbox import FaultRule


@pytest.fixture
def open_till(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Till]]:
    """Opens sellers that take payment on the spot; after the test each ledger must prove sound."""
    clock = WaitingClock()
    monkeypatch.setattr("x402_audio.payment.auth.time", clock)
    monkeypatch.setattr("x402_audio.payment.auth.asyncio", WaitingLoop(clock))
    with ExitStack() as stack:

        def open_one(mode: str, *, awaited: bool = False, **options: Any) -> Till:
            return stack.enter_context(Till(tmp_path, clock, Buyer(awaited=awaited), mode=mode, **options))

        yield open_one


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[OpenStage]:
    """Opens sellers with prepaid credit."""
    with ExitStack() as stack:

        def open_one(*rules: FaultRule, **options: Any) -> Stage:
            return stack.enter_context(open_stage(tmp_path, *rules, **options))

        yield open_one
