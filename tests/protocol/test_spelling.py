"""Addresses, networks and base64 have one spelling out and few in."""

from __future__ import annotations

import hashlib
import sys
from base64 import b64encode, urlsafe_b64encode
from functools import cache
from types import SimpleNamespace

import pytest
from Crypto.Hash import keccak
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.vectors import ADDRESS
from x402_audio.protocol import address as addresses
from x402_audio.protocol import base64text
from x402_audio.protocol.address import ZERO_ADDRESS, checksum_address, keccak256, same_address
from x402_audio.protocol.networks import BASE, BASE_SEPOLIA, network_named


def test_the_hash_is_keccak_before_it_became_sha3() -> None:
    empty = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"

    assert keccak256(b"").hex() == empty


@given(st.binary(max_size=600))
def test_every_hash_at_hand_gives_the_same(data: bytes) -> None:
    assert {each(data).digest() for each in addresses._hashes()} == {keccak256(data)}


def test_a_module_of_the_same_name_with_another_hash_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sha3", SimpleNamespace(keccak_256=hashlib.sha3_256))
    monkeypatch.setattr(addresses, "_hash", cache(addresses._hash.__wrapped__))

    assert keccak256(b"abc") == keccak.new(digest_bits=256, data=b"abc").digest()


def test_without_the_fast_hash_the_other_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = keccak256(b"abc")
    monkeypatch.setitem(sys.modules, "sha3", None)

    assert [each(b"abc").digest() for each in addresses._hashes()] == [expected]


@pytest.mark.parametrize(
    "address",
    [ADDRESS, BASE.usdc, BASE_SEPOLIA.usdc, "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB"],
)  # fmt: skip
def test_an_address_is_spelled_by_its_checksum(address: str) -> None:
    assert checksum_address(address) == address
    assert checksum_address(address.lower()) == address
    assert checksum_address("0x" + address[2:].upper()) == address


def test_a_digits_only_address_has_one_spelling() -> None:
    assert checksum_address(ZERO_ADDRESS) == ZERO_ADDRESS


@pytest.mark.parametrize(
    "text",
    ["", "0x", ADDRESS[2:], ADDRESS[:-1], ADDRESS + "0", ADDRESS + "\n", "0X" + ADDRESS[2:], "0x" + "g" * 40],
)
def test_another_form_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="40 hexadecimal"):
        checksum_address(text)
    assert not same_address(text, text)


@pytest.mark.parametrize("at", [2, 5, 41])
def test_one_letter_of_the_wrong_case_is_an_error(at: int) -> None:
    address = "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB"
    at = next(i for i in range(at, at + 40) if address[i % 42].isalpha() and i % 42 > 1) % 42

    with pytest.raises(ValueError, match="EIP-55"):
        checksum_address(address[:at] + address[at].swapcase() + address[at + 1 :])


def test_addresses_are_compared_without_case() -> None:
    assert same_address(ADDRESS, ADDRESS.lower())
    assert not same_address(ADDRESS, ZERO_ADDRESS)


def test_networks_are_found_by_either_name_spelled_exactly() -> None:
    assert network_named("eip155:8453") is network_named("base") is BASE
    assert network_named("eip155:84532") is network_named("base-sepolia") is BASE_SEPOLIA
    assert [network_named(text) for text in ("Base", "eip155:1", "8453", "", "base ")] == [None] * 5


@given(st.binary(max_size=200))
def test_base64_is_read_standard_url_safe_padded_and_bare(data: bytes) -> None:
    for text in (b64encode(data).decode(), urlsafe_b64encode(data).decode()):
        assert base64text.decode(text) == base64text.decode(text.rstrip("=")) == data


@given(st.text())
def test_base64_out_is_standard(text: str) -> None:
    assert base64text.encode(text) == b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "text", ["A", "AAAAA", "AA=", "AAA==", "A===", "AAAA=", "AA AA", "AAAA\n", "AAAA,AAAA", "é", "=", "===="]
)
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="base64"):
        base64text.decode(text)


def test_base64_is_bounded() -> None:
    assert base64text.decode("A" * 16_384) == bytes(12_288)
    with pytest.raises(ValueError, match="longer"):
        base64text.decode("A" * 16_388)
