"""A paid answer's body on its way to its reader: told as delivered when it has come, not when its head has.

A body that breaks was not delivered, so an equal request after it is no new purchase. A short one is taken in at once:
then one commit books that it was paid and that it came, and one that breaks is asked for again. Its reader still finds
a stream. Knows no payment: what is told, and to whom, is the caller's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Final, cast

import httpx

from x402_audio.errors import LedgerError
from x402_audio.flow import Whole, in_thread

SHORT_BYTES: Final = 64 * 1024
"""A body of so many bytes by its own header is no stream anybody waits for."""


def has_come(response: httpx.Response) -> bool:
    """Whether its body was read or taken in already."""
    return hasattr(response, "_content") or isinstance(response.stream, Whole)


def is_short(response: httpx.Response) -> bool:
    """Whether its head promises a short body, and nobody has read it."""
    if has_come(response):
        return False
    length = response.headers.get("content-length", "")
    return length.isascii() and length.isdigit() and len(length) <= 6 and int(length) <= SHORT_BYTES


def watch(response: httpx.Response, came: Callable[[], object]) -> None:
    """Call `came` once, when the body's reader is done with it; never when it broke."""
    response.stream = _Watched(response.stream, came)


class _Watched(httpx.SyncByteStream, httpx.AsyncByteStream):
    """The same bytes. A reader who leaves early by its own will has what it wanted."""

    def __init__(self, inner: object, came: Callable[[], object]) -> None:
        self._inner = inner
        self._came = came
        self._broke = self._told = False

    def __iter__(self) -> Iterator[bytes]:
        whole = False
        try:
            yield from cast(httpx.SyncByteStream, self._inner)
            whole = True
        except GeneratorExit:
            whole = True
            raise
        finally:
            self._broke = not whole

    async def __aiter__(self) -> AsyncIterator[bytes]:
        whole = False
        try:
            async for piece in cast(httpx.AsyncByteStream, self._inner):
                yield piece
            whole = True
        except GeneratorExit:
            whole = True
            raise
        finally:
            self._broke = not whole

    def close(self) -> None:
        cast(httpx.SyncByteStream, self._inner).close()
        if not (self._broke or self._told):
            self._tell()

    async def aclose(self) -> None:
        await cast(httpx.AsyncByteStream, self._inner).aclose()
        if not (self._broke or self._told):
            await in_thread(self._tell)

    def _tell(self) -> None:
        self._told = True
        with suppress(
            LedgerError
        ):  # the reader has what it paid for; untold, an equal request buys nothing twice
            self._came()
