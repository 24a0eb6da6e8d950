"""What cannot be right is refused in one line before anything is paid, whatever is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.books import MAKE, books
from tests.cli.conftest import BUY, PROMPT, CommandLine, Ended, Shop

OpenShop = Callable[..., Shop]


def refused(ended: Ended, code: int, text: str) -> None:
    """One line of error, one line of what to do, no traceback, nothing on stdout."""
    error, advice = [line for line in ended.err.splitlines() if not line.startswith("warning:")]
    assert ended.code == code, ended.err
    assert ended.out == ""
    assert error.startswith("error: ") and text in error, error
    assert advice.startswith("money moved: no · next: ")


@pytest.mark.parametrize("mode", ["venice", "direct-v2"])
@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("generate", PROMPT, "--model", "elevenlabs-musik"), 2, "no model 'elevenlabs-musik'"),
        (("generate", PROMPT, "--model", "lyria-3-pro", "--lyrics", "la la la la la"), 2, "lyrics"),
        (("generate", PROMPT, "--model", "elevenlabs-music", "--lyrics", "la la la la la", "--instrumental"), 2, "lyrics"),
        (("generate", PROMPT, "--model", "elevenlabs-music", "--duration", "601"), 2, "3..600"),
        (("generate", "short", "--model", "elevenlabs-music"), 2, "prompt of 5 characters"),
        ((*BUY, "--output", "no/such/folder/x.mp3"), 2, "does not exist"),
        ((*BUY, "--output", "."), 2, "is a folder"),
        ((*BUY, "--output", "there.mp3"), 2, "exists already"),
        ((*BUY, "--payee", "0xAb5801a7D398351b8bE11C439e05C5B3259aeC9b"), 2, "checksum"),
        ((*BUY, "--max-price", "0.10", "--max-top-up", "5"), 3, "at most $0.10"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_right_is_refused_unpaid(
    mode: str, words: tuple[str, ...], code: int, text: str, cli: CommandLine, open_shop: OpenShop
) -> None:
    shop = open_shop(mode)
    Path("there.mp3").write_bytes(b"mine")
    refused(cli(*words), code, text)
    assert shop.counted() == (0, 0)
    assert Path("there.mp3").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("generate", PROMPT), "--model"),
        (("generate", "--model", "x"), "PROMPT is missing"),
        (("generate", PROMPT, "--prompt-file", "f", "--model", "x"), "not both"),
        (("generate", "--prompt-file", "nowhere.txt", "--model", "x"), "cannot be read"),
        ((*BUY, "--lyrics", "@nowhere.txt"), "cannot be read"),
        ((*BUY, "--max-price", "-1"), "US dollars"),
        ((*BUY, "--max-price", "1e3"), "US dollars"),
        ((*BUY, "--max-top-up", "NaN"), "US dollars"),
        ((*BUY, "--duration", "1.5"), "whole number"),
        ((*BUY, "--duration", "-5"), "whole number"),
        ((*BUY, "--timeout", "inf"), "positive number"),
        ((*BUY, "--speed", "fast"), "--speed"),
        ((*BUY, "--payee", "0x12"), "40 hexadecimal"),
        ((*BUY, "--provider", "stripe"), "PROVIDER"),
        ((*BUY, "--provider", "marketplace"), "not in this version"),
        ((*BUY, "--private-key", "0x" + "5a" * 32), "unknown option --private-key"),
        (("top-up", "-3"), "US dollars"),
        (("top-up",), "USD"),
        (("budget", "set", "--purse", "cash", "--window", "day", "--amount", "1"), "--purse"),
        (("budget", "set", "--purse", "jobs", "--window", "day", "--amount", "1", "--scope", "planet:x"), "scope"),
        (("transactions", "--limit", "many"), "whole number"),
        (("sing",), "COMMAND"),
        ((), "no command"),
        (("jobs", "show"), "ID"),
        (("inspect", "http:///x"), "not a URL"),
        (("inspect", "nowhere.json"), "cannot be read"),
        (("resume", "--use-suggestion"), "ID of one job"),
        (("resume", "never-heard-of"), "never-heard-of"),
        (("cancel", "never-heard-of"), "never-heard-of"),
        (("jobs", "show", "never-heard-of"), "never-heard-of"),
        (("demo", "--output", "no/such/x.mp3"), "does not exist"),
        (("sandbox", "--port", "99999"), "port 99999"),
        (("balance", "--sandbox"), "no sandbox is running"),
    ],
)  # fmt: skip
def test_a_command_line_that_cannot_be_meant_is_exit_2(
    words: tuple[str, ...], text: str, cli: CommandLine, open_shop: OpenShop
) -> None:
    shop = open_shop()
    refused(cli(*words), 2, text)
    assert shop.counted() == (0, 0)


@pytest.mark.parametrize(
    ("name", "value", "code", "text"),
    [
        ("PRIVATE_KEY", "0x" + "5a" * 31, 6, "64 hexadecimal"),
        ("PRIVATE_KEY", "0x" + "00" * 32, 6, "not a number the curve has"),
        ("PRIVATE_KEY", "correct horse battery staple", 6, "64 hexadecimal"),
        ("PRIVATE_KEY", "", 2, "no wallet is set"),
        ("API_URL", "http://api.venice.ai/api/v1", 2, "must begin with https"),
        ("API_URL", "https://me:secret@api.venice.ai", 2, "user name or password"),
        ("MAX_PER_DAY", "-1", 2, "MAX_PER_DAY"),
        ("LEDGER", "postgresql://me:hunter2@db/x", 2, "not in this version"),
        ("NETWORK", "ethereum", 2, "NETWORK"),
    ],
)
def test_a_setting_that_cannot_be_right_is_refused_unpaid(
    name: str,
    value: str,
    code: int,
    text: str,
    cli: CommandLine,
    open_shop: OpenShop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop = open_shop()
    monkeypatch.setenv(f"X402_AUDIO_{name}", value)
    ended = cli(*BUY)
    refused(ended, code, text)
    assert not value or value not in ended.err or name in ("NETWORK", "API_URL")
    assert shop.counted() == (0, 0)


@pytest.mark.parametrize("kind", ["text", "other database", "folder", "open to others"])
def test_a_file_that_is_no_ledger_of_ours_is_refused_unpaid_and_unchanged(
    kind: str, cli: CommandLine, open_shop: OpenShop
) -> None:
    shop = open_shop()
    path = Path("foreign.db")
    if kind == "text":
        path.write_text("my notes, nothing else\n" * 50)
    elif kind == "folder":
        path.mkdir()
    else:
        with books(path, MAKE) as other:
            other.execute("CREATE TABLE notes (line)")
    path.chmod(0o666 if kind == "open to others" else 0o700 if kind == "folder" else 0o600)
    before = path.read_bytes() if path.is_file() else b""
    refused(cli("--ledger", "foreign.db", *BUY), 2, "foreign.db")
    assert shop.counted() == (0, 0)
    assert (path.read_bytes() if path.is_file() else b"") == before


def test_a_state_folder_that_cannot_be_made_is_one_line(
    cli: CommandLine, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_shop()
    Path("taken").write_text("")
    monkeypatch.setenv("X402_AUDIO_STATE_DIR", os.path.abspath("taken"))
    refused(cli(*BUY), 2, "STATE_DIR")


def test_without_funds_or_leave_to_top_up_nothing_is_paid(cli: CommandLine, open_shop: OpenShop) -> None:
    shop = open_shop("venice")
    ended = cli(*BUY, "--max-price", "1")
    assert ended.code == 4
    assert "money moved: no" in ended.err
    assert shop.counted() == (0, 0)


def test_an_empty_wallet_pays_a_direct_seller_nothing(
    cli: CommandLine, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from x402_audio.money import Usdc

    shop = open_shop("direct-v2", wallet_usdc=Usdc(1))
    monkeypatch.setenv("X402_AUDIO_RPC_URL", shop.server.rpc_url)
    ended = cli(*BUY, "--max-price", "1")
    assert ended.code == 4
    assert shop.counted() == (0, 0)
