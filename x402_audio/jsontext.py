"""JSON from strangers: bounded in size and depth before parsing, no duplicate keys, numbers as Decimal.

Depth is bounded first because a deep text can end the whole process (import of eth_account lifts Python's
recursion limit to 100,000). NaN and Infinity are refused. Knows nothing of what the text means.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Final

BODY_BYTES_MAX: Final = 64 * 1024
DEPTH_MAX: Final = 32
_OPEN_OR_CLOSE: Final = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)
_NUMBER_CHARS_MAX: Final = 100
_COMPACT: Final = json.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False
)
write_text: Final[Callable[[str], str]] = json.encoder.encode_basestring
"""As `write_json`, of a text."""

Json = dict[str, "Json"] | list["Json"] | str | Decimal | int | bool | None


def read_json(text: str | bytes, *, bytes_max: int = BODY_BYTES_MAX, depth_max: int = DEPTH_MAX) -> Json:
    """Parse one JSON value; every number with a point or exponent becomes a Decimal.

    Raises ValueError when it is too large, too deep, not UTF-8, has a key twice, or is not JSON.
    """
    if len(text) > bytes_max:
        raise ValueError(f"JSON longer than {bytes_max} bytes")
    if isinstance(text, (bytes, bytearray)):
        text = bytes(text).decode("utf-8")
    elif not text.isascii() and len(text.encode("utf-8", "surrogatepass")) > bytes_max:
        raise ValueError(f"JSON longer than {bytes_max} bytes")
    _check_depth(text, depth_max)
    value: Json = _DECODER.decode(text)
    return value


def read_json_object(text: str | bytes, *, bytes_max: int = BODY_BYTES_MAX) -> dict[str, Json]:
    """As `read_json`, and the value must be an object."""
    value = read_json(text, bytes_max=bytes_max)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def write_json(value: object) -> str:
    """The one compact spelling used in stored and signed-over texts. Decimals are refused by the encoder."""
    return _COMPACT.encode(value)


def _check_depth(text: str, depth_max: int) -> None:
    if text.count("[") + text.count("{") <= depth_max:
        return
    depth = 0
    for match in _OPEN_OR_CLOSE.finditer(text):
        mark = match.group()[0]
        if mark in "[{":
            depth += 1
            if depth > depth_max:
                raise ValueError(f"JSON deeper than {depth_max}")
        elif mark in "]}":
            depth -= 1


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a JSON key appears twice")
    return result


def _decimal(digits: str) -> Decimal:
    if len(digits) > _NUMBER_CHARS_MAX:
        raise ValueError("a JSON number is too long")
    try:
        return Decimal(digits)
    except InvalidOperation:
        raise ValueError("a JSON number is too large") from None


def _integer(digits: str) -> int:
    if len(digits) > _NUMBER_CHARS_MAX:
        raise ValueError("a JSON number is too long")
    return int(digits)


def _refuse_constant(name: str) -> Json:
    raise ValueError(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_decimal, parse_int=_integer, parse_constant=_refuse_constant
)
