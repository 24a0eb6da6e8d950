"""An older ledger comes forward whole or not at all, with a copy beside it, under the eyes of other programs."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.books import asked, books
from tests.ledger.desk import SteppedClock, pay, wish
from tests.ledger.migrated import LATER, NOW, STEPS, as_version, old_ledger
from x402_audio.clock import system_random
from x402_audio.errors import ApprovalWanted, LedgerError
from x402_audio.ledger import migration, schema
from x402_audio.ledger.migration import statements
from x402_audio.ledger.place import COMPANIONS
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc

ROOT = Path(__file__).parents[2]
HEADS = {
    "": "936caacf0e2c000d52f8b2767141bc683e968d29967a43fa30533e87bab6fef3",
    "0x" + "a1" * 20: "bbdbc7d66644e7b5f6c1d497500ce24d6aea200921367e147eaad00f4022d294",
}
"""What the program that made `tests/data/ledger-v1.sql` printed as its heads."""
Program = subprocess.Popen[str]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger as version 0.1.0 wrote it."""
    return old_ledger(tmp_path / "state" / "ledger.db")


@pytest.fixture
def program() -> Iterator[Callable[..., Program]]:
    """Starts programs of other versions."""
    with ExitStack() as stack:

        def start(path: Path, version: int) -> Program:
            started = subprocess.Popen(
                [sys.executable, "-m", "tests.ledger.opener", str(path), str(version)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            )  # fmt: skip
            stack.enter_context(started)
            stack.callback(started.kill)
            return started

        yield start


def tell(program: Program, word: str) -> str:
    """Have a program do something; what it says."""
    assert program.stdin is not None
    program.stdin.write(word + "\n")
    program.stdin.flush()
    return hear(program)


def hear(program: Program) -> str:
    assert program.stdout is not None
    return program.stdout.readline().strip()


def open_ledger(path: Path) -> SqliteLedger:
    return SqliteLedger(path, clock=SteppedClock(), random=system_random, create=False)


def version_of(path: Path) -> object:
    return asked(path, "PRAGMA user_version")[0][0]


def beside(path: Path) -> set[str]:
    """Copies and drafts beside a ledger."""
    return {one.name.removeprefix(path.name) for one in path.parent.iterdir()} - {"", *COMPANIONS}


def test_a_ledger_of_version_1_is_read_as_its_own_program_left_it(path: Path) -> None:
    with closing(open_ledger(path)) as ledger:
        assert ledger.verify() == []
        assert ledger.heads() == HEADS
        assert len(ledger.jobs()) == 6
        assert sorted(hold.state for hold in ledger.holds()) == [
            "presumed", "settled", "settled", "settled", "settled", "settled", "signed", "void",
        ]  # fmt: skip


def test_version_1_on_paper_is_what_the_released_program_wrote(path: Path) -> None:
    shape = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
    with books(":memory:") as made:
        made.execute(schema.TABLES).fetchall()
        assert made.execute(shape).fetchall() == asked(path, shape)


def test_an_old_ledger_comes_forward_with_everything_that_was_in_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_ledger(path)) as ledger:
        before = ledger.jobs(), ledger.holds(), ledger.events(), ledger.allowances([])
    as_version(LATER, monkeypatch)
    with closing(open_ledger(path)) as ledger:
        assert (ledger.jobs(), ledger.holds(), ledger.events(), ledger.allowances([])) == before
        assert (ledger.heads(), ledger.verify()) == (HEADS, [])
        ledger.unfreeze("the owner, on a terminal")
        pay(ledger, wish(nonce="0x" + "77" * 32))
        assert ledger.verify() == []
    assert version_of(path) == LATER
    assert asked(path, "SELECT * FROM later") == [("old", "from before", 1.5)]


def test_the_prices_that_version_2_knew_are_held_against_later_ones(path: Path) -> None:
    with books(path) as connection:
        connection.execute(f"BEGIN; {schema.MIGRATIONS[2]} PRAGMA user_version = 2;").fetchall()
        connection.execute(
            "INSERT INTO sized SELECT id, origin, model, '60 s' FROM hold WHERE kind = 'direct' AND state = 'settled'"
        )
        kept = connection.execute("SELECT hold_id, size FROM sized ORDER BY hold_id").fetchall()
        connection.execute("COMMIT")
    assert kept
    with closing(open_ledger(path)) as ledger:
        paid = ledger.hold(str(kept[0][0]))
        ledger.unfreeze("the owner, on a terminal")
        assert paid.counted_at is not None
        same = wish(
            origin=paid.origin, pay_to=paid.pay_to, network=paid.network, environment=paid.environment,
            model=paid.model, size="60 s", amount=Usdc(paid.amount * 2), nonce="0x" + "77" * 32,
        )  # fmt: skip
        with pytest.raises(ApprovalWanted, match="above the lowest price"):
            ledger.reserve(same, [])
    assert asked(path, "SELECT id, size FROM hold WHERE size <> '' ORDER BY id") == kept


def test_every_chain_of_an_older_ledger_goes_on_where_it_ended(path: Path) -> None:
    others = ["0x" + "77" * 20, "0x" + "a1" * 20]
    with closing(open_ledger(path)) as ledger:
        assert dict(asked(path, "SELECT wallet, hash FROM head")) == HEADS
        for wallet in (*others, *others):
            ledger.unfreeze("go on")
            pay(ledger, wish(1, wallet=wallet))
            ledger.freeze("stop")
        assert ledger.verify() == []


def test_what_version_3_knew_is_found_by_the_shorter_looks_of_version_4(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        as_version(3, patch)
        with closing(open_ledger(path)) as ledger:
            jobs, holds, events = ledger.jobs(), ledger.holds(), ledger.events()
    with closing(open_ledger(path)) as ledger:
        assert (ledger.jobs(), ledger.holds(), ledger.events()) == (jobs, holds, events)
        assert (ledger.heads(), ledger.verify()) == (HEADS, [])
        over = [job for job in jobs if job.queued_at and job.state in ("completed", "failed", "expired")]
        assert over
        for job in over:
            ended = ledger.last_ended(job.wallet, job.origin, 100)
            assert {one.id for one in ended} == {one.id for one in over if one.origin == job.origin}
    index = "SELECT name FROM sqlite_master WHERE name IN ('hold_shown', 'job_ended') ORDER BY name"
    assert asked(path, index) == [("hold_shown",), ("job_ended",)]


def test_a_new_ledger_and_one_brought_forward_have_the_same_shape(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_version(LATER, monkeypatch)
    open_ledger(path).close()
    new = tmp_path / "new.db"
    SqliteLedger(new, clock=SteppedClock(), random=system_random).close()
    shape = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
    assert asked(new, shape) == asked(path, shape)
    assert beside(path) == {f".before-v{LATER}"}
    assert not list(tmp_path.glob("new.db.*")), "a new ledger needs no copy"


def test_the_copy_beside_it_is_private_whole_and_opens_with_the_old_program(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        as_version(LATER, patch)
        open_ledger(path).close()
    copy = path.with_name(f"ledger.db.before-v{LATER}")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert version_of(copy) == 1
    with closing(open_ledger(copy)) as ledger:
        assert (ledger.verify(), ledger.heads(), len(ledger.jobs())) == ([], HEADS, 6)


def test_no_copy_that_lies_there_is_overwritten_and_a_dead_programs_draft_is_no_hindrance(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_version(NOW, monkeypatch)
    path.with_name(f"ledger.db.before-v{NOW}").write_text("kept by hand")
    path.with_name(f"ledger.db.before-v{NOW}.part").write_text("half a copy")
    open_ledger(path).close()
    assert path.with_name(f"ledger.db.before-v{NOW}").read_text() == "kept by hand"
    assert beside(path) == {f".before-v{NOW}", f".before-v{NOW}.2"}
    assert version_of(path.with_name(f"ledger.db.before-v{NOW}.2")) == 1


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
def test_where_no_file_has_two_names_the_copy_is_kept_all_the_same_and_nothing_overwritten(
    path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    as_version(NOW, monkeypatch)
    path.with_name(f"ledger.db.before-v{NOW}").write_text("kept by hand")

    def no_links(*_: object, **__: object) -> None:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(os, "link", no_links)
    open_ledger(path).close()
    assert path.with_name(f"ledger.db.before-v{NOW}").read_text() == "kept by hand"
    assert beside(path) == {f".before-v{NOW}", f".before-v{NOW}.2"}
    copy = path.with_name(f"ledger.db.before-v{NOW}.2")
    assert (version_of(copy), stat.S_IMODE(copy.stat().st_mode)) == (1, 0o600)
    assert version_of(path) == NOW


def test_a_copy_that_cannot_be_named_leaves_the_ledger_and_no_empty_copy(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_version(NOW, monkeypatch)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(LedgerError):
        open_ledger(path)
    assert (version_of(path), beside(path)) == (1, set())


@pytest.mark.parametrize("broken", ["CREATE TABLE approval (id);", "SELEC 1;", "CREATE TABLE x ("])
def test_a_step_that_fails_leaves_the_ledger_as_it_was(
    broken: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        as_version(LATER, patch)
        patch.setattr(schema, "MIGRATIONS", {**STEPS, LATER: broken})
        with pytest.raises((LedgerError, ValueError)):
            open_ledger(path)
    assert version_of(path) == 1
    with closing(open_ledger(path)) as ledger:
        assert (ledger.verify(), ledger.heads()) == ([], HEADS)


def test_no_room_for_the_copy_means_no_migration(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_version(NOW, monkeypatch)

    def full(_: str) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(migration, "sync", full)
    with pytest.raises(LedgerError, match="No space left") as error:
        open_ledger(path)
    assert error.value.next_step
    assert (version_of(path), beside(path)) == (1, set())


def test_a_damaged_ledger_is_not_brought_forward(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 4096)
    before = path.read_bytes()
    as_version(NOW, monkeypatch)
    with pytest.raises(LedgerError, match="damaged"):
        open_ledger(path)
    assert (path.read_bytes(), beside(path)) == (before, set())


def test_new_programs_that_open_it_at_once_bring_it_forward_once(
    path: Path, program: Callable[..., Program]
) -> None:
    programs = [program(path, LATER) for _ in range(3)]
    assert [hear(one) for one in programs] == ["open"] * 3
    assert [tell(one, "verify") for one in programs] == ["[]"] * 3
    assert (version_of(path), beside(path)) == (LATER, {f".before-v{LATER}"})


def test_a_program_that_had_it_open_notices_and_neither_spends_nor_reads(
    path: Path, program: Callable[..., Program]
) -> None:
    old = program(path, 1)
    assert hear(old) == "open"
    assert hear(program(path, NOW)) == "open"
    before = path.read_bytes()
    for word in ("spend", "verify"):
        said = tell(old, word)
        assert said.startswith("LedgerError: ") and f"became schema {NOW} while this program" in said
    assert path.read_bytes() == before


def test_the_steps_wait_for_a_transaction_that_is_running(
    path: Path, program: Callable[..., Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    with books(path) as other:
        other.execute("BEGIN IMMEDIATE")
        newer = program(path, NOW)
        other.execute("INSERT INTO fact VALUES ('late', 'still there', 0)")
        other.execute("COMMIT")
    assert hear(newer) == "open"
    assert version_of(path) == NOW
    for one in (path, path.with_name(f"ledger.db.before-v{NOW}")):
        assert asked(one, "SELECT value FROM fact WHERE key = 'late'") == [("still there",)]


def test_a_newer_ledger_is_refused_by_an_older_program_and_left_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        as_version(LATER, patch)
        open_ledger(path).close()
    before = path.read_bytes()
    with pytest.raises(
        LedgerError, match=rf"newer x402-audio \(schema {LATER}, this one knows {NOW}\)"
    ) as error:
        open_ledger(path)
    assert (error.value.exit_code, error.value.next_step) == (2, "upgrade: pip install -U x402-audio")
    assert path.read_bytes() == before


def test_an_old_copy_put_over_an_open_ledger_is_noticed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = path.read_bytes()
    as_version(NOW, monkeypatch)
    with closing(open_ledger(path)) as ledger:
        path.write_bytes(kept)
        with pytest.raises(LedgerError, match="was replaced while this program had it open"):
            ledger.reserve(wish(), [])


def test_statements_are_taken_apart_where_sqlite_does() -> None:
    script = "CREATE TABLE a (b); -- no; end\nCREATE TRIGGER c DELETE ON a\nBEGIN SELECT 1; SELECT 2; END;\nDROP TABLE a;\n"
    assert [one.split()[:2] for one in statements(script)] == [
        ["CREATE", "TABLE"], ["CREATE", "TRIGGER"], ["DROP", "TABLE"],
    ]  # fmt: skip
