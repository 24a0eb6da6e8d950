"""The owner is asked before the money moves: at the terminal that buys, or from another one while the job waits."""

from __future__ import annotations

import io
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.conftest import BUY, RESUME, CommandLine, Shop, start
from tests.jobs.stage import OpenStage, usd
from tests.owner.screen import Owner, until
from tests.payment.till import KEY as TILL_KEY
from x402_audio.errors import ApprovalWanted
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.payment.auth import X402Auth
from x402_audio.payment.policy import PaymentPolicy
from x402_audio.protocol.signer import LocalSigner

OpenShop = Callable[..., Shop]
JOB = (*BUY, "--job-id", "j1", "--output", "t.mp3")
ADDRESS = "0x" + "cd" * 20


@pytest.fixture
def direct(open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A seller paid on the spot, and an owner who wants to be asked above 50 cents."""
    monkeypatch.setenv("X402_AUDIO_APPROVE_ABOVE", "0.50")
    return open_shop("direct-v2")


def own_ledger() -> SqliteLedger:
    return SqliteLedger(Path(os.environ["X402_AUDIO_STATE_DIR"]) / "ledger.db")


def grant_all() -> int:
    ledger = own_ledger()
    asked = ledger.approvals(states=("wanted",))
    for one in asked:
        ledger.grant(one.id)
    ledger.close()
    return len(asked)


def test_without_a_terminal_the_job_is_parked_and_goes_on_by_resume_once_approved(
    direct: Shop, cli: CommandLine, owner: Owner
) -> None:
    refused = cli(*JOB, "--json")
    assert refused.code == 3
    error = refused.json["error"]
    assert (error["code"], error["moneyMoved"], error["owner"]) == ("ApprovalWanted", "no", "human")
    assert error["nextStep"] == "on a terminal, the owner may: x402-audio approve j1"
    assert (error["amount_usd"], error["purse"]) == ("0.69", "wallet")
    assert direct.counted() == (0, 0)
    shown = cli("jobs", "show", "j1", "--json").json["result"]
    assert (shown["state"], shown["parked_reason"]) == ("parked", "owner")
    (row,) = cli("budget", "--json").json["result"]["approvals"]
    assert (row["job_id"], row["state"], row["amount_atomic"]) == ("j1", "wanted", "690000")
    assert "x402-audio approve j1" in cli("budget").out
    waiting = cli(*RESUME, "--json")
    assert waiting.code == 3 and waiting.json["error"]["nextStep"].endswith("x402-audio approve j1")
    assert direct.counted() == (0, 0)

    given = owner.type(("approve", "j1"), ("type approve to confirm", "approve"))
    assert given.code == 0, given.err
    for word in ("$0.69", direct.server.origin, row["pay_to"], "wallet", "APPROVE_ABOVE $0.50 (environment)"):
        assert word in given.err
    done = cli(*RESUME)
    assert done.code == 0, done.err
    assert direct.counted() == (1, 1)
    assert cli("budget", "--json").json["result"]["approvals"] == []
    assert cli("ledger", "verify").code == 0


def test_at_a_terminal_generate_asks_and_goes_on_by_itself(direct: Shop, owner: Owner) -> None:
    ended = owner.type(JOB, ("type approve to confirm", "approve"))
    assert ended.code == 0, ended.err
    assert direct.counted() == (1, 1)
    assert Path("t.mp3").stat().st_size > 0


def test_another_word_at_the_terminal_buys_nothing(direct: Shop, owner: Owner, cli: CommandLine) -> None:
    ended = owner.type((*JOB, "--yes"), ("type approve to confirm", "yes"))
    assert ended.code == 3
    assert "not confirmed" in ended.err and "x402-audio approve j1" in ended.err
    assert direct.counted() == (0, 0)


def test_no_pipe_approves(direct: Shop, cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli(*JOB).code == 3
    with open("answers", "w+") as answers:
        answers.write("approve\n" * 9)
        answers.seek(0)
        monkeypatch.setattr("sys.stdin", answers)
        assert cli("approve", "j1", "--yes").code == 3
        assert cli(*JOB).code == 3
    assert direct.counted() == (0, 0)
    assert "asks the owner: $0.69" in cli("approve").out


def test_what_nobody_asked_for_cannot_be_approved(direct: Shop, cli: CommandLine) -> None:
    ended = cli("approve", "nothing")
    assert ended.code == 2 and "nothing is asked for nothing" in ended.err


def test_a_process_that_waits_goes_on_by_itself_once_approved(direct: Shop, cli: CommandLine) -> None:
    assert cli(*JOB).code == 3
    process = start(
        "resume", "j1", "--wait", "--poll-interval", "0.05", "--timeout", "40", "--json", stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        ledger = own_ledger()
        until(lambda: ledger.job("j1").epoch >= 2)
        ledger.close()
        assert direct.counted() == (0, 0)
        assert grant_all() == 1
        out, _ = process.communicate(timeout=40)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0
    assert json.loads(out)["result"]["state"] == "completed"
    assert direct.counted() == (1, 1)


def test_a_waiting_job_says_so_when_the_waiting_ends(stage: OpenStage) -> None:
    shop = stage(mode="direct-v2")
    shopper = shop.shopper(APPROVE_ABOVE="0.10")
    with pytest.raises(ApprovalWanted):
        shopper.generate(job_id="k")
    began = shop.clock.at
    with pytest.raises(ApprovalWanted):
        shopper.resume("k", timeout=60, wait_parked=True)
    assert 60 <= shop.clock.at - began < 70
    ledger = shopper.client.ledger

    def approve() -> None:
        for one in ledger.approvals(states=("wanted",)):
            ledger.grant(one.id)

    began = shop.clock.at
    assert [type(one.error) for one in shopper.work(timeout=60, until_idle=True)] == []
    assert shop.clock.at - began < 10, "nobody waits who was not asked to"
    shop.clock.later(30, approve)
    (outcome,) = shopper.work(timeout=60)
    assert outcome.track is not None and outcome.track.completed
    with pytest.raises(ApprovalWanted):
        shopper.generate(job_id="l", again=True)
    shop.clock.later(30, approve)
    assert shopper.resume("l", timeout=60, wait_parked=True).completed


def test_a_top_up_and_the_draw_after_it_are_asked_for_one_by_one(
    open_shop: OpenShop, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X402_AUDIO_APPROVE_ABOVE", "0.50")
    shop = open_shop("venice")
    buy = (*JOB, "--max-top-up", "5")
    first = cli(*buy, "--json").json["error"]
    assert (first["code"], first["purse"], first["amount_usd"]) == ("ApprovalWanted", "wallet", "5.00")
    assert shop.counted() == (0, 0)
    assert grant_all() == 1
    second = cli(*buy, "--json").json["error"]
    assert (second["code"], second["purse"], second["amount_usd"]) == ("ApprovalWanted", "credit", "0.69")
    assert shop.counted() == (1, 0)
    assert grant_all() == 1
    assert cli(*buy).code == 0
    assert shop.counted() == (1, 1)


def test_a_top_up_by_command_is_asked_for_at_its_terminal(
    open_shop: OpenShop, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X402_AUDIO_APPROVE_ABOVE", "0.50")
    shop = open_shop("venice")
    monkeypatch.setattr("x402_audio.cli.owner_commands.at_a_terminal", lambda: True)
    monkeypatch.setattr("x402_audio.cli.owner.at_a_terminal", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO("approve\nno\n"))
    assert cli("top-up", "6").code == 0
    assert cli("top-up", "6").code == 3
    assert shop.counted()[0] == 1


def test_below_the_threshold_nobody_is_asked(
    open_shop: OpenShop, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X402_AUDIO_APPROVE_ABOVE", "0.69")
    open_shop("direct-v2")
    assert cli(*JOB).code == 0


def test_a_strangers_folder_may_only_lower_it(direct: Shop, cli: CommandLine) -> None:
    def write(usd_text: str) -> None:
        Path(".env").write_text(f"X402_AUDIO_APPROVE_ABOVE={usd_text}\n")
        Path(".env").chmod(0o600)

    write("9")
    assert cli(*JOB).code == 3
    write("0.10")
    assert "APPROVE_ABOVE $0.10 (file)" in cli(*JOB).err
    assert direct.counted() == (0, 0)


def test_raising_it_in_the_ledger_is_an_act_of_the_owner(cli: CommandLine, owner: Owner) -> None:
    above = ("budget", "set", "--purse", "jobs", "--window", "unasked", "--amount")
    assert cli(*above, "0.50").code == 0
    assert cli(*above, "0.60").code == 3
    assert cli("budget", "drop", "--purse", "jobs", "--window", "unasked").code == 3
    ended = owner.type((*above, "0.60"), ("type raise to confirm", "raise"))
    assert ended.code == 0 and "raising APPROVE_ABOVE $0.50 (ledger) to $0.60" in ended.err
    assert "APPROVE_ABOVE $0.60 (ledger)" in cli("budget").out


@pytest.mark.parametrize("ledger_says", [False, True])
def test_a_plain_httpx_client_is_refused_by_name_and_pays_once_approved(
    open_shop: OpenShop, ledger: SqliteLedger, ledger_says: bool
) -> None:
    from tests.ledger.desk import limit
    from x402_audio.clock import SystemClock

    shop = open_shop("direct-v2")
    shop.seller.account(LocalSigner.from_hex(TILL_KEY).address)
    books = SqliteLedger(Path("books.db"), clock=SystemClock())
    policy = PaymentPolicy(approve_above=None if ledger_says else "0.50")
    if ledger_says:
        books.set_limit(limit("jobs", "unasked", 50, source="ledger"))
    auth = X402Auth(LocalSigner.from_hex(TILL_KEY), books, policy)
    body: dict[str, Any] = {"model": "elevenlabs-music", "prompt": "Warm indie folk", "duration_seconds": 60}
    with httpx.Client(auth=auth, trust_env=False) as http:
        url = f"{shop.server.api_url}/audio/queue"
        with pytest.raises(ApprovalWanted) as refused:
            http.post(url, json=body)
        asked = books.approval(refused.value.approval_id)
        assert refused.value.next_step.endswith(f"x402-audio approve {asked.id}")
        assert (asked.amount, asked.origin) == (usd("0.69"), shop.server.origin)
        assert shop.counted() == (0, 0)
        books.grant(asked.id)
        assert http.post(url, json=body).status_code == 200
        with pytest.raises(ApprovalWanted):
            http.post(url, json=body)
    assert shop.counted()[0] == 1
    assert books.verify() == []
    books.close()
