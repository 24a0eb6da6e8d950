"""A seller's JSON written back so that it equals what was offered: same members, same order, same digits.

Reference servers find the accepted entry by deep equality. Knows nothing of what the values mean.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Final

_ENCODER: Final = json.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False
)
"""What was read from a text has no circles."""


def echo_json(value: object) -> str:
    """Compact JSON of a value from `read_json`. Raises TypeError for what JSON cannot say."""
    try:
        return _ENCODER.encode(value)
    except TypeError:
        return _with_decimals(value)


def _with_decimals(value: object) -> str:
    """Slower, for the rare offer that holds fractions: a Decimal keeps its digits, which no float would."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dict):
        members = (f"{_ENCODER.encode(name)}:{_with_decimals(member)}" for name, member in value.items())
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_with_decimals, value)) + "]"
    return _ENCODER.encode(value)
