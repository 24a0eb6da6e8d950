"""Who signs. The key may live anywhere behind `Signer`; in this process it lives in `LocalSigner` and never shows.

Knows no terms, limits or headers: whoever asks for a signature has made all checks before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Final, NoReturn, Protocol

from x402_audio.errors import SignerError
from x402_audio.protocol.address import checksum_address, keccak256
from x402_audio.protocol.exact import Authorization, authorization_digest
from x402_audio.protocol.networks import Network
from x402_audio.secret import Secret

if TYPE_CHECKING:
    from coincurve import PrivateKey

SECP256K1_N: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
KEY_NAMES: Final = ("X402_AUDIO_PRIVATE_KEY", "EVM_PRIVATE_KEY", "WALLET_KEY")
_NO_SCALAR: Final = "the private key is not a number the curve has (secp256k1)"
_KEY: Final = re.compile(r"(?:0x)?([0-9a-fA-F]{64})", re.ASCII)
_V: Final = (b"\x1b", b"\x1c")


def _is_scalar(key: bytes) -> bool:
    return len(key) == 32 and 0 < int.from_bytes(key, "big") < SECP256K1_N


class Signer(Protocol):
    """Signs for one wallet. Signatures are r, s, v: 65 bytes, v 27 or 28, low s. Raises SignerError."""

    @property
    def address(self) -> str:
        """The wallet (EIP-55)."""

    def sign_authorization(self, network: Network, authorization: Authorization) -> bytes:
        """Sign one EIP-3009 transfer (EIP-712)."""

    def sign_message(self, text: str) -> bytes:
        """Sign a personal message (EIP-191), for sign-ins."""


class LocalSigner:
    """A key in this process. It is in no repr, text, pickle or exception; signatures are deterministic (RFC 6979)."""

    __slots__ = ("_address", "_key")

    in_process: ClassVar = True
    """Signing waits for nobody: it takes less than a change of threads."""

    def __init__(self, key: PrivateKey) -> None:
        self._key = key
        self._address = _address_of(key.public_key.format(compressed=False))

    @classmethod
    def from_hex(cls, key_text: str) -> LocalSigner:
        """A signer from an optional `0x` and exactly 64 hexadecimal digits. Raises SignerError, which never echoes."""
        match = _KEY.fullmatch(key_text)
        if match is None:
            del key_text  # a report with locals must not show what was refused
            raise SignerError(
                "a private key is exactly 64 hexadecimal digits, with or without 0x before them",
                next_step=f"correct the key ({KEY_NAMES[0]}), then repeat",
            )
        key = bytes.fromhex(match[1])
        del key_text, match
        if not _is_scalar(key):
            del key
            raise SignerError(_NO_SCALAR)
        return cls.from_bytes(key)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> LocalSigner:
        """The key of the environment (`KEY_NAMES`, first set wins). Raises SignerError when none or different ones are."""
        where = os.environ if env is None else env
        keys = {name: Secret(where[name].strip()) for name in KEY_NAMES if where.get(name, "").strip()}
        del env, where  # a report with locals must not show them
        if not keys:
            raise SignerError(f"no key is set; set {KEY_NAMES[0]}")
        if len({key.reveal().lower().removeprefix("0x") for key in keys.values()}) > 1:
            raise SignerError(f"{' and '.join(keys)} hold different keys; keep one")
        return cls.from_hex(next(iter(keys.values())).reveal())

    @classmethod
    def from_bytes(cls, key: bytes) -> LocalSigner:
        """A signer from the key's 32 bytes. Raises SignerError, which never echoes."""
        from coincurve import PrivateKey

        if not _is_scalar(key):
            del key
            raise SignerError(_NO_SCALAR)
        return cls(PrivateKey(key))

    @property
    def address(self) -> str:
        """The wallet (EIP-55)."""
        return self._address

    def sign_authorization(self, network: Network, authorization: Authorization) -> bytes:
        """Sign a transfer from this wallet. Raises SignerError for another's, ValueError for a network not ours."""
        if authorization.from_.lower() != self._address.lower():
            raise SignerError(
                "the authorization is from another wallet than this signer's; nothing was signed"
            )
        return self.sign_digest(authorization_digest(network, authorization))

    def sign_message(self, text: str) -> bytes:
        """Sign a personal message (EIP-191)."""
        return self.sign_digest(message_digest(text))

    def sign_digest(self, digest: bytes) -> bytes:
        """Sign 32 bytes as they are. Raises ValueError for another length (the curve library sees to it)."""
        signature = self._key.sign_recoverable(digest, hasher=None)
        return signature[:64] + _V[signature[64]]

    def __repr__(self) -> str:
        return f"LocalSigner({self._address})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signer is never pickled or copied")


def message_digest(text: str) -> bytes:
    """The 32 bytes a personal message is signed by (EIP-191)."""
    message = text.encode("utf-8")
    return keccak256(b"\x19Ethereum Signed Message:\n%d" % len(message) + message)


def recover_address(digest: bytes, signature: bytes) -> str:
    """Who signed (EIP-55). Raises ValueError for anything the token contract would refuse: length, v, high s."""
    from coincurve import PublicKey

    if len(digest) != 32 or len(signature) != 65 or signature[64] not in (27, 28):
        raise ValueError("a signature is 65 bytes over 32, and ends with 27 or 28")
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    if not 0 < r < SECP256K1_N or not 0 < s <= SECP256K1_N // 2:
        raise ValueError("the signature's numbers are out of range")
    recoverable = signature[:64] + bytes([signature[64] - 27])
    public = PublicKey.from_signature_and_message(recoverable, digest, hasher=None)
    return _address_of(public.format(compressed=False))


def _address_of(public_key: bytes) -> str:
    return checksum_address("0x" + keccak256(public_key[1:])[-20:].hex())
