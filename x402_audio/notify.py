"""What the owner should hear of: which events of the books are news, and NOTIFY_COMMAND, which is told each of them.

Knows no payment and no seller. The command runs beside everything else, without a shell and without our settings, for a
bounded time: nothing waits for it before money is decided, and nothing fails when it does.
"""

from __future__ import annotations

import math
import os
import queue
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from x402_audio.errors import X402AudioError
from x402_audio.jsontext import read_json_object, write_json
from x402_audio.ledger.book import Event
from x402_audio.money import Usdc
from x402_audio.notices import Notice, NoticeKind, OnNotice, ignore

SCHEMA_VERSION: Final = 1
NEWS: Final[frozenset[NoticeKind]] = frozenset(
    {"limit", "frozen", "stopped", "overcharge", "approval", "unknown"}
)
"""The kinds of notices that NOTIFY_COMMAND is told."""
COMMAND_S: Final = 10.0
"""How long the command may run for one piece of news; then it is killed."""
KILL_S: Final = 2.0
WAITING_MAX: Final = 100
_OURS: Final = ("X402_AUDIO_", "EVM_PRIVATE_KEY", "WALLET_KEY", "VENICE_")


def news_of(event: Event) -> Notice | None:
    """The notice an event is worth, None for the daily business of the books."""
    kind, _, name = event.subject.partition(":")
    match kind, event.to:
        case "mark", "used":
            purse, scope, window = map(str, _data(event)["key"])
            amount = int(event.amount)
            return Notice("limit", event.why, "", {
                "purse": purse, "scope": scope, "window": window, "limit_atomic": amount,
            })  # fmt: skip
        case "freeze", "frozen":
            return Notice("frozen", f"spending is frozen: {event.why}")
        case "suspension", "suspended":
            what = str(_data(event)["what"])
            who = name if what == "seller" else f"{what} at {name}"
            return Notice("stopped", f"{who} is stopped: {event.why}", "", {"origin": name, "what": what})
        case "approval", "wanted":
            return _wanted(event, name, _data(event)["set"])
        case "hold", "settled" | "presumed" if _data(event).get("entry", [""])[0] == "overcharge":
            text = f"a seller took {event.amount} more than it may: {event.why}"
            return Notice("overcharge", text, "", {"hold_id": name, "amount_atomic": int(event.amount)})
        case "hold", "presumed" if event.from_ != "presumed":
            text = f"what became of a payment of {event.amount} cannot be decided: {event.why}"
            return Notice("unknown", text, "", {"hold_id": name, "amount_atomic": int(event.amount)})
        case "job", "parked" if _data(event)["set"].get("parked_reason") == "unknown":
            text = f"nobody knows yet whether {name} was paid; x402-audio reconcile"
            return Notice("unknown", text, name, {"amount_atomic": int(event.amount)})
    return None


def _data(event: Event) -> Mapping[str, Any]:
    return read_json_object(event.data, bytes_max=1 << 22)


def _wanted(event: Event, approval_id: str, row: Mapping[str, Any]) -> Notice:
    job_id = str(row.get("job_id") or "")
    amount = Usdc(event.amount)
    text = f"{amount} at {row.get('origin')} wants the owner's approval: {event.why}"
    return Notice("approval", text, job_id, {
        "approval_id": approval_id, "amount_atomic": int(amount), "origin": str(row.get("origin")),
        "pay_to": str(row.get("pay_to")), "purse": str(row.get("purse")),
    })  # fmt: skip


class Notifier:
    """Hands news to the owner's command, one after the other, in a thread of its own."""

    def __init__(
        self, command: Sequence[str], *, on_failure: OnNotice = ignore, command_s: float = COMMAND_S
    ) -> None:
        self._command = tuple(command)
        self._on_failure = on_failure
        self._command_s = command_s
        self._waiting: queue.Queue[bytes | None] = queue.Queue(WAITING_MAX)
        self._thread: threading.Thread | None = None
        self._making = threading.Lock()
        self._until = math.inf

    def __call__(self, notice: Notice) -> None:
        """Take a piece of news and return at once; when too many wait it is let go."""
        told = {
            "schemaVersion": SCHEMA_VERSION, "kind": notice.kind, "text": notice.text, "jobId": notice.job_id or None,
            "data": dict(notice.data),
        }  # fmt: skip
        with self._making:
            if self._thread is None:
                self._until = math.inf
                self._thread = threading.Thread(target=self._run, name="x402-audio news", daemon=True)
                self._thread.start()
        try:
            self._waiting.put_nowait(write_json(told).encode("utf-8", "replace") + b"\n")
        except queue.Full:
            return

    def close(self) -> None:
        """Wait for the news under way, as long as one command may take; what is still waiting then is let go."""
        with self._making:
            thread, self._thread = self._thread, None
        if thread is None:
            return
        self._until = time.monotonic() + self._command_s
        with suppress(queue.Full):
            self._waiting.put_nowait(None)
        thread.join(self._command_s + KILL_S)

    def _run(self) -> None:
        while (line := self._waiting.get()) is not None and time.monotonic() < self._until:
            try:
                problem = self._tell(line)
            except OSError as error:
                problem = error.strerror or type(error).__name__
            if problem:
                self._on_failure(Notice("warning", f"NOTIFY_COMMAND: {problem}"))

    def _tell(self, line: bytes) -> str:
        import subprocess

        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=kept,
            cwd=os.sep, start_new_session=True,
        )  # fmt: skip
        try:
            process.communicate(line, timeout=max(0.0, min(self._command_s, self._until - time.monotonic())))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"it was still running after {self._command_s:.0f} s and was ended"
        return f"it ended with {process.returncode}" if process.returncode else ""


def unknown_payment(error: X402AudioError, what: str) -> Notice:
    """The news of a payment without a job whose outcome nobody knows."""
    return Notice(
        "unknown", f"nobody knows yet whether {what} was paid: {error.message}; x402-audio reconcile"
    )
