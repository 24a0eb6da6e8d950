"""What came in and what goes out, as plain records, and JSON whose dollars are exact JSON numbers.

Knows no route and no socket.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from x402_audio.jsontext import Json, read_json_object
from x402_audio.money import Usdc

HEADER_BYTES_MAX = 16 * 1024
BODY_BYTES_MAX = 35 * 1024 * 1024


class RawToken(str):
    """Text put into JSON as it stands, to tell lies that no encoder would write (NaN, for one)."""

    __slots__ = ()


@dataclass(slots=True)
class Request:
    """One HTTP request. `wallet` and `code` are filled on the way, for the books."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    origin: str
    peer: str
    faults: Mapping[str, Json] = field(default_factory=dict)
    wallet: str = ""
    on_end: list[Callable[[], None]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.origin + self.path

    def header(self, *names: str) -> str:
        """The first of these headers that was sent, else empty."""
        for name in names:
            value = self.headers.get(name.lower(), "")
            if value:
                return value
        return ""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer; `chunks` instead of `body` makes it a stream. `code` goes to the books."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"
    code: str = ""
    chunks: Callable[[], Iterator[bytes]] | None = None


class Refusal(Exception):
    """Ends the handling of a request with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def encode_json(value: object) -> str:
    """JSON in which a Decimal is a number written digit by digit."""
    if isinstance(value, RawToken):
        return str(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Usdc):
        return value.usd
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(str(k))}:{encode_json(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(encode_json(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def json_answer(
    status: int, value: Mapping[str, object], *headers: tuple[str, str], code: str | None = None
) -> Answer:
    """An answer with this JSON body; `code` for the books is the body's own word unless given."""
    word = value.get("code") or value.get("error") if code is None else code
    return Answer(status, encode_json(value).encode(), headers, code=word if isinstance(word, str) else "")


def header_json(value: Mapping[str, object]) -> str:
    """Base64 of JSON, as x402 headers carry it."""
    return base64.b64encode(encode_json(value).encode()).decode("ascii")


def read_header_json(text: str) -> dict[str, Json]:
    """The JSON object inside a base64 header. Raises ValueError."""
    if len(text) > HEADER_BYTES_MAX:
        raise ValueError("header too long")
    plain = text.strip().replace("-", "+").replace("_", "/").rstrip("=")
    try:
        decoded = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    return read_json_object(decoded)
