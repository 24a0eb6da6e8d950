"""Keystores are made once, readable by their owner alone, and open only with their password."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from tests.protocol.vectors import ADDRESS, KEY
from x402_audio.errors import SignerError
from x402_audio.protocol.keystore import create_keystore, import_keystore, keystore_address, open_keystore

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A keystore of the test key; each costs most of a second to make."""
    path = tmp_path_factory.mktemp("keystore") / "keystore.json"
    assert import_keystore(path, KEY, PASSWORD) == ADDRESS
    return path


def refused(path: Path, password: str = PASSWORD) -> str:
    with pytest.raises(SignerError) as caught:
        open_keystore(path, password)
    shown = f"{caught.value!r}" + "".join(traceback.format_exception(caught.value))
    assert KEY[2:18] not in shown and "correct horse" not in shown and "\n" not in str(caught.value)
    return str(caught.value)


def spoiled(made: Path, folder: Path, **changes: Any) -> Path:
    path = folder / "spoiled.json"
    path.write_text(json.dumps({**json.loads(made.read_text()), **changes}))
    return path


def test_an_imported_key_signs_again_after_opening(made: Path) -> None:
    assert open_keystore(made, PASSWORD).address == ADDRESS
    assert keystore_address(made) == ADDRESS


def test_a_keystore_is_geth_v3_for_its_owner_alone_and_holds_no_plain_key(made: Path) -> None:
    stored = json.loads(made.read_text())

    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert (stored["version"], stored["crypto"]["kdf"]) == (3, "scrypt")
    assert KEY[2:18] not in made.read_text().lower()
    assert [entry.name for entry in made.parent.iterdir()] == ["keystore.json"]


def test_a_new_key_comes_from_the_given_randomness(tmp_path: Path) -> None:
    drawn = iter([bytes(32), b"\xff" * 32, bytes.fromhex(KEY[2:])])

    assert create_keystore(tmp_path / "new.json", PASSWORD, lambda count: next(drawn)[:count]) == ADDRESS


def test_a_random_source_without_keys_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(SignerError, match="no keystore was made"):
        create_keystore(tmp_path / "new.json", PASSWORD, bytes)
    assert list(tmp_path.glob("*.json")) == []


def test_a_keystore_is_never_overwritten(tmp_path: Path) -> None:
    there, dangling = tmp_path / "there.json", tmp_path / "dangling.json"
    there.write_text("precious")
    dangling.symlink_to(tmp_path / "elsewhere")

    for path in (there, dangling):
        with pytest.raises(SignerError, match="never overwritten"):
            create_keystore(path, PASSWORD, os.urandom)
    assert there.read_text() == "precious"
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_appears_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "raced.json"
    path.write_text("precious")
    monkeypatch.setattr(os.path, "lexists", lambda path: False)

    with pytest.raises(SignerError, match="never overwritten"):
        import_keystore(path, KEY, PASSWORD)
    assert path.read_text() == "precious"


def test_a_disk_that_fails_leaves_no_half_a_keystore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(SignerError, match="No space left"):
        import_keystore(tmp_path / "full.json", KEY, PASSWORD)
    assert list(tmp_path.glob("*.json")) == []


def test_the_folder_must_exist_and_the_key_and_password_be_sound(tmp_path: Path) -> None:
    with pytest.raises(SignerError, match="64 hexadecimal"):
        import_keystore(tmp_path / "a.json", KEY[:-1], PASSWORD)
    with pytest.raises(SignerError, match="not empty"):
        import_keystore(tmp_path / "a.json", KEY, "")
    assert list(tmp_path.glob("*.json")) == []


def test_a_wrong_password_opens_nothing(made: Path) -> None:
    assert "wrong password" in refused(made, "wrong horse")


@pytest.mark.parametrize(
    "text",
    ["", "not JSON", "[]", "{}", '{"version":1}', '{"version":3}', '{"version":3,"crypto":7}', "x" * 20_000],
)
def test_a_foreign_file_is_told_apart(tmp_path: Path, text: str) -> None:
    path = tmp_path / "foreign.json"
    path.write_text(text)

    assert "not a geth V3 keystore" in refused(path)


def test_a_missing_file_is_told_apart(tmp_path: Path) -> None:
    assert "could not be read" in refused(tmp_path / "none.json")


def test_a_keystore_that_asks_for_too_much_work_is_refused(made: Path, tmp_path: Path) -> None:
    crypto = json.loads(made.read_text())["crypto"]

    for change in ({"n": 2**30}, {"n": "262144"}, {"r": 0}, {"dklen": 10**9}, {"n": 1, "c": 10**9}):
        costly = {**crypto, "kdfparams": {**crypto["kdfparams"], **change}}
        assert "unreasonable" in refused(spoiled(made, tmp_path, crypto=costly))


@pytest.mark.parametrize(
    "change", [{"kdf": "none"}, {"cipher": 7}, {"mac": None}, {"cipherparams": {}}, {"ciphertext": "zz"}]
)
def test_a_keystore_with_a_broken_member_is_refused(
    made: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    crypto = json.loads(made.read_text())["crypto"]
    quick = {**crypto, "kdfparams": {**crypto["kdfparams"], "n": 2}}

    refused(spoiled(made, tmp_path, crypto={**quick, **change}))


def test_a_keystore_that_names_another_address_is_refused(made: Path, tmp_path: Path) -> None:
    assert "another key" in refused(spoiled(made, tmp_path, address="12" * 20))


def test_a_keystore_without_address_opens_but_names_none(made: Path, tmp_path: Path) -> None:
    path = spoiled(made, tmp_path, address=None)

    assert open_keystore(path, PASSWORD).address == ADDRESS
    with pytest.raises(SignerError, match="does not name"):
        keystore_address(path)


def test_the_recursion_limit_is_put_back_after_a_keystore_is_used(made: Path) -> None:
    script = (
        "import sys; before = sys.getrecursionlimit()\n"
        "from x402_audio.errors import SignerError; from x402_audio.protocol.keystore import open_keystore\n"
        "try: open_keystore(sys.argv[1], 'wrong horse')\n"
        "except SignerError: pass\n"
        "assert 'py_ecc' in sys.modules and sys.getrecursionlimit() == before, sys.getrecursionlimit()"
    )

    subprocess.run(
        [sys.executable, "-c", script, str(made)],
        cwd=Path(__file__).parent.parent.parent,
        check=True,
        timeout=60,
    )
