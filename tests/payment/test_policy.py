"""One demand judged by the spender's rules alone: which requirement, which channel, which clock, how long."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.payment.till import WALLET
from x402_audio.errors import AboveMaximum, ClockError, ForeignOrigin, NoAcceptableRequirement, PaymentRefused
from x402_audio.jsontext import write_json
from x402_audio.ledger.book import PayeeRule
from x402_audio.money import Usdc
from x402_audio.payment.origin import is_loopback, origin_of
from x402_audio.payment.policy import (
    PaymentPolicy,
    check_channel,
    check_clock,
    check_same_origin,
    choose_requirement,
    validity,
)
from x402_audio.protocol.networks import BASE_SEPOLIA
from x402_audio.protocol.requirements import PaymentRequired, Rejection, read_payment_required

SELLER = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
NOW = 1_790_000_000.0


def offer(amount: int, **changed: Any) -> dict[str, Any]:
    good = {
        "scheme": "exact", "network": "eip155:8453", "amount": str(amount), "payTo": SELLER, "maxTimeoutSeconds": 300,
        "asset": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
    }  # fmt: skip
    return {**good, **changed}


def read(*offers: dict[str, Any]) -> PaymentRequired:
    return read_payment_required({}, write_json({"x402Version": 2, "accepts": list(offers)}).encode())


def reasons(error: NoAcceptableRequirement | AboveMaximum) -> list[tuple[int, str]]:
    rejections = error.details["rejections"]
    assert isinstance(rejections, tuple)
    return sorted((each.index, each.reason) for each in rejections if isinstance(each, Rejection))


@given(st.lists(st.integers(1, 2_000_000), min_size=1, max_size=8))
def test_the_cheapest_payable_way_is_chosen(amounts: list[int]) -> None:
    policy = PaymentPolicy(max_amount="1")
    payable = [amount for amount in amounts if amount <= 1_000_000]
    if payable:
        chosen = choose_requirement(read(*map(offer, amounts)), policy, payer=WALLET)
        assert (chosen.amount, chosen.index) == (min(payable), amounts.index(min(payable)))
    else:
        with pytest.raises(AboveMaximum):
            choose_requirement(read(*map(offer, amounts)), policy, payer=WALLET)


def test_only_the_price_in_the_way_is_another_answer_than_nothing_we_speak() -> None:
    dear = read(offer(2_000_000), offer(1, scheme="upto"))
    with pytest.raises(AboveMaximum) as above:
        choose_requirement(dear, PaymentPolicy(max_amount="1"), payer=WALLET)
    assert reasons(above.value) == [(0, "amount"), (1, "scheme")]
    with pytest.raises(NoAcceptableRequirement) as nothing:
        choose_requirement(read(offer(1, scheme="upto")), PaymentPolicy(), payer=WALLET)
    assert (reasons(nothing.value), nothing.value.exit_code, above.value.exit_code) == ([(0, "scheme")], 5, 3)


@pytest.mark.parametrize(("amount", "fits"), [(690_000, True), (700_000, True), (700_001, False), (1, True)])
def test_a_price_may_be_one_cent_above_the_quote(amount: int, fits: bool) -> None:
    policy = PaymentPolicy(quoted=Usdc(690_000))
    if fits:
        assert choose_requirement(read(offer(amount)), policy, payer=WALLET).amount == amount
    else:
        with pytest.raises(AboveMaximum, match="was quoted"):
            choose_requirement(read(offer(amount)), policy, payer=WALLET)


def test_payment_before_work_needs_the_owners_consent() -> None:
    upfront = read(offer(1, extra={"paymentFlow": "upfront"}))
    with pytest.raises(NoAcceptableRequirement) as refused:
        choose_requirement(upfront, PaymentPolicy(), payer=WALLET)
    assert reasons(refused.value) == [(0, "upfront")]
    assert choose_requirement(upfront, PaymentPolicy(accept_upfront=True), payer=WALLET).amount == 1


def test_only_the_configured_network_is_paid_on() -> None:
    sepolia = offer(1, network="eip155:84532", asset=BASE_SEPOLIA.usdc)
    both = read(offer(2), sepolia)
    assert choose_requirement(both, PaymentPolicy(), payer=WALLET).amount == 2
    assert choose_requirement(both, PaymentPolicy(network=BASE_SEPOLIA), payer=WALLET).amount == 1


@given(st.integers(20, 2**64), st.integers(20, 3600), st.floats(1e9, 1e10))
def test_a_signature_lives_no_longer_than_offer_and_policy_allow(offered: int, ours: int, now: float) -> None:
    [requirement] = read(offer(1, maxTimeoutSeconds=offered)).requirements
    valid_after, valid_before = validity(requirement, PaymentPolicy(validity_s=ours), now)
    assert valid_before == int(now) + min(offered, ours)
    assert valid_after == int(now) - 600


@pytest.mark.parametrize("seconds", [0, 19, 3601, -1])
def test_a_policy_cannot_ask_for_a_signature_that_lives_too_short_or_too_long(seconds: int) -> None:
    with pytest.raises(ValueError):
        PaymentPolicy(validity_s=seconds)


@pytest.mark.parametrize("amount", ["", "-1", "1e3", "one"])
def test_a_maximum_that_is_no_dollar_text_is_refused_at_once(amount: str) -> None:
    with pytest.raises(ValueError):
        PaymentPolicy(max_amount=amount)


def test_a_maximum_is_an_amount_or_dollars() -> None:
    assert PaymentPolicy(max_amount="0.50").most == PaymentPolicy(max_amount=Usdc(500_000)).most == 500_000
    assert PaymentPolicy().most is None


def test_the_payee_rule_compares_without_case_and_per_origin() -> None:
    policy = PaymentPolicy(allowed_payees=frozenset({SELLER}), expected_payees={"https://a.example": WALLET})
    assert policy.payee_rule("https://a.example") == PayeeRule(frozenset({SELLER.lower()}), WALLET)
    assert policy.payee_rule("https://b.example").expected is None


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://API.venice.ai/api/v1?x=1#y", "https://api.venice.ai"),
        ("https://api.venice.ai:443/", "https://api.venice.ai"), ("http://127.0.0.1:80/a", "http://127.0.0.1"),
        ("http://127.0.0.1:8402/a", "http://127.0.0.1:8402"), ("http://[::1]:8402/", "http://[::1]:8402"),
        ("https://b\u00fccher.example/a", "https://xn--bcher-kva.example"),
        ("https://xn--bcher-kva.example/a", "https://xn--bcher-kva.example"),
        ("https://user:word@a.example/", "https://a.example"), ("https://a.example.:8443", "https://a.example.:8443"),
    ],
)  # fmt: skip
def test_an_origin_is_scheme_host_and_port(url: str, origin: str) -> None:
    assert origin_of(httpx.URL(url)) == origin


@pytest.mark.parametrize("host", ["127.0.0.1", "127.255.0.9", "::1"])
def test_literal_loopback_may_be_plain_http(host: str) -> None:
    assert is_loopback(host)
    check_channel(httpx.URL(f"http://{f'[{host}]' if ':' in host else host}:8402/"))
    check_channel(httpx.URL("https://seller.example/"))


@pytest.mark.parametrize(
    "url",
    [
        "http://seller.example/", "http://localhost/", "http://127.0.0.1.nip.io/", "http://128.0.0.1/", "http://0.0.0.0/",
        "http://[::ffff:127.0.0.1]/", "http://2130706433/", "http://127.1/", "http://0x7f.0.0.1/", "ftp://127.0.0.1/",
        "ws://127.0.0.1/", "https://user:word@seller.example/", "https://user@seller.example/", "/relative",
    ],
)  # fmt: skip
def test_nothing_is_paid_over_another_line(url: str) -> None:
    with pytest.raises(PaymentRefused) as refused:
        check_channel(httpx.URL(url))
    assert "word" not in str(refused.value).replace("password", "")


@pytest.mark.parametrize(
    "answered",
    ["https://b.example/x", "http://a.example/x", "https://a.example:8443/x", "https://a.example.evil/x"],
)
def test_a_demand_of_another_origin_is_foreign(answered: str) -> None:
    asked = httpx.URL("https://a.example/x")
    with pytest.raises(ForeignOrigin):
        check_same_origin(asked, httpx.URL(answered))
    check_same_origin(asked, httpx.URL("https://A.example:443/y"))


@pytest.mark.parametrize(
    ("seconds", "fits"), [(0, True), (120, True), (-120, True), (122, False), (-122, False), (10**9, False)]
)
def test_a_clock_may_be_two_minutes_off(seconds: int, fits: bool) -> None:
    date = format_datetime(datetime.fromtimestamp(NOW + seconds, UTC), usegmt=True)
    if fits:
        check_clock(date, NOW)
    else:
        with pytest.raises(ClockError):
            check_clock(date, NOW)


@pytest.mark.parametrize("date", [None, "", "yesterday", "Thu, 99 Foo 2026 00:00:00 GMT", "x" * 10_000])
def test_a_date_that_cannot_be_read_says_nothing(date: str | None) -> None:
    check_clock(date, NOW)
