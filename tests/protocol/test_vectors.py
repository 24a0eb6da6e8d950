"""Every digest, signature and header is byte for byte what the published vectors say."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tests.protocol.vectors import (
    ADDRESS,
    CASES,
    KEY,
    PUBLISHED,
    authorization_of,
    body,
    header,
    network_of,
    terms_v1,
    unhex,
)
from x402_audio.protocol.address import keccak256
from x402_audio.protocol.exact import (
    DOMAIN_TYPE,
    DOMAIN_TYPEHASH,
    TRANSFER_TYPE,
    TRANSFER_TYPEHASH,
    authorization_digest,
    typed_data,
)
from x402_audio.protocol.networks import BASE, BASE_SEPOLIA, Network
from x402_audio.protocol.payload import payment_header
from x402_audio.protocol.requirements import PaymentRequired, read_payment_required
from x402_audio.protocol.signer import LocalSigner, message_digest, recover_address
from x402_audio.protocol.siwx import CURRENT_HEADERS, sign_in_header, sign_in_message

each_case = pytest.mark.parametrize("case", CASES, ids=[case["label"] for case in CASES])


def terms_of(case: dict[str, Any]) -> PaymentRequired:
    """The 402 that the vector's payment answers."""
    payload = case["payload"]
    if payload["x402Version"] == 2:
        members = {"resource": payload["resource"]} if "resource" in payload else {}
        return read_payment_required(
            header({"x402Version": 2, "accepts": [payload["accepted"]], **members}), b""
        )
    return read_payment_required({}, body(terms_v1()))


@each_case
def test_the_digest_is_the_published_one(case: dict[str, Any]) -> None:
    digest = authorization_digest(network_of(case), authorization_of(case))

    assert digest == unhex(case["digest"])


@each_case
def test_the_signature_is_the_published_one_and_names_its_signer(case: dict[str, Any]) -> None:
    signature = LocalSigner.from_hex(KEY).sign_authorization(network_of(case), authorization_of(case))

    assert signature == unhex(case["signature"])
    assert recover_address(unhex(case["digest"]), signature) == ADDRESS


@each_case
def test_the_payment_header_is_the_published_one(case: dict[str, Any]) -> None:
    terms = terms_of(case)

    written = payment_header(terms, terms.requirements[0], authorization_of(case), unhex(case["signature"]))

    assert written == (case["header_name"], case["header_value"])


@each_case
def test_the_members_on_the_wire_are_the_published_ones(case: dict[str, Any]) -> None:
    assert authorization_of(case).wire() == case["authorization"]


@each_case
def test_the_domain_in_our_table_is_the_published_one(case: dict[str, Any]) -> None:
    network = network_of(case)

    assert network.domain_separator == unhex(case["domain_separator"])
    assert typed_data(network, authorization_of(case))["domain"] == case["domain"]


@pytest.mark.parametrize("network", [BASE, BASE_SEPOLIA], ids=lambda network: network.v1_name)
def test_the_domain_separators_follow_from_the_names_beside_them(network: Network) -> None:
    encoded = (
        keccak256(DOMAIN_TYPE.encode())
        + keccak256(network.domain_name.encode())
        + keccak256(network.domain_version.encode())
        + network.chain_id.to_bytes(32, "big")
        + bytes.fromhex(network.usdc[2:]).rjust(32, b"\0")
    )

    assert network.domain_separator == keccak256(encoded)


def test_the_type_hashes_follow_from_the_types() -> None:
    assert keccak256(DOMAIN_TYPE.encode()) == DOMAIN_TYPEHASH == unhex(PUBLISHED["domain_typehash"])
    assert keccak256(TRANSFER_TYPE.encode()) == TRANSFER_TYPEHASH == unhex(PUBLISHED["struct_typehash"])


def test_a_signer_elsewhere_gets_the_same_digest_from_the_typed_data() -> None:
    limit = sys.getrecursionlimit()
    from eth_account import Account
    from eth_account.messages import encode_typed_data

    sys.setrecursionlimit(limit)
    for case in CASES:
        message = encode_typed_data(full_message=typed_data(network_of(case), authorization_of(case)))
        assert bytes(Account.from_key(KEY).sign_message(message).signature) == unhex(case["signature"])


def test_the_sign_in_is_the_published_one() -> None:
    published = PUBLISHED["sign_in"]
    signer = LocalSigner.from_hex(KEY)
    uri, nonce, issued_at = "https://api.venice.ai/api/v1/audio/queue", "0123456789abcdef", 1740672000.0

    message = sign_in_message(
        domain="api.venice.ai", address=ADDRESS, uri=uri, nonce=nonce, issued_at=issued_at
    )

    assert message == published["message"]
    assert message_digest(message) == unhex(published["eip191_digest"])
    assert signer.sign_message(message) == unhex(published["signature"])
    assert recover_address(message_digest(message), unhex(published["signature"])) == ADDRESS
    value = sign_in_header(signer, domain="api.venice.ai", uri=uri, nonce=nonce, issued_at=issued_at)
    assert (CURRENT_HEADERS.sign_in, value) == (published["header_name"], published["header_value"])
