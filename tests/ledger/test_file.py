"""The ledger's file: safe to keep money's books in, or refused in one line with the way back."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import threading
from itertools import combinations
from pathlib import Path

import apsw
import pytest

from tests.books import MAKE, asked, books
from tests.ledger.desk import (
    ORIGIN,
    WALLET,
    SteppedClock,
    counted_random,
    limit,
    new_job,
    pay,
    signed,
    top_up,
    wish,
)
from x402_audio.clock import system_random
from x402_audio.errors import BudgetExceeded, LedgerBusy, LedgerError
from x402_audio.ledger import approvals, credit_book, database, holds, jobs_book, payees, schema, spending
from x402_audio.ledger.book import JobState
from x402_audio.ledger.place import check_disk
from x402_audio.ledger.sqlite import SqliteLedger

FEW = {
    "_LATE": "unfinished jobs only",
    "_ENDED_LEASES": "reserved holds only",
    "_LIVE_TOPUP": "live top-ups only",
    "UNDECIDED": "what is open or presumed only",
    "_STILL_USED": "what is open or presumed only",
    "_RECENT_TOPUPS": "live top-ups, what is presumed, and what was settled since a moment",
    "_BEFORE": "from the newest back to the first that is older",
    "_PERHAPS_SHOWN": "a live top-up, and what is presumed",
    "_OVERCHARGES": "overcharges only, once for a new scope",
}
"""Statements that read every row of an index, and why those are few."""


def open_ledger(path: Path, *, create: bool = True) -> SqliteLedger:
    return SqliteLedger(path, clock=SteppedClock(), random=system_random, create=create)


def refused(path: Path) -> LedgerError:
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(LedgerError) as error:
        open_ledger(path)
    assert "\n" not in str(error.value)
    assert error.value.next_step
    assert error.value.owner == "human"
    assert (path.read_bytes() if path.is_file() else b"") == before
    return error.value


def test_the_file_is_private_and_so_is_the_folder_made_for_it(ledger: SqliteLedger, path: Path) -> None:
    pay(ledger, wish())
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {
        one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir() if one.suffix == ".db"
    } == {"ledger.db": 0o600}
    assert not [one for one in path.parent.iterdir() if ".new-" in one.name]


def test_a_ledger_that_must_exist_is_not_made(path: Path) -> None:
    with pytest.raises(LedgerError):
        open_ledger(path, create=False)
    assert not path.exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_can_use_is_refused(ledger: SqliteLedger, path: Path, mode: int) -> None:
    ledger.close()
    path.chmod(mode)
    assert refused(path).next_step == f"chmod 600 {path}"
    path.chmod(0o600)


def test_a_file_of_another_user_is_refused(
    ledger: SqliteLedger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("os.getuid", lambda: path.stat().st_uid + 1)
        assert "another user" in str(refused(path))


def test_a_link_to_a_ledger_is_refused(ledger: SqliteLedger, path: Path) -> None:
    link = path.with_name("link.db")
    link.symlink_to(path)
    refused(link)


@pytest.mark.parametrize(
    "content", [b"", b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4_000]
)
def test_what_is_no_ledger_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.db"
    path.write_bytes(content)
    path.chmod(0o600)
    refused(path)


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with books(path, MAKE) as other:
        other.execute("CREATE TABLE hold (id)")
    path.chmod(0o600)
    assert "not a ledger" in str(refused(path))


def test_a_ledger_of_a_newer_version_is_refused(ledger: SqliteLedger, path: Path) -> None:
    ledger.close()
    asked(path, "PRAGMA user_version = 99")
    assert "newer" in str(refused(path))
    asked(path, f"PRAGMA user_version = {schema.SCHEMA_VERSION}")


def test_a_truncated_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = open_ledger(path)
    pay(ledger, wish())
    ledger.close()
    os.truncate(path, path.stat().st_size // 2)
    refused(path)


def test_a_ledger_deleted_in_mid_write_is_not_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.with_name("ledger.db-journal").write_bytes(b"half a transaction")
    assert "mid-write" in str(refused(path))
    assert not path.exists()


def test_a_ledger_that_vanishes_while_open_is_not_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = open_ledger(path)
    ledger.close()
    path.unlink()
    with pytest.raises(LedgerError):
        ledger.now()
    assert not path.exists()


@pytest.mark.parametrize(
    ("kind", "fine"), [("nfs4", False), ("cifs", False), ("fuse.sshfs", False), ("ext4", True)]
)
def test_a_network_filesystem_is_refused(tmp_path: Path, kind: str, fine: bool) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 0 8:1 / / rw - ext4 /dev/a rw\n"
        f"2 1 0:5 / {str(tmp_path).replace(' ', chr(92) + '040')} rw shared:1 - {kind} server:/x rw\n"
        f"3 1 0:6 / {tmp_path}-other rw - nfs server:/y rw\n"
    )
    if fine:
        check_disk(tmp_path, str(mounts))
    else:
        with pytest.raises(LedgerError, match=kind):
            check_disk(tmp_path / "deeper", str(mounts))


@pytest.mark.parametrize(
    ("version", "safe"),
    [((3, 40, 1), False), ((3, 44, 5), False), ((3, 44, 6), True), ((3, 45, 0), False), ((3, 50, 6), False),
     ((3, 50, 7), True), ((3, 51, 0), False), ((3, 51, 2), False), ((3, 51, 3), True), ((3, 60, 0), True)],
)  # fmt: skip
def test_write_ahead_logging_only_where_sqlite_has_the_mend(
    version: tuple[int, int, int], safe: bool
) -> None:
    assert database.wal_is_safe(version) is safe


def test_a_sqlite_without_the_mend_keeps_no_books(
    ledger: SqliteLedger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an apsw has that was built on a system's own SQLite."""
    ledger.close()
    with monkeypatch.context() as patch:
        patch.setattr("apsw.sqlite_lib_version", lambda: "3.51.2")
        for one in (path, path.with_name("new.db")):
            refusal = refused(one)
            assert "SQLite 3.51.2" in str(refusal) and "pip install" in refusal.next_step
    assert not path.with_name("new.db").exists()


@pytest.mark.parametrize("mode", ["wal", "truncate"])
def test_every_commit_is_synced_whole_and_secrets_are_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """TRUNCATE only where the disk has no memory to share."""
    monkeypatch.setattr(database, "shares_memory", lambda _: mode == "wal")
    ledger = open_ledger(tmp_path / "ledger.db")
    pay(ledger, wish())
    connection = ledger._database._connection
    assert connection is not None
    settings = [
        connection.pragma(name) for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
    ]
    assert settings == [mode, 2, 1, 1]
    assert ledger.journal == mode.upper()
    assert ledger.verify() == []


def test_opening_writes_nothing_and_reads_little(
    ledger: SqliteLedger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pay(ledger, wish())
    ledger.close()
    before = path.read_bytes(), path.stat().st_mtime_ns
    said: list[str] = []

    def listening(name: str, flags: int) -> apsw.Connection:
        connection = real(name, flags=flags)
        connection.trace_v2(apsw.SQLITE_TRACE_STMT, lambda told: said.append(told["sql"].lstrip().upper()))
        return connection

    real = apsw.Connection
    with monkeypatch.context() as patch:
        patch.setattr("apsw.Connection", listening)
        open_ledger(path).close()
    assert said
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert len([one for one in said if not one.startswith("PRAGMA")]) <= 3
    assert not [one for one in said if one.startswith(("BEGIN", "INSERT", "UPDATE", "CREATE"))]


def test_a_ledger_that_stays_locked_is_busy_not_broken(
    ledger: SqliteLedger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    ledger.close()
    with books(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerBusy):
            ledger.reserve(wish(), [])
    assert ledger.reserve(wish(), []).state == "reserved"


def test_threads_share_a_ledger_and_never_pass_its_limit(ledger: SqliteLedger) -> None:
    bound, paid = limit("jobs", "day", 20), list[str]()

    def spend() -> None:
        for _ in range(20):
            try:
                paid.append(pay(ledger, wish(1), bound))
            except BudgetExceeded:
                return

    threads = [threading.Thread(target=spend) for _ in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(paid) == len(set(paid)) == 20


def test_a_ledger_survives_a_fork_on_both_sides(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path / "ledger.db")
    pay(ledger, wish())
    asked = [wish() for _ in range(3)]
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert ledger._database._connection is None  # nothing of SQLite is carried over
            pay(ledger, asked[0])
            code = 0 if ledger.verify() == [] else 2
        finally:
            os._exit(code)
    pay(ledger, asked[1])
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    pay(ledger, asked[2])
    assert len(ledger.holds()) == 4
    assert ledger.verify() == []


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # that is what is tried here
def test_a_fork_waits_for_the_transaction_of_another_thread(ledger: SqliteLedger) -> None:
    inside, forked, order = threading.Event(), threading.Event(), list[str]()

    def write() -> None:
        with ledger._database.transaction() as tx:
            tx.event("", "freeze", "", "frozen", why="x")
            tx.run("INSERT INTO brake VALUES ('freeze', 'x')")
            inside.set()
            forked.wait(0.2)
            order.append("committed")

    thread = threading.Thread(target=write)
    thread.start()
    inside.wait(10)
    child = os.fork()
    if child == 0:
        os._exit(0 if ledger.frozen() == "x" else 1)
    order.append("forked")
    forked.set()
    thread.join()
    _, status = os.waitpid(child, 0)
    assert order == ["committed", "forked"]
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_ledger_that_an_interrupt_left_locked_closes_and_opens_again(
    path: Path, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ledger._database, "give_back", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ledger.reserve(wish(), ())
    assert asked(path, "SELECT count(*) FROM hold") == [(1,)], "it was committed before"

    with pytest.raises(LedgerBusy, match="interrupted"):  # at once
        ledger.reserve(wish(), ())
    ledger.close()
    assert pay(ledger, wish())


def test_a_signal_that_closes_the_ledger_in_the_middle_of_a_verb_undoes_it(path: Path) -> None:
    closes = list[bool]()

    def random(length: int) -> bytes:
        if closes:
            ledger.close()
        return system_random(length)

    ledger = SqliteLedger(path, clock=SteppedClock(), random=random)
    closes.append(True)
    with pytest.raises(LedgerError):
        ledger.reserve(wish(), ())
    closes.clear()
    assert asked(path, "SELECT count(*) FROM hold") == [(0,)]
    assert pay(ledger, wish())
    ledger.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_two_threads_that_fork_at_once_leave_the_ledger_free(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, both = threading.Event(), threading.Event()
    closed = ledger._database._disconnect

    def slow() -> None:
        first.set()
        both.wait(0.3)
        closed()

    monkeypatch.setattr(ledger._database, "_disconnect", slow)
    children = list[int]()

    def fork() -> None:
        child = os.fork()
        if child == 0:
            os._exit(1 if ledger._database._lock.locked() else 0)
        children.append(child)

    threads = [threading.Thread(target=fork, daemon=True) for _ in range(2)]
    threads[0].start()
    first.wait(10)
    threads[1].start()
    for each in threads:
        each.join(30)
    monkeypatch.undo()
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    assert not ledger._database._lock.locked()
    assert pay(ledger, wish())


def test_many_processes_making_one_ledger_make_one(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state" / "ledger.db"
    code = (
        "import sys; from x402_audio.ledger.sqlite import SqliteLedger\n"
        "from x402_audio.clock import SystemClock, system_random\n"
        "book = SqliteLedger(sys.argv[1], clock=SystemClock(), random=system_random)\n"
        "book.remember_seller(sys.argv[2], 'direct')\n"
    )
    root = str(Path(__file__).parent.parent.parent)
    makers = [
        subprocess.Popen([sys.executable, "-c", code, str(path), f"https://{n}"], cwd=root) for n in range(5)
    ]
    assert [one.wait(60) for one in makers] == [0] * 5
    ledger = open_ledger(path)
    assert len(ledger.events()) == 5
    assert ledger.verify() == []


def test_a_backup_is_the_whole_ledger_private_and_never_overwrites(
    ledger: SqliteLedger, tmp_path: Path
) -> None:
    hold = ledger.depart(ledger.reserve(wish(), []).id, b"header")
    copy = tmp_path / "backup.db"
    ledger.backup(str(copy))
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    restored = open_ledger(copy)
    assert (restored.hold(hold.id), restored.header_of(hold.id), restored.verify()) == (hold, b"header", [])
    with pytest.raises(LedgerError):
        ledger.backup(str(copy))


def test_a_stored_header_that_is_damaged_is_not_sent(ledger: SqliteLedger) -> None:
    hold = ledger.depart(ledger.reserve(wish(), []).id, b"hea\xffer")
    with pytest.raises(LedgerError, match="damaged") as error:
        ledger.header_of(hold.id)
    assert "backup" in error.value.next_step


def test_a_clock_that_shows_no_time_writes_nothing(path: Path) -> None:
    clock = SteppedClock()
    ledger = SqliteLedger(path, clock=clock, random=counted_random())
    for wrong in (-1.0, float("nan"), float("inf")):
        clock.at = wrong
        with pytest.raises(LedgerError):
            ledger.reserve(wish(), [])
    clock.at = 1.0
    assert ledger.holds() == []


def test_no_statement_of_a_payment_reads_the_whole_past(ledger: SqliteLedger) -> None:
    connection = ledger._database._connection
    assert connection is not None
    large = ("hold", "job", "event", "use", "entry", "secret")
    far = ("SCAN", "(wallet=?)", "(state=?)", ">? AND purchase<?")
    found = dict[str, str]()
    for room in (approvals, credit_book, holds, jobs_book, payees, spending):
        statements = {
            name: text for name, text in vars(room).items() if isinstance(text, str) and " WHERE " in text
        }
        for name, text in statements.items():
            numbered = [int(one) for one in re.findall(r"\?(\d)", text)]
            values = [None] * max(numbered, default=text.count("?"))
            for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {text}", values):
                if (
                    not {*large}.isdisjoint(step.split()[1:2])
                    and any(word in step for word in far)
                    and name not in FEW
                ):
                    found[name] = step
    assert found == {}


def test_what_is_open_is_found_without_reading_what_is_over(ledger: SqliteLedger) -> None:
    connection, said = ledger._database._connection, list[str]()
    assert connection is not None
    connection.trace_v2(apsw.SQLITE_TRACE_STMT, lambda told: said.append(told["sql"]))
    ledger.holds(wallet=WALLET, states=("reserved", "signed"), kind="credit")
    ledger.holds(states=("presumed",))
    ledger.holds(job_id="jingle", states=("settled",))
    ledger.jobs(wallet=WALLET, unfinished=True, due_by=1.0)
    ledger.jobs(wallet=WALLET, states=("parked", "queued"))
    ledger.waiting(WALLET)
    ledger.similar_open_job("digest", WALLET, 60)
    ledger.events(wallet=WALLET, subject=f"reading:{ORIGIN}")
    connection.trace_v2(0)
    selects = [text for text in said if text.startswith("SELECT") and "seq DESC" not in text]
    assert len(selects) == 8
    plans = [
        [step for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {text}", [None] * text.count("?"))]
        for text in selects
    ]
    whole = re.compile(
        r"SCAN (hold|job|event)( USING (COVERING )?INDEX (?!hold_open_purchase|hold_doubtful|job_unfinished).*)?$"
    )
    assert [plan for plan in plans if any(whole.match(step) for step in plan)] == []


def test_every_choice_of_states_finds_the_holds_in_them_oldest_first(ledger: SqliteLedger) -> None:
    for _ in range(2):
        ledger.reserve(wish(), [])
        signed(ledger, wish())
        ledger.deliver(signed(ledger, wish()), "answered 2xx")
        ledger.presume(signed(ledger, wish()), why="no witness")
        ledger.deliver(ledger.presume(signed(ledger, wish()), why="no witness").id, "answered 2xx")
        ledger.void(ledger.reserve(wish(), []).id, evidence="unused")
        pay(ledger, wish())
        ledger.settle(signed(ledger, wish()), evidence="chain", delivered=False)
    pay(ledger, top_up())
    every = ledger.holds()
    assert [hold.created_at for hold in every] == sorted(hold.created_at for hold in every)
    states = ("reserved", "signed", "settled", "void", "presumed")
    for size in range(1, 6):
        for chosen in combinations(states, size):
            assert ledger.holds(states=chosen) == [hold for hold in every if hold.state in chosen]
            assert ledger.holds(states=chosen, wallet=WALLET.upper().replace("X", "x"), kind="topup") == [
                hold for hold in every if hold.state in chosen and hold.kind == "topup"
            ]


def test_every_choice_of_states_finds_the_jobs_in_them_oldest_first(ledger: SqliteLedger) -> None:
    states: tuple[JobState, ...] = ("planned", "quoted", "parked", "failed", "cancelled", "expired")
    for number in range(2):
        for state in states:
            job, _ = ledger.add_job(new_job(f"{state}-{number}"))
            if state != "planned":
                reason = {"parked_reason": "owner"} if state == "parked" else {}
                ledger.move(job.id, job.epoch, state, **reason)
    every = ledger.jobs()
    assert [job.id for job in every] == [f"{state}-{number}" for number in range(2) for state in states]
    for size in range(1, 7):
        for chosen in combinations(states, size):
            assert ledger.jobs(states=chosen) == [job for job in every if job.state in chosen]
    assert ledger.jobs(unfinished=True, limit=4) == [job for job in every if job.state in states[:3]][:4]
