"""What every test stands on: no wish of the machine's owner reaches it, and it leaves nothing in the clone."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import hypothesis.configuration
import pytest
from hypothesis import settings

# Hypothesis would write its examples beside the tests.
hypothesis.configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir()) / f"hypothesis-{os.getuid()}")
# The machines that run this are small and shared: a slow example is not a failure. The same examples every time.
settings.register_profile("house", database=None, deadline=None, derandomize=True)
settings.load_profile("house")

OWNER_SETTINGS = ("X402_AUDIO_", "EVM_PRIVATE_KEY", "WALLET_KEY", "VENICE_")
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
