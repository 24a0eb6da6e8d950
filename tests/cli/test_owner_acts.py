"""Widening what may be spent is typed by a person at a terminal: no flag, no setting and no pipe can do it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine, Ended, Shop, environment

OpenShop = Callable[..., Shop]
ADDRESS = "0xab5801a7d398351b8be11c439e05c5b3259aec9b"
ORIGIN = "https://audio.example"
RAISE = ("budget", "set", "--purse", "jobs", "--window", "day", "--amount", "50")


class Desk:
    """A person at a pseudo-terminal: stdin and stderr of the command are its screen."""

    def __init__(self) -> None:
        self.screen, self.line = os.openpty()

    def type(self, words: Sequence[str], *answers: str) -> Ended:
        """Run a command and type the answers, each once it was asked for."""
        process = subprocess.Popen(
            [sys.executable, "-m", "x402_audio", *words],
            env=environment(), stdin=self.line, stderr=self.line, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        os.close(self.line)
        said = b""
        waiting = list(answers)
        while True:
            try:
                got = os.read(self.screen, 4096)
            except OSError:  # the other side is closed: the command has ended
                break
            said += got
            if waiting and (
                b"to confirm" in got or b"password" in got or b"private key" in got or b"again" in got
            ):
                os.write(self.screen, waiting.pop(0).encode() + b"\n")
        out, _ = process.communicate(timeout=20)
        return Ended(process.returncode, out.decode(), said.decode())

    def close(self) -> None:
        os.close(self.screen)


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


def limits(cli: CommandLine) -> dict[str, str]:
    told = cli("budget", "--json").json["result"]["limits"]
    return {f"{row['purse']}/{row['window']}": row["limit_usd"] for row in told}


ACTS: list[tuple[str, ...]] = [
    RAISE,
    ("budget", "set", "--purse", "top-ups", "--window", "payment", "--amount", "5"),
    ("budget", "drop", "--purse", "jobs", "--window", "hour"),
    ("unfreeze",),
    ("unfreeze", "http://127.0.0.1:9"),
    ("payees", "pin", ORIGIN, ADDRESS),
    ("payees", "allow", ORIGIN, ADDRESS),
    ("payees", "allow", ORIGIN, "--any"),
    ("payees", "drop", "https://other.example"),
]


@pytest.fixture
def held(cli: CommandLine) -> CommandLine:
    """A ledger with something for every act to widen."""
    from x402_audio.clock import SystemClock, system_random
    from x402_audio.ledger.book import Payee
    from x402_audio.ledger.sqlite import SqliteLedger

    assert cli("budget", "set", "--purse", "jobs", "--window", "hour", "--amount", "1").code == 0
    assert cli("freeze", "--why", "a test").code == 0
    ledger = SqliteLedger(
        Path(os.environ["X402_AUDIO_STATE_DIR"]) / "ledger.db", clock=SystemClock(), random=system_random
    )
    ledger.suspend("0x1", "http://127.0.0.1:9", "top-ups", "a test")
    ledger.set_payee(Payee("https://other.example", "eip155:8453", ADDRESS, "pinned", "a test"))
    ledger.close()
    return cli


def state(cli: CommandLine) -> tuple[object, ...]:
    told = cli("budget", "--json").json["result"]
    return (
        [(row["name"], row["limit_atomic"]) for row in told["limits"]], told["frozen"], told["stopped"],
        cli("payees", "--json").json["result"]["payees"],
    )  # fmt: skip


@pytest.mark.parametrize("words", ACTS, ids=" ".join)
def test_without_a_terminal_nothing_is_widened(
    words: tuple[str, ...], held: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(held)
    with open("answers", "w+") as answers:
        answers.write("raise\ndrop\nunfreeze\nlift\npin\nallow\n" * 2)
        answers.seek(0)
        monkeypatch.setattr("sys.stdin", answers)
        ended = held(*words, "--yes")
    assert ended.code == 3
    assert "act of the owner" in ended.err and "money moved: no" in ended.err
    assert state(held) == before


@pytest.mark.parametrize(
    ("words", "answer"),
    list(
        zip(
            ACTS, ["raise", "raise", "drop", "unfreeze", "lift", "pin", "allow", "allow", "drop"], strict=True
        )
    ),
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_on_a_terminal_the_owner_types_a_word(
    words: tuple[str, ...], answer: str, held: CommandLine, desk: Desk
) -> None:
    before = state(held)
    ended = desk.type(words, answer)
    assert ended.code == 0, ended.err
    assert f"type {answer} to confirm" in ended.err
    assert state(held) != before


def test_another_word_changes_nothing(held: CommandLine, desk: Desk) -> None:
    before = state(held)
    ended = desk.type(RAISE, "yes")
    assert ended.code == 3
    assert "not confirmed" in ended.err
    assert state(held) == before


@pytest.mark.parametrize(
    "words",
    [
        ("budget", "set", "--purse", "jobs", "--window", "day", "--amount", "2"),
        ("budget", "set", "--purse", "wallet", "--window", "ever", "--amount", "100"),
        (
            "budget",
            "set",
            "--purse",
            "jobs",
            "--window",
            "day",
            "--amount",
            "1",
            "--scope",
            f"origin:{ORIGIN}",
        ),
        ("freeze",),
    ],
    ids=" ".join,
)
def test_narrowing_needs_nobodys_leave(words: tuple[str, ...], cli: CommandLine) -> None:
    assert cli(*words).code == 0


def test_a_lowered_limit_is_raised_again_only_on_a_terminal(cli: CommandLine) -> None:
    """Even below the built-in default: what the owner wrote is what counts."""
    assert cli("budget", "set", "--purse", "jobs", "--window", "day", "--amount", "1").code == 0
    assert cli("budget", "set", "--purse", "jobs", "--window", "day", "--amount", "2").code == 3
    assert limits(cli)["jobs/day"] == "1.00"


def test_a_smaller_setting_still_stands_and_is_named(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X402_AUDIO_MAX_PER_DAY", "0.5")
    ended = cli("budget", "set", "--purse", "jobs", "--window", "day", "--amount", "2")
    assert ended.code == 0
    assert "a smaller one stands: MAX_PER_DAY $0.50 (environment)" in ended.out


def test_pinning_replaces_what_was_pinned(held: CommandLine, desk: Desk) -> None:
    other = "0x" + "cd" * 20
    assert desk.type(("payees", "pin", "https://other.example", other), "pin").code == 0
    (row,) = held("payees", "--json").json["result"]["payees"]
    assert (row["address"].lower(), row["state"]) == (other, "pinned")


class TestWallet:
    def test_a_new_wallet_asks_twice_for_a_password_and_shows_only_its_address(
        self, desk: Desk, cli: CommandLine, tmp_path: Path
    ) -> None:
        ended = desk.type(("wallet", "new"), "hunter2-hunter2", "hunter2-hunter2")
        assert ended.code == 0, ended.err
        keystore = tmp_path / "state" / "keystore.json"
        assert keystore.stat().st_mode & 0o777 == 0o600
        assert f"keystore: {keystore};" in ended.err
        assert cli("wallet", "address").out == ended.out
        assert "hunter2" not in ended.out + ended.err + keystore.read_text()

    def test_a_key_is_imported_from_a_pipe_never_from_the_command_line(
        self, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = "0x" + "5a" * 32
        Path("password").write_text("a password\n")
        Path("password").chmod(0o600)
        monkeypatch.setenv("X402_AUDIO_KEYSTORE_PASSWORD_FILE", str(Path("password").absolute()))
        refused = cli("wallet", "import", key)
        assert refused.code == 2 and "5a5a" not in refused.err + refused.out
        Path("key").write_text(key + "\n")
        with open("key") as piped:
            monkeypatch.setattr("sys.stdin", piped)
            ended = cli("wallet", "import", "--json")
        monkeypatch.setenv("X402_AUDIO_PRIVATE_KEY", key)
        assert ended.json["result"]["address"] == cli("wallet", "address").out.strip()
        assert "5a5a" not in ended.out + ended.err

    def test_a_keystore_is_never_overwritten(
        self, cli: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        Path("password").write_text("a password\n")
        monkeypatch.setenv("X402_AUDIO_KEYSTORE_PASSWORD_FILE", str(Path("password").absolute()))
        (tmp_path / "state").mkdir(mode=0o700)
        (tmp_path / "state" / "keystore.json").write_text("precious")
        ended = cli("wallet", "new", "--yes")
        assert ended.code == 6 and "never overwritten" in ended.err
        assert (tmp_path / "state" / "keystore.json").read_text() == "precious"

    def test_without_terminal_or_password_file_none_is_made(
        self, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with open(os.devnull) as nothing:
            monkeypatch.setattr("sys.stdin", nothing)
            assert cli("wallet", "new").code == 2

    def test_a_keystore_pays_with_its_password_file(
        self, cli: CommandLine, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        open_shop("venice")
        monkeypatch.delenv("X402_AUDIO_PRIVATE_KEY")
        Path("password").write_text("a password\n")
        monkeypatch.setenv("X402_AUDIO_KEYSTORE_PASSWORD_FILE", str(Path("password").absolute()))
        made = cli("wallet", "new").out.strip()
        assert cli("balance", "--json").json["result"]["wallet"] == made

    def test_a_keystores_password_is_asked_for_on_a_terminal(
        self, cli: CommandLine, desk: Desk, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        open_shop("venice")
        monkeypatch.delenv("X402_AUDIO_PRIVATE_KEY")
        Path("password").write_text("a password\n")
        with monkeypatch.context() as patch:
            patch.setenv("X402_AUDIO_KEYSTORE_PASSWORD_FILE", str(Path("password").absolute()))
            made = cli("wallet", "new").out.strip()
        ended = desk.type(("balance", "--json"), "a password")
        assert ended.code == 0, ended.err
        assert made in ended.out
