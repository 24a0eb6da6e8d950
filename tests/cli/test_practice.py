"""`demo` and `sandbox`: the whole walk with nothing of the machine's owner in it, and what a terminal shows of it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import BUY, CommandLine, environment, start
from x402_audio.cli.output import Output
from x402_audio.cli.terminal import Terminal
from x402_audio.notices import Notice


@pytest.mark.parametrize("seller", ["venice", "direct-v1", "direct-v2"])
def test_the_demo_buys_one_track_with_one_payment_whatever_the_owner_has_set(
    seller: str, cli: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("X402_AUDIO_PRIVATE_KEY", "not a key at all")
    monkeypatch.setenv("X402_AUDIO_API_URL", "https://evil.example")
    monkeypatch.setenv("X402_AUDIO_MAX_PER_DAY", "0")
    Path(".env").write_text("X402_AUDIO_PROVIDER=nonsense\n")
    Path("x402-audio-demo.mp3").write_bytes(b"an older one")
    ended = cli("demo", "--seller", seller)
    assert ended.code == 0, ended.err
    for word in ("price      $0.69", "payment" if seller != "venice" else "top-up", "cost       $0.69", "left       $4.31",
                 "one payment, one job."):  # fmt: skip
        assert word in ended.out
    assert str(Path("x402-audio-demo.mp3").absolute()) in ended.out
    assert Path("x402-audio-demo.mp3").stat().st_size > 100_000
    assert not (tmp_path / "state").exists()


def test_the_demo_in_json_is_one_object(cli: CommandLine) -> None:
    told = cli("demo", "--seller", "direct-v2", "--output", "d.mp3", "--json").json
    assert told["ok"]
    assert (told["result"]["seller_payments"], told["result"]["seller_jobs"]) == (1, 1)
    assert told["result"]["path"] == str(Path("d.mp3").absolute())


@pytest.fixture
def sandbox() -> Iterator[subprocess.Popen[bytes]]:
    with start(
        "sandbox", "--job-seconds", "0.02", "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        yield process
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        assert process.returncode == 0


def test_the_sandbox_is_found_by_the_flag_and_uses_nothing_of_ours(
    sandbox: subprocess.Popen[bytes], cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sandbox.stdout is not None
    told = json.loads(sandbox.stdout.readline())["result"]
    monkeypatch.setenv("X402_AUDIO_PRIVATE_KEY", "not a key at all")
    monkeypatch.setenv("X402_AUDIO_API_URL", "https://evil.example")
    assert cli("wallet", "address", "--sandbox").out.strip() == told["wallet"]
    bought = cli("--sandbox", *BUY, "--max-price", "1", "--max-top-up", "5", "--json").json
    assert bought["ok"], bought
    shown = cli("--sandbox", "jobs", "show", bought["result"]["job_id"], "--json").json["result"]
    assert shown["environment"] == "sandbox"
    assert Path(told["state"], "key").stat().st_mode & 0o777 == 0o600
    assert cli("--sandbox", "--ledger", "mine.db", "jobs").code == 2
    assert told["command"].startswith("x402-audio --sandbox generate ")


def test_a_closed_sandbox_is_no_longer_found(cli: CommandLine, tmp_path: Path) -> None:
    with start("sandbox", "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    ended = cli("--sandbox", "balance")
    assert ended.code == 2
    assert not (tmp_path / "state" / "sandbox" / "sandbox.json").exists()
    assert "next: in another terminal: x402-audio sandbox" in ended.err


def watch(words: tuple[str, ...], **more: str) -> str:
    """What a person sees of a command on a terminal."""
    screen, line = pty.openpty()
    command = [sys.executable, "-m", "x402_audio", *words]
    env = {name: value for name, value in environment(**more).items() if value}
    with subprocess.Popen(command, env=env, stdin=line, stdout=line, stderr=line) as process:
        os.close(line)
        seen = b""
        while True:
            try:
                seen += os.read(screen, 4096)
            except OSError:  # the other side is closed: the command has ended
                break
        process.wait(timeout=20)
    os.close(screen)
    return seen.decode()


def test_on_a_terminal_a_person_sees_price_payment_progress_file_cost_and_what_is_left(
    sandbox: subprocess.Popen[bytes],
) -> None:
    assert sandbox.stdout is not None
    sandbox.stdout.readline()
    words = ("--sandbox", *BUY, "--max-price", "1", "--max-top-up", "5", "--output", "t.mp3")
    seen = watch(words, TERM="xterm", NO_COLOR="1")
    places = [
        seen.index(word) for word in ("price ", "top-up ", "settled ", "saved ", "cost ", "left ", "t.mp3")
    ]
    assert places == sorted(places)
    assert "\x1b[3" not in seen, "NO_COLOR is obeyed"
    assert "price" not in watch((*words, "--quiet", "--job-id", "again", "--again", "--force"), TERM="xterm")


def test_on_a_terminal_the_demo_says_its_cost_once() -> None:
    seen = watch(("demo", "--output", "d.mp3"), TERM="xterm", NO_COLOR="1")
    assert (seen.count("cost  "), seen.count("left  ")) == (1, 1)


class TestTerminal:
    def lines(self, *notices: Notice) -> list[str]:
        said: list[str] = []
        terminal = Terminal(Output(), "lines", said.append)
        for notice in notices:
            terminal(notice)
        return said

    def test_a_payee_is_shown_short_and_a_resend_as_the_same_payment(self) -> None:
        payee = "0x1234567890123456789012345678901234567890"
        first, again = (
            Notice(
                "payment",
                "",
                "j",
                {"kind": "direct", "amount_atomic": 690000, "pay_to": payee, "resend": resend},
            )
            for resend in (False, True)
        )
        line = "payment    $0.69 to 0x1234…7890"
        assert self.lines(first, again) == [line, f"{line}, the same one again"]

    def test_progress_carries_the_sellers_own_estimate_and_is_not_repeated(self) -> None:
        same = Notice("progress", "working", "j", {"average_s": 20.0, "elapsed_s": 4.0})
        unknown = Notice("progress", "working", "j", {"average_s": None, "elapsed_s": None})
        assert self.lines(same, same, unknown) == ["making     4 s of about 20 s", "making"]

    def test_it_remembers_whether_money_may_have_moved(self) -> None:
        terminal = Terminal(Output(), "silent")
        assert terminal.money_moved == "no"
        terminal(Notice("payment", "", "j7"))
        assert (terminal.money_moved, terminal.job_id) == ("unknown", "j7")
        terminal(Notice("settled", ""))
        assert (terminal.money_moved, terminal.job_id) == ("yes", "j7")
