"""Books that are not sound, with an unanswered payment in them: nothing is paid, one clear line, and the way back works."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.books import asked
from tests.cli.conftest import BUY, RESUME, CommandLine, Shop, start
from tests.cli.test_exit_codes import failed, plan
from tests.state.walker import MEMORY
from x402_audio.client import AudioClient
from x402_audio.ledger import place, schema
from x402_audio.ledger.place import COMPANIONS
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.sandbox import FaultRule

OpenShop = Callable[..., Shop]
KEPT = (*BUY, "--keep-remote", "--job-id")
WAYS = {"resume": (*RESUME, "j1"), "again": (*KEPT, "j1"), "another": (*KEPT, "j2")}
PAGE = 4096
DAMAGES = (b"\xff", b"\0")
PAGES_APART = 3
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


@pytest.fixture(autouse=True)
def _in_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Books on which no sync takes time."""
    with TemporaryDirectory(dir=MEMORY) as folder:
        monkeypatch.setenv("X402_AUDIO_STATE_DIR", f"{folder}/state")
        yield


@pytest.fixture
def shop(open_shop: OpenShop, cli: CommandLine) -> Shop:
    """A seller that was paid by a purchase which never heard so: its hold is signed, its job `j1` unknown."""
    opened = open_shop("direct-v2")
    plan(opened, *(FaultRule("drop_after", "/audio/queue", nth=nth) for nth in range(2, 10)))
    assert cli(*KEPT, "j1").code == 8
    assert opened.counted() == (1, 1)
    plan(opened)
    return opened


@pytest.fixture
def path() -> Path:
    """Its books."""
    return Path(os.environ["X402_AUDIO_STATE_DIR"]) / "ledger.db"


@contextmanager
def changed(path: Path, change: Callable[[], object]) -> Iterator[None]:
    """The books spoiled, and afterwards as they were."""
    kept = path.read_bytes()
    change()
    yield
    path.unlink(missing_ok=True)
    path.write_bytes(kept)
    path.chmod(0o600)
    path.parent.chmod(0o700)


def overwrite(path: Path, page: int, what: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(page * PAGE)
        file.write(what * PAGE)


def version(path: Path, number: int) -> None:
    asked(path, f"PRAGMA user_version = {number}")


def nothing_but(path: Path, suffix: str) -> None:
    path.unlink()
    Path(f"{path}{suffix}").touch(0o600)


def emptied(path: Path) -> None:
    path.rename(f"{path}-wal")
    path.touch(0o600)


def put_back(path: Path) -> None:
    """A backup in the ledger's place; beside it the log that a killed program left."""
    ledger = SqliteLedger(path)
    ledger.backup(f"{path}.backup")
    ledger.remember_seller("https://later.example", "direct")
    log = Path(f"{path}-wal").read_bytes()
    ledger.close()
    assert log
    Path(f"{path}.backup").replace(path)
    Path(f"{path}-wal").write_bytes(log)
    Path(f"{path}-wal").chmod(0o600)


def refused(cli: CommandLine, words: tuple[str, ...], shop: Shop, way_back: str) -> None:
    """Exit 2 in one line that names the way back, and nothing reached the seller's books."""
    ended = cli(*words, "--json")
    told: dict[str, Any] = ended.json
    error = failed(told, 2, "LedgerError", told["error"]["moneyMoved"])
    assert (error["owner"], error["moneyMoved"] in ("no", "unknown")) == ("human", True)
    assert way_back in error["nextStep"], error
    assert (ended.err.count("error: "), "Traceback" in ended.err) == (1, False)
    assert shop.counted() == (1, 1)


def finish(cli: CommandLine, shop: Shop) -> None:
    """The books are sound again: the job ends with its file and was paid once."""
    for _ in range(2):
        cli(*RESUME, "j1")
    assert cli(*RESUME, "j1").code == 0
    assert shop.counted() == (1, 1)
    assert cli("ledger", "verify").code == 0


TROUBLES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut to nothing": (lambda path: os.truncate(path, 0), "--ledger"),
    "cut to half": (lambda path: os.truncate(path, path.stat().st_size // 2), "restore the newest backup"),
    "cut in mid page": (lambda path: os.truncate(path, path.stat().st_size - 1000), "restore the newest backup"),
    "no database": (lambda path: path.write_bytes(b"x" * 8192), "restore the newest backup"),
    "gone, its journal left": (
        lambda path: (path.rename(f"{path}-journal")), "restore"
    ),
    "gone, its log left": (
        lambda path: (path.rename(f"{path}-wal")), "restore"
    ),
    "gone, an empty log left": (lambda path: nothing_but(path, "-wal"), "restore"),
    "gone, its shared memory left": (lambda path: nothing_but(path, "-shm"), "restore"),
    "cut to nothing, its log left": (emptied, "--ledger"),
    "a copy put over it, its log left": (put_back, "-wal"),
    "open to others": (lambda path: path.chmod(0o644), "chmod 600"),
    "written by a newer program": (lambda path: version(path, schema.SCHEMA_VERSION + 1), "pip install -U"),
}  # fmt: skip


@pytest.mark.parametrize("trouble", TROUBLES)
def test_on_unsound_books_nothing_is_paid_and_sound_again_the_job_is_delivered(
    trouble: str, shop: Shop, path: Path, cli: CommandLine
) -> None:
    change, way_back = TROUBLES[trouble]
    with changed(path, lambda: change(path)):
        for words in WAYS.values():
            refused(cli, words, shop, way_back)
    for suffix in COMPANIONS:
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    finish(cli, shop)


def test_a_ledger_damaged_in_any_page_pays_nothing_again(shop: Shop, path: Path, cli: CommandLine) -> None:
    """A page that is not asked for is no hindrance; one that is stops everything."""
    codes = set()
    for page in range(0, path.stat().st_size // PAGE, PAGES_APART):
        what = DAMAGES[page % 2]
        with changed(path, partial(overwrite, path, page, what)):
            ended = cli(*WAYS["again"], "--force", "--json")
        assert shop.counted() == (1, 1), (page, what)
        assert "Traceback" not in ended.err
        codes.add(ended.code)
        if ended.code == 2:
            assert ended.json["error"]["code"] == "LedgerError", (page, what, ended.err)
    assert codes <= {0, 2, 8}
    assert 2 in codes
    finish(cli, shop)


def without_privilege() -> None:
    """Also root meets a file's mode then."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_books_that_can_only_be_read_pay_nothing(what: str, shop: Shop, path: Path, cli: CommandLine) -> None:
    def close() -> None:
        (path if what == "file" else path.parent).chmod(0o400 if what == "file" else 0o500)

    with changed(path, close):
        process = start(*WAYS["another"], "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                        preexec_fn=without_privilege)  # fmt: skip
        out, err = process.communicate(timeout=30)
    told = json.loads(out)
    error = failed(told, 2, told["error"]["code"], "no")
    assert error["nextStep"].startswith(f"make {path} and the folder {path.parent} writable for you")
    assert (b"Traceback" in err, shop.counted()) == (False, (1, 1))
    finish(cli, shop)


def test_books_on_a_network_file_system_pay_nothing(
    shop: Shop, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(place, "_filesystem", lambda *_: "nfs4")
        for words in WAYS.values():
            refused(cli, words, shop, "on a local disk")
    finish(cli, shop)


def test_books_of_another_user_pay_nothing(
    shop: Shop, path: Path, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lstat = Path.lstat

    def foreign(file: Path) -> os.stat_result:
        facts = lstat(file)
        mine = [*facts]
        mine[4] += file == path
        return os.stat_result(mine)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "lstat", foreign)
        for words in WAYS.values():
            refused(cli, words, shop, f"chown $(id -un) {path}")
    finish(cli, shop)


def test_a_fault_of_ours_asks_the_books_before_it_says_that_nothing_was_bought(
    shop: Shop, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*_: object, **__: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(AudioClient, "resume", fault)
        told = cli(*WAYS["resume"], "--json").json
    error = failed(told, 8, "UnexpectedErrorAfterPayment", "unknown")
    assert error["nextStep"].endswith("x402-audio resume j1")
    finish(cli, shop)
