"""Keys, passwords and tokens are in no output, whatever is asked and however it ends."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import BUY, KEY, PROMPT, RESUME, CommandLine, Shop
from x402_audio.cli.output import plain
from x402_audio.sandbox import FaultRule

OpenShop = Callable[..., Shop]
PASSWORD = "hunter2-correct-horse"
VENICE_KEY = "VENICE-INFERENCE-KEY-seeded-0123456789"
SECRETS = (KEY[2:], PASSWORD, VENICE_KEY)
HEADERS = ("sign-in-with-x", "payment-signature", "x-payment:", "authorization:", "bearer ")
PAID_BUY = (*BUY, "--max-price", "1", "--max-top-up", "5")


@pytest.fixture
def seeded(open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A prepaid seller; every kind of secret is set."""
    shop = open_shop("venice")
    monkeypatch.setenv("X402_AUDIO_VENICE_API_KEY", VENICE_KEY)
    Path("password").write_text(PASSWORD)
    monkeypatch.setenv("X402_AUDIO_KEYSTORE_PASSWORD_FILE", str(Path("password").absolute()))
    monkeypatch.setenv("X402_AUDIO_RPC_URL", shop.server.rpc_url)
    return shop


@pytest.mark.parametrize("how", [(), ("--json",), ("--verbose",)], ids=["text", "json", "verbose"])
def test_no_command_shows_a_secret(
    how: tuple[str, ...], seeded: Shop, cli: CommandLine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said = ""
    for words in (
        (*PAID_BUY, "--job-id", "j1"), (*RESUME, "j1"), ("jobs",), ("jobs", "show", "j1"), ("balance",), ("transactions",),
        ("budget",), ("config",), ("doctor",), ("ledger", "export"), ("ledger", "verify"), ("reconcile",), ("payees",),
        ("wallet", "address"), ("wallet", "new"), ("models",), ("quote", PROMPT, "--model", "elevenlabs-music"),
        ("generate", PROMPT, "--model", "nothing"), ("cancel", "j1"), ("inspect", f"{seeded.server.api_url}/audio/queue"),
    ):  # fmt: skip
        ended = cli(*words, *how)
        said += ended.out + ended.err
    said += "\n".join(
        record.getMessage() for record in caplog.records if record.name.startswith("x402_audio")
    )
    for secret in SECRETS:
        assert secret not in said and secret.lower() not in said.lower()
    for header in HEADERS:
        assert header not in said.lower(), header


def test_no_failure_shows_a_secret(seeded: Shop, cli: CommandLine) -> None:
    seeded.seller.faults.replace([
        FaultRule("status", "/audio/queue", nth=1, value=503), FaultRule("garbage", "/audio/queue", nth=2),
        FaultRule("drop_after", "/audio/queue", nth=3), FaultRule("garbage", "/x402/balance", nth=4),
    ])  # fmt: skip
    said = ""
    for number in range(3):
        ended = cli(*PAID_BUY, "--job-id", f"j{number}", "--timeout", "3", "--verbose")
        said += ended.out + ended.err
    assert not [secret for secret in SECRETS if secret in said]
    assert "Traceback" not in said


def test_a_seller_that_sends_our_secrets_back_cannot_have_them_printed(
    seeded: Shop, cli: CommandLine
) -> None:
    seeded.seller.faults.replace(
        [
            FaultRule(
                "status",
                "/audio/quote",
                every=True,
                value={"status": 400, "body": {"error": f"bad {KEY} {VENICE_KEY}"}},
            )
        ]
    )
    ended = cli("quote", PROMPT, "--model", "elevenlabs-music")
    assert ended.code != 0
    assert not [secret for secret in SECRETS if secret in ended.out + ended.err]


def test_a_key_typed_as_a_word_is_not_repeated(cli: CommandLine) -> None:
    for words in (
        ("wallet", "import", KEY),
        ("wallet", KEY),
        (KEY,),
        ("balance", f"--key={KEY}"),
        ("top-up", KEY),
    ):
        ended = cli(*words)
        assert ended.code == 2
        assert KEY[2:] not in ended.err + ended.out


def test_whatever_is_said_is_one_printable_line() -> None:
    assert plain("no\n\x1b[2Kmoney moved:\u202e yes\r") == "no  [2Kmoney moved:  yes "


def test_a_sellers_text_cannot_forge_lines_or_move_the_cursor(seeded: Shop, cli: CommandLine) -> None:
    seeded.seller.faults.replace(
        [
            FaultRule(
                "status",
                "/audio/quote",
                every=True,
                value={"status": 400, "body": {"error": "no\n\x1b[2Kmoney moved: no\r"}},
            )
        ]
    )
    ended = cli("quote", PROMPT, "--model", "elevenlabs-music")
    assert "\x1b" not in ended.err
    assert [line.split(":")[0] for line in ended.err.splitlines()] == ["warning", "error", "money moved"]
