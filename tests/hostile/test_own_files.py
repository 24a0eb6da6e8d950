"""No output, forced or not, lands on the books, the keys or the settings: refused in one line before anything is bought."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.books import MAKE, books
from tests.hostile.books_and_nodes import keystore_seeds
from tests.hostile.crook import MODEL, Crook, Victim, open_crook, open_victim, reply
from x402_audio.cli import main
from x402_audio.errors import ConfigurationError, X402AudioError
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.own_files import check_not_ours
from x402_audio.settings import Settings, load_settings

KINDS = (
    "state/track.mp3", "state/deep/track.mp3", "state/ledger.db", "books/b.db", "books/b.db-journal", "books/b.db-wal",
    "books/b.db-shm", "books/b.db.rates", "books/b.db.rates-journal", "books/b.db.before-v9", "copies/old-books",
    "keys/key.json", "keys/password", "project/.env", "project/x402-audio.toml", "named/settings", "links/file.mp3",
    "links/folder/b.db", "links/more/track.mp3", "state/../books/b.db",
)  # fmt: skip


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Books, keys and settings in six places, each of them real."""
    for folder in ("state/deep", "books", "copies", "keys", "project", "named", "links", "tracks"):
        (tmp_path / folder).mkdir(parents=True, mode=0o700)
    (tmp_path / "keys" / "key.json").write_bytes(keystore_seeds()[1])
    (tmp_path / "keys" / "password").write_text("a password")
    (tmp_path / "named" / "settings").write_text(f"X402_AUDIO_KEYSTORE={tmp_path}/keys/key.json\n")
    for name in ("key.json", "password"):
        (tmp_path / "keys" / name).chmod(0o600)
    (tmp_path / "named" / "settings").chmod(0o600)
    (tmp_path / "links" / "file.mp3").symlink_to(tmp_path / "keys" / "password")
    (tmp_path / "links" / "folder").symlink_to(tmp_path / "books")
    (tmp_path / "links" / "more").symlink_to(tmp_path / "links" / "again")
    (tmp_path / "links" / "again").symlink_to(tmp_path / "state")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path


def settings_in(house: Path) -> Settings:
    env = {
        "X402_AUDIO_STATE_DIR": str(house / "state"), "X402_AUDIO_LEDGER": str(house / "books" / "b.db"),
        "X402_AUDIO_KEYSTORE_PASSWORD_FILE": str(house / "keys" / "password"),
    }  # fmt: skip
    return load_settings(env=env, env_file=house / "named" / "settings")


@pytest.fixture
def shop(house: Path) -> Iterator[tuple[Crook, Victim]]:
    """A seller with prepaid credit, and a customer whose ledger is made."""
    more = {
        "LEDGER": str(house / "books" / "b.db"),
        "KEYSTORE_PASSWORD_FILE": str(house / "keys" / "password"),
    }
    (house / "client").mkdir()
    with open_crook(prepaid=True) as crook, open_victim(crook, house / "client", **more) as victim:
        wiring = victim.shopper.verbs._wiring
        wiring.settings = replace(
            wiring.settings, state_dir=house / "state", keystore=house / "keys" / "key.json",
            settings_file=house / "named" / "settings",
        )  # fmt: skip
        victim.shopper.client.ledger.backup(str(house / "copies" / "old-books"))
        yield crook, victim


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_ours_is_no_place_for_an_output(kind: str, house: Path) -> None:
    with books(house / "copies" / "old-books", MAKE) as copy:
        copy.execute("CREATE TABLE hold (id)")
    with pytest.raises(ConfigurationError, match="nothing is written there"):
        check_not_ours(house / kind, settings_in(house))


TRY = """
import apsw, sys
books = apsw.Connection(sys.argv[1])
try:
    books.execute("BEGIN IMMEDIATE")
except apsw.BusyError:
    print("locked")
else:
    print("free")
"""


@pytest.mark.parametrize("link", [os.link, os.symlink])
@pytest.mark.parametrize("name", ["b.db", "b.db-wal", "b.db-shm"])
def test_looking_at_a_place_ends_no_lock_of_the_books(
    house: Path, name: str, link: Callable[[Path, Path], None]
) -> None:
    """A file that is opened and closed loses every lock that this process has on it."""
    path = house / "books" / "b.db"
    ledger = SqliteLedger(path)
    link(house / "books" / name, house / "tracks" / "t.mp3")
    with ledger._database.transaction() as tx:
        tx.run("INSERT INTO seller VALUES ('https://a', 'direct')")
        with pytest.raises(ConfigurationError, match="nothing is written there"):
            check_not_ours(house / "tracks" / "t.mp3", settings_in(house))
        tried = subprocess.run(
            [sys.executable, "-c", TRY, str(path)], capture_output=True, text=True, check=True
        )
        assert tried.stdout.strip() == "locked"
    ledger.close()


def test_a_forced_output_never_lands_there(house: Path, shop: tuple[Crook, Victim]) -> None:
    crook, victim = shop
    before = {path: path.read_bytes() for path in house.rglob("*") if path.is_file()}
    for kind in KINDS:
        with pytest.raises(ConfigurationError, match="nothing is written there") as caught:
            victim.generate(output=house / kind, force=True)
        assert caught.value.exit_code == 2 and caught.value.money_moved == "no"
        assert "\n" not in str(caught.value)
    assert not crook.heard and not victim.signed and victim.shopper.client.jobs() == []
    assert {path: path.read_bytes() for path in before} == before


def test_nor_does_one_that_is_named_later(house: Path, shop: tuple[Crook, Victim]) -> None:
    """By `resume`, and by the same purchase asked for again."""
    crook, victim = shop
    crook.insists("retrieve", lambda _: reply(200, {"status": "PROCESSING"}))
    with pytest.raises(X402AudioError):
        victim.generate(output=house / "tracks" / "good.wav", timeout=1)
    asked, options = len(crook.heard), victim.shopper.client.job("the-job").options
    for kind in KINDS:
        with pytest.raises(ConfigurationError, match="nothing is written there"):
            victim.shopper.resume("the-job", output=str(house / kind), force=True)
        with pytest.raises(ConfigurationError, match="nothing is written there"):
            victim.generate(output=house / kind, force=True)
    assert len(crook.heard) == asked and victim.shopper.client.job("the-job").options == options


def test_a_place_that_only_looks_alike_is_free(house: Path) -> None:
    settings = settings_in(house)
    for name in (
        "tracks/ledger.db.mp3",
        "state-of-the-art.mp3",
        "books/another.db",
        "keys/key.json.mp3",
        "copies/x",
    ):
        check_not_ours(house / name, settings)


def test_a_sandbox_is_no_way_to_the_books_outside_it(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X402_AUDIO_STATE_DIR", str(house / "state"))
    inside = load_settings(env={"X402_AUDIO_STATE_DIR": str(house / "tracks")}, sandbox=True)
    with pytest.raises(ConfigurationError, match="state folder"):
        check_not_ours(house / "state" / "keystore.json", inside)


@pytest.mark.parametrize("name", ["loop", "nul\0", "half\udcff" + "x" * 300])
def test_a_place_no_file_system_knows_is_refused_too(name: str, house: Path) -> None:
    (house / "loop").symlink_to(house / "loop")
    with pytest.raises(ConfigurationError):
        check_not_ours(house / name / "x", settings_in(house))


@pytest.mark.parametrize(
    "words", [["generate", "a jingle", "--model", MODEL, "--force"], ["ledger", "export", "--yes"]]
)
@pytest.mark.parametrize("dry", [False, True])
def test_the_command_says_so_in_one_line(
    words: list[str],
    dry: bool,
    house: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("X402_AUDIO_PRIVATE_KEY", "0x" + "5a" * 32)
    monkeypatch.setenv("X402_AUDIO_STATE_DIR", str(house / "state"))
    main(["budget", "--json"])
    shutil.copy(house / "state" / "ledger.db", house / "copies" / "mine")
    capsys.readouterr()
    for place in ("state/ledger.db", "copies/mine"):
        held = (house / place).read_bytes()
        more = ["--dry-run"] if dry and words[0] == "generate" else []
        assert main([*words, *more, "--output", os.fspath(house / place), "--json"]) == 2
        told = json.loads(capsys.readouterr().out)
        assert "nothing is written there" in told["error"]["message"] and told["error"]["moneyMoved"] == "no"
        assert (house / place).read_bytes() == held
