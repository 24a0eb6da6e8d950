"""Every exit code, met for its reason at a real seller, and the one JSON object that comes with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import BUY, PROMPT, RESUME, CommandLine, Shop, environment, start
from x402_audio.cli.output import worst
from x402_audio.sandbox import FaultPlan, FaultRule

OpenShop = Callable[..., Shop]
PAID_BUY = (*BUY, "--max-price", "1", "--max-top-up", "5")
ERROR_FIELDS = {"code", "message", "moneyMoved", "owner", "retry", "nextStep"}


def check_money(value: Any) -> None:
    """Amounts are text twice; no binary fraction is money."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name.endswith("_atomic"):
                assert item is None or (isinstance(item, str) and int(item) is not None), name
                usd = value[name.removesuffix("_atomic") + "_usd"]
                assert (usd is None) == (item is None)
                assert not isinstance(usd, float)
            check_money(item)
    if isinstance(value, list):
        for item in value:
            check_money(item)


def failed(told: dict[str, Any], code: int, name: str, moved: str) -> dict[str, Any]:
    """The envelope of an error."""
    assert (told["schemaVersion"], told["ok"], told["exitCode"]) == (1, False, code)
    error: dict[str, Any] = told["error"]
    assert set(error) >= ERROR_FIELDS
    assert (error["code"], error["moneyMoved"]) == (name, moved)
    assert error["owner"] in ("agent", "time", "human", "reconcile")
    assert error["retry"] in ("never", "same_id", "later")
    assert error["nextStep"] and "\n" not in error["message"]
    check_money(told)
    return error


def plan(shop: Shop, *rules: FaultRule) -> None:
    shop.seller.faults.replace(rules)


@pytest.mark.parametrize("mode", ["venice", "direct-v1", "direct-v2"])
def test_exit_0_a_track_with_everything_a_script_asks_for(
    mode: str, cli: CommandLine, open_shop: OpenShop
) -> None:
    shop = open_shop(mode)
    ended = cli(*PAID_BUY, "--job-id", "j1", "--output", "t.mp3", "--json")
    told = ended.json
    assert (ended.code, told["ok"], told["exitCode"], told["schemaVersion"]) == (0, True, 0, 1)
    result = told["result"]
    assert result["path"] == os.path.abspath("t.mp3")
    assert (result["job_id"], result["state"], result["completed"], result["model"]) == (
        "j1",
        "completed",
        True,
        "elevenlabs-music",
    )
    assert (result["price_atomic"], result["price_usd"], result["cost_usd"]) == ("690000", "0.69", "0.69")
    assert result["bytes"] == Path("t.mp3").stat().st_size
    assert (result["content_type"], result["duration_seconds"]) == ("audio/mpeg", 60.0)
    assert {
        "kind",
        "nonce",
        "amount_atomic",
        "amount_usd",
        "transaction",
        "state",
        "pay_to",
        "origin",
    } <= set(result["payments"][0])
    assert {"purse", "window", "scope", "left_atomic", "left_usd"} <= set(result["budget_left"][0])
    assert result["warnings"] == []
    check_money(told)
    assert shop.counted() == (1, 1)


def test_the_same_job_id_gives_the_same_file_and_is_not_paid_again(
    cli: CommandLine, open_shop: OpenShop
) -> None:
    shop = open_shop("direct-v2")
    first = cli(*PAID_BUY, "--job-id", "j1", "--json").json["result"]
    again = cli(*PAID_BUY, "--job-id", "j1", "--json").json["result"]
    assert again["sha256"] == first["sha256"]
    assert shop.counted() == (1, 1)


def test_piped_stdout_is_the_path_alone(cli: CommandLine, open_shop: OpenShop) -> None:
    open_shop("direct-v2")
    ended = cli(*PAID_BUY, "--output", "t.mp3")
    assert (ended.out, ended.err) == (os.path.abspath("t.mp3") + "\n", "")


def test_exit_0_submit_and_detach_store_and_pay_nothing(cli: CommandLine, open_shop: OpenShop) -> None:
    shop = open_shop("direct-v2")
    stored = cli("submit", PROMPT, "--model", "elevenlabs-music", "--job-id", "s1", "--json").json["result"]
    detached = cli(*PAID_BUY, "--job-id", "s2", "--detach", "--again", "--json").json["result"]
    assert [(one["job_id"], one["state"]) for one in (stored, detached)] == [
        ("s1", "planned"),
        ("s2", "planned"),
    ]
    assert shop.counted() == (0, 0)
    resumed = cli(*RESUME, "--json").json["result"]
    assert [one["state"] for one in resumed["jobs"]] == ["completed", "completed"]
    assert shop.counted() == (2, 2)


def test_exit_0_a_dry_run_names_the_price_and_buys_nothing(cli: CommandLine, open_shop: OpenShop) -> None:
    shop = open_shop("venice")
    told = cli(*PAID_BUY, "--dry-run", "--json").json["result"]
    assert (told["dry_run"], told["price_usd"], told["would_top_up_usd"]) == (True, "0.69", "5.00")
    assert shop.counted() == (0, 0)
    assert cli("jobs", "--json").json["result"]["jobs"] == []


def test_exit_2_of_usage_is_an_envelope_too(cli: CommandLine) -> None:
    failed(cli("generate", "--json").json, 2, "UsageError", "no")
    failed(cli("--json").json, 2, "UsageError", "no")
    failed(cli("sing", "--json").json, 2, "UsageError", "no")


def test_exit_2_another_request_under_a_used_id(cli: CommandLine, open_shop: OpenShop) -> None:
    shop = open_shop("direct-v2")
    cli(*PAID_BUY, "--job-id", "j1")
    other = cli("generate", "quite another song", "--model", "elevenlabs-music", "--job-id", "j1", "--json")
    failed(other.json, 2, "JobConflict", "no")
    assert shop.counted() == (1, 1)


def test_exit_2_of_a_dry_run_the_model_cannot_do(cli: CommandLine, open_shop: OpenShop) -> None:
    open_shop("venice")
    error = failed(
        cli(*BUY, "--dry-run", "--lyrics", "la la la la", "--json").json, 2, "RequestInvalid", "no"
    )
    assert error["field"] == "lyrics"


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_exit_3_above_the_callers_maximum(
    dry: tuple[str, ...], cli: CommandLine, open_shop: OpenShop
) -> None:
    shop = open_shop("direct-v2")
    failed(cli(*BUY, "--max-price", "0.5", *dry, "--json").json, 3, "AboveMaximum", "no")
    assert shop.counted() == (0, 0)


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_exit_3_over_a_limit_names_limit_spent_and_needed(
    dry: tuple[str, ...], cli: CommandLine, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = open_shop("direct-v2")
    monkeypatch.setenv("X402_AUDIO_MAX_PER_DAY", "0.6")
    error = failed(cli(*BUY, *dry, "--json").json, 3, "BudgetExceeded", "no")
    assert (error["amount_usd"], error["spent_usd"], error["needed_usd"]) == ("0.60", "0.00", "0.69")
    assert shop.counted() == (0, 0)


def test_exit_3_frozen(cli: CommandLine, open_shop: OpenShop) -> None:
    shop = open_shop("direct-v2")
    assert cli("freeze", "--why", "looking into it").code == 0
    error = failed(cli(*BUY, "--json").json, 3, "Frozen", "no")
    assert "looking into it" in error["message"]
    assert shop.counted() == (0, 0)


def test_exit_3_an_equal_open_job_is_named(cli: CommandLine, open_shop: OpenShop) -> None:
    shop = open_shop("direct-v2")
    cli("submit", PROMPT, "--model", "elevenlabs-music", "--duration", "60", "--job-id", "open-one")
    assert failed(cli(*BUY, "--json").json, 3, "OpenJobExists", "no")["job_id"] == "open-one"
    assert shop.counted() == (0, 0)


def test_exit_4_no_credit_and_no_leave_to_top_up(cli: CommandLine, open_shop: OpenShop) -> None:
    shop = open_shop("venice")
    error = failed(cli(*BUY, "--json").json, 4, "InsufficientBalance", "no")
    assert error["missing_usd"] == "0.79"
    assert shop.counted() == (0, 0)


def test_exit_5_nothing_offered_that_may_be_signed(
    cli: CommandLine, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = open_shop("direct-v2")
    monkeypatch.setenv("X402_AUDIO_NETWORK", "base-sepolia")
    failed(cli(*BUY, "--json").json, 5, "NoAcceptableRequirement", "no")
    assert shop.counted() == (0, 0)


def test_exit_6_a_key_that_is_none(
    cli: CommandLine, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_shop()
    monkeypatch.setenv("X402_AUDIO_PRIVATE_KEY", "5a" * 31)
    failed(cli(*BUY, "--json").json, 6, "SignerError", "no")


def test_exit_7_a_seller_that_is_not_there(
    cli: CommandLine, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_shop()
    monkeypatch.setenv("X402_AUDIO_API_URL", "http://127.0.0.1:1/api/v1")
    failed(cli("balance", "--json").json, 7, "SellerUnreachable", "no")


def test_exit_8_a_payment_nobody_knows_of_and_reconcile_says_so_too(
    cli: CommandLine, open_shop: OpenShop
) -> None:
    shop = open_shop("direct-v2")
    plan(shop, *(FaultRule("status_after", "/audio/queue", nth=nth, value=500) for nth in range(2, 9)))
    error = failed(cli(*PAID_BUY, "--job-id", "j1", "--json").json, 8, "PaymentUnsettled", "unknown")
    assert error["owner"] == "reconcile"
    still = cli("reconcile", "--json").json
    failed(still, 8, "PaymentUnsettled", "unknown")
    assert [hold["amount_usd"] for hold in still["result"]["open"]] == ["0.69"]
    assert cli(*RESUME, "j1").code == 0
    assert shop.counted() == (1, 1), "one payment, however often it was sent"


def test_exit_9_paid_and_not_delivered_says_whether_it_was_refunded(
    cli: CommandLine, open_shop: OpenShop
) -> None:
    shop = open_shop("venice")
    plan(shop, FaultRule("fail_job"))
    error = failed(cli(*PAID_BUY, "--json").json, 9, "JobFailed", "yes")
    assert error["refunded"] == "yes"


def test_exit_10_still_running_and_resume_ends_it(cli: CommandLine, open_shop: OpenShop) -> None:
    shop = open_shop("direct-v2", job_seconds=0.4)
    error = failed(
        cli(*PAID_BUY, "--job-id", "j1", "--timeout", "0.1", "--json").json, 10, "JobTimedOut", "yes"
    )
    assert error["nextStep"] == "x402-audio resume j1"
    assert cli(*RESUME, "j1", "--json").json["result"]["state"] == "completed"
    assert shop.counted() == (1, 1)


def test_resume_of_many_ends_with_the_most_severe(cli: CommandLine, open_shop: OpenShop) -> None:
    shop = open_shop("venice")
    plan(shop, FaultRule("fail_job"))
    for name in ("a", "b"):
        cli(
            "submit", f"{PROMPT} {name}", "--model", "elevenlabs-music", "--max-top-up", "5", "--job-id", name
        )
    ended = cli(*RESUME, "--json")
    failed(ended.json, 9, "JobFailed", "yes")
    rows = {row["job_id"]: row for row in ended.json["result"]["jobs"]}
    assert rows["a"]["exitCode"] == 9
    assert rows["b"]["state"] == "completed"


@pytest.mark.parametrize(
    ("codes", "code"),
    [((), 0), ((0, 10), 10), ((9, 8, 0), 8), ((2, 4, 5, 7), 4), ((3, 6, 9), 9), ((7, 10, 2), 2)],
)
def test_of_many_the_most_severe_is_the_exit_code(codes: tuple[int, ...], code: int) -> None:
    assert worst(codes) == code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_exit_130_interrupted_says_how_to_go_on(
    number: signal.Signals, open_shop: OpenShop, cli: CommandLine
) -> None:
    shop = open_shop("direct-v2", job_seconds=3600)
    process = start(
        *PAID_BUY, "--job-id", "j1", "--verbose", "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    for line in process.stderr:
        if b"making" in line:
            break
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    error = failed(json.loads(out), 130, "Interrupted", "yes")
    assert error["nextStep"] == "x402-audio resume j1"
    assert b"the state is kept, resume with x402-audio resume j1" in err
    assert b"Traceback" not in err
    assert cli("jobs", "show", "j1", "--json").json["result"]["state"] == "queued"
    assert shop.counted() == (1, 1)


def test_a_reader_that_went_away_is_no_error(open_shop: OpenShop) -> None:
    open_shop("venice")
    command = 'exec 3>&1; { "$0" -m x402_audio models 3>&-; echo $? >&3; } | true'
    ended = subprocess.run(
        ["bash", "-c", command, sys.executable],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert ended.stdout == "0\n"
    assert "Traceback" not in ended.stderr and "BrokenPipe" not in ended.stderr


class TestAFaultOfOurs:
    def broken(self, monkeypatch: pytest.MonkeyPatch, verb: str, *, paid: bool) -> None:
        from x402_audio.client import AudioClient
        from x402_audio.notices import Notice

        def raises(client: AudioClient, *words: object, **more: object) -> None:
            if paid:
                client._wiring.on_notice(Notice("payment", "paying", "j1", {}))
            raise RuntimeError("something with 5a5a5a5a in it")

        monkeypatch.setattr(AudioClient, verb, raises)

    def test_before_any_payment_it_is_exit_2_with_kind_and_place_only(
        self, cli: CommandLine, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        open_shop()
        self.broken(monkeypatch, "balance", paid=False)
        ended = cli("balance", "--json")
        error = failed(ended.json, 2, "UnexpectedError", "no")
        assert "RuntimeError at " in error["message"]
        assert "5a5a" not in ended.out + ended.err and "Traceback" not in ended.err

    def test_once_money_may_have_moved_it_is_exit_8(
        self, cli: CommandLine, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        open_shop()
        self.broken(monkeypatch, "generate", paid=True)
        error = failed(cli(*PAID_BUY, "--json").json, 8, "UnexpectedErrorAfterPayment", "unknown")
        assert "reconcile" in error["nextStep"] and "resume j1" in error["nextStep"]


def test_globals_stand_before_or_after_the_command(cli: CommandLine, open_shop: OpenShop) -> None:
    shop = open_shop()
    url = shop.server.api_url
    for words in (("--json", "--api-url", url, "--label", "x", "config"), ("config", "--json", "--api-url", url, "--label", "x"),
                  ("--api-url", url, "config", "--label", "x", "--json")):  # fmt: skip
        told = {row["name"]: (row["value"], row["source"]) for row in cli(*words).json["result"]["settings"]}
        assert (told["API_URL"], told["LABEL"]) == ((url, "flag"), ("x", "flag"))


def test_no_fault_plan_is_left_over() -> None:
    """A new seller is an honest one, so what the tests above saw was ordered there."""
    assert FaultPlan().take("POST", "/audio/queue") == {}
