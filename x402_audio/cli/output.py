"""What a command says and how: one JSON object or lines of text, errors in two lines, and nothing that is secret.

Knows no command. stdout carries the result alone; everything else goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import PurePath
from shutil import get_terminal_size
from time import gmtime, strftime
from typing import ClassVar, Final, TextIO

from x402_audio.errors import Owner, Retry, X402AudioError
from x402_audio.money import Usdc

SCHEMA_VERSION: Final = 1
SEVERITY: Final = (8, 9, 6, 3, 4, 5, 2, 7, 10, 0)
"""Of many jobs the first of these that occurred is the exit code."""
_MONEY_DETAILS: Final = frozenset(
    {"amount", "spent", "held", "needed", "balance", "missing", "suggested_top_up"}
)
_OWN_FIELDS: Final = frozenset({"code", "message", "moneyMoved", "owner", "retry", "nextStep"})
_SECRET_LENGTH_MIN: Final = 6


class Interrupted(X402AudioError):
    """The person stopped it; the state is kept."""

    retry: Retry = "same_id"
    exit_code: ClassVar[int] = 130
    next_step = "x402-audio resume"


class UnexpectedError(X402AudioError):
    """A fault of ours: its kind and place, never its text, which may hold anything."""

    owner: Owner = "human"


@dataclass(frozen=True, slots=True)
class Report:
    """How a command ended: its result for programs, its lines for people. `error` where it ended badly all the same."""

    result: Mapping[str, object]
    lines: Sequence[str] = ()
    error: X402AudioError | None = None
    exit_code: int | None = None
    told: bool = False
    """The command has printed it already (a server does at its start)."""

    @property
    def code(self) -> int:
        if self.exit_code is not None:
            return self.exit_code
        return self.error.exit_code if self.error else 0


class Output:
    """Writes to stdout and stderr of this process. Texts registered by `hide` never appear."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False, verbose: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.verbose = verbose
        self.warnings: list[str] = []
        self._secrets: list[str] = []

    def hide(self, secret: str) -> None:
        """Never print this text. A belt beside the braces: no message is made of secrets in the first place."""
        if len(secret) >= _SECRET_LENGTH_MIN:
            self._secrets += [secret, secret.removeprefix("0x")]

    def report(self, report: Report) -> int:
        """Print how the command ended; its exit code."""
        if report.told:
            return report.code
        if self.as_json:
            envelope: dict[str, object] = {
                "schemaVersion": SCHEMA_VERSION, "ok": report.code == 0, "exitCode": report.code,
                "result": {**report.result, "warnings": list(self.warnings)},
            }  # fmt: skip
            if report.error is not None:
                envelope["error"] = error_fields(report.error)
            self._print(as_json_text(envelope), sys.stdout)
        else:
            for line in report.lines:
                self._print(plain(line), sys.stdout)
        if report.error is not None:
            self._say_error(report.error)
        return report.code

    def fail(self, error: X402AudioError) -> int:
        """Print an error; its exit code."""
        if self.as_json:
            envelope = {
                "schemaVersion": SCHEMA_VERSION, "ok": False, "exitCode": error.exit_code,
                "error": {**error_fields(error), "warnings": list(self.warnings)},
            }  # fmt: skip
            self._print(as_json_text(envelope), sys.stdout)
        self._say_error(error)
        return error.exit_code

    def warn(self, text: str) -> None:
        """A warning: once on stderr, and in the JSON."""
        if text not in self.warnings:
            self.warnings.append(text)
            if not self.quiet:
                self.say(f"warning: {text}")

    def say(self, text: str) -> None:
        """One line on stderr."""
        self._print(plain(text), sys.stderr)

    def _say_error(self, error: X402AudioError) -> None:
        self.say(f"error: {error.message or error.code}")
        self.say(
            f"money moved: {error.money_moved} · next: {error.next_step or 'nothing'} · turn: {error.owner}"
        )

    def _print(self, text: str, stream: TextIO) -> None:
        for secret in self._secrets:
            text = text.replace(secret, "…")
        try:
            print(text, file=stream, flush=True)
        except BrokenPipeError:
            # Whoever read it is gone; the interpreter's last flush must not complain either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def plain(text: str) -> str:
    """One printable line: a seller's text cannot move the cursor or forge a second line."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def as_json_text(value: object) -> str:
    """JSON of plain values, dataclasses and amounts; ASCII, so that every terminal and pipe can carry it."""
    return json.dumps(json_value(value), allow_nan=False)


def error_fields(error: X402AudioError) -> dict[str, object]:
    """An error as programs read it; its own details beside the fixed fields."""
    told: dict[str, object] = {
        "code": error.code,
        "message": error.message,
        "moneyMoved": error.money_moved,
        "owner": error.owner,
        "retry": error.retry,
        "nextStep": error.next_step,
    }
    for name, value in error.details.items():
        if name in _OWN_FIELDS:
            continue
        if isinstance(value, Usdc) or (name in _MONEY_DETAILS and type(value) is int):
            told |= money(name, Usdc(int(value)))
        else:
            told[name] = value
    return told


def money(name: str, amount: Usdc | None) -> dict[str, str | None]:
    """An amount twice: `<name>_atomic` and `<name>_usd`, both text."""
    return {
        f"{name}_atomic": None if amount is None else str(int(amount)),
        f"{name}_usd": None if amount is None else amount.usd,
    }


def record(value: object) -> dict[str, object]:
    """A record as a JSON object; each amount as atomic and decimal text."""
    names = _names(value)
    if names is None:
        raise TypeError("not a record")
    told: dict[str, object] = {}
    for name in names:
        item = getattr(value, name)
        told |= money(name, item) if isinstance(item, Usdc) else {name: item}
    return told


def _names(value: object) -> Sequence[str] | None:
    """The fields of a dataclass or a named tuple, in order; None of anything else."""
    if isinstance(value, type):
        return None
    if is_dataclass(value):
        return [field.name for field in fields(value)]
    return getattr(value, "_fields", None) if isinstance(value, tuple) else None


def json_value(value: object) -> object:
    """What the JSON encoder takes: only texts, whole numbers, times, truths, lists and objects."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Usdc):
        return str(int(value))
    if isinstance(value, int | float):
        return value
    if _names(value) is not None:
        return json_value(record(value))
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, PurePath):
        return [json_value(item) for item in value]
    return str(value)


def table(rows: Sequence[Sequence[str]], head: Sequence[str] = ()) -> list[str]:
    """Columns set under each other, two spaces between."""
    lines = [list(map(plain, row)) for row in ((head, *rows) if head else rows)]
    if not lines:
        return []
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    said = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return [said[0], "-" * min(len(said[0]), _edge()), *said[1:]] if head else said


def _edge() -> int:
    """Where a line under a head ends at the latest: a terminal would break it in two."""
    return get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


def when(seconds: float | None) -> str:
    """A moment as people read it, UTC."""
    return "" if seconds is None else strftime("%Y-%m-%d %H:%M:%SZ", gmtime(seconds))


def short(address: str) -> str:
    """An address to recognise: `0x1234…abcd`."""
    return f"{address[:6]}…{address[-4:]}" if len(address) > 12 else address


def worst(codes: Iterable[int]) -> int:
    """The exit code of many: the most severe."""
    found = set(codes)
    return next((code for code in SEVERITY if code in found), 0)
