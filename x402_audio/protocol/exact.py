"""Scheme `exact` on EVM: an EIP-3009 `TransferWithAuthorization` and the EIP-712 digest that is signed for it.

The domain comes from our table of networks alone. Knows no keys, no terms and no headers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from x402_audio.money import UINT256_MAX, Usdc
from x402_audio.protocol.address import is_address, keccak256
from x402_audio.protocol.networks import BASE, BASE_SEPOLIA, Network

DOMAIN_TYPE: Final = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
TRANSFER_TYPE: Final = (
    "TransferWithAuthorization(address from,address to,uint256 value,"
    "uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
DOMAIN_TYPEHASH: Final = bytes.fromhex("8b73c3c69bb8fe3d512ecc4cf759cc79239f7b179b0ffacaa9a75d522b39400f")
TRANSFER_TYPEHASH: Final = bytes.fromhex("7c7c6cdb67a18743f49ec6fa9b35f50d52ed05cbed4cc592e13b44501c1a2267")
CANCEL_TYPEHASH: Final = bytes.fromhex("158b0a9edf7a828aad02f63cd515c68ef2f50ba807396f6d12842833a1597429")
"""CancelAuthorization(address authorizer,bytes32 nonce)"""
_MEMBERS: Final = re.compile(r"(\w+) (\w+)[,)]", re.ASCII)
_ADDRESS_PAD: Final = bytes(12)


@dataclass(frozen=True, slots=True)
class Authorization:
    """What is signed: `value` atomic units from `from_` to `to`, valid strictly between two Unix seconds, once.

    nonce: 32 bytes. Raises ValueError when a field is not of its type (EIP-3009).
    """

    from_: str
    to: str
    value: Usdc
    valid_after: int
    valid_before: int
    nonce: bytes

    def __post_init__(self) -> None:
        if not (is_address(self.from_) and is_address(self.to)):
            raise ValueError("an authorization goes from an address to an address")
        if not 0 < self.value <= UINT256_MAX:
            raise ValueError("an authorization moves 1 to 2^256-1 atomic units")
        if not 0 <= self.valid_after < self.valid_before <= UINT256_MAX:
            raise ValueError("an authorization is valid between two times, the earlier one first")
        if type(self.nonce) is not bytes or len(self.nonce) != 32:
            raise ValueError("a nonce is 32 bytes")

    def wire(self) -> dict[str, str]:
        """The six members as x402 sends them: all text, numbers in decimal."""
        return {
            "from": self.from_,
            "to": self.to,
            "value": str(int(self.value)),
            "validAfter": str(self.valid_after),
            "validBefore": str(self.valid_before),
            "nonce": "0x" + self.nonce.hex(),
        }


def authorization_digest(network: Network, authorization: Authorization) -> bytes:
    """The 32 bytes to sign (EIP-712). Raises ValueError for a network that is not one of our own two."""
    a = authorization
    words = (
        TRANSFER_TYPEHASH,
        _ADDRESS_PAD, bytes.fromhex(a.from_[2:]),
        _ADDRESS_PAD, bytes.fromhex(a.to[2:]),
        a.value.to_bytes(32), a.valid_after.to_bytes(32), a.valid_before.to_bytes(32),
        a.nonce,
    )  # fmt: skip
    return _digest(network, keccak256(b"".join(words)))


def cancellation_digest(network: Network, authorizer: str, nonce: bytes) -> bytes:
    """The 32 bytes that cancel an authorization when signed (EIP-3009 CancelAuthorization). Raises ValueError."""
    if not is_address(authorizer) or len(nonce) != 32:
        raise ValueError("a cancellation names an address and a nonce of 32 bytes")
    return _digest(network, keccak256(CANCEL_TYPEHASH + _ADDRESS_PAD + bytes.fromhex(authorizer[2:]) + nonce))


def _digest(network: Network, struct_hash: bytes) -> bytes:
    if network is not BASE and network is not BASE_SEPOLIA and network not in (BASE, BASE_SEPOLIA):
        raise ValueError("nothing is signed for a network outside our table")
    return keccak256(b"\x19\x01" + network.domain_separator + struct_hash)


def typed_data(network: Network, authorization: Authorization) -> dict[str, object]:
    """The same as EIP-712 JSON, for a signer that shows or hashes it itself; numbers are decimal text."""
    return {
        "types": {
            "EIP712Domain": _members(DOMAIN_TYPE),
            "TransferWithAuthorization": _members(TRANSFER_TYPE),
        },
        "primaryType": "TransferWithAuthorization",
        "domain": {
            "name": network.domain_name,
            "version": network.domain_version,
            "chainId": network.chain_id,
            "verifyingContract": network.usdc,
        },
        "message": authorization.wire(),
    }


def _members(type_text: str) -> list[dict[str, str]]:
    _, _, members = type_text.partition("(")
    return [{"name": name, "type": kind} for kind, name in _MEMBERS.findall(members)]
