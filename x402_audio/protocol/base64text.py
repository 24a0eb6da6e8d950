"""Base64 as x402 headers use it: standard alphabet with padding out; URL-safe and unpadded also taken in.

Bounded before decoding. Knows nothing of what the bytes mean.
"""

from __future__ import annotations

from base64 import b64encode
from binascii import a2b_base64
from string import ascii_letters, digits
from typing import Final

HEADER_CHARS_MAX: Final = 16 * 1024
_ALPHABET: Final = (ascii_letters + digits + "+/-_").encode("ascii")
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")


def encode(text: str) -> str:
    """Text as UTF-8 in standard base64 with padding. Raises ValueError when it has no UTF-8 form."""
    return b64encode(text.encode("utf-8")).decode("ascii")


def decode(text: str, *, chars_max: int = HEADER_CHARS_MAX) -> bytes:
    """The bytes of a base64 text. Raises ValueError when it is too long or holds anything but base64."""
    if len(text) > chars_max:
        raise ValueError(f"base64 longer than {chars_max} characters")
    bare = text.rstrip("=")
    padding = len(text) - len(bare)
    if padding > 2 or not bare.isascii() or (letters := bare.encode("ascii")).translate(None, _ALPHABET):
        raise ValueError("not base64")
    if padding and len(text) % 4:
        raise ValueError("base64 with the wrong padding")
    return a2b_base64(letters.translate(_STANDARD) + b"=" * (-len(bare) % 4))
