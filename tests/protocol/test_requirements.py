"""Reading a 402: what is payable, what is set aside and why, and what is refused whole."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.vectors import PAYEE, body, entry_v1, entry_v2, header, terms_v1, terms_v2
from x402_audio.errors import ProtocolError
from x402_audio.money import UINT256_MAX, Usdc
from x402_audio.protocol.address import ZERO_ADDRESS
from x402_audio.protocol.networks import BASE, BASE_SEPOLIA
from x402_audio.protocol.requirements import PaymentRequired, read_payment_required, supported

SOLANA = entry_v2(network="solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", asset="EPjF", payTo="8qUL23")


def reasons(terms: PaymentRequired) -> list[str]:
    """Every word an entry was refused with, by the reader or by the check for Base."""
    read = [rejection.reason for rejection in terms.rejections]
    checked = [found.reason for entry in terms.requirements if (found := supported(entry, BASE))]
    return read + checked


def refused(headers: dict[str, str], content: bytes = b"") -> str:
    with pytest.raises(ProtocolError) as caught:
        read_payment_required(headers, content)
    return str(caught.value)


def test_version_1_is_read_from_the_body() -> None:
    terms = read_payment_required({}, body(terms_v1()))

    (entry,) = terms.requirements
    assert (terms.version, terms.source, terms.error) == (1, "body", "payment required")
    assert (entry.scheme, entry.network, entry.amount) == ("exact", "base", Usdc(690000))
    assert (entry.asset, entry.pay_to, entry.max_timeout_seconds) == (BASE.usdc, PAYEE, 300)
    assert entry.resource == "https://seller.test/queue"
    assert supported(entry, BASE) is None


def test_version_2_is_read_from_the_header_in_any_case_of_its_name() -> None:
    resource, extensions = (
        {"url": "https://seller.test"},
        {"payment-identifier": {"info": {"required": False}}},
    )
    value = header(terms_v2(resource=resource, extensions=extensions))["PAYMENT-REQUIRED"]

    for name in ("payment-required", "PAYMENT-REQUIRED", "X-Payment-Required"):
        terms = read_payment_required({name: value, "date": "today"}, b"")
        assert (terms.version, terms.source) == (2, "header")
        assert (terms.resource, terms.extensions) == (resource, extensions)
        assert supported(terms.requirements[0], BASE) is None


def test_version_2_is_read_from_a_body_without_resource() -> None:
    terms = read_payment_required({}, body(terms_v2()))

    assert (terms.version, terms.source, terms.resource, terms.extensions) == (2, "body", None, None)


@pytest.mark.parametrize(("stated", "version"), [("1", 1), ("2", 2), (2, 2)])
def test_the_version_may_be_text(stated: object, version: int) -> None:
    entry = entry_v1() if version == 1 else entry_v2()

    terms = read_payment_required({}, body({"x402Version": stated, "accepts": [entry]}))

    assert terms.version == version
    assert len(terms.requirements) == 1


def test_the_header_goes_before_the_body_and_the_body_before_an_unreadable_header() -> None:
    good = body(terms_v2(error="from the body"))

    assert read_payment_required(header(terms_v2(error="from the header")), good).error == "from the header"
    for unreadable in (
        "not base64!",
        "",
        b64encode(b"not JSON").decode(),
        b64encode(b'{"error":"x"}').decode(),
    ):
        assert read_payment_required({"PAYMENT-REQUIRED": unreadable}, good).error == "from the body"


def test_a_header_may_be_url_safe_and_unpadded() -> None:
    text = body(terms_v2(error="??>>~~ÿ"))

    value = urlsafe_b64encode(text).decode().rstrip("=")

    assert "_" in value or "-" in value
    assert read_payment_required({"PAYMENT-REQUIRED": value}, b"").version == 2


def test_the_entry_is_kept_as_received() -> None:
    text = (
        b'{"x402Version":2,"accepts":[%s]}'
        % json.dumps(entry_v2(unknown={"b": [1, None], "a": "\u00e9"})).encode()
    )

    offered = read_payment_required({}, text).requirements[0].offered

    assert dict(offered) == entry_v2(unknown={"b": [1, None], "a": "\u00e9"})
    assert list(offered) == list(entry_v2(unknown=0))


def test_fractions_in_an_offer_are_decimals() -> None:
    entry = read_payment_required({}, body(terms_v2(entry_v2(extra={"rate": 0.1})))).requirements[0]

    assert entry.extra["rate"] == Decimal("0.1")


BAD_ENTRIES: list[tuple[Any, str]] = [
    ("text", "form"),
    (None, "form"),
    (entry_v2(scheme=None), "form"),
    (entry_v2(network=8453), "form"),
    (entry_v2(scheme="upto"), "scheme"),
    (entry_v2(scheme="Exact"), "scheme"),
    (SOLANA, "network"),
    (entry_v2(network="solana"), "network"),
    (entry_v2(network="polygon"), "network"),
    (entry_v2(network="Base"), "network"),
    (entry_v2(network="eip155:08453"), "network"),
    (entry_v2(network="eip155:1"), "network"),
    (entry_v2(network="base-sepolia"), "network"),
    (entry_v2(asset="0x" + "1" * 40), "asset"),
    (entry_v2(asset=BASE_SEPOLIA.usdc), "asset"),
    (entry_v2(asset=None), "asset"),
    (entry_v2(extra={"name": "USDC", "version": "2"}), "domain"),
    (entry_v2(extra={"name": "usd coin"}), "domain"),
    (entry_v2(extra={"name": None}), "domain"),
    (entry_v2(extra={"version": "1"}), "domain"),
    (entry_v2(extra={"version": 2}), "domain"),
    (entry_v2(extra={"assetTransferMethod": "permit2"}), "transfer_method"),
    (entry_v2(extra={"assetTransferMethod": "erc7710"}), "transfer_method"),
    (entry_v2(extra=[]), "form"),
    (entry_v2(amount=...), "amount"),
    (entry_v2(amount=690000), "amount"),
    (entry_v2(amount=True), "amount"),
    (entry_v2(amount="0"), "amount"),
    (entry_v2(amount="-1"), "amount"),
    (entry_v2(amount="+1"), "amount"),
    (entry_v2(amount="007"), "amount"),
    (entry_v2(amount="1.0"), "amount"),
    (entry_v2(amount="1e3"), "amount"),
    (entry_v2(amount="1_000"), "amount"),
    (entry_v2(amount=" 1"), "amount"),
    (entry_v2(amount="1\n"), "amount"),
    (entry_v2(amount=""), "amount"),
    (entry_v2(amount="\u0661\u0662"), "amount"),
    (entry_v2(amount=str(UINT256_MAX + 1)), "amount"),
    (entry_v2(amount="9" * 5000), "amount"),
    (entry_v2(amount=..., maxAmountRequired="690000"), "form"),
    (entry_v2(maxAmountRequired="690000"), "form"),
    (entry_v2(payTo=...), "payee"),
    (entry_v2(payTo=ZERO_ADDRESS), "payee"),
    (entry_v2(payTo=PAYEE[:-1]), "payee"),
    (entry_v2(payTo=PAYEE + "0"), "payee"),
    (entry_v2(payTo=PAYEE + "\n"), "payee"),
    (entry_v2(payTo=PAYEE[2:]), "payee"),
    (entry_v2(payTo="0x" + "g" * 40), "payee"),
    (entry_v2(payTo=PAYEE.swapcase().replace("0X", "0x")), "payee"),
    (entry_v2(payTo=[PAYEE]), "payee"),
    (entry_v2(maxTimeoutSeconds=...), "timeout"),
    (entry_v2(maxTimeoutSeconds=0), "timeout"),
    (entry_v2(maxTimeoutSeconds=-300), "timeout"),
    (entry_v2(maxTimeoutSeconds="300"), "timeout"),
    (entry_v2(maxTimeoutSeconds=300.5), "timeout"),
    (entry_v2(maxTimeoutSeconds=True), "timeout"),
]


@pytest.mark.parametrize(
    ("entry", "reason"), BAD_ENTRIES, ids=[f"{i}-{r}" for i, (_, r) in enumerate(BAD_ENTRIES)]
)
def test_a_bad_entry_is_set_aside_with_its_reason_and_a_good_one_beside_it_stays(
    entry: Any, reason: str
) -> None:
    terms = read_payment_required({}, body(terms_v2(entry, entry_v2(amount="1"))))

    assert reasons(terms) == [reason]
    assert [e.index for e in terms.requirements if supported(e, BASE) is None] == [1]


@pytest.mark.parametrize("entry", [entry_v1(amount="690000"), entry_v1(amount="1", maxAmountRequired=...)])
def test_a_version_2_amount_in_a_version_1_entry_is_malformed(entry: Any) -> None:
    assert reasons(read_payment_required({}, body(terms_v1(entry)))) == ["form"]


def test_either_spelling_of_a_network_and_any_case_of_an_address_will_do() -> None:
    loose = [
        entry_v2(network="base"),
        entry_v2(asset=BASE.usdc.lower()),
        entry_v2(asset="0x" + BASE.usdc[2:].upper()),
        entry_v2(payTo=PAYEE.lower()),
        entry_v2(extra=None),
        entry_v2(extra=...),
        entry_v2(extra={"assetTransferMethod": "eip3009"}),
        entry_v2(amount=str(UINT256_MAX)),
    ]

    terms = read_payment_required({}, body(terms_v2(*loose)))

    assert [supported(entry, BASE) for entry in terms.requirements] == [None] * len(loose)


def test_the_test_network_has_its_own_contract_and_domain() -> None:
    good = entry_v2(
        network=BASE_SEPOLIA.caip2, asset=BASE_SEPOLIA.usdc, extra={"name": "USDC", "version": "2"}
    )
    mixed = entry_v2(network=BASE_SEPOLIA.caip2, asset=BASE_SEPOLIA.usdc)

    first, second = read_payment_required({}, body(terms_v2(good, mixed))).requirements

    assert supported(first, BASE_SEPOLIA) is None
    assert (found := supported(second, BASE_SEPOLIA)) is not None and found.reason == "domain"


OTHER = "0x" + "12" * 20


@pytest.mark.parametrize(
    "change",
    [
        {"payTo": OTHER},
        {"amount": "690001"},
        {"asset": OTHER},
        {"network": "eip155:84532"},
        {"network": "base-sepolia"},
        {"network": "solana"},
        {"amount": "0"},
        {"scheme": "upto"},
    ],
)
def test_header_and_body_that_disagree_are_refused(change: dict[str, str]) -> None:
    assert "different" in refused(header(terms_v2()), body(terms_v2(entry_v2(**change))))


def test_two_terms_headers_that_disagree_are_refused() -> None:
    one, other = header(terms_v2()), header(terms_v2(entry_v2(payTo=OTHER)))

    assert "different" in refused({**one, "x-payment-required": other["PAYMENT-REQUIRED"]})
    assert "different" in refused({**one, "payment-required": other["PAYMENT-REQUIRED"]})


def test_header_and_body_agree_across_versions_spellings_and_order() -> None:
    second = entry_v1(maxAmountRequired="5", payTo=OTHER)
    in_body = terms_v1(second, entry_v1(payTo=PAYEE.lower(), asset=BASE.usdc.lower()))

    terms = read_payment_required(
        header(terms_v2(entry_v2(), entry_v2(amount="5", payTo=OTHER), SOLANA)), body(in_body)
    )

    assert (terms.version, len(terms.requirements), reasons(terms)) == (2, 2, ["network"])


UNREADABLE: list[tuple[str, dict[str, str], bytes]] = [
    ("nothing", {}, b""),
    ("HTML", {}, b"<html>Payment Required</html>"),
    ("no accepts", {}, b'{"error":"Insufficient USD or Diem balance"}'),
    ("a list", {}, b"[]"),
    ("not UTF-8", {}, b'{"accepts":[],"x402Version":1,"error":"\xff"}'),
    ("no version", {}, body({"accepts": [entry_v2()]})),
    ("version 3", {}, body({"x402Version": 3, "accepts": []})),
    ("version true", {}, body({"x402Version": True, "accepts": []})),
    ("version 2.0", {}, body({"x402Version": 2.0, "accepts": []})),
    ("version list", {}, body({"x402Version": [2], "accepts": []})),
    ("accepts object", {}, body({"x402Version": 2, "accepts": entry_v2()})),
    ("accepts null", {}, body({"x402Version": 2, "accepts": None})),
    ("17 entries", {}, body(terms_v2(*[entry_v2()] * 17))),
    ("resource text", {}, body(terms_v2(resource="https://seller.test"))),
    ("extensions list", {}, body(terms_v2(extensions=[]))),
    ("key twice", {}, b'{"x402Version":2,"accepts":[],"accepts":[]}'),
    ("inner key twice", {}, body(terms_v2()).replace(b'"amount"', b'"payTo":"0x","amount"')),
    ("NaN", {}, b'{"x402Version":2,"accepts":[],"error":NaN}'),
    ("deep", {}, b'{"x402Version":2,"accepts":' + b"[" * 50 + b"]" * 50 + b"}"),
    ("very deep", {}, b'{"a":' * 10_000),
    ("long body", {}, body(terms_v2(error="x" * 65_536))),
    ("long header", {"payment-required": "A" * 16_385}, body(terms_v2())),
    ("long number", {}, b'{"x402Version":2,"accepts":[],"error":' + b"1" * 200 + b"}"),
    ("half a character", {}, b'{"x402Version":2,"accepts":[{"network":"\\ud800"}]}'),
    (
        "key twice in the header",
        {"payment-required": b64encode(b'{"accepts":1,"accepts":2}').decode()},
        body(terms_v2()),
    ),
]


@pytest.mark.parametrize(
    ("headers", "content"), [row[1:] for row in UNREADABLE], ids=[row[0] for row in UNREADABLE]
)
def test_an_envelope_that_cannot_be_read_is_a_protocol_error(headers: dict[str, str], content: bytes) -> None:
    assert len(refused(headers, content)) < 250


def test_sixteen_entries_and_a_header_of_sixteen_kibibytes_are_still_read() -> None:
    text = body(terms_v2(*[entry_v2()] * 16))
    padded = text + b" " * (12_288 - len(text))

    value = b64encode(padded).decode()

    assert len(value) == 16_384
    assert len(read_payment_required({"payment-required": value}, b"").requirements) == 16


@pytest.mark.parametrize(
    "word",
    [
        "invalid_exact_evm_payload_authorization_value_mismatch",
        "invalid_exact_evm_payload_authorization_valid_before",
        "invalid_exact_evm_payload_recipient_mismatch",
        "invalid_exact_evm_transaction_simulation_failed",
    ],
)
def test_an_error_word_of_the_standard_is_told_however_long_and_what_it_is_glued_to_is_masked(
    word: str,
) -> None:
    """A signature or key is as long, but no row of small words."""
    terms = read_payment_required(
        {}, body({**terms_v1(), "error": f"{word}: {word}_{'5a' * 32} {'ab_' * 30}9f"})
    )
    assert terms.error == f"{word}: [...] [...]"


def test_a_sellers_text_comes_back_short_and_printable() -> None:
    noise = "\x1b[31m\u202e\r\n" + "y " * 200
    terms = read_payment_required(
        {},
        body(terms_v2(entry_v2(network=noise), entry_v2(scheme=noise), entry_v2(asset=noise), error=noise)),
    )

    shown = [terms.error or ""] + [rejection.detail for rejection in terms.rejections]
    shown += [found.detail for entry in terms.requirements if (found := supported(entry, BASE))]
    assert len(shown) == 4
    assert all(text.isprintable() and len(text) < 200 for text in shown)
    assert len(terms.error or "") == 120


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([PAYEE, "exact", "base", "1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@given(
    headers=st.dictionaries(st.sampled_from(["payment-required", "X-PAYMENT-REQUIRED", "date"]), st.text()),
    content=st.binary(),
)
def test_any_bytes_are_read_or_refused(headers: dict[str, str], content: bytes) -> None:
    try:
        terms = read_payment_required(headers, content)
    except ProtocolError:
        return
    assert len(terms.requirements) + len(terms.rejections) <= 16


@given(
    version=st.sampled_from([1, 2]),
    changes=st.dictionaries(st.sampled_from([*entry_v1(), "amount"]), JSON_VALUES, max_size=3),
    members=st.dictionaries(
        st.sampled_from(["error", "resource", "extensions", "x402Version"]), JSON_VALUES, max_size=2
    ),
    in_header=st.booleans(),
)
def test_terms_spoiled_anywhere_are_read_or_refused(
    version: int, changes: dict[str, Any], members: dict[str, Any], in_header: bool
) -> None:
    entry = {**(entry_v1() if version == 1 else entry_v2()), **changes}
    terms = {"x402Version": version, "accepts": [entry], **members}
    try:
        read = (
            read_payment_required(header(terms), b"") if in_header else read_payment_required({}, body(terms))
        )
    except ProtocolError:
        return
    assert len(read.requirements) + len(read.rejections) == 1
    for requirement in read.requirements:
        assert 0 < requirement.amount <= UINT256_MAX
        assert requirement.max_timeout_seconds > 0
        supported(requirement, BASE)
