"""Flows: a generator asks for steps and never does I/O itself; two short drivers do it, sync and async.

A flow may ask to `Send` a request, read a `Chunk` of a streamed answer, `Close` it, `Call` a blocking function
(ledger, signer, disk, chain; async runs it in a thread) or `Sleep`. Transport failures are thrown into the flow.
No flow yields inside `finally`: a cancelled flow must be honest without another step.
Knows nothing of money; only here and in `payment/auth.py` is a request really handed to a transport.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from traceback import clear_frames
from typing import Any, Generic, Protocol, TypeVar, cast

import httpx

T = TypeVar("T")

ANSWER_BYTES_MAX = 4 * 1024 * 1024
"""An answer that is not audio may be this long (the model list is the longest)."""


@dataclass(frozen=True, slots=True)
class Send:
    """Hand a request over; the body is read (bounded) unless `stream`."""

    request: httpx.Request
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next bytes of a streamed answer, `b""` at its end."""

    response: httpx.Response


@dataclass(frozen=True, slots=True)
class Close:
    """Give a streamed answer's connection back."""

    response: httpx.Response


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """Run a blocking function to its end; it is never abandoned half way."""

    function: Callable[[], T]


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait; seconds."""

    seconds: float


Step = Send | Chunk | Close | Call[Any] | Sleep
Flow = Generator[Step, Any, T]


class AnswerTooLong(httpx.TransportError):
    """The seller's answer is longer than any honest one; reading stopped."""


def send(request: httpx.Request, *, stream: bool = False) -> Flow[httpx.Response]:
    return cast(httpx.Response, (yield Send(request, stream)))


def chunk(response: httpx.Response) -> Flow[bytes]:
    return cast(bytes, (yield Chunk(response)))


def close(response: httpx.Response) -> Flow[None]:
    yield Close(response)


def call(function: Callable[[], T]) -> Flow[T]:
    return cast(T, (yield Call(function)))


def sleep(seconds: float) -> Flow[None]:
    if seconds > 0:
        yield Sleep(seconds)


class Sleeper(Protocol):
    def __call__(self, seconds: float, /) -> None: ...


def run(flow: Flow[T], http: httpx.Client, wait: Sleeper) -> T:
    """Drive a flow on a plain client. Exceptions of a step are thrown into the flow."""
    streams: dict[int, Iterator[bytes]] = {}
    before = sys.exception()
    try:
        step = next(flow)
        while True:
            step = _after(flow, step, http, streams, wait)
    except StopIteration as stop:
        return cast(T, stop.value)
    except BaseException as error:
        forget_locals(error, before)
        raise
    finally:
        flow.close()


def _after(
    flow: Flow[T], step: Step, http: httpx.Client, streams: dict[int, Iterator[bytes]], wait: Sleeper
) -> Step:
    """Do one step and ask the flow for the next. A frame of its own: what a step gave may be secret."""
    try:
        result = _do(step, http, streams, wait)
    except Exception as error:
        return flow.throw(error)
    return flow.send(result)


def _do(step: Step, http: httpx.Client, streams: dict[int, Iterator[bytes]], wait: Sleeper) -> object:
    match step:
        case Send(request, stream):
            response = http.send(request, stream=True, follow_redirects=False)
            if stream:
                streams[id(response)] = response.iter_bytes(64 * 1024)
            else:
                read_bounded(response)
            return response
        case Chunk(response):
            return next(streams[id(response)], b"")
        case Close(response):
            streams.pop(id(response), None)
            response.close()
            return None
        case Call(function):
            return function()
        case Sleep(seconds):
            wait(seconds)
            return None


async def run_async(flow: Flow[T], http: httpx.AsyncClient) -> T:
    """The same flow on an asynchronous client; blocking calls run in a thread and are waited for."""
    streams: dict[int, AsyncIterator[bytes]] = {}
    before = sys.exception()
    try:
        step = next(flow)
        while True:
            step = (await _outcome_async(flow, step, http, streams))()
    except StopIteration as stop:
        return cast(T, stop.value)
    except BaseException as error:
        forget_locals(error, before)
        raise
    finally:
        flow.close()


async def _outcome_async(
    flow: Flow[T], step: Step, http: httpx.AsyncClient, streams: dict[int, AsyncIterator[bytes]]
) -> Callable[[], Step]:
    """Do one step; what comes back asks the flow for the next (a coroutine must not end by the flow's StopIteration)."""
    try:
        result = await _do_async(step, http, streams)
    except Exception as error:
        return partial(flow.throw, error)
    return partial(flow.send, result)


async def _do_async(step: Step, http: httpx.AsyncClient, streams: dict[int, AsyncIterator[bytes]]) -> object:
    match step:
        case Send(request, stream):
            response = await http.send(request, stream=True, follow_redirects=False)
            if stream:
                streams[id(response)] = response.aiter_bytes(64 * 1024)
            else:
                await read_bounded_async(response)
            return response
        case Chunk(response):
            return await anext(streams[id(response)], b"")
        case Close(response):
            streams.pop(id(response), None)
            await response.aclose()
            return None
        case Call(function):
            return await in_thread(function)
        case Sleep(seconds):
            await asyncio.sleep(seconds)
            return None


async def in_thread(function: Callable[[], T]) -> T:
    """Run a blocking call in a thread; a cancelled task still waits for it, so that books are never half known."""
    work = asyncio.ensure_future(asyncio.to_thread(function))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


def forget_locals(error: BaseException, before: BaseException | None = None) -> None:
    """Empty the ended frames of an error and of the errors behind it: a report with locals must show no header.

    before: what was being handled when the work began; it is not ours, nor is what stands behind it.
    """
    seen, waiting = {id(before)}, [error]
    while waiting:
        each = waiting.pop()
        if id(each) not in seen:
            seen.add(id(each))
            clear_frames(each.__traceback__)
            waiting += [behind for behind in (each.__cause__, each.__context__) if behind is not None]


def read_bounded(response: httpx.Response, bytes_max: int = ANSWER_BYTES_MAX) -> None:
    """Read a body into the response, closing it; raises `AnswerTooLong` past the bound."""
    parts: list[bytes] = []
    size = 0
    try:
        for part in response.iter_bytes():
            size += len(part)
            if size > bytes_max:
                raise AnswerTooLong(f"an answer longer than {bytes_max} bytes")
            parts.append(part)
    finally:
        response.close()
        response._content = b"".join(
            parts
        )  # of a broken answer what came: whoever reads it again must not fail on that


async def read_bounded_async(response: httpx.Response, bytes_max: int = ANSWER_BYTES_MAX) -> None:
    """As `read_bounded`, awaited."""
    parts: list[bytes] = []
    size = 0
    try:
        async for part in response.aiter_bytes():
            size += len(part)
            if size > bytes_max:
                raise AnswerTooLong(f"an answer longer than {bytes_max} bytes")
            parts.append(part)
    finally:
        await response.aclose()
        response._content = b"".join(parts)
