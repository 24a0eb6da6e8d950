"""The command `reconcile`: a table of what ledger, chain and seller say, and the same again and again on request."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chain.ahead import AheadClock
from tests.chain.screen import at_a_terminal
from tests.cli.conftest import KEY, start
from x402_audio.cli import main
from x402_audio.protocol.signer import LocalSigner
from x402_audio.sandbox import Limits, SandboxSeller, SandboxServer

WALLET = LocalSigner.from_hex(KEY).address
ELSEWHERE = "0x" + "cd" * 20
NONCE = "0x" + "09" * 32
FINAL_S = 10
STYLES = re.compile(r"\x1b\[[0-9;]*m")
BUY = ("generate", "warm indie folk, 120 BPM", "--model", "elevenlabs-music", "--duration", "3", "--job-id")


@pytest.fixture
def seller(monkeypatch: pytest.MonkeyPatch) -> Iterator[SandboxSeller]:
    """A direct seller, one track bought there, and the chain in sight."""
    made = SandboxSeller(mode="direct-v1", limits=Limits.off(), job_seconds=0.02, clock=AheadClock())
    with SandboxServer(made) as server:
        monkeypatch.setenv("X402_AUDIO_API_URL", server.api_url)
        monkeypatch.setenv("X402_AUDIO_RPC_URL", server.rpc_url)
        monkeypatch.setenv("X402_AUDIO_PRIVATE_KEY", KEY)
        assert main([*BUY, "k", "--poll-interval", "0.05"]) == 0
        yield made


def plant(seller: SandboxSeller) -> None:
    """USDC leaves the wallet unknown to the books, and that is final."""
    assert isinstance(seller.clock, AheadClock)
    seller.chain.transfer(WALLET.lower(), ELSEWHERE, 420_000, NONCE)
    seller.clock.ahead += FINAL_S


def test_the_table_is_plain_when_piped_and_rows_in_the_json(
    seller: SandboxSeller, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["reconcile"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and out.splitlines()[0].split() == [
        "what", "amount", "when", "ledger", "chain", "seller", "difference", "entry",
    ]  # fmt: skip
    assert "direct" in out and "settled" in out and out.endswith("books, seller and chain agree\n")
    assert main(["reconcile", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["result"]["rows"]
    assert (row["kind"], row["amount_usd"], row["ledger"], row["agrees"]) == (
        "direct",
        "0.69",
        "settled",
        True,
    )


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_is_drawn_on_a_terminal_and_no_word_of_it_is_broken(
    seller: SandboxSeller, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(seller)
    monkeypatch.setenv("COLUMNS", str(columns))
    code, said = at_a_terminal(["reconcile", "--quiet"])
    assert code == 0
    lines = STYLES.sub("", said).splitlines()
    assert lines[0].strip() == "ledger · chain · seller" and "─" in lines[2]
    assert any(line.split()[:2] == ["-", "$0.42"] and "chain more" in line for line in lines)
    assert any(line.startswith("chain more: $0.42") for line in lines)
    words = {word.strip("(),") for line in lines for word in line.split()}
    assert {ELSEWHERE, NONCE} <= words, "to be copied whole"
    assert max(map(len, lines)) <= columns


def test_watching_says_only_what_changed_and_ends_with_130(seller: SandboxSeller) -> None:
    process = start("reconcile", "--watch", "--every", "0.05", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    first = process.stdout.readline().decode()
    plant(seller)
    changed = [process.stdout.readline().decode() for _ in range(3)]
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=20)
    assert process.returncode == 130 and b"state is kept" in err
    assert "books, seller and chain agree" in first
    assert "chain more: $0.42" in changed[0] and "FROZEN" in changed[1]
    assert "no longer frozen" in changed[2] and rest == b""


class Rounds:
    """Ctrl-C is pressed after so many."""

    def __init__(self, rounds: int) -> None:
        self._left = rounds
        self.time = time.time

    def sleep(self, _: float) -> None:
        self._left -= 1
        if not self._left:
            raise KeyboardInterrupt


def test_watching_in_json_is_one_object_a_pass(
    seller: SandboxSeller, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("x402_audio.cli.reconcile_command.time", Rounds(3))
    capsys.readouterr()
    assert main(["reconcile", "--watch", "--json"]) == 130
    *rounds, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert [(one["ok"], one["result"]["differences"]) for one in rounds] == [(True, [])] * 3
    assert last["exitCode"] == 130


def test_watching_goes_on_while_the_chain_is_away(
    seller: SandboxSeller, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("X402_AUDIO_RPC_URL", "http://127.0.0.1:9/")
    monkeypatch.setattr("x402_audio.cli.reconcile_command.time", Rounds(3))
    capsys.readouterr()
    assert main(["reconcile", "--watch"]) == 130
    said = capsys.readouterr().out
    assert said.count("could not read the chain") == 1, "said once"


def test_a_pace_below_ten_seconds_is_for_loopback_only(
    seller: SandboxSeller, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("X402_AUDIO_API_URL", "https://audio.example/api/v1")
    assert main(["reconcile", "--watch", "--every", "5"]) == 2
    assert "10 s or more" in capsys.readouterr().err


def test_a_backup_says_what_to_do_after_restoring_it(
    seller: SandboxSeller, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    capsys.readouterr()
    assert main(["ledger", "backup", str(tmp_path / "copy.db")]) == 0
    assert "x402-audio reconcile" in capsys.readouterr().err
    assert main(["ledger", "backup", "--help"]) == 0
    assert "would buy it again" in " ".join(capsys.readouterr().out.split())
