"""Where books may lie: by the file system's name where it has one, else by trying its locks and syncs."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.ledger.desk import SteppedClock
from x402_audio.clock import system_random
from x402_audio.errors import LedgerError
from x402_audio.ledger import place
from x402_audio.ledger.place import REFUSED_FILESYSTEMS, check_disk, check_folder, try_disk
from x402_audio.ledger.sqlite import SqliteLedger


@pytest.fixture(autouse=True)
def _untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No disk was tried yet."""
    monkeypatch.setattr(place, "_tried", set())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    made = tmp_path / "books"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders whose disk was tried."""
    seen: list[Path] = []
    monkeypatch.setattr(place, "try_disk", seen.append)
    return seen


def mounted(folder: Path, kind: str) -> str:
    """A list of mounts that has the folder on a file system of that kind."""
    mounts = folder / "mountinfo"
    mounts.write_text(f"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / {folder} rw - {kind} x rw\n")
    return str(mounts)


@pytest.mark.parametrize("kind", sorted(REFUSED_FILESYSTEMS))
def test_a_network_file_system_is_refused_by_its_name(kind: str, tmp_path: Path, tries: list[Path]) -> None:
    with pytest.raises(LedgerError, match=f"is on {kind}, whose locks") as error:
        check_disk(tmp_path, mounted(tmp_path, kind))
    assert "local disk" in error.value.next_step
    assert tries == []


@pytest.mark.parametrize("kind", ["9p", "virtiofs", "fuse.unheard", "apfs"])
def test_a_file_system_of_no_known_name_is_tried_once(kind: str, tmp_path: Path, tries: list[Path]) -> None:
    for _ in range(2):
        check_disk(tmp_path, mounted(tmp_path, kind))
    assert tries == [tmp_path]


def test_where_the_system_lists_no_mounts_the_disk_is_tried(tmp_path: Path, tries: list[Path]) -> None:
    check_disk(tmp_path, str(tmp_path / "not on macOS"))
    assert tries == [tmp_path]


def test_a_local_disk_needs_no_trial(tmp_path: Path, tries: list[Path]) -> None:
    check_disk(tmp_path, mounted(tmp_path, "ext4"))
    assert tries == []


def test_an_honest_disk_passes_its_trial_and_keeps_nothing_of_it(folder: Path) -> None:
    try_disk(folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ("import sys\nfor _ in sys.stdin: print('free', flush=True)", "a lock was free, then free"),
        ("import sys\nfor _ in sys.stdin: print('taken', flush=True)", "a lock was taken, then taken"),
        ("raise SystemExit", "a lock was , then "),
    ],
    ids=["locks stop nobody", "locks stay for ever", "nothing can be said"],
)
def test_a_disk_whose_locks_mean_nothing_is_refused(
    other: str, said: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "_TRY_LOCK", other)
    with pytest.raises(LedgerError, match="fails the test of locks and syncs") as error:
        try_disk(folder)
    assert said in str(error.value) or "Broken pipe" in str(error.value)
    assert "local disk" in error.value.next_step
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_disk_without_syncs_or_links_is_refused_and_no_ledger_is_made(
    call: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(place, "LOCAL_FILESYSTEMS", frozenset())
    monkeypatch.setattr(f"os.{call}", refuse)
    with pytest.raises(LedgerError, match=r"fails the test of locks and syncs: .*Invalid argument"):
        SqliteLedger(folder / "ledger.db", clock=SteppedClock(), random=system_random)
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said_to_be_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(LedgerError, match="cannot be written: Read-only file system") as error:
        try_disk(folder)
    assert error.value.next_step.startswith(f"make {folder} writable")


@pytest.mark.parametrize(("mode", "who"), [(0o777, "anybody"), (0o707, "anybody")])
def test_a_folder_in_which_others_can_replace_files_is_refused(mode: int, who: str, folder: Path) -> None:
    folder.chmod(mode)
    with pytest.raises(LedgerError, match=f"{who} can replace files") as error:
        check_folder(folder)
    assert error.value.next_step == f"chmod o-w {folder}"
    folder.chmod(0o1777)
    check_folder(folder)
    folder.chmod(0o700)
