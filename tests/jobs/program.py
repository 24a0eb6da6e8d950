"""One of several programs of a wallet, for tests that want real processes and the real clock.

Arguments: state folder, API URL, what to do (JSON). Waits for a line on stdin before it begins; writes each notice as
a JSON line to stdout, so that a test waits for events and never for time.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.jobs.stage import MODEL, PROMPT, SECONDS, settings_for
from x402_audio.client import AudioClient
from x402_audio.errors import X402AudioError
from x402_audio.notices import Notice


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
    """`submit`: names of jobs to store; `work`: seconds to advance all jobs; `generate`: wishes of one job."""
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


if __name__ == "__main__":
    state, api_url, text = sys.argv[1:]
    with AudioClient(settings_for(api_url, Path(state)), on_notice=told) as one:
        act(one, json.loads(text))
