"""Signatures, checked from the standards alone: EIP-712 with EIP-3009, EIP-191, low s, v 27 or 28.

The hashes are put together here by hand and never through the client's own signing code. Knows no route and
no books; whether a nonce was used or a wallet can pay is the seller's question.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from x402_audio.jsontext import Json

SECP256K1_N: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
SECONDS_LEFT_MIN: Final = 6
_DOMAIN_TYPE: Final = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
_TRANSFER_TYPE: Final = (
    b"TransferWithAuthorization(address from,address to,uint256 value,"
    b"uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_BYTES32: Final = re.compile(r"0x[0-9a-fA-F]{64}", re.ASCII)
_SIGNATURE: Final = re.compile(r"0x[0-9a-fA-F]{130}", re.ASCII)
_UINT: Final = re.compile(r"0|[1-9][0-9]{0,77}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Network:
    """A chain and its USDC contract; `genesis` is the Unix time of block 0."""

    name: str
    caip2: str
    chain_id: int
    asset: str
    token_name: str
    genesis: int

    def domain_separator(self) -> bytes:
        return keccak(
            keccak(_DOMAIN_TYPE)
            + keccak(self.token_name.encode())
            + keccak(b"2")
            + self.chain_id.to_bytes(32, "big")
            + _address_word(self.asset)
        )


NETWORKS: Final[Mapping[str, Network]] = {
    "base": Network(
        "base", "eip155:8453", 8453, "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", "USD Coin", 1686789347
    ),
    "base-sepolia": Network(
        "base-sepolia",
        "eip155:84532",
        84532,
        "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        "USDC",
        1695768288,
    ),
}


class PaymentFault(Exception):
    """A payment that is not good; `word` is one of the x402 error words."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


@dataclass(frozen=True, slots=True)
class Authorization:
    """EIP-3009 `TransferWithAuthorization` and its signature; addresses and nonce in lower case."""

    payer: str
    payee: str
    value: int
    valid_after: int
    valid_before: int
    nonce: str
    signature: bytes


def keccak(data: bytes) -> bytes:
    from eth_utils.crypto import keccak as keccak_256

    return bytes(keccak_256(data))


def is_address(text: object) -> bool:
    return isinstance(text, str) and _ADDRESS.fullmatch(text) is not None


def checksum_address(address: str) -> str:
    """The EIP-55 spelling."""
    plain = address[2:].lower()
    marks = keccak(plain.encode()).hex()
    return "0x" + "".join(c.upper() if int(m, 16) >= 8 else c for c, m in zip(plain, marks, strict=False))


def unowned_address(text: str) -> str:
    """The last 20 bytes of keccak256(text): nobody can know a key for it. Lower case."""
    return "0x" + keccak(text.encode())[-20:].hex()


def recover(digest: bytes, signature: bytes) -> str:
    """The lower-case address that signed. Raises ValueError for a signature the token contract would refuse."""
    from eth_keys.datatypes import Signature
    from eth_keys.exceptions import BadSignature
    from eth_utils.exceptions import ValidationError

    r, s, v = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big"), signature[64]
    if v not in (27, 28) or not 0 < r < SECP256K1_N or not 0 < s <= SECP256K1_N // 2:
        raise ValueError("not a canonical signature")
    try:
        key = Signature(vrs=(v - 27, r, s)).recover_public_key_from_msg_hash(digest)
    except (BadSignature, ValidationError) as error:
        raise ValueError("no key fits this signature") from error
    return "0x" + bytes(key.to_canonical_address()).hex()


def recover_personal(message: str, signature: object) -> str:
    """Who signed this text as an EIP-191 personal message. Raises ValueError."""
    if not isinstance(signature, str) or not _SIGNATURE.fullmatch(signature):
        raise ValueError("not 65 bytes of signature")
    data = message.encode()
    digest = keccak(b"\x19Ethereum Signed Message:\n" + str(len(data)).encode() + data)
    return recover(digest, bytes.fromhex(signature[2:]))


def read_authorization(payload: Json) -> Authorization:
    """The member `payload` of a payment, strictly as written in the spec. Raises PaymentFault."""
    if not isinstance(payload, dict) or not isinstance(payload.get("authorization"), dict):
        raise PaymentFault("invalid_payload")
    fields = payload["authorization"]
    assert isinstance(fields, dict)
    signature, nonce = payload.get("signature"), fields.get("nonce")
    numbers = [fields.get(name) for name in ("value", "validAfter", "validBefore")]
    if not (
        set(fields) == {"from", "to", "value", "validAfter", "validBefore", "nonce"}
        and is_address(fields["from"])
        and is_address(fields["to"])
        and all(isinstance(number, str) and _UINT.fullmatch(number) for number in numbers)
        and isinstance(nonce, str)
        and _BYTES32.fullmatch(nonce)
        and isinstance(signature, str)
        and _SIGNATURE.fullmatch(signature)
    ):
        raise PaymentFault("invalid_payload")
    value, after, before = (int(str(number)) for number in numbers)
    if max(value, after, before) >= 2**256:
        raise PaymentFault("invalid_payload")
    return Authorization(
        payer=str(fields["from"]).lower(),
        payee=str(fields["to"]).lower(),
        value=value,
        valid_after=after,
        valid_before=before,
        nonce=nonce.lower(),
        signature=bytes.fromhex(signature[2:]),
    )


def transfer_digest(network: Network, authorization: Authorization) -> bytes:
    """The EIP-712 digest of the transfer under this network's USDC domain."""
    struct = keccak(
        keccak(_TRANSFER_TYPE)
        + _address_word(authorization.payer)
        + _address_word(authorization.payee)
        + authorization.value.to_bytes(32, "big")
        + authorization.valid_after.to_bytes(32, "big")
        + authorization.valid_before.to_bytes(32, "big")
        + bytes.fromhex(authorization.nonce[2:])
    )
    return keccak(b"\x19\x01" + network.domain_separator() + struct)


def check_authorization(network: Network, authorization: Authorization, *, pay_to: str, now: float) -> None:
    """Payee, window and signature. Raises PaymentFault with the spec's word for the first thing wrong."""
    if authorization.payee != pay_to.lower():
        raise PaymentFault("invalid_exact_evm_payload_recipient_mismatch")
    if authorization.valid_after > now:
        raise PaymentFault("invalid_exact_evm_payload_authorization_valid_after")
    if authorization.valid_before < now + SECONDS_LEFT_MIN:
        raise PaymentFault("invalid_exact_evm_payload_authorization_valid_before")
    try:
        signer = recover(transfer_digest(network, authorization), authorization.signature)
    except ValueError as error:
        raise PaymentFault("invalid_exact_evm_payload_signature") from error
    if signer != authorization.payer:
        raise PaymentFault("invalid_exact_evm_payload_signature")


def _address_word(address: str) -> bytes:
    return bytes(12) + bytes.fromhex(address[2:])
