"""What a seller says is bounded, put into one line, and told apart by its form."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.providers.shapes import FACTS, NOW, answer, fact
from x402_audio.errors import (
    ContentRejected,
    ModelUnavailable,
    RateLimited,
    SellerError,
    SignInRejected,
)
from x402_audio.providers.answers import (
    content_type,
    form_of_402,
    json_object,
    quoted,
    retry_after_seconds,
    said,
    seller_error,
    sign_in_code,
)
from x402_audio.providers.provider import Answer


@pytest.mark.parametrize("name", FACTS["errors"])
def test_every_documented_error_body_gives_its_word_and_line(name: str) -> None:
    entry, code, text = FACTS["errors"][name]
    words = said(fact(entry))
    assert (words.code, words.text) == (code, text)
    assert words.line


def test_an_error_word_of_the_standard_is_told_however_long() -> None:
    word = "invalid_exact_evm_payload_authorization_value_mismatch"
    assert quoted(f"{word} {'5a' * 32}") == f"{word} [...]"


@pytest.mark.parametrize("name", FACTS["forms_of_402"])
def test_each_402_is_told_by_route_then_body_then_header(name: str) -> None:
    entry, top_up, wallet_form, account_form = FACTS["forms_of_402"][name]
    assert form_of_402(fact(entry), top_up=top_up, account=False) == wallet_form
    assert form_of_402(fact(entry), top_up=top_up, account=True) == account_form


@pytest.mark.parametrize("code", FACTS["sign_in_codes"])
def test_sign_in_codes_lose_their_prefix(code: str) -> None:
    assert sign_in_code(answer(401, {"error": "no", "code": f"X402_SIGN_IN_{code}"})) == code


def test_only_a_401_speaks_of_sign_ins() -> None:
    assert sign_in_code(answer(403, {"error": "no", "code": "X402_SIGN_IN_EXPIRED"})) == ""
    assert sign_in_code(answer(401, {"error": "Invalid Sign-in-with-x signature"})) == ""


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "30"}, 30.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "999999"}, 3600.0),
        ({"retry-after": "-4"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Fri, 21 Aug 2026 12:00:20 GMT"}, 20.0),
        ({"x-ratelimit-reset-requests": "1787313612000"}, 12.0),
        ({"x-ratelimit-reset-requests": "1787313612"}, 12.0),
        ({"x-ratelimit-reset-requests": "12"}, 12.0),
        ({"x-ratelimit-reset-requests": "1787313500000"}, 0.0),
        ({"x-ratelimit-reset-requests": "NaN"}, None),
        ({"retry-after": "7", "x-ratelimit-reset-requests": "1787313612000"}, 7.0),
    ],
)
def test_waits_are_read_from_every_header_the_seller_uses(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after_seconds(headers, NOW) == seconds


def test_a_seller_cannot_print_on_our_terminal_or_echo_a_secret() -> None:
    echoed = "0x" + "ab" * 65
    line = quoted(f"bad\r\n\x1b[2J\u202egnp {echoed} " + "word " * 99)
    assert line.isprintable()
    assert echoed[:44] not in line
    assert len(line) <= 160


def test_a_content_type_loses_its_parameters() -> None:
    assert content_type(Answer(200, {"content-type": "Audio/MPEG; a=b"}, b"")) == "audio/mpeg"
    assert content_type(Answer(200, {}, b"")) == ""


@pytest.mark.parametrize(
    "body", ["", "[]", "{", '{"a":NaN}', '{"a":1,"a":2}', '{"a":1e99999999999999999999}', "[" * 99]
)
def test_what_is_no_sane_object_reads_as_none(body: str) -> None:
    assert json_object(answer(200, body)) is None


@pytest.mark.parametrize(
    ("status", "body", "what", "kind", "owner", "retry"),
    [
        (429, {"error": "Rate limit exceeded"}, "quote", RateLimited, "time", "later"),
        (
            401,
            {"error": "This model is only available to Pro users"},
            "queue",
            ModelUnavailable,
            "agent",
            "never",
        ),
        (
            401,
            {"error": "no", "code": "X402_SIGN_IN_DOMAIN_MISMATCH"},
            "queue",
            SignInRejected,
            "human",
            "never",
        ),
        (401, {"error": "Invalid Sign-in-with-x signature"}, "balance", SignInRejected, "human", "never"),
        (403, {"error": "another wallet"}, "balance", SignInRejected, "human", "never"),
        (404, {"error": "Specified model not found"}, "models", ModelUnavailable, "agent", "never"),
        (404, "", "queue", ModelUnavailable, "agent", "never"),
        (404, "", "balance", SellerError, "agent", "never"),
        (422, {"error": "policy", "suggested_prompt": "softer"}, "queue", ContentRejected, "agent", "never"),
        (400, {"error": "Invalid request parameters"}, "queue", SellerError, "agent", "never"),
        (402, {"error": "Payment required"}, "models", SellerError, "human", "never"),
        (301, "", "models", SellerError, "human", "never"),
        (500, {"error": "Inference processing failed"}, "quote", SellerError, "time", "later"),
        (503, "", "quote", SellerError, "time", "later"),
    ],
)
def test_every_documented_error_has_its_type_owner_and_next_step(
    status: int, body: Any, what: str, kind: type[SellerError], owner: str, retry: str
) -> None:
    error = seller_error(answer(status, body), what, now=NOW)
    assert type(error) is kind
    assert (error.owner, error.retry, error.money_moved) == (owner, retry, "no")
    assert error.status == status
    assert error.next_step
    assert error.message.startswith(f"{what}: the seller answered {status}")


def test_a_rejection_carries_the_suggestion_and_a_limit_its_wait() -> None:
    rejected = seller_error(answer(422, {"error": "x", "suggested_prompt": "softer\nplease"}), "queue")
    assert isinstance(rejected, ContentRejected)
    assert rejected.suggested_prompt == "softer please"
    limited = seller_error(answer(429, {"error": "x"}, {"retry-after": "12.2"}), "queue")
    assert isinstance(limited, RateLimited)
    assert limited.retry_after == 13
    assert "13 s" in limited.next_step


headers = st.dictionaries(
    st.sampled_from(["content-type", "retry-after", "x-ratelimit-reset-requests", "payment-required"]),
    st.text(max_size=30),
)
bodies = st.binary(max_size=60) | st.sampled_from(
    [
        b'{"error":{"message":3}}',
        b'{"error":["x"],"details":{"_errors":[1,{"message":"m","path":[null]}]}}',
        b'{"code":{}}',
    ]
)


@given(status=st.integers(100, 599), given_headers=headers, body=bodies, text=st.text())
def test_no_answer_makes_reading_it_raise(
    status: int, given_headers: dict[str, str], body: bytes, text: str
) -> None:
    strange = Answer(status, given_headers, body)
    form_of_402(strange, top_up=False, account=False)
    form_of_402(strange, top_up=True, account=True)
    sign_in_code(strange)
    wait = retry_after_seconds(given_headers, NOW)
    assert wait is None or 0 <= wait <= 3600
    error = seller_error(strange, "queue", now=NOW)
    assert error.message.isprintable()
    assert len(error.message) < 220
    assert quoted(text).isprintable()
    assert len(quoted(text)) <= 160
