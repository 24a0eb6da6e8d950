"""A loop that has something else to do: what a flow leaves to a thread there, it does at once where it is alone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_beside_another(work: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, with another task that waits meanwhile."""
    return asyncio.run(_beside(work))


async def _beside(work: Coroutine[Any, Any, T]) -> T:
    other = asyncio.ensure_future(asyncio.Event().wait())
    try:
        return await work
    finally:
        other.cancel()
