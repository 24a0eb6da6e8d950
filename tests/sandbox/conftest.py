"""Sellers on free ports, with a clock that stands still until it is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from tests.sandbox.customer import OpenShop, Shop, SteppingClock
from x402_audio.sandbox import SandboxSeller, SandboxServer


@pytest.fixture
def open_shop() -> Iterator[OpenShop]:
    """Opens sellers on free ports, with a clock that stands still, and closes them."""
    with ExitStack() as stack:

        def open_one(**options: Any) -> Shop:
            clock = SteppingClock()
            server = stack.enter_context(SandboxServer(SandboxSeller(clock=clock, **options)))
            http = stack.enter_context(httpx.Client(base_url=server.api_url, trust_env=False, timeout=10))
            return Shop(server, clock, http)

        yield open_one
