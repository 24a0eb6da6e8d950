"""Flows: a generator asks for steps and never does I/O itself; two short drivers do it, sync and async.

A flow may ask to `Send` a request, read a `Chunk` of a streamed answer, `Close` it, `Call` a blocking function
(ledger, signer, disk, chain; async runs it in a thread, or see `begun`) or `Sleep`. Transport failures are thrown into the flow.
No flow yields inside `finally`: a cancelled flow must be honest without another step.
Knows nothing of money; only here and in `payment/auth.py` is a request really handed to a transport.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from traceback import clear_frames
from typing import Any, Generic, Protocol, TypeVar, cast

import httpx

from x402_audio.errors import LedgerBusy
from x402_audio.unpack import Unpacker

T = TypeVar("T")
Monotonic = Callable[[], float]
Begin = Callable[[Callable[[], Any]], tuple[bool, Callable[[], Any]]]

ANSWER_BYTES_MAX = 4 * 1024 * 1024
"""An answer that is not audio may be this long (the model list is the longest)."""
ANSWER_TOTAL_S = 60.0
"""And its body may take this long, however steadily it drips."""
HEAD_TOTAL_S = 120.0
"""The head of any answer may take this long; longer than each time-out for a single read."""


@dataclass(frozen=True, slots=True)
class Send:
    """Hand a request over; the body is read (bounded) unless `stream`. whole: a short body comes with its head even so."""

    request: httpx.Request
    stream: bool = False
    whole: bool = False


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
    """Run a blocking function to its end; it is never abandoned half way.

    begin: does at once what of it waits for nobody, and gives whether anything is left and what ends it (`Ledger.begin`).
    """

    function: Callable[[], T]
    begin: Begin | None = None


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait; seconds."""

    seconds: float


Step = Send | Chunk | Close | Call[Any] | Sleep
Flow = Generator[Step, Any, T]


class AnswerTooLong(httpx.TransportError):
    """The seller's answer is longer than any honest one; reading stopped."""


class AnswerTooSlow(httpx.ReadTimeout):
    """The seller's answer drips; reading stopped."""


class AnswerUnreadable(httpx.TransportError):
    """As good as no answer: it arrived, and its bytes cannot be unpacked."""


def send(request: httpx.Request, *, stream: bool = False, whole: bool = False) -> Flow[httpx.Response]:
    return cast(httpx.Response, (yield Send(request, stream, whole)))


def chunk(response: httpx.Response) -> Flow[bytes]:
    return cast(bytes, (yield Chunk(response)))


def close(response: httpx.Response) -> Flow[None]:
    yield Close(response)


def call(function: Callable[[], T], begin: Begin | None = None) -> Flow[T]:
    return cast(T, (yield Call(function, begin)))


def at_once(function: Callable[[], T]) -> Flow[T]:
    """As `call`, for what never waits: a thread would cost more than the work."""
    yield from ()
    return function()


def sleep(seconds: float) -> Flow[None]:
    if seconds > 0:
        yield Sleep(seconds)


class Sleeper(Protocol):
    def __call__(self, seconds: float, /) -> None: ...


def run(flow: Flow[T], http: httpx.Client, wait: Sleeper, monotonic: Monotonic = time.monotonic) -> T:
    """Drive a flow on a plain client. Exceptions of a step are thrown into the flow."""
    streams: dict[int, Iterator[bytes]] = {}
    before = sys.exception()
    try:
        step = next(flow)
        while True:
            step = _after(flow, step, http, streams, wait, monotonic)
    except StopIteration as stop:
        return cast(T, stop.value)
    except BaseException as error:
        forget_locals(error, before)
        raise
    finally:
        flow.close()


def _after(
    flow: Flow[T],
    step: Step,
    http: httpx.Client,
    streams: dict[int, Iterator[bytes]],
    wait: Sleeper,
    monotonic: Monotonic,
) -> Step:
    """Do one step and ask the flow for the next. A frame of its own: what a step gave may be secret."""
    try:
        result = _do(step, http, streams, wait, monotonic)
    except Exception as error:
        return flow.throw(error)
    return flow.send(result)


def _do(
    step: Step, http: httpx.Client, streams: dict[int, Iterator[bytes]], wait: Sleeper, monotonic: Monotonic
) -> object:
    match step:
        case Send(request, stream):
            response = http.send(request, stream=True, follow_redirects=False)
            _tell_head_came(response)
            if stream:
                streams[id(response)] = _parts(response)
            else:
                read_bounded(response, monotonic=monotonic)
            return response
        case Chunk(response):
            return next(filter(None, streams[id(response)]), b"")
        case Close(response):
            streams.pop(id(response), None)
            response.close()
            return None
        case Call(function):
            return function()
        case Sleep(seconds):
            wait(seconds)
            return None


async def run_async(flow: Flow[T], http: httpx.AsyncClient, monotonic: Monotonic = time.monotonic) -> T:
    """The same flow on an asynchronous client; blocking calls run in a thread and are waited for."""
    streams: dict[int, AsyncIterator[bytes]] = {}
    before = sys.exception()
    try:
        step = next(flow)
        while True:
            step = (await _outcome_async(flow, step, http, streams, monotonic))()
    except StopIteration as stop:
        return cast(T, stop.value)
    except BaseException as error:
        forget_locals(error, before)
        raise
    finally:
        flow.close()


async def _outcome_async(
    flow: Flow[T],
    step: Step,
    http: httpx.AsyncClient,
    streams: dict[int, AsyncIterator[bytes]],
    monotonic: Monotonic,
) -> Callable[[], Step]:
    """Do one step; what comes back asks the flow for the next (a coroutine must not end by the flow's StopIteration)."""
    try:
        result = await _do_async(step, http, streams, monotonic)
    except Exception as error:
        return partial(flow.throw, error)
    return partial(flow.send, result)


async def _do_async(
    step: Step, http: httpx.AsyncClient, streams: dict[int, AsyncIterator[bytes]], monotonic: Monotonic
) -> object:
    match step:
        case Send(request, stream):
            response = await _send_async(request, http)
            if stream:
                streams[id(response)] = _parts_async(response)
            else:
                await read_bounded_async(response, monotonic=monotonic)
            return response
        case Chunk(response):
            return await anext((piece async for piece in streams[id(response)] if piece), b"")
        case Close(response):
            streams.pop(id(response), None)
            await response.aclose()
            return None
        case Call(function, begin):
            return await in_thread(function) if begin is None else await begun(function, begin)
        case Sleep(seconds):
            from asyncio import sleep as wait

            await wait(seconds)
            return None


async def _send_async(request: httpx.Request, http: httpx.AsyncClient) -> httpx.Response:
    from asyncio import timeout

    try:
        async with timeout(HEAD_TOTAL_S):
            return await http.send(request, stream=True, follow_redirects=False)
    except TimeoutError:
        raise AnswerTooSlow(f"an answer's head that takes longer than {HEAD_TOTAL_S:.0f} s") from None


def _tell_head_came(response: httpx.Response) -> None:
    """To a connection of ours (`patience.py`), which bounds the time until now."""
    tell = getattr(response.extensions.get("network_stream"), "head_came", None)
    if tell is not None:
        tell()


async def begun(function: Callable[[], T], begin: Begin) -> T:
    """Do at once what waits for nobody, and only the rest in a thread: the other processor knows nothing of this work yet.

    Who is alone on its loop waits for the disk itself, and then feels what came meanwhile, as after waiting for a thread.
    """
    from x402_audio.threads import in_own_thread, is_alone, let_others_in

    try:
        is_left, end = begin(function)
    except LedgerBusy:
        return await in_thread(function)
    if is_left and not is_alone():
        result: T = await in_own_thread(end)
        return result
    done: T = end()
    if is_left:
        await let_others_in()
    return done


def in_thread(function: Callable[[], T]) -> Coroutine[Any, Any, T]:
    """Run a blocking call in a thread; a cancelled task still waits for it, so that books are never half known."""
    from x402_audio.threads import in_thread as in_one

    return in_one(function)


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


def read_bounded(
    response: httpx.Response, bytes_max: int = ANSWER_BYTES_MAX, monotonic: Monotonic = time.monotonic
) -> None:
    """Read a body into the response, closing it. Raises AnswerTooLong, AnswerTooSlow, AnswerUnreadable."""
    body = _Body(bytes_max, monotonic)
    try:
        for part in _parts(response):
            body.add(part)
    finally:
        response.close()
        response._content = body.content  # of a broken answer what came: whoever reads it again must not fail


async def read_bounded_async(
    response: httpx.Response, bytes_max: int = ANSWER_BYTES_MAX, monotonic: Monotonic = time.monotonic
) -> None:
    """As `read_bounded`, awaited."""
    body = _Body(bytes_max, monotonic)
    try:
        async for part in _parts_async(response):
            body.add(part)
    finally:
        await response.aclose()
        response._content = body.content


class Whole(httpx.ByteStream):
    """A body that came whole before its reader asked for it."""


def take_in(
    response: httpx.Response, bytes_max: int = ANSWER_BYTES_MAX, monotonic: Monotonic = time.monotonic
) -> None:
    """Take in a body's bytes as they are, and leave a stream of them. Raises AnswerTooLong, AnswerTooSlow, the transport's."""
    body, stream, whole = _Body(bytes_max, monotonic), cast(httpx.SyncByteStream, response.stream), False
    try:
        for part in stream:
            body.add(part)
        whole = True
    finally:
        stream.close()
        if not whole:
            response._content = body.content
    response.stream = Whole(body.content)


async def take_in_async(
    response: httpx.Response, bytes_max: int = ANSWER_BYTES_MAX, monotonic: Monotonic = time.monotonic
) -> None:
    """As `take_in`, awaited."""
    body, stream, whole = _Body(bytes_max, monotonic), cast(httpx.AsyncByteStream, response.stream), False
    try:
        async for part in stream:
            body.add(part)
        whole = True
    finally:
        await stream.aclose()
        if not whole:
            response._content = body.content
    response.stream = Whole(body.content)


class _Body:
    """A body as it comes, counted and timed."""

    def __init__(self, bytes_max: int, monotonic: Monotonic) -> None:
        self._most = bytes_max
        self._monotonic = monotonic
        self._end = monotonic() + ANSWER_TOTAL_S
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def content(self) -> bytes:
        return b"".join(self._parts)

    def add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._most:
            raise AnswerTooLong(f"an answer longer than {self._most} bytes")
        if self._monotonic() > self._end:
            raise AnswerTooSlow(f"an answer that takes longer than {ANSWER_TOTAL_S:.0f} s")
        self._parts.append(part)


def _parts(response: httpx.Response) -> Iterator[bytes]:
    """The body as it arrives, never held back to fill a piece: who reads it must be able to stop in time."""
    if hasattr(response, "_content"):  # somebody read it already
        yield response.content
        return
    try:
        unpacker = Unpacker(response.headers.get("content-encoding", ""))
        for raw in response.iter_raw():
            yield from unpacker.pieces(raw)
        unpacker.end()
    except ValueError as error:
        raise AnswerUnreadable(str(error)) from None


async def _parts_async(response: httpx.Response) -> AsyncIterator[bytes]:
    """As `_parts`, awaited."""
    if hasattr(response, "_content"):
        yield response.content
        return
    try:
        unpacker = Unpacker(response.headers.get("content-encoding", ""))
        async for raw in response.aiter_raw():
            for piece in unpacker.pieces(raw):
                yield piece
        unpacker.end()
    except ValueError as error:
        raise AnswerUnreadable(str(error)) from None
