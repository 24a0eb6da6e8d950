"""The write-ahead log: what only holds because the ledger keeps one, and what must hold although it does."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import apsw
import pytest

from tests.books import READ_ONLY, asked, books
from tests.ledger.desk import SteppedClock, limit, pay, signed, wish
from tests.ledger.migrated import old_ledger
from x402_audio.clock import system_random
from x402_audio.errors import BudgetExceeded, LedgerError
from x402_audio.ledger import database, place
from x402_audio.ledger.database import View
from x402_audio.ledger.place import check_whole, shares_memory
from x402_audio.ledger.schema import SCHEMA_VERSION
from x402_audio.ledger.sqlite import SqliteLedger

ROOT = Path(__file__).parents[2]
HEADER = b"eyJzaWduYXR1cmUiOiIweGZlZWRmYWNl"
PAGE = 4096
FRAME = PAGE + 24
HEAD = 32
"""Of the log, before its first frame."""
WRITER = """
import sys
from tests.ledger.desk import SteppedClock, limit, wish
from x402_audio.clock import system_random
from x402_audio.errors import BudgetExceeded
from x402_audio.ledger.sqlite import SqliteLedger
ledger = SqliteLedger(sys.argv[1], clock=SteppedClock(), random=system_random)
ledger._database._connection.wal_autocheckpoint(int(sys.argv[3]))
for number in range(10**6):
    name = f"{sys.argv[2]}-{number}"
    try:
        hold = ledger.reserve(wish(1, purchase=name, nonce="0x" + name.encode().hex().rjust(64, "0")), [limit("jobs", "day", 300)])
    except BudgetExceeded:
        break
    print(name, flush=True)
    if number % 3 == 0:
        ledger.settle(ledger.depart(hold.id, b"header").id, evidence="receipt")
"""
"""Reserves a cent at a time until no room is left; takes its log up after every commit, or seldom."""


def open_ledger(path: Path) -> SqliteLedger:
    return SqliteLedger(path, clock=SteppedClock(), random=system_random)


def log_of(path: Path) -> Path:
    return Path(f"{path}-wal")


def die_after(path: Path, *purchases: str) -> None:
    """Another process reserves these and is killed, with its log left."""
    command = [sys.executable, "-m", "tests.ledger.dying", str(path), *purchases]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout.split()) == (-signal.SIGKILL, [*purchases]), ended.stderr


def purchases(ledger: SqliteLedger) -> list[str]:
    return [hold.purchase for hold in ledger.holds()]


def found(folder: Path, what: bytes) -> list[str]:
    """The files that hold these bytes."""
    return sorted(one.name for one in folder.iterdir() if what in one.read_bytes())


# --- what a dead program leaves
def test_what_a_killed_program_committed_is_there_and_its_log_is_taken_up(path: Path) -> None:
    die_after(path, "one", "two")
    assert log_of(path).stat().st_size > FRAME
    with closing(open_ledger(path)) as ledger:
        assert purchases(ledger) == ["one", "two"]
        assert ledger.verify() == []
        assert ledger.reserve(wish(1, purchase="two"), []).adopted, "bought once, whoever asks again"
    assert [one.name for one in path.parent.iterdir()] == ["ledger.db"]
    die_after(path, "three")
    with closing(open_ledger(path)) as ledger:
        assert purchases(ledger) == ["one", "two", "three"]


OPENER = """
import sys
from tests.ledger.desk import SteppedClock
from x402_audio.clock import system_random
from x402_audio.ledger.sqlite import SqliteLedger
sys.stdin.readline()
for number in range(20):
    ledger = SqliteLedger(sys.argv[1], clock=SteppedClock(), random=system_random, create=False)
    ledger.remember_seller(f"https://{sys.argv[2]}-{number}.example", "direct")
    assert len(ledger.holds()) >= 2
    ledger.close()
"""


def test_programs_that_come_at_once_after_a_kill_all_find_the_books(path: Path) -> None:
    """One of them reads the log anew, and whoever closes last takes it up and removes it, while others open it."""
    die_after(path, "one", "two")
    openers = [
        subprocess.Popen([sys.executable, "-c", OPENER, str(path), str(number)], stdin=subprocess.PIPE, cwd=ROOT)
        for number in range(6)
    ]  # fmt: skip
    for one in openers:
        assert one.stdin is not None
        one.stdin.write(b"go\n")
        one.stdin.close()
    assert [one.wait(120) for one in openers] == [0] * len(openers)
    with closing(open_ledger(path)) as ledger:
        assert len([event for event in ledger.events() if event.subject.startswith("seller:")]) == 6 * 20
        assert (purchases(ledger), ledger.verify()) == (["one", "two"], [])


def test_a_log_torn_anywhere_keeps_every_commit_that_was_synced_whole(path: Path, tmp_path: Path) -> None:
    """A power cut tears what was not synced: the tail of the log, in any length, with anything in it."""
    dice, lengths = random.Random(9), list[int]()
    path.parent.mkdir(mode=0o700)
    names = [f"p{number}" for number in range(4)]
    for number in range(1, len(names) + 1):
        path.unlink(missing_ok=True)
        for suffix in place.COMPANIONS:
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        die_after(path, *names[:number])
        lengths.append(log_of(path).stat().st_size)
    file, log = path.read_bytes(), log_of(path).read_bytes()
    assert lengths == sorted(set(lengths)), "each commit makes the log longer"
    for number, cut in enumerate(sorted(dice.randrange(lengths[-1] + 1) for _ in range(40))):
        folder = tmp_path / f"cut-{number}"
        folder.mkdir(mode=0o700)
        torn = folder / "ledger.db"
        torn.write_bytes(file)
        log_of(torn).write_bytes(log[:cut] + dice.randbytes(dice.choice((0, 13, FRAME, 3 * FRAME))))
        for one in folder.iterdir():
            one.chmod(0o600)
        whole = sum(length <= cut for length in lengths)
        with closing(open_ledger(torn)) as ledger:
            assert purchases(ledger) == names[:whole], cut
            assert ledger.verify() == []
            ledger.reserve(wish(1), [])
            assert ledger.verify() == []


def test_writers_that_take_up_each_others_log_lose_nothing(path: Path) -> None:
    """The WAL-reset race lost a commit here: one restarts the log that another writes into."""
    open_ledger(path).close()
    how_often = ("1", "1", "1000", "7")
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), f"w{number}", pages],
                         stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for number, pages in enumerate(how_often)
    ]  # fmt: skip
    told = [name for one in writers for name in one.communicate(timeout=120)[0].split()]
    assert [one.returncode for one in writers] == [0] * len(writers)
    with closing(open_ledger(path)) as ledger:
        assert sorted(purchases(ledger)) == sorted(told)
        assert len(told) == 300, "the day's limit, to the cent"
        assert ledger.verify() == []
        with pytest.raises(BudgetExceeded):
            ledger.reserve(wish(1), [limit("jobs", "day", 300)])


# --- readers
def broken_off(view: View) -> NoReturn:
    """A reading that ends in the middle, and what is still held of it."""
    rows = view.each("SELECT * FROM event")
    next(rows)
    raise ZeroDivisionError(rows)


def test_a_reading_that_breaks_off_holds_up_nobody(ledger: SqliteLedger, path: Path) -> None:
    """A statement that is not read to its end would keep its state of the file: writing then were refused for ever."""
    for _ in range(3):
        pay(ledger, wish())
    kept: list[object] = []
    for _ in range(2):
        with pytest.raises(ZeroDivisionError) as held, ledger._database.reading() as view:
            broken_off(view)
        kept.append(held.value)
        with closing(open_ledger(path)) as other:
            pay(other, wish())
        with books(path) as beside:
            beside.pragma("user_version")
            assert beside.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE) == (0, 0), "nobody reads"
        pay(ledger, wish())
    assert ledger.verify() == []


def test_the_first_row_of_many_is_asked_for_and_the_rest_let_go(ledger: SqliteLedger) -> None:
    pay(ledger, wish())
    with ledger._database.reading() as view:
        assert view.one("SELECT seq FROM event ORDER BY seq") == (1,)
        connection = ledger._database._connection
        assert connection is not None
        connection.execute("COMMIT")
        assert connection.txn_state() == apsw.SQLITE_TXN_NONE


def test_a_reader_waits_for_no_writer_and_sees_one_state(ledger: SqliteLedger, path: Path) -> None:
    pay(ledger, wish())
    with closing(open_ledger(path)) as other, other._database.reading() as view:
        before = view.all("SELECT count(*) FROM event")
        done = threading.Thread(target=lambda: [pay(ledger, wish()) for _ in range(3)])
        done.start()
        done.join(20)
        assert not done.is_alive()
        assert view.all("SELECT count(*) FROM event") == before


def test_a_row_that_is_there_already_is_not_counted(ledger: SqliteLedger) -> None:
    with ledger._database.transaction() as tx:
        put = "INSERT OR IGNORE INTO seller VALUES (?, ?)"
        assert [tx.run(put, ("https://a", "direct")), tx.run(put, ("https://a", "direct"))] == [1, 0]
        assert tx.run("UPDATE seller SET kind = 'direct' WHERE origin = 'https://b'") == 0
        assert tx.run("DELETE FROM seller") == 1


# --- secrets
def end_with(verb: str) -> Callable[[SqliteLedger, str], object]:
    ends: dict[str, Callable[[SqliteLedger, str], object]] = {
        "settle": lambda ledger, hold: ledger.settle(hold, evidence="receipt"),
        "void": lambda ledger, hold: ledger.void(hold, evidence="unused"),
        "presume": lambda ledger, hold: ledger.presume(hold, why="no witness"),
        "rewrap": lambda ledger, hold: ledger.rewrap(hold, "v2", b"another"),
    }
    return ends[verb]


@pytest.mark.parametrize("verb", ["settle", "void", "presume", "rewrap"])
def test_a_header_that_is_gone_is_in_no_file(ledger: SqliteLedger, path: Path, verb: str) -> None:
    hold = ledger.depart(ledger.reserve(wish(), []).id, HEADER)
    assert found(path.parent, HEADER) == ["ledger.db-wal"]
    end_with(verb)(ledger, hold.id)
    assert found(path.parent, HEADER) == []


def test_a_header_the_file_had_taken_up_already_is_gone_too(ledger: SqliteLedger, path: Path) -> None:
    hold = ledger.depart(ledger.reserve(wish(), []).id, HEADER)
    with books(path) as other:
        other.pragma("user_version")
        other.wal_checkpoint()
    assert found(path.parent, HEADER) == ["ledger.db", "ledger.db-wal"]
    ledger.settle(hold.id, evidence="receipt")
    assert found(path.parent, HEADER) == []


def test_where_no_header_was_stored_the_log_is_left_alone(ledger: SqliteLedger, path: Path) -> None:
    ledger.settle(ledger.reserve(wish(), []).id, evidence="receipt")
    ledger.depart(ledger.reserve(wish(), []).id, HEADER)
    before = log_of(path).stat().st_size
    ledger.void(ledger.reserve(wish(), []).id, evidence="unused")
    assert log_of(path).stat().st_size > before > 0


def test_what_a_reader_held_up_goes_when_the_program_ends_though_others_go_on(path: Path) -> None:
    ledger = open_ledger(path)
    hold = ledger.depart(ledger.reserve(wish(), []).id, HEADER)
    with books(path, READ_ONLY) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM event").fetchall()
        ledger.settle(hold.id, evidence="receipt")
        other.execute("COMMIT")
        assert found(path.parent, HEADER) != []
        ledger.close()
        assert found(path.parent, HEADER) == []


@pytest.mark.parametrize("begins", [False, True])
def test_a_header_whose_end_was_interrupted_as_the_disk_had_it_goes_when_the_program_ends(
    path: Path, monkeypatch: pytest.MonkeyPatch, begins: bool
) -> None:
    class Interrupted:
        """The signal came while the commit waited for the disk."""

        def __init__(self, connection: apsw.Connection) -> None:
            self._connection = connection

        def execute(self, statement: str, *values: Any) -> Any:
            cursor = self._connection.execute(statement, *values)
            if statement == "COMMIT":
                raise KeyboardInterrupt
            return cursor

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

    ledger = open_ledger(path)
    hold = ledger.depart(ledger.reserve(wish(), []).id, HEADER)
    with books(path, READ_ONLY) as other:
        other.execute("SELECT count(*) FROM event").fetchall()
        connection = ledger._database._connection
        assert connection is not None
        with monkeypatch.context() as patch:
            patch.setattr(ledger._database, "_connection", Interrupted(connection))
            settle = partial(ledger.settle, hold.id, evidence="receipt")
            with pytest.raises(KeyboardInterrupt):
                (ledger.begin(settle)[1] if begins else settle)()
        assert ledger.hold(hold.id).state == "settled"
        ledger.close()
        assert found(path.parent, HEADER) == []


def test_a_reader_makes_nobody_wait_and_what_it_holds_up_goes_with_the_next_transaction(
    ledger: SqliteLedger, path: Path
) -> None:
    hold = ledger.depart(ledger.reserve(wish(), []).id, HEADER)
    with books(path, READ_ONLY) as reader:
        began = time.monotonic()
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM event").fetchall()
        assert ledger.settle(hold.id, evidence="receipt").state == "settled"
        assert ledger.reserve(wish(), []).state == "reserved"
        assert time.monotonic() - began < database.BUSY_S / 3
        assert found(path.parent, HEADER) != []
        reader.execute("COMMIT")
    ledger.reserve(wish(), [])
    assert found(path.parent, HEADER) == []
    assert ledger.verify() == []


def test_a_log_that_cannot_be_taken_up_fails_no_payment_that_is_committed(
    ledger: SqliteLedger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = ledger.depart(ledger.reserve(wish(), []).id, HEADER)
    heard: list[str] = []
    ledger.listen(lambda event: heard.append(event.to))
    with monkeypatch.context() as patch:
        patch.setattr("apsw.SQLITE_CHECKPOINT_TRUNCATE", 99)  # which SQLite refuses
        assert ledger.settle(hold.id, evidence="receipt").state == "settled"
    assert "settled" in heard
    assert found(path.parent, HEADER) != []
    ledger.now()
    assert ledger.hold(hold.id).state == "settled"
    ledger.reserve(wish(), [])
    assert found(path.parent, HEADER) == []


# --- files that lie beside each other
@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
@pytest.mark.parametrize("what", ["gone", "replaced"])
def test_a_log_taken_away_under_an_open_ledger_stops_it(path: Path, suffix: str, what: str) -> None:
    """SQLite would go on committing into a file that nobody finds again."""
    ledger = open_ledger(path)
    ledger.reserve(wish(), [])
    beside = Path(f"{path}{suffix}")
    kept = beside.read_bytes()
    beside.unlink()
    if what == "replaced":
        beside.write_bytes(kept)
    for use in (lambda: ledger.reserve(wish(), []), ledger.now, ledger.verify):
        with pytest.raises(LedgerError, match=f"{suffix}, (is|was) {what}") as error:
            use()
        assert error.value.owner == "human" and error.value.next_step
    ledger.close()
    with closing(open_ledger(path)) as again:
        assert len(again.holds()) == 1, "what was committed before is taken up, or still in the log"
        assert again.verify() == []


@pytest.mark.parametrize("noticed", [True, False])
@pytest.mark.parametrize("log", ["left", "moved away"])
def test_a_copy_put_over_an_open_ledger_gets_nothing_of_its_log(
    path: Path, tmp_path: Path, noticed: bool, log: str
) -> None:
    copy = tmp_path / "backup.db"
    ledger = open_ledger(path)
    ledger.reserve(wish(), [])
    ledger.backup(str(copy))
    ledger.reserve(wish(), [])
    if log == "moved away":
        for suffix in place.LOG:
            Path(f"{path}{suffix}").unlink()
    shutil.copyfile(copy, path)
    if noticed:
        with pytest.raises(LedgerError, match="while this program had it open"):
            ledger.reserve(wish(), [])
    ledger.close()
    assert path.read_bytes() == copy.read_bytes()
    for suffix in place.LOG:
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    with closing(open_ledger(path)) as again:
        assert len(again.holds()) == 1
        assert again.verify() == []


def test_no_log_is_written_into_a_ledger_whose_shared_memory_others_made_anew(path: Path) -> None:
    """They know nothing of our part of the log, and we nothing of theirs."""
    ledger = open_ledger(path)
    ledger.reserve(wish(), [])
    Path(f"{path}-shm").unlink()
    die_after(path, "one")
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="-shm, was replaced"):
        ledger.reserve(wish(), [])
    ledger.close()
    assert path.read_bytes() == before
    with closing(open_ledger(path)) as again:
        assert "one" in purchases(again)
        assert again.verify() == []


def test_a_backup_holds_what_only_the_log_has_and_stands_alone(ledger: SqliteLedger, tmp_path: Path) -> None:
    kept = [pay(ledger, wish()), ledger.reserve(wish(), []).id]
    assert log_of(Path(ledger.path)).stat().st_size > FRAME
    folder = tmp_path / "kept"
    folder.mkdir(mode=0o700)
    copy = folder / "backup.db"
    ledger.backup(str(copy))
    assert [one.name for one in folder.iterdir()] == ["backup.db"]
    assert copy.read_bytes()[18:20] == b"\1\1", "by this a copy in the ledger's place is known"
    with closing(open_ledger(copy)) as restored:
        assert [hold.id for hold in restored.holds()] == kept
        assert (restored.journal, restored.verify()) == ("WAL", [])


def test_a_copy_put_over_a_dead_programs_ledger_meets_no_foreign_log(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "backup.db"
    with closing(open_ledger(path)) as ledger:
        pay(ledger, wish())
        ledger.backup(str(copy))
    die_after(path, "one")
    shutil.copyfile(copy, path)
    left = path.read_bytes(), log_of(path).read_bytes()
    with pytest.raises(LedgerError, match="is the log of another ledger than") as error:
        open_ledger(path)
    assert error.value.next_step.startswith(f"move {path}-wal and {path}-shm away")
    assert (path.read_bytes(), log_of(path).read_bytes()) == left
    for suffix in place.LOG:
        Path(f"{path}{suffix}").unlink()
    with closing(open_ledger(path)) as ledger:
        assert len(ledger.holds()) == 1
        assert ledger.verify() == []


# --- half a page
def test_half_a_page_is_refused_and_no_log_hides_it(path: Path) -> None:
    """A checkpoint makes the file as long as it must be: the half that is missing would read as zeros ever after."""
    open_ledger(path).close()
    die_after(path, "one")
    os.truncate(path, path.stat().st_size - 1000)
    cut = path.read_bytes()
    for _ in range(2):
        with pytest.raises(LedgerError, match="cut short in the middle of a page"):
            open_ledger(path)
        assert path.read_bytes() == cut


def test_half_a_page_found_in_a_transaction_stays_as_it_is(path: Path) -> None:
    ledger = open_ledger(path)
    ledger.reserve(wish(), [])
    os.truncate(path, path.stat().st_size - 1000)
    cut = path.read_bytes()
    for _ in range(2):  # nor is it forgotten
        with pytest.raises(LedgerError, match="cut short in the middle of a page"):
            ledger.reserve(wish(), [])
    ledger.close()
    assert path.read_bytes() == cut


def test_half_a_page_that_the_log_has_whole_is_a_checkpoint_that_broke_off(path: Path) -> None:
    open_ledger(path).close()
    before = path.stat().st_size
    die_after(path, *(f"p{number}" for number in range(30)))
    log = log_of(path).read_bytes()
    starts = range(HEAD, len(log), FRAME)
    pages = {int.from_bytes(log[at : at + 4]): log[at + 24 : at + FRAME] for at in starts}
    longer = before // PAGE + 1
    assert longer in pages, "the last commits made the file longer"
    with path.open("ab") as file:
        file.write(pages[longer][:1000])
    check_whole(str(path), PAGE)
    with closing(open_ledger(path)) as ledger:
        assert len(ledger.holds()) == 30
        ledger.reserve(wish(), [])
        assert ledger.verify() == []
    assert path.stat().st_size % PAGE == 0


# --- how a ledger comes to keep a log
def test_a_ledger_of_the_first_release_keeps_a_log_once_it_is_opened(tmp_path: Path) -> None:
    path = old_ledger(tmp_path / "state" / "ledger.db")
    Path(f"{path}-journal").touch(0o600)
    assert asked(path, "PRAGMA journal_mode") == [("delete",)]
    with closing(open_ledger(path)) as ledger:
        assert (ledger.journal, ledger.verify()) == ("WAL", [])
        assert {one.name for one in path.parent.iterdir()} >= {"ledger.db-wal", "ledger.db-shm"}
        assert len(ledger.jobs()) == 6
    assert asked(path, "PRAGMA journal_mode") == [("wal",)]
    assert {one.name for one in path.parent.iterdir()} == {"ledger.db", f"ledger.db.before-v{SCHEMA_VERSION}"}


@pytest.mark.parametrize("use", ["BEGIN IMMEDIATE", "BEGIN; SELECT count(*) FROM event"])
def test_while_others_use_it_a_ledger_stays_as_it_is_and_nobody_waits(tmp_path: Path, use: str) -> None:
    path = tmp_path / "ledger.db"
    open_ledger(path).close()
    asked(path, "PRAGMA journal_mode = delete")
    with books(path) as other:
        other.execute(use).fetchall()
        began = time.monotonic()
        with closing(open_ledger(path)) as ledger:
            assert time.monotonic() - began < database.BUSY_S / 3
            assert ledger.journal == "TRUNCATE"
            assert ledger.holds() == []
            other.execute("COMMIT")
            pay(ledger, wish())
            with closing(open_ledger(path)) as newer:  # nobody is within a transaction now
                assert newer.journal == "WAL"
                pay(newer, wish())
                pay(ledger, wish())
                assert (len(ledger.holds()), len(newer.holds())) == (3, 3)
                assert (ledger.journal, ledger.verify()) == ("WAL", [])


def test_where_programs_cannot_share_memory_every_commit_goes_into_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "shares_memory", lambda _: False)
    path = tmp_path / "state" / "ledger.db"
    with closing(open_ledger(path)) as ledger:
        hold = ledger.depart(ledger.reserve(wish(), []).id, HEADER)
        assert found(path.parent, HEADER) == ["ledger.db"]
        ledger.settle(hold.id, evidence="receipt")
        assert found(path.parent, HEADER) == []
        assert {one.name for one in path.parent.iterdir()} == {"ledger.db", "ledger.db-journal"}
        signed(ledger, wish())
        assert ledger.verify() == []
    with closing(open_ledger(path)) as ledger:
        assert (ledger.journal, len(ledger.holds())) == ("TRUNCATE", 2)


def test_whether_memory_can_be_shared_is_tried_on_an_unknown_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "_filesystem", lambda *_: "fuse.unheard")
    folder = tmp_path / "books"
    folder.mkdir()
    assert shares_memory(folder)

    def refuse(*_: object) -> None:
        raise OSError(19, "No such device")

    monkeypatch.setattr("mmap.mmap", refuse)
    assert not shares_memory(folder)
    assert list(folder.iterdir()) == []
