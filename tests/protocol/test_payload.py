"""Payment headers echo what was offered, come out the same from storage, and fit only what was accepted."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.vectors import ADDRESS, PAYEE, body, entry_v1, entry_v2, terms_v1, terms_v2
from x402_audio.errors import ProtocolError
from x402_audio.money import Usdc
from x402_audio.protocol.exact import Authorization
from x402_audio.protocol.payload import Envelope, payment_header, read_settlement, settlement_fault
from x402_audio.protocol.requirements import PaymentRequired, read_payment_required

SIGNATURE = bytes(range(64)) + b"\x1b"
AUTHORIZATION = Authorization(ADDRESS, PAYEE, Usdc(690000), 1000, 2000, bytes(32))
IDENTIFIER = "x402a-0123456789abcdef"


def read(terms: dict[str, Any] | str) -> PaymentRequired:
    return read_payment_required({}, terms.encode() if isinstance(terms, str) else body(terms))


def decoded(header: tuple[str, str]) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(b64decode(header[1], validate=True))
    return value


def identifier_offer(*, required: bool) -> dict[str, Any]:
    info = {"required": required}
    return terms_v2(
        extensions={"other": {"a": 1}, "payment-identifier": {"info": info, "schema": {"type": "object"}}}
    )


def test_version_2_echoes_entry_resource_and_extensions_untouched() -> None:
    entry = entry_v2(unknown=[{"z": 1, "a": "é\u2028"}], payTo=PAYEE.lower())
    offered = terms_v2(
        entry, resource={"url": "https://s.test", "more": None}, extensions={"bazaar": {"x": True}}
    )
    terms = read(offered)

    name, value = payment_header(terms, terms.requirements[0], AUTHORIZATION, SIGNATURE)

    sent = decoded((name, value))
    assert name == "PAYMENT-SIGNATURE"
    assert list(sent) == ["x402Version", "payload", "accepted", "resource", "extensions"]
    assert (sent["accepted"], sent["resource"], sent["extensions"]) == (
        entry,
        offered["resource"],
        offered["extensions"],
    )
    assert list(sent["accepted"]) == list(entry)
    assert sent["payload"] == {"signature": "0x" + SIGNATURE.hex(), "authorization": AUTHORIZATION.wire()}


def test_fractions_are_echoed_with_their_own_digits() -> None:
    text = json.dumps(terms_v2(entry_v2(rate="RATE"))).replace(
        '"RATE"', '{"a\\"b": [0.10, 1e-7, -0.30, 12345678901234567890.5]}'
    )
    terms = read(text)

    envelope = Envelope.from_json(Envelope.of(terms, terms.requirements[0]).to_json())
    _, value = envelope.header(AUTHORIZATION, SIGNATURE)

    assert '{"a\\"b":[0.10,1E-7,-0.30,12345678901234567890.5]}' in b64decode(value).decode()


def test_version_1_answers_with_scheme_and_network_as_offered() -> None:
    terms = read(terms_v1(entry_v1(), resource={"url": "https://seller.test"}))

    name, value = payment_header(
        terms, terms.requirements[0], AUTHORIZATION, SIGNATURE, payment_identifier=IDENTIFIER
    )

    assert name == "X-PAYMENT"
    assert list(decoded((name, value))) == ["x402Version", "scheme", "network", "payload"]
    assert (decoded((name, value))["x402Version"], decoded((name, value))["network"]) == (1, "base")


@pytest.mark.parametrize(
    "offered", [terms_v1(), terms_v2(), terms_v2(resource={"url": "u"}), identifier_offer(required=True)]
)
def test_a_stored_envelope_gives_the_same_bytes(offered: dict[str, Any]) -> None:
    terms = read(offered)
    envelope = Envelope.of(terms, terms.requirements[0], payment_identifier=IDENTIFIER)

    for made in (envelope, envelope.rewrapped()):
        stored = Envelope.from_json(made.to_json())
        assert stored == made
        assert stored.header(AUTHORIZATION, SIGNATURE) == made.header(AUTHORIZATION, SIGNATURE)
        assert SIGNATURE.hex() not in made.to_json() + repr(made)


def test_the_longest_version_1_entry_can_be_stored() -> None:
    schema = "[" + ",".join(["1e9"] * 16_000) + "]"
    terms = read(json.dumps(terms_v1(entry_v1(outputSchema="SCHEMA"))).replace('"SCHEMA"', schema))

    envelope = Envelope.of(terms, terms.requirements[0])

    assert Envelope.from_json(envelope.to_json()) == envelope


def test_terms_too_long_for_a_header_are_refused_before_signing() -> None:
    fits, too_long = (read(terms_v2(resource={"url": "é" * count})) for count in (5_000, 6_000))

    assert len(payment_header(fits, fits.requirements[0], AUTHORIZATION, SIGNATURE)[1]) <= 16_384
    with pytest.raises(ProtocolError, match="nothing was signed"):
        Envelope.of(too_long, too_long.requirements[0])


def test_a_larger_top_up_is_accepted_with_its_own_amount() -> None:
    terms = read(terms_v2())
    amount = Usdc(700_000)

    envelope = Envelope.of(terms, terms.requirements[0], accepted_amount=amount)
    sent = decoded(envelope.header(replace(AUTHORIZATION, value=amount), SIGNATURE))

    assert sent["accepted"] == entry_v2(amount="700000")
    assert list(sent["accepted"]) == list(entry_v2())
    assert terms.requirements[0].offered["amount"] == "690000"
    with pytest.raises(ValueError, match="never less"):
        Envelope.of(terms, terms.requirements[0], accepted_amount=Usdc(1))


def test_the_third_form_is_version_1_layout_that_says_2() -> None:
    terms = read(terms_v2())
    envelope = Envelope.of(terms, terms.requirements[0], accepted_amount=Usdc(690000))

    other = envelope.rewrapped()

    assert (envelope.wrapped_again, other.wrapped_again, other.header_name) == (
        False,
        True,
        "PAYMENT-SIGNATURE",
    )
    assert decoded(other.header(AUTHORIZATION, SIGNATURE)) == {
        "x402Version": 2,
        "scheme": "exact",
        "network": "base",
        "payload": {"signature": "0x" + SIGNATURE.hex(), "authorization": AUTHORIZATION.wire()},
    }
    with pytest.raises(ValueError, match="already"):
        other.rewrapped()


@pytest.mark.parametrize("change", [{"value": Usdc(690001)}, {"value": Usdc(689999)}, {"to": ADDRESS}])
@pytest.mark.parametrize("offered", [terms_v1(), terms_v2()])
def test_an_authorization_of_other_money_does_not_go_out(
    offered: dict[str, Any], change: dict[str, Any]
) -> None:
    terms = read(offered)
    envelope = Envelope.of(terms, terms.requirements[0])

    for made in (envelope, envelope.rewrapped()):
        with pytest.raises(ValueError, match="not the one"):
            made.header(replace(AUTHORIZATION, **change), SIGNATURE)
    with pytest.raises(ValueError, match="not the one"):
        envelope.header(AUTHORIZATION, SIGNATURE[:64])


def test_an_offered_payment_identifier_is_answered_and_others_stay() -> None:
    offered = identifier_offer(required=True)
    terms = read(offered)

    sent = decoded(
        payment_header(terms, terms.requirements[0], AUTHORIZATION, SIGNATURE, payment_identifier=IDENTIFIER)
    )

    assert sent["extensions"] == {
        "other": {"a": 1},
        "payment-identifier": {"info": {"required": True, "id": IDENTIFIER}, "schema": {"type": "object"}},
    }
    assert json.loads(json.dumps(terms.extensions)) == offered["extensions"]


def test_no_identifier_is_sent_where_none_is_offered() -> None:
    terms = read(terms_v2(extensions={"other": {}}))

    envelope = Envelope.of(terms, terms.requirements[0], payment_identifier=IDENTIFIER)

    assert envelope.extensions == {"other": {}}


def test_a_required_identifier_that_is_missing_stops_before_signing() -> None:
    terms, optional = read(identifier_offer(required=True)), read(identifier_offer(required=False))

    assert Envelope.of(optional, optional.requirements[0]).extensions == optional.extensions
    with pytest.raises(ProtocolError, match="nothing was signed"):
        Envelope.of(terms, terms.requirements[0])


@pytest.mark.parametrize(
    "identifier", ["short", "x" * 129, "spaces are not in it", "x" * 16 + "\n", "é" * 16]
)
def test_an_identifier_of_another_form_is_refused(identifier: str) -> None:
    terms = read(identifier_offer(required=False))

    with pytest.raises(ValueError, match="16 to 128"):
        Envelope.of(terms, terms.requirements[0], payment_identifier=identifier)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"header":"SIGN-IN-WITH-X"}', '{"version":3,"accepted":{}}', '{"version":2,"accepted":[]}',
        '{"version":2,"accepted":{},"resource":"x"}', '{"version":2,"accepted":{},"extensions":[]}',
    ],
)  # fmt: skip
def test_what_is_no_stored_envelope_is_not_taken_for_one(text: str) -> None:
    with pytest.raises(ValueError):
        Envelope.from_json(text)


# --- the answer
def answer(value: Any, name: str = "PAYMENT-RESPONSE") -> dict[str, str]:
    return {name: b64encode(json.dumps(value).encode()).decode()}


@pytest.mark.parametrize("name", ["PAYMENT-RESPONSE", "x-payment-response", "Payment-Response"])
def test_a_settlement_is_read_under_either_name(name: str) -> None:
    said = {"success": True, "transaction": "0xab", "network": "eip155:8453", "payer": ADDRESS, "amount": "1"}

    settlement = read_settlement(answer(said, name))

    assert settlement is not None
    assert (settlement.success, settlement.transaction, settlement.network) == (True, "0xab", "eip155:8453")
    assert (settlement.payer, settlement.error_reason) == (ADDRESS, None)
    assert settlement_fault(answer(said, name)) is None


def test_a_failed_settlement_gives_its_reason() -> None:
    settlement = read_settlement(
        answer({"success": False, "transaction": "", "errorReason": "insufficient_funds"})
    )

    assert settlement is not None
    assert (settlement.success, settlement.error_reason) == (False, "insufficient_funds")


def test_a_settlements_texts_are_short_and_printable() -> None:
    noise = "\x1b[2J\n" + "z " * 250

    settlement = read_settlement(
        answer({"success": True, "transaction": noise, "network": [1], "errorReason": noise})
    )

    assert settlement is not None
    assert settlement.transaction.isprintable() and len(settlement.transaction) == 80
    assert (settlement.network, len(settlement.error_reason or "")) == ("", 120)


@pytest.mark.parametrize(
    "value",
    ["", "!", "bm90IEpTT04=", "W10=", *(answer(said)["PAYMENT-RESPONSE"] for said in ({}, {"success": "true"}, {"success": 1})),
     "A" * 16_388],
)  # fmt: skip
def test_an_unreadable_settlement_is_none_and_says_why(value: str) -> None:
    headers = {"PAYMENT-RESPONSE": value}

    assert read_settlement(headers) is None
    assert (settlement_fault(headers) or "").startswith("payment-response: ")


def test_an_answer_without_settlement_has_neither_result_nor_fault() -> None:
    assert read_settlement({"date": "today"}) is None
    assert settlement_fault({"date": "today"}) is None


@given(
    st.dictionaries(
        st.sampled_from(["payment-response", "X-PAYMENT-RESPONSE"]),
        st.text() | st.binary().map(lambda b: b64encode(b).decode()),
    )
)
def test_any_settlement_header_is_read_or_ignored(headers: dict[str, str]) -> None:
    assert read_settlement(headers) is None or settlement_fault(headers) is None
