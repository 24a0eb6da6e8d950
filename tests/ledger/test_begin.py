"""A verb begun in one thread and committed in another: all of it or nothing, nobody waits who must not, no limit gives way."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.books import asked, books
from tests.company import run_beside_another
from tests.ledger.desk import DOLLAR, NOON, SteppedClock, counted_random, limit, pay, signed, wish
from x402_audio import threads
from x402_audio.errors import ApprovalWanted, BudgetExceeded, Frozen, LedgerBusy, LedgerError
from x402_audio.flow import begun
from x402_audio.ledger import database
from x402_audio.ledger.book import Event, Hold
from x402_audio.ledger.sqlite import SqliteLedger

HOLDS = "SELECT count(*) FROM hold"


def holds_seen_elsewhere(path: Path) -> int:
    """Through another connection: what is committed."""
    return int(asked(path, HOLDS)[0][0])


def in_another_thread(act: Any) -> Any:
    given: list[Any] = []

    def run() -> None:
        try:
            given.append(act())
        except Exception as error:
            given.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert given, "the other thread waits for something"
    return given[0]


def test_what_is_begun_is_there_for_others_only_when_it_is_ended(ledger: SqliteLedger, path: Path) -> None:
    told: list[Event] = []
    ledger.listen(told.append)
    is_left, end = ledger.begin(partial(ledger.reserve, wish(), ()))

    assert (is_left, holds_seen_elsewhere(path), told) == (True, 0, [])
    hold = in_another_thread(end)
    assert (holds_seen_elsewhere(path), ledger.hold(hold.id).state) == (1, "reserved")
    assert [event.to for event in told if event.subject.startswith("hold:")] == ["reserved"]


def test_a_look_leaves_nothing_to_end(ledger: SqliteLedger) -> None:
    hold = pay(ledger, wish())

    is_left, end = ledger.begin(partial(ledger.hold, hold))
    assert not is_left
    assert end().state == "settled"
    assert pay(ledger, wish())


def test_a_verb_that_refuses_leaves_nothing_and_the_ledger_free(ledger: SqliteLedger, path: Path) -> None:
    is_left, end = ledger.begin(partial(ledger.reserve, wish(200), (limit("jobs", "day", 100),)))

    assert not is_left
    with pytest.raises(BudgetExceeded):
        end()
    assert holds_seen_elsewhere(path) == 0
    assert pay(ledger, wish())


def test_a_verb_that_books_and_then_refuses_has_booked_when_it_refuses(
    ledger: SqliteLedger, path: Path
) -> None:
    asks = limit("jobs", "unasked", 50)
    is_left, end = ledger.begin(partial(ledger.reserve, wish(100), (asks,)))

    assert is_left
    assert asked(path, "SELECT count(*) FROM approval") == [(0,)]
    with pytest.raises(ApprovalWanted):
        end()
    assert asked(path, "SELECT state FROM approval") == [("wanted",)]
    frozen = ledger.reserve(wish(), ())
    ledger.freeze("somebody")
    _, end = ledger.begin(partial(ledger.depart, frozen.id, b"header"))
    with pytest.raises(Frozen):
        end()
    assert ledger.hold(frozen.id).state == "void"


def test_what_is_never_ended_never_happened(ledger: SqliteLedger, path: Path) -> None:
    begun_once = ledger.begin(partial(ledger.reserve, wish(), ()))
    assert begun_once[0]
    del begun_once
    gc.collect()

    assert holds_seen_elsewhere(path) == 0
    assert pay(ledger, wish())
    assert holds_seen_elsewhere(path) == 1


@pytest.mark.parametrize("again", [False, True])
def test_a_header_that_was_only_begun_is_in_no_file(ledger: SqliteLedger, path: Path, again: bool) -> None:
    hold = signed(ledger, wish()) if again else ledger.reserve(wish(), ()).id
    store = partial(ledger.rewrap, hold, "{}") if again else partial(ledger.depart, hold)
    with books(path) as other:  # else the log would go with its only user
        assert other.execute(HOLDS).fetchall() == [(1,)]
        begun_once = ledger.begin(partial(store, b"a secret header"))
        assert begun_once[0]
        del begun_once
        gc.collect()

        assert [one.name for one in path.parent.iterdir() if b"a secret header" in one.read_bytes()] == []
    assert ledger.verify() == []


def test_what_is_interrupted_after_it_was_begun_never_happened(ledger: SqliteLedger, path: Path) -> None:
    def interrupted() -> None:
        ledger.reserve(wish(), ())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ledger.begin(interrupted)
    assert holds_seen_elsewhere(path) == 0
    assert in_another_thread(partial(pay, ledger, wish()))


def test_a_close_does_not_wait_for_ever_for_what_nobody_ends(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.1)
    _, end = ledger.begin(partial(ledger.reserve, wish(), ()))

    assert isinstance(in_another_thread(ledger.close), LedgerBusy)
    end()
    ledger.close()
    assert len(ledger.holds()) == 1


def test_nobody_begins_while_another_thread_writes(ledger: SqliteLedger) -> None:
    _, end = ledger.begin(partial(ledger.reserve, wish(), ()))

    assert isinstance(
        in_another_thread(partial(ledger.begin, partial(ledger.reserve, wish(), ()))), LedgerBusy
    )
    with pytest.raises(LedgerBusy):  # nor this one: a thread has one transaction
        ledger.begin(partial(ledger.reserve, wish(), ()))
    end()
    _, end = ledger.begin(partial(ledger.reserve, wish(), ()))
    end()
    assert len(ledger.holds()) == 2


def test_nobody_begins_while_another_program_writes_and_nothing_waits(
    ledger: SqliteLedger, path: Path
) -> None:
    pay(ledger, wish())
    with books(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerBusy):
            ledger.begin(partial(ledger.reserve, wish(), ()))
        other.execute("ROLLBACK")
    assert len(ledger.holds()) == 1
    waits = partial(ledger._database.glance, "PRAGMA busy_timeout")
    _, end = ledger.begin(waits)
    assert end() == (0,)
    assert waits() == (30_000,), "and the next one who waits is given his 30 s again"
    assert pay(ledger, wish())


@pytest.mark.parametrize("begins", [True, False])
def test_how_long_others_are_waited_for_is_right_again_after_an_interrupt(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch, begins: bool
) -> None:
    waits: list[int] = []

    class Interrupted:
        """The first change of it is done and then interrupted."""

        def set_busy_timeout(self, milliseconds: int) -> None:
            connection.set_busy_timeout(milliseconds)
            waits.append(milliseconds)
            if len(waits) == 1:
                raise KeyboardInterrupt

        def __getattr__(self, name: str) -> Any:
            return getattr(connection, name)

    def write(begun_: bool) -> None:
        booked = partial(ledger.reserve, wish(), ())
        ledger.begin(booked)[1]() if begun_ else booked()

    write(not begins)
    connection: Any = ledger._database._connection
    monkeypatch.setattr(ledger._database, "_connection", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        write(begins)
    write(not begins)
    assert waits[-1] == (30_000 if begins else 0)


def test_a_closed_ledger_is_not_opened_by_who_must_not_wait(ledger: SqliteLedger) -> None:
    ledger.close()
    with pytest.raises(LedgerBusy):
        ledger.begin(partial(ledger.reserve, wish(), ()))
    assert pay(ledger, wish())


def test_a_verb_of_two_transactions_cannot_be_begun_and_undoes_nothing(
    ledger: SqliteLedger, path: Path
) -> None:
    for second in (partial(ledger.reserve, wish(), ()), ledger.holds, partial(ledger.unanswered, "w", "p")):
        before = holds_seen_elsewhere(path)

        def twice(second: Any = second) -> None:
            ledger.reserve(wish(), ())
            second()

        _, end = ledger.begin(twice)
        with pytest.raises(AssertionError, match="one transaction"):
            end()
        assert holds_seen_elsewhere(path) == before + 1


def test_a_writer_who_waits_for_what_is_begun_gets_his_turn(ledger: SqliteLedger) -> None:
    _, end = ledger.begin(partial(ledger.reserve, wish(), ()))
    waits = threading.Thread(target=pay, args=(ledger, wish()))
    waits.start()
    in_another_thread(end)
    waits.join(60)
    assert not waits.is_alive()
    assert len(ledger.holds()) == 2


@pytest.mark.parametrize("when", ["the pages are written", "the commit comes"])
def test_a_commit_that_fails_books_nothing_and_says_so(
    ledger: SqliteLedger, path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    class Full:
        """The disk is full just then."""

        def __init__(self, connection: apsw.Connection) -> None:
            self._connection = connection

        def execute(self, statement: str, *values: Any) -> Any:
            if statement == "COMMIT" and when == "the commit comes":
                raise apsw.FullError("database or disk is full")
            return self._connection.execute(statement, *values)

        def cache_flush(self) -> None:
            if when == "the pages are written":
                raise apsw.FullError("database or disk is full")
            self._connection.cache_flush()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

    connection = ledger._database._connection
    assert connection is not None
    with monkeypatch.context() as patch:
        patch.setattr(ledger._database, "_connection", Full(connection))
        _, end = ledger.begin(partial(ledger.reserve, wish(), ()))
        with pytest.raises(LedgerError, match="full"):
            end()
    assert holds_seen_elsewhere(path) == 0
    assert pay(ledger, wish())


def test_what_is_begun_is_committed_where_the_system_gives_no_thread(
    ledger: SqliteLedger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "_enders", threads.Crew())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        hold = run_beside_another(begun(partial(ledger.reserve, wish(), ()), ledger.begin))

    assert holds_seen_elsewhere(path) == 1
    assert (
        run_beside_another(begun(partial(ledger.depart, hold.id, b"header"), ledger.begin)).state == "signed"
    )


@pytest.mark.parametrize(("run", "where"), [(asyncio.run, "here"), (run_beside_another, "in a thread")])
def test_only_who_is_alone_on_its_loop_waits_there_for_the_disk(
    ledger: SqliteLedger, run: Callable[..., Hold], where: str
) -> None:
    committed: list[int] = []
    ledger.listen(lambda event: committed.append(threading.get_ident()))
    hold = run(begun(partial(ledger.reserve, wish(), ()), ledger.begin))

    assert ledger.hold(hold.id).state == "reserved"
    assert {"here" if thread == threading.get_ident() else "in a thread" for thread in committed} == {where}
    assert len(committed) == len(ledger.events())


def cancelled(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any], how: str) -> None:
    """As an interrupt's handler does it, or another thread, or a deadline that has passed."""
    match how:
        case "interrupt":
            task.cancel()
        case "another thread":
            loop.call_soon_threadsafe(task.cancel)
        case "deadline":
            loop.call_at(loop.time(), task.cancel)


@pytest.mark.parametrize("how", ["interrupt", "another thread", "deadline"])
def test_who_is_cancelled_while_it_books_alone_feels_it_when_that_is_done(
    ledger: SqliteLedger, how: str
) -> None:
    async def main() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def interrupted() -> Hold:
            cancelled(loop, task, how)
            return ledger.reserve(wish(), ())

        with pytest.raises(asyncio.CancelledError):
            await begun(interrupted, ledger.begin)
        assert [hold.state for hold in ledger.holds()] == ["reserved"]

    asyncio.run(main())


def test_who_is_alone_on_its_loop_waits_in_a_thread_for_another_program(
    ledger: SqliteLedger, path: Path
) -> None:
    """Its disk is soon there; how long another program writes, nobody knows."""
    turned = list[int]()

    async def main() -> Hold:
        loop = asyncio.get_running_loop()
        other = apsw.Connection(str(path))
        other.execute("BEGIN IMMEDIATE")

        def turn() -> None:
            turned.append(len(turned))
            other.execute("ROLLBACK")

        loop.call_later(0.05, turn)
        return await begun(partial(ledger.reserve, wish(), ()), ledger.begin)

    assert asyncio.run(main()).state == "reserved"
    assert turned == [0]


def test_who_is_alone_on_its_loop_gets_an_error_as_it_is(ledger: SqliteLedger) -> None:
    with pytest.raises(BudgetExceeded):
        asyncio.run(begun(partial(ledger.reserve, wish(200), (limit("jobs", "day", 100),)), ledger.begin))
    assert asyncio.run(begun(partial(ledger.reserve, wish(), ()), ledger.begin)).state == "reserved"


def test_forty_tasks_of_one_loop_spend_a_limit_exactly(ledger: SqliteLedger) -> None:
    room = (limit("jobs", "day", 700),)

    async def buy() -> bool:
        try:
            hold = await begun(partial(ledger.reserve, wish(100), room), ledger.begin)
        except BudgetExceeded:
            return False
        await begun(partial(ledger.depart, hold.id, b"header"), ledger.begin)
        await begun(partial(ledger.settle, hold.id, evidence="receipt"), ledger.begin)
        return True

    async def all_of_them() -> list[bool]:
        return await asyncio.gather(*(buy() for _ in range(40)))

    assert sum(asyncio.run(all_of_them())) == 7
    assert sum(hold.amount for hold in ledger.holds()) == 7 * DOLLAR


def test_a_loop_and_plain_threads_share_one_ledger(path: Path) -> None:
    ledger = SqliteLedger(path, clock=SteppedClock(NOON), random=counted_random())
    room = (limit("jobs", "day", 2_000),)
    paid: list[str] = []

    def spend() -> None:
        for _ in range(10):
            try:
                paid.append(signed(ledger, wish(100), *room))
            except BudgetExceeded:
                return

    async def buy() -> None:
        try:
            paid.append((await begun(partial(ledger.reserve, wish(100), room), ledger.begin)).id)
        except BudgetExceeded:
            return

    async def loop() -> None:
        await asyncio.gather(*(buy() for _ in range(15)))

    threads = [threading.Thread(target=spend) for _ in range(3)]
    for each in threads:
        each.start()
    asyncio.run(loop())
    for each in threads:
        each.join(60)
    assert len(paid) == len(ledger.holds()) == 20
    assert ledger.verify() == []
    ledger.close()
