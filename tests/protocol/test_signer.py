"""A key signs, and shows nowhere."""

from __future__ import annotations

import copy
import logging
import pickle
import subprocess
import sys
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.vectors import ADDRESS, CASES, KEY, authorization_of
from x402_audio.errors import SignerError
from x402_audio.protocol.exact import authorization_digest
from x402_audio.protocol.networks import BASE, BASE_SEPOLIA
from x402_audio.protocol.signer import SECP256K1_N, LocalSigner, Signer, message_digest, recover_address

DIGITS = KEY[2:]
BAD_KEYS = {
    "63 digits": KEY[:-1],
    "65 digits": KEY + "0",
    "62 digits and two letters": DIGITS[:-1] + "g",
    "0X": "0X" + DIGITS,
    "a space": " " + DIGITS,
    "a line break": DIGITS + "\n",
    "an underscore": DIGITS[:-2] + "_1",
    "other digits": DIGITS[:-1] + "\u0661",
    "zero": "0" * 64,
    "the order of the curve": f"{SECP256K1_N:064x}",
    "past the order": "f" * 64,
    "empty": "",
}


@pytest.mark.parametrize("text", [KEY, DIGITS, "0x" + DIGITS.upper()])
def test_a_key_of_64_digits_is_taken_with_or_without_prefix(text: str) -> None:
    assert LocalSigner.from_hex(text).address == ADDRESS


@pytest.mark.parametrize("text", BAD_KEYS.values(), ids=BAD_KEYS.keys())
def test_any_other_key_is_refused_and_not_echoed(text: str) -> None:
    with pytest.raises(SignerError) as caught:
        LocalSigner.from_hex(text)

    shown = f"{caught.value} {caught.value!r} {caught.value.args} {vars(caught.value)}"
    shown += "".join(traceback.format_exception(caught.value))
    assert text.strip() == "" or text.strip() not in shown
    assert DIGITS[:16] not in shown
    assert caught.value.__cause__ is caught.value.__context__ is None


@given(st.integers(1, SECP256K1_N - 1))
def test_every_number_of_the_curve_is_a_key_that_signs_for_its_own_address(number: int) -> None:
    signer = LocalSigner.from_hex(f"{number:064x}")

    signature = signer.sign_message("hello")

    assert recover_address(message_digest("hello"), signature) == signer.address
    assert signature[64] in (27, 28)
    assert int.from_bytes(signature[32:64], "big") <= SECP256K1_N // 2


def test_the_key_is_in_no_text_of_the_signer() -> None:
    signer = LocalSigner.from_hex(KEY)

    shown = [repr(signer), str(signer), f"{signer!r}", f"{signer:}", f"{[signer]} {dir(signer)}"]
    shown.append(logging.LogRecord("x", 20, "x", 1, "%s", (signer,), None).getMessage())

    assert repr(signer) == f"LocalSigner({ADDRESS})"
    assert not any(DIGITS[:8] in text or str(int(DIGITS, 16)) in text for text in shown)
    assert not hasattr(signer, "__dict__")


def test_a_signer_is_neither_pickled_nor_copied() -> None:
    signer = LocalSigner.from_hex(KEY)

    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled"):
            attempt(signer)


def test_the_address_of_a_signer_cannot_be_changed() -> None:
    signer = LocalSigner.from_hex(KEY)

    for name in ("address", "colour"):
        with pytest.raises(AttributeError):
            setattr(signer, name, "0x")


def test_a_transfer_from_another_wallet_is_not_signed() -> None:
    foreign = replace(authorization_of(CASES[0]), from_=CASES[0]["authorization"]["to"])

    with pytest.raises(SignerError, match="nothing was signed"):
        LocalSigner.from_hex(KEY).sign_authorization(BASE, foreign)


def test_a_network_outside_our_table_is_not_signed() -> None:
    foreign = replace(BASE, domain_separator=bytes(32))

    with pytest.raises(ValueError, match="outside our table"):
        LocalSigner.from_hex(KEY).sign_authorization(foreign, authorization_of(CASES[0]))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_only_digests_of_32_bytes_are_signed(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        LocalSigner.from_hex(KEY).sign_digest(bytes(length))


def test_a_signature_the_token_contract_refuses_names_nobody() -> None:
    digest = authorization_digest(BASE, authorization_of(CASES[0]))
    good = LocalSigner.from_hex(KEY).sign_digest(digest)
    high_s = SECP256K1_N - int.from_bytes(good[32:64], "big")
    flipped = bytes([27 + 28 - good[64]])

    for bad in (
        good[:64],
        good + b"\0",
        good[:64] + b"\0",
        good[:32] + high_s.to_bytes(32, "big") + flipped,
        bytes(32) + good[32:],
        good[:32] + bytes(32) + good[64:],
        b"\xff" * 32 + good[32:],
    ):
        with pytest.raises(ValueError):
            recover_address(digest, bad)
    assert recover_address(digest, good[:64] + flipped) != ADDRESS


def test_an_authorization_holds_only_what_the_contract_takes() -> None:
    good = authorization_of(CASES[0])

    for change in (
        {"to": "0x"},
        {"from_": good.from_ + "\n"},
        {"value": 0},
        {"value": 2**256},
        {"valid_after": -1},
        {"valid_before": good.valid_after},
        {"valid_before": 2**256},
        {"nonce": bytes(31)},
        {"nonce": "0x" + "1" * 30},
    ):
        with pytest.raises(ValueError):
            replace(good, **change)


def test_one_member_changed_is_another_digest() -> None:
    good = authorization_of(CASES[0])
    others = [
        replace(good, to=good.from_),
        replace(good, from_=good.to),
        replace(good, value=good.value + 1),
        replace(good, valid_after=good.valid_after + 1),
        replace(good, valid_before=good.valid_before + 1),
        replace(good, nonce=bytes(32)),
    ]

    digests = {authorization_digest(BASE, each) for each in (good, *others)}

    assert len(digests | {authorization_digest(BASE_SEPOLIA, good)}) == 8


def test_a_local_signer_is_a_signer() -> None:
    signer: Signer = LocalSigner.from_hex(KEY)

    assert signer.address == ADDRESS


def test_signing_imports_neither_eth_account_nor_a_network_client() -> None:
    script = (
        "import sys; from x402_audio.protocol import keystore, payload, siwx\n"
        "assert not {'coincurve', 'Crypto', 'sha3'} & set(sys.modules)\n"
        "from x402_audio.protocol.signer import LocalSigner; LocalSigner.from_hex('1' * 64).sign_message('x')\n"
        "assert not {'eth_account', 'eth_utils', 'web3', 'httpx'} & set(sys.modules)"
    )
    folder = Path(__file__).parent.parent.parent

    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True, timeout=60)


def test_a_refused_key_stands_in_no_frame_of_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    short, too_large = "ab" * 31 + "a", "ff" * 32
    for key in (short, too_large):
        monkeypatch.setenv("X402_AUDIO_PRIVATE_KEY", key)
        for attempt in (LocalSigner.from_env, partial(LocalSigner.from_hex, key)):
            with pytest.raises(SignerError) as caught:
                attempt()
            frames = caught.value.__traceback__.tb_next if caught.value.__traceback__ else None
            shown = "".join(
                traceback.TracebackException(SignerError, caught.value, frames, capture_locals=True).format()
            )
            assert key[:40] not in shown
