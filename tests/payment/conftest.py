"""Tills, synchronous and not, on a clock that moves only when the auth waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.payment.till import Buyer, Till, WaitingClock, WaitingLoop


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> WaitingClock:
    """The one clock; the auth's drivers wait on it."""
    clock = WaitingClock()
    monkeypatch.setattr("x402_audio.payment.auth.time", clock)
    monkeypatch.setattr("x402_audio.payment.auth.asyncio", WaitingLoop(clock))
    return clock


@pytest.fixture(params=["sync", "async"])
def buyer(request: pytest.FixtureRequest) -> Buyer:
    return Buyer(awaited=request.param == "async")


@pytest.fixture
def open_till(tmp_path: Path, clock: WaitingClock, buyer: Buyer) -> Iterator[Callable[..., Till]]:
    """Opens sellers; after the test each ledger must prove sound."""
    with ExitStack() as stack:

        def open_one(mode: str, **options: Any) -> Till:
            return stack.enter_context(Till(tmp_path, clock, buyer, mode=mode, **options))

        yield open_one
