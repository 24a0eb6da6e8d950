"""Flows run the same on both drivers: what a step gives, what it raises, how much is read, and what a cancel waits for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

import httpx
import pytest

from x402_audio.flow import (
    ANSWER_BYTES_MAX,
    AnswerTooLong,
    Flow,
    call,
    chunk,
    close,
    in_thread,
    read_bounded,
    read_bounded_async,
    run,
    run_async,
    send,
    sleep,
)

T = TypeVar("T")
URL = "https://seller.example/"
Handler = Callable[[httpx.Request], httpx.Response]


class Pieces(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in pieces; knows how many were taken and whether it was closed."""

    def __init__(self, *pieces: bytes, then: Exception | None = None) -> None:
        self._pieces = pieces
        self._then = then
        self.taken = 0
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.taken += 1
            yield piece
        if self._then is not None:
            raise self._then

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in iter(self):
            yield piece

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


class Driver:
    """Runs a flow on one of the two clients against a handler."""

    def __init__(self, *, awaited: bool) -> None:
        self.awaited = awaited
        self.slept: list[float] = []

    def run(self, flow: Flow[T], handler: Handler) -> T:
        if self.awaited:
            return asyncio.run(self._run(flow, handler))
        with httpx.Client(transport=httpx.MockTransport(handler)) as http:
            return run(flow, http, self.slept.append)

    async def _run(self, flow: Flow[T], handler: Handler) -> T:
        async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as http:
            return await run_async(flow, http)


@pytest.fixture(params=["sync", "async"])
def driver(request: pytest.FixtureRequest) -> Driver:
    return Driver(awaited=request.param == "async")


def answering(body: bytes | Pieces, status: int = 200) -> Handler:
    more: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"stream": body}
    return lambda _: httpx.Response(status, **more)


def never(_: httpx.Request) -> httpx.Response:
    raise AssertionError("nothing was to be sent")


def test_each_step_gives_its_result_to_the_flow(driver: Driver) -> None:
    def flow() -> Flow[tuple[int, bytes, str]]:
        response = yield from send(httpx.Request("GET", URL))
        doubled = yield from call(lambda: response.status_code * 2)
        yield from sleep(0.001)
        yield from sleep(0)
        yield from sleep(-5)
        return doubled, response.content, "end"

    assert driver.run(flow(), answering(b"body")) == (400, b"body", "end")
    assert driver.slept == ([] if driver.awaited else [0.001])


def test_what_a_call_raises_is_raised_in_the_flow(driver: Driver) -> None:
    def broken() -> int:
        raise KeyError("gone")

    def flow() -> Flow[str]:
        try:
            yield from call(broken)
        except KeyError as error:
            value = yield from call(lambda: "mended")
            return f"{value} after {error.args[0]}"
        return "nothing was raised"

    assert driver.run(flow(), never) == "mended after gone"


def test_what_the_transport_raises_is_raised_in_the_flow(driver: Driver) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    def flow() -> Flow[str]:
        try:
            yield from send(httpx.Request("GET", URL))
        except httpx.TransportError as error:
            return type(error).__name__
        return "nothing was raised"

    assert driver.run(flow(), refuse) == "ConnectError"


def test_what_the_flow_raises_leaves_the_driver_and_what_it_held_is_let_go(driver: Driver) -> None:
    let_go: list[str] = []

    def flow() -> Flow[None]:
        try:
            yield from call(lambda: None)
            raise LookupError("the flow's own")
        finally:
            let_go.append("slot")

    with pytest.raises(LookupError):
        driver.run(flow(), never)
    assert let_go == ["slot"]


def test_redirects_are_never_followed(driver: Driver) -> None:
    asked: list[str] = []

    def redirect(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(307, headers={"location": "https://other.example/"})

    def flow() -> Flow[int]:
        return (yield from send(httpx.Request("POST", URL, content=b"{}"))).status_code

    transport = httpx.MockTransport(redirect)
    if driver.awaited:

        async def awaited() -> int:
            async with httpx.AsyncClient(transport=transport, follow_redirects=True) as http:
                return await run_async(flow(), http)

        assert asyncio.run(awaited()) == 307
    else:
        with httpx.Client(transport=transport, follow_redirects=True) as http:
            assert run(flow(), http, time.sleep) == 307
    assert asked == ["seller.example"]


@pytest.mark.parametrize("pieces", [(ANSWER_BYTES_MAX,), (ANSWER_BYTES_MAX // 2,) * 2])
def test_an_answer_as_long_as_allowed_is_read_and_closed(driver: Driver, pieces: tuple[int, ...]) -> None:
    body = Pieces(*(b"x" * size for size in pieces))

    def flow() -> Flow[int]:
        return len((yield from send(httpx.Request("GET", URL))).content)

    assert driver.run(flow(), answering(body)) == ANSWER_BYTES_MAX
    assert body.closed


def test_an_answer_longer_than_allowed_is_not_read_to_its_end(driver: Driver) -> None:
    body = Pieces(*[b"x" * (ANSWER_BYTES_MAX // 2)] * 100)

    def flow() -> Flow[str]:
        try:
            yield from send(httpx.Request("GET", URL))
        except httpx.TransportError as error:
            return type(error).__name__
        return "read"

    assert driver.run(flow(), answering(body)) == AnswerTooLong.__name__
    assert (body.taken, body.closed) == (3, True)


def test_an_answer_that_grows_when_it_is_unpacked_is_bounded_too(driver: Driver) -> None:
    import gzip

    bomb = gzip.compress(b"0" * (8 * ANSWER_BYTES_MAX))

    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-encoding": "gzip"}, content=bomb)

    def flow() -> Flow[int]:
        return len((yield from send(httpx.Request("GET", URL))).content)

    with pytest.raises(AnswerTooLong):
        driver.run(flow(), handler)


def test_a_streamed_answer_is_read_piece_by_piece_and_given_back(driver: Driver) -> None:
    body = Pieces(b"1" * 65_536, b"2" * 65_536)

    def flow() -> Flow[list[tuple[bytes, int]]]:
        response = yield from send(httpx.Request("GET", URL), stream=True)
        pieces = []
        for _ in range(4):
            piece = yield from chunk(response)
            pieces.append((piece, body.taken))
        yield from close(response)
        return pieces

    pieces = driver.run(flow(), answering(body))
    assert [piece for piece, _ in pieces] == [b"1" * 65_536, b"2" * 65_536, b"", b""]
    assert pieces[0][1] < 2, "the second piece was not asked for before the first was given out"
    assert body.closed


def test_a_streamed_answer_that_breaks_raises_in_the_flow(driver: Driver) -> None:
    body = Pieces(b"one" * 100_000, then=httpx.ReadError("broken"))

    def flow() -> Flow[str]:
        response = yield from send(httpx.Request("GET", URL), stream=True)
        size = 0
        try:
            while piece := (yield from chunk(response)):
                size += len(piece)
        except httpx.TransportError as error:
            yield from close(response)
            return f"{type(error).__name__} after {size > 0}"
        return "whole"

    assert driver.run(flow(), answering(body)) == "ReadError after True"
    assert body.closed


def test_a_bounded_read_closes_what_it_could_not_read() -> None:
    plain, awaited = Pieces(b"xx", then=httpx.ReadError("broken")), Pieces(b"xx", b"yy")
    with pytest.raises(httpx.ReadError):
        read_bounded(httpx.Response(200, stream=plain))
    with pytest.raises(AnswerTooLong):
        asyncio.run(read_bounded_async(httpx.Response(200, stream=awaited), bytes_max=3))
    assert plain.closed and awaited.closed
    response = httpx.Response(200, stream=Pieces(b"xx", b"yy"))
    read_bounded(response, bytes_max=4)
    assert (response.content, response.read()) == (b"xxyy", b"xxyy")


def test_blocking_calls_leave_the_loop_free() -> None:
    """While a call blocks, another task of the same loop releases it."""
    gate = threading.Event()

    async def both() -> bool:
        released = asyncio.ensure_future(in_thread(lambda: gate.wait(10)))
        await asyncio.sleep(0)
        gate.set()
        return await released

    assert asyncio.run(both())


def test_a_cancelled_call_is_waited_for_before_the_cancel_is_felt() -> None:
    gate, done = threading.Event(), list[str]()

    def work() -> None:
        loop.call_soon_threadsafe(started.set)
        gate.wait(10)
        done.append("the books are written")

    async def main() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(never)) as http:
            task = asyncio.ensure_future(run_async(call(work), http))
            await started.wait()
            task.cancel()
            await asyncio.sleep(0)
            assert not task.done()
            gate.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert done == ["the books are written"]

    with asyncio.Runner() as runner:
        loop, started = runner.get_loop(), asyncio.Event()
        runner.run(main())


def test_a_cancelled_flow_takes_no_further_step() -> None:
    steps: list[str] = []

    def first() -> None:
        steps.append("first")
        loop.call_soon_threadsafe(started.set)

    def flow() -> Flow[None]:
        try:
            yield from call(first)
            yield from sleep(30)
            steps.append("after the sleep")
        finally:
            steps.append("let go")

    async def main() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(never)) as http:
            task = asyncio.ensure_future(run_async(flow(), http))
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with asyncio.Runner() as runner:
        loop, started = runner.get_loop(), asyncio.Event()
        runner.run(main())
    assert steps == ["first", "let go"]


def test_an_interrupt_ends_the_flow_without_another_step() -> None:
    steps: list[str] = []

    def interrupted() -> None:
        raise KeyboardInterrupt

    def flow() -> Flow[None]:
        try:
            yield from call(interrupted)
        finally:
            steps.append("let go")

    with httpx.Client(transport=httpx.MockTransport(never)) as http, pytest.raises(KeyboardInterrupt):
        run(flow(), http, time.sleep)
    assert steps == ["let go"]
