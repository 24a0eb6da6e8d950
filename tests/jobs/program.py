"""One of several programs of a wallet, for tests that want real processes and the real clock.

Arguments: state folder, API URL, what to do (JSON). Waits for a line on stdin before it begins; writes each notice as
a JSON line to stdout, so that a test waits for events and never for time.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import x402_audio.client
from tests.jobs.stage import MODEL, PROMPT, SECONDS, settings_for
from x402_audio.client import AudioClient
from x402_audio.errors import X402AudioError
from x402_audio.notices import Notice

CHEAP = "mmaudio-v2-text-to-audio"


@dataclass(frozen=True, slots=True)
class HurriedClock:
    """The machine's clock from `began` on, so many times as fast: the same for every program that is given the same."""

    began: float
    pace: float

    def now(self) -> float:
        return self.began + (time.time() - self.began) * self.pace

    def monotonic(self) -> float:
        return self.now()


def say(**line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def told(notice: Notice) -> None:
    if notice.kind in ("queued", "parked", "completed", "payment", "settled"):
        say(
            what=notice.kind,
            job=notice.job_id,
            text=notice.text,
            **{k: v for k, v in notice.data.items() if k != "kind"},
        )


def act(client: AudioClient, wish: dict[str, Any]) -> None:
    """`submit`: names of jobs to store; `work`: seconds to advance all jobs; `generate`: jobs to buy, until one fails;
    `batch`: cheap jobs to buy, whatever becomes of the others."""
    folder = Path(wish["folder"])
    for name in wish.get("submit", ()):
        client.submit(
            PROMPT, model=MODEL, duration_seconds=SECONDS, job_id=name, output=folder / f"{name}.mp3"
        )
    say(what="ready")
    sys.stdin.readline()
    try:
        if "work" in wish:
            client.work(timeout=wish["work"], poll_interval=0.2)
        for name in wish.get("generate", ()):
            track = client.generate(
                PROMPT, model=MODEL, duration_seconds=SECONDS, job_id=name, output=folder / f"{name}.mp3",
                poll_interval=0.2, max_top_up=wish.get("max_top_up"),
            )  # fmt: skip
            say(what="track", job=name, path=track.path, sha256=track.sha256)
    except X402AudioError as error:
        say(what="error", code=error.code, exit=error.exit_code, text=error.message)
    for name in wish.get("batch", ()):
        try:
            client.generate(
                PROMPT, model=CHEAP, duration_seconds=SECONDS, job_id=name, output=folder / f"{name}.mp3"
            )
            say(what="ended", job=name, code="", moved="")
        except X402AudioError as error:
            say(what="ended", job=name, code=error.code, moved=error.money_moved, text=error.message)


def main() -> None:
    """With `clock` (began, pace) time runs so fast for this program; `settings` are further settings."""
    state, api_url, text = sys.argv[1:]
    wish = json.loads(text)
    clock = HurriedClock(*wish["clock"]) if "clock" in wish else None
    if clock is not None:
        vars(x402_audio.client)["time"] = SimpleNamespace(sleep=lambda s: time.sleep(s / clock.pace))
    settings = settings_for(api_url, Path(state), **wish.get("settings", {}))
    with AudioClient(settings, clock=clock, on_notice=told) as one:
        act(one, wish)


if __name__ == "__main__":
    main()
