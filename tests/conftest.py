"""What every test stands on: no wish of the machine's owner reaches it, and it leaves nothing in the clone."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import hypothesis.configuration
import pytest
from hypothesis import settings

# Hypothesis would write its examples beside the tests.
hypothesis.configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir()) / f"hypothesis-{os.getuid()}")
# The machines that run this are small and shared: a slow example is not a failure. The same examples every time.
settings.register_profile("house", database=None, deadline=None, derandomize=True)
settings.load_profile("house")

# `nohup` and a shell's `&` start what they run deaf to signals, and so would be every command that a test interrupts.
# These tests stay deaf by a handler of their own, which no program they start inherits.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)

OWNER_SETTINGS = ("X402_AUDIO_", "EVM_PRIVATE_KEY", "WALLET_KEY", "VENICE_")
TOLD = "told"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _stranger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test starts as a stranger: no settings, no proxy, a state folder of its own, an empty current folder."""
    for name in list(os.environ):
        if name.startswith(OWNER_SETTINGS) or name.lower() in PROXIES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("X402_AUDIO_STATE_DIR", str(tmp_path / "state"))
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Says something at the end of the run, whether or not the test passes and whichever process ran it."""
    return lambda text: record_property(TOLD, text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    told = [
        str(text)
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, text in report.user_properties
        if name == TOLD
    ]
    if told:
        terminalreporter.section("what the tests have to say")
        terminalreporter.write_line("\n".join(told))
