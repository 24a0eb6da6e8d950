"""What the owner hears of: once, on stderr and by NOTIFY_COMMAND, which can neither hold up a payment nor learn a secret."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import BUY, KEY, CommandLine, Shop
from tests.jobs.stage import OpenStage, usd
from tests.ledger.desk import SteppedClock, limit, pay, wish
from x402_audio.errors import JobExpired, JobFailed, PaymentUnsettled
from x402_audio.ledger.book import Event
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.notices import Notice
from x402_audio.notify import NEWS, Notifier, news_of
from x402_audio.sandbox import FaultRule

OpenShop = Callable[..., Shop]
LISTEN = "import sys,os,json; f=open(sys.argv[1],'a'); f.write(json.dumps([json.load(sys.stdin), dict(os.environ)])+'\\n')"


def marked(ledger: SqliteLedger) -> list[str]:
    return [event.why for event in ledger.events(subject="mark")]


def heard(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line)[0] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A command of the owner's that writes down what it is told."""
    program, path = tmp_path / "listen.py", tmp_path / "heard"
    program.write_text(LISTEN)
    monkeypatch.setenv("X402_AUDIO_NOTIFY_COMMAND", f"{sys.executable} {program} '{path}'")
    return path


class TestMarks:
    def test_at_four_fifths_it_is_said_once_a_window(self, ledger: SqliteLedger, clock: SteppedClock) -> None:
        day = limit("jobs", "day", 1000)
        pay(ledger, wish(799), day)
        assert marked(ledger) == []
        pay(ledger, wish(1), day)
        pay(ledger, wish(50), day)
        assert marked(ledger) == ["80 % of MAX_PER_DAY $10.00 (environment) is used; $2.00 left"]
        clock.at += 90_000
        pay(ledger, wish(900), day)
        assert [text[:4] for text in marked(ledger)] == ["80 %", "90 %"]

    def test_another_limit_and_a_changed_one_are_said_anew(self, ledger: SqliteLedger) -> None:
        pay(ledger, wish(90), limit("jobs", "day", 100), limit("wallet", "ever", 100))
        pay(ledger, wish(1), limit("jobs", "day", 110), limit("wallet", "ever", 100))
        assert [(one.purse, one.window) for one in ledger.marks()] == [("wallet", "ever"), ("jobs", "day")]
        assert len(marked(ledger)) == 3

    def test_a_limit_of_one_payment_or_job_is_none_that_fills(self, ledger: SqliteLedger) -> None:
        pay(ledger, wish(100), limit("jobs", "payment", 100), limit("jobs", "job", 100))
        assert marked(ledger) == []

    def test_a_payment_that_is_refused_marks_nothing(self, ledger: SqliteLedger) -> None:
        with pytest.raises(Exception, match="over MAX_PER_DAY"):
            ledger.reserve(wish(200), [limit("jobs", "day", 100), limit("wallet", "ever", 210)])
        assert marked(ledger) == []

    def test_the_command_line_says_it_once(
        self, open_shop: OpenShop, cli: CommandLine, monkeypatch: pytest.MonkeyPatch, listener: Path
    ) -> None:
        monkeypatch.setenv("X402_AUDIO_MAX_PER_DAY", "1.60")
        monkeypatch.setenv("X402_AUDIO_MAX_PER_HOUR", "5")
        open_shop("direct-v1")
        first, second = (cli(*BUY, "--again", "--output", f"{name}.mp3") for name in "ab")
        assert (first.code, second.code) == (0, 0)
        line = "warning: 86 % of MAX_PER_DAY $1.60 (environment) is used; $0.22 left"
        assert (line in first.err, second.err.count(line)) == (False, 1)
        told = cli("budget", "--json").json["result"]
        (day,) = [one for one in told["limits"] if one["name"].startswith("MAX_PER_DAY")]
        assert (day["percent"], day["nearly_used"]) == (86, True)
        assert [one["window"] for one in told["marks"]] == ["day"]
        assert "86 % used" in cli("budget").out
        assert [one["kind"] for one in heard(listener)] == ["limit"]


class TestCommand:
    def test_it_is_told_one_json_object_and_none_of_our_secrets(
        self, open_shop: OpenShop, cli: CommandLine, listener: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("X402_AUDIO_APPROVE_ABOVE", "0.50")
        monkeypatch.setenv("VENICE_API_KEY", "venice-key-of-somebody")
        shop = open_shop("direct-v2")
        assert cli(*BUY, "--job-id", "j1").code == 3
        assert cli("freeze", "--why", "a test").code == 0
        asked, frozen = heard(listener)
        assert (asked["schemaVersion"], asked["kind"], asked["jobId"]) == (1, "approval", "j1")
        assert asked["data"]["amount_atomic"] == 690_000 and asked["data"]["origin"] == shop.server.origin
        assert (frozen["kind"], frozen["text"]) == ("frozen", "spending is frozen: a test")
        kept = listener.read_text()
        assert KEY[2:] not in kept and "X402_AUDIO_" not in kept and "venice-key" not in kept

    def test_no_shell_reads_it(self, tmp_path: Path) -> None:
        notifier = Notifier((sys.executable, "-c", "import sys; open(sys.argv[1],'w')", "a; touch b", "$(c)"))
        (tmp_path / "x").mkdir()
        notifier(Notice("frozen", "x"))
        notifier.close()
        assert not Path("b").exists()

    @pytest.mark.parametrize(
        ("words", "command_s", "said"),
        [
            (["/no/such/program"], 30, "No such file or directory"),
            ([sys.executable, "-c", "raise SystemExit(3)"], 30, "it ended with 3"),
            ([sys.executable, "-c", "import time; time.sleep(60)"], 1.5, "still running after"),
        ],
        ids=["missing", "failing", "hanging"],
    )
    def test_one_that_fails_is_named_and_held_to_its_time(
        self, words: list[str], command_s: float, said: str
    ) -> None:
        failures: list[Notice] = []
        notifier = Notifier(words, on_failure=failures.append, command_s=command_s)
        notifier(Notice("frozen", "x"))
        assert command_s == 30 or failures == [], "nothing waits for it"
        notifier.close()
        assert [said in one.text for one in failures] == [True]

    def test_when_it_cannot_keep_up_news_is_let_go(self) -> None:
        notifier = Notifier([sys.executable, "-c", "import time; time.sleep(60)"], command_s=0.2)
        for _ in range(300):
            notifier(Notice("frozen", "x"))
        notifier.close()

    def test_a_payment_goes_through_whatever_it_does(
        self, open_shop: OpenShop, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("X402_AUDIO_NOTIFY_COMMAND", "/no/such/program")
        monkeypatch.setenv("X402_AUDIO_MAX_PER_DAY", "0.80")
        open_shop("direct-v1")
        ended = cli(*BUY, "--output", "a.mp3")
        assert ended.code == 0
        assert "warning: NOTIFY_COMMAND: No such file or directory" in ended.err

    def test_a_strangers_file_names_none(self, open_shop: OpenShop, cli: CommandLine, tmp_path: Path) -> None:
        Path(".env").write_text(f"X402_AUDIO_NOTIFY_COMMAND=touch {tmp_path / 'owned'}\n")
        Path(".env").chmod(0o600)
        open_shop("direct-v2")
        ended = cli("freeze")
        assert ended.code == 0 and "ignored: NOTIFY_COMMAND" in ended.err
        assert not (tmp_path / "owned").exists()


class TestNews:
    def test_a_stopped_seller_an_overcharge_and_an_unknown_payment_are_news(self, stage: OpenStage) -> None:
        shop = stage(FaultRule("overcharge", value="0.40"), credit=usd("9"))
        shopper = shop.shopper()
        shopper.generate(job_id="a", again=True)
        shopper.reconcile()
        assert [one.kind for one in shopper.notices if one.kind in NEWS] == ["overcharge", "stopped"]
        (over,) = [one for one in shopper.notices if one.kind == "overcharge"]
        assert over.data["amount_atomic"] == 400_000
        shopper.client.ledger.lift(shop.wallet, shop.server.origin, "seller", "a test")
        shop.faults(FaultRule("drop_after", "/audio/queue", every=True))
        with pytest.raises(PaymentUnsettled):
            shopper.generate(job_id="b", again=True)
        (unknown,) = [one for one in shopper.notices if one.kind == "unknown"]
        assert unknown.job_id == "b"

    def test_three_losses_are_said_in_one_line(self, stage: OpenStage) -> None:
        shop = stage(credit=usd("9"))
        shopper = shop.shopper()
        for name in "abc":
            shop.faults(FaultRule("expire_media"))
            with pytest.raises((JobExpired, JobFailed)):
                shopper.generate(job_id=name, again=True, timeout=3600)
        (stopped,) = [one.text for one in shopper.notices if one.kind == "stopped"]
        assert stopped.startswith(f"{shop.server.origin} is stopped: 3 jobs in a row")
        assert stopped in shopper.told("warning"), "the same words, so that a terminal says them once"

    def test_of_the_daily_business_nothing_is(self, ledger: SqliteLedger) -> None:
        told: list[Event] = []
        end = ledger.listen(told.append)
        pay(ledger, wish(10))
        assert told and not any(news_of(event) for event in told)
        end()
        count = len(told)
        pay(ledger, wish(10))
        assert len(told) == count

    def test_what_was_rolled_back_is_told_to_nobody(self, ledger: SqliteLedger) -> None:
        told: list[Event] = []
        ledger.listen(told.append)
        with pytest.raises(Exception, match="over"):
            ledger.reserve(wish(10), [limit("jobs", "day", 1)])
        assert told == []
        assert os.path.exists(ledger.path)
