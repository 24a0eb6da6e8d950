"""Ctrl-C, SIGTERM and a lost terminal, at every step of a purchase: exit 130, the state kept, and `resume` finishes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import BUY, RESUME, CommandLine, Shop, start
from tests.cli.test_exit_codes import failed
from tests.state.gate import Gate

OpenShop = Callable[..., Shop]
STEPS = [
    ("venice", "/models", 1, "no"),
    ("venice", "/audio/quote", 1, "no"),
    ("venice", "/x402/top-up", 1, "no"),
    ("venice", "/x402/top-up", 2, "unknown"),
    ("venice", "/audio/queue", 1, "unknown"),
    ("venice", "/audio/retrieve", 1, "yes"),
    ("venice", "/audio/complete", 1, "yes"),
    ("direct-v2", "/audio/queue", 1, "no"),
    ("direct-v2", "/audio/queue", 2, "unknown"),
]
"""Which answer is on its way when the signal comes, and what is known of the money then."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
RESUMES_MAX = 3


@pytest.mark.parametrize(
    ("mode", "route", "nth", "moved", "number"),
    [(*step, SIGNALS[i % 3]) for i, step in enumerate(STEPS)],
    ids=[f"{mode}{route}-{nth}" for mode, route, nth, _ in STEPS],
)
def test_a_signal_ends_a_purchase_with_its_state_kept(
    mode: str, route: str, nth: int, moved: str, number: signal.Signals, open_shop: OpenShop, cli: CommandLine
) -> None:
    shop = open_shop(mode)
    gate = Gate(shop.server)
    gate.close(route, nth)
    words = (*BUY, "--max-top-up", "5", "--max-price", "1", "--job-id", "j1", "--json")
    process = start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    gate.wait()
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    gate.open()
    assert (process.returncode, err.count(b"error: ")) == (130, 1)
    assert b"Traceback" not in err
    error = failed(json.loads(out), 130, "Interrupted", moved)
    assert error["nextStep"] == "x402-audio resume j1"
    stored = cli("jobs", "show", "j1").code == 0
    ended = cli(*(RESUME if stored else words), *(("j1",) if stored else ()))
    for _ in range(RESUMES_MAX):
        ended = ended if ended.code == 0 else cli(*RESUME, "j1")
    assert ended.code == 0
    payments, jobs = shop.counted()
    assert (payments <= 1, jobs) == (True, 1)
    assert cli("ledger", "verify").code == 0


def test_an_interrupted_resume_says_what_the_books_know_of_the_money(
    open_shop: OpenShop, cli: CommandLine
) -> None:
    shop = open_shop("direct-v2", job_seconds=3600)
    assert cli(*BUY, "--max-price", "1", "--job-id", "j1", "--timeout", "0.1").code == 10
    gate = Gate(shop.server)
    gate.close("/audio/retrieve")
    process = start(*RESUME, "j1", "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    gate.wait()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    gate.open()
    failed(json.loads(out), 130, "Interrupted", "yes")


def test_a_second_signal_does_not_break_the_first_ones_goodbye(open_shop: OpenShop) -> None:
    shop = open_shop("direct-v2")
    gate = Gate(shop.server)
    gate.close("/audio/queue", 2)
    process = start(*BUY, "--max-price", "1", "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    gate.wait()
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        process.send_signal(number)
    out, err = process.communicate(timeout=30)
    gate.open()
    assert process.returncode == 130
    failed(json.loads(out), 130, "Interrupted", "unknown")
    assert b"Traceback" not in err


def test_nohup_stays_nohup(open_shop: OpenShop) -> None:
    shop = open_shop("direct-v2")
    gate = Gate(shop.server)
    gate.close("/audio/queue", 2)
    process = start(
        *BUY, "--max-price", "1", "--output", "t.mp3", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    gate.wait()
    process.send_signal(signal.SIGHUP)
    gate.open()
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, Path(os.fsdecode(out).strip()).name) == (0, "t.mp3")


def test_a_signal_before_anything_began_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from x402_audio.cli import main, run\n"
        "def stop(stage): os.kill(os.getpid(), signal.SIGHUP)\n"
        "run._command = lambda name: stop\n"
        "sys.exit(main(['models']))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30,
                           cwd=Path(__file__).parents[2])  # fmt: skip
    assert (ended.returncode, ended.stdout) == (130, "")
    assert "interrupted; the state is kept, repeat the command" in ended.stderr
    assert "money moved: no" in ended.stderr and "Traceback" not in ended.stderr
