"""Keys at rest: geth V3 keystores, made once, never overwritten. The one file of this room that touches the disk.

eth_account does the encryption and is imported on first use; it raises Python's recursion limit, which is put back.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final

from x402_audio.clock import Random
from x402_audio.errors import SignerError
from x402_audio.jsontext import Json, read_json_object, write_json
from x402_audio.protocol.address import checksum_address
from x402_audio.protocol.signer import SECP256K1_N, LocalSigner

_FILE_BYTES_MAX: Final = 16 * 1024
_SCRYPT_MEMORY_MAX: Final = 1024**3
_PBKDF2_ROUNDS_MAX: Final = 10_000_000
_DRAWS_MAX: Final = 8
_NO_KEYSTORE: Final = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, TypeError, ValueError,
)  # fmt: skip
"""What the library raises for a file that is none."""


def create_keystore(path: str | Path, password: str, random: Random) -> str:
    """Make a new key, write it encrypted to a new file (0600), and return its address (EIP-55). Raises SignerError."""
    for _ in range(_DRAWS_MAX):
        key = random(32)
        if len(key) == 32 and 0 < int.from_bytes(key, "big") < SECP256K1_N:
            return _store(path, password, key)
    raise SignerError("the random source gives no usable keys; no keystore was made")


def import_keystore(path: str | Path, key_text: str, password: str) -> str:
    """Write a known key encrypted to a new file (0600), and return its address (EIP-55). Raises SignerError."""
    LocalSigner.from_hex(key_text)
    return _store(path, password, bytes.fromhex(key_text.removeprefix("0x")))


def open_keystore(path: str | Path, password: str) -> LocalSigner:
    """The signer of a keystore. Raises SignerError for a file that is none, or a wrong password."""
    stored = _read(path)
    _check_cost(path, stored)
    with _SteadyRecursionLimit():
        from eth_account import Account
    try:
        key = bytes(Account.decrypt(dict(stored), password))
    except _NO_KEYSTORE:
        raise SignerError(f"{path} could not be opened: wrong password, or no geth V3 keystore") from None
    signer = LocalSigner.from_bytes(key)
    if stored.get("address") is not None and signer.address != _address(path, stored):
        raise SignerError(f"{path} holds another key than the address it names")
    return signer


def keystore_address(path: str | Path) -> str:
    """The address a keystore names (EIP-55), without its password. Raises SignerError."""
    return _address(path, _read(path))


class _SteadyRecursionLimit:
    """Puts the recursion limit back: at 100,000 deeply nested input would end the process instead of an exception."""

    def __enter__(self) -> None:
        self._limit = sys.getrecursionlimit()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.setrecursionlimit(self._limit)


def _store(path: str | Path, password: str, key: bytes) -> str:
    if not password:
        raise SignerError("a keystore needs a password that is not empty; nothing was written")
    if os.path.lexists(path):
        raise SignerError(f"{path} exists already; a keystore is never overwritten")
    with _SteadyRecursionLimit():
        from eth_account import Account
    encrypted = write_json(Account.encrypt(key, password))
    _write_new(path, encrypted.encode("utf-8"))
    return LocalSigner.from_bytes(key).address


def _write_new(path: str | Path, data: bytes) -> None:
    """Durable before it returns: a key that receives money must survive a power cut."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        durable = False
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            durable = True
        finally:
            if not durable:
                os.unlink(path)
        folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError:
        raise SignerError(f"{path} exists already; a keystore is never overwritten") from None
    except OSError as error:
        raise SignerError(f"the keystore {path} could not be written ({error.strerror})") from None


def _read(path: str | Path) -> dict[str, Json]:
    try:
        with open(path, "rb") as file:
            facts = os.fstat(file.fileno())
            text = file.read(_FILE_BYTES_MAX + 1)
        stored = read_json_object(text, bytes_max=_FILE_BYTES_MAX)
    except OSError as error:
        raise SignerError(f"the keystore {path} could not be read ({error.strerror})") from None
    except ValueError:
        raise SignerError(f"{path} is not a geth V3 keystore") from None
    if stored.get("version") != 3:
        raise SignerError(f"{path} is not a geth V3 keystore")
    if facts.st_uid not in (os.getuid(), 0) or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SignerError(
            f"the keystore {path} can be changed by others",
            next_step=f"check that it is yours, then: chmod 600 {path}",
        )
    return stored


def _check_cost(path: str | Path, stored: Mapping[str, Json]) -> None:
    """A file may not ask for more memory or time than any honest one does."""
    crypto = stored.get("crypto", stored.get("Crypto"))
    params = crypto.get("kdfparams") if isinstance(crypto, dict) else None
    if not isinstance(params, dict):
        raise SignerError(f"{path} is not a geth V3 keystore")
    costs = [params.get(name, 1) for name in ("n", "r", "p", "c", "dklen")]
    n, r, p, c, dklen = (cost if isinstance(cost, int) and cost > 0 else 0 for cost in costs)
    if (
        not n * r * p * c * dklen
        or 128 * n * r * p > _SCRYPT_MEMORY_MAX
        or c > _PBKDF2_ROUNDS_MAX
        or dklen > 64
    ):
        raise SignerError(f"{path} asks for an unreasonable amount of work to be opened")


def _address(path: str | Path, stored: Mapping[str, Json]) -> str:
    text = stored.get("address")
    try:
        return checksum_address("0x" + str(text).removeprefix("0x").lower())
    except ValueError:
        raise SignerError(f"{path} does not name its address") from None
