"""Base64 as x402 headers use it: standard alphabet with padding out; URL-safe and unpadded also taken in.

Bounded before decoding. Knows nothing of what the bytes mean.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from typing import Final

HEADER_CHARS_MAX: Final = 16 * 1024
_TEXT: Final = re.compile(r"[A-Za-z0-9+/_-]*={0,2}", re.ASCII)
_STANDARD: Final = str.maketrans("-_", "+/")


def encode(text: str) -> str:
    """Text as UTF-8 in standard base64 with padding. Raises ValueError when it has no UTF-8 form."""
    return b64encode(text.encode("utf-8")).decode("ascii")


def decode(text: str, *, chars_max: int = HEADER_CHARS_MAX) -> bytes:
    """The bytes of a base64 text. Raises ValueError when it is too long or holds anything but base64."""
    if len(text) > chars_max:
        raise ValueError(f"base64 longer than {chars_max} characters")
    if not _TEXT.fullmatch(text):
        raise ValueError("not base64")
    bare = text.rstrip("=")
    if len(bare) != len(text) and len(text) % 4:
        raise ValueError("base64 with the wrong padding")
    if "-" in bare or "_" in bare:
        bare = bare.translate(_STANDARD)
    return b64decode(bare + "=" * (-len(bare) % 4))
