"""Building answers, and the facts file for tests that need it while they are collected."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from x402_audio.providers.provider import Answer

FACTS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "data" / "venice-answers.json").read_text("utf-8"), parse_float=Decimal
)
JSON_TYPE = {"content-type": "application/json; charset=utf-8"}
NOW = 1_787_313_600.0


class FixedClock:
    """A clock that stands still."""

    def now(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return 0.0


def digits(value: object) -> object:
    """Decimals as floats: every figure in the facts survives that."""
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError


def answer(status: int, body: object = None, headers: Mapping[str, str] | None = None) -> Answer:
    """`body` as it stands when it is text, else as JSON."""
    raw = body if isinstance(body, str) else json.dumps(body, default=digits)
    return Answer(status, {**JSON_TYPE, **(headers or {})}, raw.encode())


def fact(entry: Mapping[str, Any]) -> Answer:
    """An answer of the facts file."""
    return answer(entry["status"], entry["body"], entry["headers"])
