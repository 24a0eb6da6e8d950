"""What the commands that only read say, and that help costs nothing."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import apsw
import pytest

from tests.cli.conftest import BUY, CommandLine, Shop, environment
from x402_audio.cli.parser import build_parser
from x402_audio.clock import SystemClock

OpenShop = Callable[..., Shop]
COMMANDS = [
    "generate",
    "submit",
    "quote",
    "models",
    "jobs",
    "resume",
    "cancel",
    "balance",
    "top-up",
    "transactions",
    "budget",
    "approve",
    "owner",
    "freeze",
    "unfreeze",
    "payees",
    "inspect",
    "wallet",
    "config",
    "doctor",
    "reconcile",
    "ledger",
    "sandbox",
    "demo",
]
LATER = ("batch", "report", "mcp", "worker", "watch", "marketplace", "migrate")
GLOBALS = (
    "--json",
    "--api-url",
    "--provider",
    "--ledger",
    "--env-file",
    "--label",
    "--sandbox",
    "--yes",
    "--quiet",
    "--verbose",
)
GENERATE = [
    "--model",
    "--duration",
    "--lyrics",
    "--prompt-file",
    "--instrumental",
    "--voice",
    "--language",
    "--speed",
    "--loop",
    "--lyrics-optimizer",
    "--max-price",
    "--max-top-up",
    "--max-total",
    "--payee",
    "--job-id",
    "--again",
    "--timeout",
    "--poll-interval",
    "--output",
    "--force",
    "--keep-remote",
    "--detach",
    "--dry-run",
]
PAID_BUY = (*BUY, "--max-price", "1", "--max-top-up", "5")


class TestHelp:
    def test_it_names_every_command_of_this_version_and_no_other(self, cli: CommandLine) -> None:
        said = cli("--help").out
        assert [name for name in COMMANDS if f"    {name} " not in said] == []
        assert [name for name in LATER if name in said] == []

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_has_help_and_takes_every_global_flag(self, command: str, cli: CommandLine) -> None:
        ended = cli(command, "--help")
        assert ended.code == 0
        assert [flag for flag in GLOBALS if flag not in ended.out] == []

    def test_generate_has_every_flag_of_its_contract(self, cli: CommandLine) -> None:
        said = cli("generate", "--help").out
        assert [flag for flag in GENERATE if f"{flag} " not in said and f"{flag}\n" not in said] == []

    @pytest.mark.parametrize(
        "words", [("generate", "--help"), ("ledger", "verify", "--help"), ("--version",)]
    )
    def test_it_imports_no_third_party_package(self, words: tuple[str, ...]) -> None:
        def imported(*command: str) -> set[str]:
            ended = subprocess.run(
                [sys.executable, "-X", "importtime", *command], env=environment(), capture_output=True, text=True,
                timeout=30, check=True,
            )  # fmt: skip
            rows = [line.rsplit("|", 1)[1] for line in ended.stderr.splitlines() if "|" in line]
            return {row.strip().split(".")[0] for row in rows[1:]}

        ours = imported("-m", "x402_audio", *words) - imported("-c", "")
        assert {name for name in ours - sys.stdlib_module_names if find_spec(name)} == {"x402_audio"}

    def test_a_shortened_flag_is_not_guessed(self, cli: CommandLine) -> None:
        assert cli("config", "--verb").code == 2

    def test_no_flag_takes_a_key(self) -> None:
        said = build_parser().format_help()
        assert "key" not in said.lower() and "password" not in said.lower()


class TestConfig:
    def test_it_shows_values_sources_and_no_secret(
        self, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("X402_AUDIO_PRIVATE_KEY", "5a" * 32)
        monkeypatch.setenv("X402_AUDIO_RPC_URL", "https://rpc.example/v2/token-token-token")
        monkeypatch.setenv("X402_AUDIO_MAX_PER_DAY", "3")
        ended = cli("config", "--label", "me")
        rows = {line.split()[0]: line.split()[1:] for line in ended.out.splitlines()[2:]}
        assert rows["PRIVATE_KEY"] == ["environment", "set"]
        assert rows["RPC_URL"] == ["environment", "https://rpc.example/…"]
        assert rows["MAX_PER_DAY"] == ["environment", "3.00"]
        assert rows["LABEL"] == ["flag", "me"]
        assert rows["VENICE_API_KEY"] == ["default", "not", "set"]
        assert "token-token" not in ended.out

    def test_warnings_of_the_settings_are_said_and_in_the_json(
        self, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("X402_AUDIO_MAX_PER_DYA", "3")
        ended = cli("config", "--json")
        assert "did you mean X402_AUDIO_MAX_PER_DAY?" in ended.json["result"]["warnings"][0]
        assert ended.err.startswith("warning: ")
        assert cli("config", "--quiet").err == ""


class TestDoctor:
    def test_with_everything_in_order_nothing_is_red(
        self, cli: CommandLine, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shop = open_shop("venice")
        monkeypatch.setenv("X402_AUDIO_RPC_URL", shop.server.rpc_url)
        monkeypatch.setenv("X402_AUDIO_MAX_TOP_UP", "5")
        assert cli("budget").code == 0
        told = cli("doctor", "--json").json
        assert told["ok"], told
        rows = {row["what"]: row for row in told["result"]["rows"]}
        assert {"Python", "SQLite", "state folder", "wallet", "seller", "clock", "seller kind", "chain", "limits", "top-ups",
                "ledger", "brake", "unknown payments"} <= set(rows)  # fmt: skip
        assert (rows["SQLite"]["text"], rows["journal"]["text"]) == (apsw.sqlite_lib_version(), "WAL")
        assert rows.pop("owner") == {"what": "owner", "colour": "note", "text": "no passphrase is set",
                                     "mend": "on a terminal: x402-audio owner set"}  # fmt: skip
        assert {row["colour"] for row in rows.values()} == {"green"}
        assert shop.counted() == (0, 0)

    def test_a_sqlite_that_can_lose_a_commit_is_red(
        self, cli: CommandLine, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        open_shop("venice")
        monkeypatch.setattr("apsw.sqlite_lib_version", lambda: "3.40.1")
        rows = {row["what"]: row for row in cli("doctor", "--json").json["result"]["rows"]}
        assert (rows["SQLite"]["colour"], "3.40.1" in rows["SQLite"]["text"]) == ("red", True)
        assert rows["SQLite"]["mend"].startswith("pip install")

    def test_each_red_row_names_its_mend(
        self, cli: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "state").mkdir(mode=0o755)
        monkeypatch.setenv("X402_AUDIO_API_URL", "http://127.0.0.1:1/api/v1")
        assert cli("freeze").code == 0
        told = cli("doctor", "--json").json
        red = {row["what"]: row["mend"] for row in told["result"]["rows"] if row["colour"] == "red"}
        assert set(red) == {"state folder", "wallet", "seller", "brake"}
        assert all(red.values())
        assert (told["exitCode"], told["error"]["moneyMoved"]) == (2, "no")
        text = cli("doctor").out
        assert "RED  state folder" in text and "to mend state folder: chmod 700" in text

    def test_without_an_rpc_it_says_what_is_lost(self, cli: CommandLine, open_shop: OpenShop) -> None:
        open_shop()
        assert "without RPC_URL a lost payment is presumed spent" in cli("doctor").out

    def test_a_clock_that_is_off_is_red(self, cli: CommandLine, open_shop: OpenShop) -> None:
        class Late(SystemClock):
            def now(self) -> float:
                return super().now() - 500

        open_shop(clock=Late())
        rows = {row["what"]: row["colour"] for row in cli("doctor", "--json").json["result"]["rows"]}
        assert rows["clock"] == "red"


class TestFunds:
    def test_a_top_up_by_command_needs_no_setting_and_shows_in_balance_and_transactions(
        self, cli: CommandLine, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shop = open_shop("venice")
        monkeypatch.setenv("X402_AUDIO_RPC_URL", shop.server.rpc_url)
        paid = cli("top-up", "5", "--json").json["result"]
        assert (paid["kind"], paid["state"], paid["amount_usd"]) == ("topup", "settled", "5.00")
        held = cli("balance", "--json").json["result"]
        assert (held["credit_usd"], held["credit_atomic"], held["usdc_on_chain_usd"]) == (
            "5.00",
            "5000000",
            "995.00",
        )
        rows = cli("transactions", "--json").json["result"]
        assert [(row["type"], row["amount_usd"]) for row in rows["transactions"]] == [("TOP_UP", "5.00")]
        assert shop.counted() == (1, 0)

    def test_models_say_what_they_cost_and_point_elsewhere_for_short_speech(
        self, cli: CommandLine, open_shop: OpenShop
    ) -> None:
        open_shop("venice")
        ended = cli("models")
        line = next(line for line in ended.out.splitlines() if line.startswith("elevenlabs-tts-v3"))
        assert "$0.115 per 1000 characters" in line
        assert "synchronous" in ended.err and "synchronous" not in ended.out
        told = cli("models", "elevenlabs-music", "--json").json["result"]
        assert (told["id"], told["max_duration"]) == ("elevenlabs-music", 600)

    def test_inspect_says_why_a_demand_would_not_be_paid(self, cli: CommandLine, open_shop: OpenShop) -> None:
        def demand(pay_to: str) -> None:
            accepts = {
                "scheme": "exact", "network": "base", "maxAmountRequired": "10000", "resource": "https://a.example/x",
                "payTo": pay_to, "asset": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", "description": "",
                "mimeType": "", "maxTimeoutSeconds": 300, "extra": {"name": "USD Coin", "version": "2"},
            }  # fmt: skip
            Path("402.json").write_text(json.dumps({"x402Version": 1, "error": "pay", "accepts": [accepts]}))

        demand("0x" + "00" * 20)
        (row,) = cli("inspect", "402.json", "--json").json["result"]["requirements"]
        assert not row["payable"] and row["reason"]
        demand("0x" + "cd" * 20)
        (row,) = cli("inspect", "402.json", "--json").json["result"]["requirements"]
        assert row["payable"] and row["amount_usd"] == "0.01"

    def test_inspect_of_a_seller_signs_nothing(self, cli: CommandLine, open_shop: OpenShop) -> None:
        shop = open_shop("direct-v2")
        told = cli("inspect", f"{shop.server.api_url}/audio/queue", "--method", "POST", "--json").json
        assert told["ok"]
        assert shop.counted() == (0, 0)


class TestBooks:
    def test_the_export_lists_the_authorization_and_the_draw(
        self, cli: CommandLine, open_shop: OpenShop
    ) -> None:
        open_shop("venice")
        cli(*PAID_BUY, "--job-id", "j1")
        told = json.loads(cli("ledger", "export", "--format", "json").out)
        (top_up,) = told["authorizations"]
        assert {"nonce", "amount_atomic", "amount_usd", "state", "purse", "origin", "pay_to", "job_id", "valid_before",
                "transaction"} <= set(top_up)  # fmt: skip
        (draw,) = told["draws"]
        assert draw["amount_usd"] == "0.69" and "nonce" not in draw
        assert cli("ledger", "export", "--json").json["result"]["draws"][0]["amount_usd"] == "0.69"

    def test_files_it_writes_are_private_and_never_replace_others(
        self, cli: CommandLine, open_shop: OpenShop
    ) -> None:
        open_shop("direct-v2")
        cli(*PAID_BUY, "--job-id", "j1", "--output", "t.mp3")
        for words, name in (
            (("ledger", "export", "--output", "e.json"), "e.json"),
            (("ledger", "backup", "b.db"), "b.db"),
        ):
            assert cli(*words).code == 0
            assert stat.S_IMODE(Path(name).stat().st_mode) == 0o600
            assert cli(*words).code == 2
        assert cli("ledger", "verify").out.startswith("sound: ")
        assert cli("ledger", "verify", "--ledger", "b.db").code == 0

    def test_a_ledger_that_is_not_there_is_not_made_by_looking(
        self, cli: CommandLine, tmp_path: Path
    ) -> None:
        assert cli("ledger", "verify", "--ledger", "none.db").code == 2
        assert not Path("none.db").exists()

    def test_jobs_of_another_wallet_are_named_and_left_alone(
        self, cli: CommandLine, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shop = open_shop("direct-v2")
        cli(*PAID_BUY, "--job-id", "theirs", "--detach")
        monkeypatch.setenv("X402_AUDIO_PRIVATE_KEY", "0x" + "6b" * 32)
        ended = cli("resume")
        assert ended.code == 0
        assert "theirs is left alone: it belongs to the wallet 0x" in ended.err
        assert cli("resume", "theirs").code == 2
        assert shop.counted() == (0, 0)

    def test_a_job_is_shown_with_dates_and_its_request_as_json(
        self, cli: CommandLine, open_shop: OpenShop
    ) -> None:
        open_shop("direct-v2")
        cli(*PAID_BUY, "--job-id", "j1", "--detach")
        shown = cli("jobs", "show", "j1").out
        assert re.search(r"^created_at +\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ$", shown, re.MULTILINE)
        assert re.search(r'^request +\{"duration_seconds": ', shown, re.MULTILINE)

    def test_a_quote_says_why_more_credit_is_needed_than_the_price(
        self, cli: CommandLine, open_shop: OpenShop
    ) -> None:
        open_shop("venice")
        told = cli("quote", "rain on tin", "--model", "elevenlabs-music", "--duration", "60").out
        assert "needed $0.79 (the seller wants $0.10 to stay)" in told

    def test_a_limit_used_to_four_fifths_is_warned_of(
        self, cli: CommandLine, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        open_shop("direct-v2")
        monkeypatch.setenv("X402_AUDIO_MAX_PER_DAY", "0.80")
        ended = cli(*PAID_BUY)
        assert ended.code == 0
        assert "warning: 86 % of MAX_PER_DAY $0.80 (environment) is used; $0.11 left" in ended.err


def test_a_prompt_and_lyrics_come_from_files_without_their_last_line_end(
    cli: CommandLine, open_shop: OpenShop
) -> None:
    open_shop("venice")
    Path("prompt.txt").write_text("a song about rain on tin\n")
    Path("words.txt").write_text("rain on tin, la la\nagain\n")
    cli(
        "submit",
        "--prompt-file",
        "prompt.txt",
        "--lyrics",
        "@words.txt",
        "--model",
        "minimax-music-v2",
        "--job-id",
        "j1",
    )
    request = cli("jobs", "show", "j1", "--json").json["result"]["request"]
    assert (request["prompt"], request["lyrics"]) == ("a song about rain on tin", "rain on tin, la la\nagain")
