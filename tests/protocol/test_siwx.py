"""Sign-ins say only what we mean: no field can become another line."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.vectors import ADDRESS, KEY
from x402_audio.protocol.signer import LocalSigner, message_digest, recover_address
from x402_audio.protocol.siwx import CURRENT_HEADERS, LEGACY_HEADERS, sign_in_header, sign_in_message

FIELDS: dict[str, Any] = {
    "domain": "127.0.0.1:8402",
    "uri": "http://127.0.0.1:8402/api/v1/audio/queue?x=1",
    "nonce": "0123456789abcdef",
    "issued_at": 1740672000.9996,
}


def test_times_are_written_to_the_millisecond_and_the_life_is_added() -> None:
    lines = sign_in_message(
        address=ADDRESS, lifetime_s=60, chain_id=84532, statement="Hello", **FIELDS
    ).split("\n")

    assert lines[-2:] == ["Issued At: 2025-02-27T16:00:01.000Z", "Expiration Time: 2025-02-27T16:01:01.000Z"]
    assert "Chain ID: 84532" in lines
    assert len(lines) == 11


def test_the_header_carries_the_very_text_that_was_signed() -> None:
    header = json.loads(
        b64decode(sign_in_header(LocalSigner.from_hex(KEY), statement='Say "hi" \\', **FIELDS), validate=True)
    )

    assert list(header) == ["address", "message", "signature", "chainId"]
    assert (header["address"], header["chainId"]) == (ADDRESS, 8453)
    assert 'Say "hi" \\' in header["message"]
    assert (
        recover_address(message_digest(header["message"]), bytes.fromhex(header["signature"][2:])) == ADDRESS
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("domain", ""), ("domain", "api.venice.ai\n"), ("domain", "https://api.venice.ai"), ("domain", "a b"),
        ("domain", "user@host"), ("address", ADDRESS + "\n"), ("address", "nobody"),
        ("uri", "https://a.test/\nVersion: 1"), ("uri", "https://a.test/ x"), ("uri", "https://a.test/\r"), ("uri", "a.test"),
        ("uri", "https://a.test/é"), ("nonce", "short"), ("nonce", "0123456789abcde\n"), ("nonce", "with-a-dash-in-it"),
        ("statement", "two\nlines"), ("statement", "tab\t"), ("statement", "\u2028line"), ("statement", ""),
        ("statement", "\x7f"), ("lifetime_s", 0), ("lifetime_s", -1), ("chain_id", 0),
    ],
)  # fmt: skip
def test_a_field_that_could_be_read_otherwise_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match="a sign-in has"):
        sign_in_message(**{"address": ADDRESS, **FIELDS, field: value})


@given(field=st.sampled_from(["domain", "uri", "nonce", "statement", "address"]), value=st.text())
def test_whatever_is_in_a_field_the_text_keeps_its_lines(field: str, value: str) -> None:
    try:
        message = sign_in_message(**{"address": ADDRESS, **FIELDS, field: value})
    except ValueError:
        return
    assert len(message.splitlines()) == 11


def test_both_generations_of_header_names_are_known() -> None:
    assert (CURRENT_HEADERS.sign_in, CURRENT_HEADERS.payment) == ("SIGN-IN-WITH-X", "PAYMENT-SIGNATURE")
    assert (LEGACY_HEADERS.sign_in, LEGACY_HEADERS.payment) == ("X-Sign-In-With-X", "X-402-Payment")
