"""How long an answer's head may take on our own clients: a server that drips header bytes keeps within every time-out.

httpx times single reads, not their sum, and has no public place for a network stream of one's own; so the pools of a
client we made ourselves are given one. A user's client is never touched. Knows nothing of what is asked.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any

import httpcore
import httpx

from x402_audio.flow import HEAD_TOTAL_S


class TimedStream(httpcore.NetworkStream):
    """A connection whose reads after a write are over in time, until the head of the answer has come."""

    def __init__(self, inner: httpcore.NetworkStream, monotonic: Callable[[], float]) -> None:
        self._inner = inner
        self._monotonic = monotonic
        self._end: float | None = None

    def head_came(self) -> None:
        """The body has bounds of its own."""
        self._end = None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._end is not None:
            left = self._end - self._monotonic()
            if left <= 0:
                raise httpcore.ReadTimeout("the answer's head drips")
            timeout = left if timeout is None else min(timeout, left)
        return self._inner.read(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)
        self._end = self._monotonic() + HEAD_TOTAL_S

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return TimedStream(self._inner.start_tls(ssl_context, server_hostname, timeout), self._monotonic)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class TimedBackend(httpcore.NetworkBackend):
    """Opens such connections."""

    def __init__(self, inner: httpcore.NetworkBackend, monotonic: Callable[[], float]) -> None:
        self._inner = inner
        self._monotonic = monotonic

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        return TimedStream(stream, self._monotonic)

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


def patient(http: httpx.Client, monotonic: Callable[[], float] = time.monotonic) -> httpx.Client:
    """The same client, its proxies' pools included, on connections that bound the head of an answer."""
    for transport in (getattr(http, "_transport", None), *getattr(http, "_mounts", {}).values()):
        pool = getattr(transport, "_pool", None)
        inner = getattr(pool, "_network_backend", None)
        if pool is not None and isinstance(inner, httpcore.NetworkBackend):
            pool._network_backend = TimedBackend(inner, monotonic)
    return http
