"""Ethereum addresses and the hash behind them: keccak-256 and the EIP-55 spelling.

Knows no keys. The hash library is imported on first use: the C one where its wheels are (Linux), else pycryptodome's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import Any, Final

ZERO_ADDRESS: Final = "0x" + "0" * 40
_OF_NOTHING: Final = bytes.fromhex("c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470")
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)


def keccak256(data: bytes) -> bytes:
    """Ethereum's hash (Keccak before its padding became SHA-3), 32 bytes."""
    digest: bytes = _hash()(data).digest()
    return digest


@cache
def _hash() -> Callable[[bytes], Any]:
    """The first hash at hand that gives Ethereum's hash of nothing: other packages have had modules of these names."""
    for each in _hashes():
        if each(b"").digest() == _OF_NOTHING:
            return each
    raise ImportError(
        "no installed library gives Ethereum's hash; repair: pip install --force-reinstall pycryptodome"
    )


def _hashes() -> Iterator[Callable[[bytes], Any]]:
    try:
        from sha3 import keccak_256
    except ImportError:
        pass
    else:
        yield keccak_256
    from Crypto.Hash import keccak

    yield lambda data: keccak.new(digest_bits=256, data=data)


def is_address(text: object) -> bool:
    """Whether this is `0x` and 40 hexadecimal digits, whatever their case."""
    return isinstance(text, str) and _ADDRESS.fullmatch(text) is not None


@lru_cache(maxsize=256)
def checksum_address(text: str) -> str:
    """The EIP-55 spelling. Raises ValueError for another form, or mixed case whose checksum is wrong."""
    if not is_address(text):
        raise ValueError("an address is 0x and 40 hexadecimal digits")
    digits = text[2:]
    spelled = _spell(digits.lower())
    if digits not in (digits.lower(), digits.upper()) and digits != spelled:
        raise ValueError("the address has mixed case, but not that of its checksum (EIP-55)")
    return "0x" + spelled


def same_address(a: str, b: str) -> bool:
    """Whether both name one account, ignoring case; False when either is no address."""
    return is_address(a) and is_address(b) and a.lower() == b.lower()


def _spell(digits: str) -> str:
    marks = keccak256(digits.encode("ascii")).hex()
    return "".join(
        digit.upper() if mark >= "8" else digit for digit, mark in zip(digits, marks, strict=False)
    )
