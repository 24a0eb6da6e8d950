"""Threads for the blocking calls of an event loop: one more while all are busy, kept for the next call.

The loop's own executor keeps books about each call, which cost as much as a short call itself. A call is never abandoned:
a cancelled task feels its cancel when the call is over, and the process ends after it. A task that is alone on its loop
needs none to wait for the disk (`is_alone`). Knows no flow and no money; it is imported with the first call, because it
needs asyncio.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

THREADS_MAX: Final = 32
"""More calls than this wait for each other."""
LOOKED_AGAIN_S: Final = 1.0
_crowded: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, float]] = WeakKeyDictionary()
"""Until when, by its own time, a loop is taken to have other tasks."""


class _Waiter(asyncio.Future[T]):
    """What a call gives. No cancel ends it: the books must not be half known to whoever comes next."""

    def cancel(self, msg: Any | None = None) -> bool:
        del msg
        return False


class Crew:
    """The threads of this process."""

    def __init__(self) -> None:
        self.start_anew()

    def start_anew(self) -> None:
        """Without any: in a forked child the threads stay behind in its parent."""
        self._work: SimpleQueue[tuple[Callable[[], Any], _Waiter[Any]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._members: list[threading.Thread] = []
        self._open = 0

    def call(self, function: Callable[[], T], waiter: _Waiter[T]) -> None:
        with self._lock:
            if self._open >= len(self._members) < THREADS_MAX:
                member = threading.Thread(target=self._serve, name="x402-audio", daemon=True)
                with suppress(RuntimeError):  # no more are given: who is there does it, at worst who asks
                    member.start()
                    self._members.append(member)
            self._open += 1
        if self._members:
            self._work.put((function, waiter))
        else:
            self._do(function, waiter)

    def finish(self) -> None:
        """Let every call that was asked for end, and every thread after them."""
        for _ in self._members:
            self._work.put(None)
        for each in self._members:
            each.join()

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            self._do(*work)
            del work  # what it was given may be secret, and the next call may be far

    def _do(self, function: Callable[[], Any], waiter: _Waiter[Any]) -> None:
        loop, result = waiter.get_loop(), None
        failed: BaseException | None = None
        try:
            result = function()
        except StopIteration:
            failed = RuntimeError("a blocking call ended with StopIteration, which no waiter can be given")
        except BaseException as error:
            failed = error
        del function
        with self._lock:
            self._open -= 1
        with suppress(RuntimeError):  # its loop is closed: nobody waits any more
            if failed is None:
                loop.call_soon_threadsafe(waiter.set_result, result)
            else:
                loop.call_soon_threadsafe(waiter.set_exception, failed)
        del failed, result, waiter


_crew: Final = Crew()
_enders: Final = Crew()
for _each in (_crew, _enders):
    atexit.register(_each.finish)
    os.register_at_fork(after_in_child=_each.start_anew)


def is_alone() -> bool:
    """Whether the task that asks is the only one on its loop. Once it is not, the others are looked for again after a second."""
    loop = asyncio.get_running_loop()
    now = loop.time()
    if now < _crowded.get(loop, 0.0):
        return False
    if asyncio.all_tasks(loop) == {asyncio.current_task(loop)}:
        return True
    _crowded[loop] = now + LOOKED_AGAIN_S  # to count thousands with every call would cost more than the call
    return False


async def let_others_in() -> None:
    """Let in what came while the loop stood still: a cancel is felt here, not when the answer is handed over already.

    After what was asked for from outside come the deadlines that passed, so this takes two turns of the loop.
    """
    for _ in range(2):
        await asyncio.sleep(0)


async def in_thread(function: Callable[[], T], crew: Crew = _crew) -> T:
    """Run a blocking call in a thread and wait for its end, cancelled or not."""
    waiter: _Waiter[T] = _Waiter(loop=asyncio.get_running_loop())
    crew.call(function, waiter)
    return await waiter


def in_own_thread(function: Callable[[], T]) -> Coroutine[Any, Any, T]:
    """As `in_thread`, for what others wait for: none of those can be in its way."""
    return in_thread(function, _enders)
