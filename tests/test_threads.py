"""Blocking calls of a loop run in threads that are kept: each to its end, whatever becomes of who waits for it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from x402_audio.threads import LOOKED_AGAIN_S, THREADS_MAX, in_thread, is_alone


def ready() -> int:
    return sum(each.name == "x402-audio" for each in threading.enumerate())


def test_calls_one_after_the_other_need_no_further_thread() -> None:
    async def main() -> None:
        for _ in range(20):
            assert await in_thread(threading.get_ident) != threading.get_ident()

    asyncio.run(main())  # a thread is ready now
    before = ready()
    asyncio.run(main())
    assert ready() == before


def test_calls_at_once_run_at_once_and_more_than_the_bound_wait_for_each_other() -> None:
    together, done, before = threading.Barrier(THREADS_MAX, timeout=30), list[int](), ready()

    def meet() -> None:
        together.wait()

    async def main() -> None:
        many = [in_thread(meet) for _ in range(2 * THREADS_MAX)]
        await asyncio.gather(*many)
        done.append(len(many))

    asyncio.run(main())
    assert done == [2 * THREADS_MAX]
    assert ready() <= before + THREADS_MAX


def test_however_often_it_is_cancelled_a_task_waits_for_the_end_of_its_call() -> None:
    gate, ended = threading.Event(), list[str]()

    def work() -> None:
        assert gate.wait(30)
        ended.append("work")

    async def main() -> None:
        task = asyncio.ensure_future(in_thread(work))
        for _ in range(3):
            await asyncio.sleep(0)
            assert task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == ["work"]

    asyncio.run(main())


def test_an_error_comes_to_who_waits_and_the_thread_goes_on() -> None:
    def fails() -> None:
        raise KeyError("a name")

    def stops() -> None:
        raise StopIteration

    async def main() -> int:
        with pytest.raises(KeyError, match="a name"):
            await in_thread(fails)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await in_thread(stops)
        return await in_thread(lambda: 7)

    assert asyncio.run(main()) == 7


def test_a_process_ends_after_its_calls() -> None:
    """The loop is left without waiting, as by a program that falls out of its main function."""
    script = """
import asyncio, time
from x402_audio.threads import in_thread
loop = asyncio.new_event_loop()
def slow():
    started.set()
    time.sleep(0.2)
    print("written", flush=True)
async def begin():
    asyncio.ensure_future(in_thread(slow))
    while not started.is_set():
        await asyncio.sleep(0)
import threading
started = threading.Event()
loop.run_until_complete(begin())
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )

    assert (ended.returncode, ended.stdout) == (0, "written\n")


def test_a_forked_child_has_threads_of_its_own() -> None:
    script = """
import asyncio, os
from x402_audio.threads import in_thread
print(asyncio.run(in_thread(lambda: "parent")), flush=True)
child = os.fork()
if child == 0:
    print(asyncio.run(in_thread(lambda: "child")), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.stdout == "parent\nchild\n"


def test_a_task_is_alone_while_no_other_of_its_loop_is_unfinished() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    async def main() -> list[bool]:
        found, ended = [is_alone()], asyncio.ensure_future(asyncio.sleep(0))
        await ended
        found.append(is_alone())
        other = asyncio.ensure_future(forever())
        found.append(is_alone())
        other.cancel()
        return found

    assert asyncio.run(main()) == [True, True, False]


def test_a_loop_in_another_thread_is_no_company() -> None:
    gate = threading.Event()

    async def elsewhere() -> None:
        other = asyncio.ensure_future(asyncio.Event().wait())
        assert not is_alone()
        here.set()
        assert await in_thread(lambda: gate.wait(30))
        other.cancel()

    async def main() -> bool:
        return is_alone()

    here, thread = threading.Event(), threading.Thread(target=lambda: asyncio.run(elsewhere()))
    thread.start()
    assert here.wait(30)
    assert asyncio.run(main())
    gate.set()
    thread.join(30)


def test_others_are_looked_for_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tasks are not counted with every call; who is left alone is found so at the next look."""

    async def main() -> list[bool]:
        loop, now = asyncio.get_running_loop(), [100.0]
        monkeypatch.setattr(loop, "time", lambda: now[0])
        other = asyncio.ensure_future(asyncio.Event().wait())
        found = [is_alone()]
        other.cancel()
        await asyncio.wait([other])
        for passed in (LOOKED_AGAIN_S * 0.99, LOOKED_AGAIN_S * 0.02):
            now[0] += passed
            found.append(is_alone())
        return found

    assert asyncio.run(main()) == [False, False, True]
