"""Buying credit: three envelopes are taken, one changed byte is not, and nothing is credited twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.sandbox.customer import OpenShop, Shop, Wallet, header_of, value_of

FIVE = 5_000_000


def base_entry(shop: Shop) -> dict[str, Any]:
    """The Base entry as the seller offers it."""
    entry: dict[str, Any] = shop.post("/x402/top-up").json()["accepts"][0]
    return entry


def pay_v2(shop: Shop, entry: dict[str, Any], payload: dict[str, Any]) -> httpx.Response:
    envelope = {"x402Version": 2, "accepted": entry, "payload": payload}
    return shop.post("/x402/top-up", headers={"PAYMENT-SIGNATURE": header_of(envelope)})


def nothing_moved(shop: Shop, wallet: Wallet) -> bool:
    return bool(shop.books()["payments"] == [] and shop.balance(wallet).json()["data"]["balanceUsd"] == 0)


def test_discovery_offers_base_and_solana_in_body_and_header(open_shop: OpenShop) -> None:
    shop = open_shop()
    answer = shop.post("/x402/top-up")
    assert answer.status_code == 402
    assert answer.json() == value_of(answer.headers["PAYMENT-REQUIRED"])
    assert list(answer.json()) == ["x402Version", "accepts"]
    networks = [entry["network"] for entry in answer.json()["accepts"]]
    assert networks == ["eip155:8453", "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"]


def test_three_envelopes_buy_credit_and_the_transactions_show_them(open_shop: OpenShop) -> None:
    shop = open_shop()
    wallet = shop.wallet()
    entry = base_entry(shop)
    first = pay_v2(shop, entry, wallet.authorize(entry["payTo"], FIVE))
    flat = {"x402Version": 2, "scheme": "exact", "network": "base"}
    payload = wallet.authorize(entry["payTo"], 7_250_000)
    second = shop.post("/x402/top-up", headers={"X-402-Payment": header_of({**flat, "payload": payload})})
    payload = wallet.authorize(entry["payTo"], FIVE)
    plain = {"x402Version": 1, "scheme": "exact", "network": "base", "payload": payload}
    third = shop.post("/x402/top-up", headers={"X-PAYMENT": header_of(plain)})
    assert [answer.status_code for answer in (first, second, third)] == [200, 200, 200]
    assert second.json()["data"]["amountCredited"] == 7.25
    assert value_of(third.headers["PAYMENT-RESPONSE"])["payer"] == wallet.address.lower()
    path = f"/x402/transactions/{wallet.address}?limit=2"
    page = shop.http.get(path, headers=wallet.sign_in(shop.host)).json()["data"]
    assert [row["amount"] for row in page["transactions"]] == [5, 7.25]
    assert page["pagination"] == {"limit": 2, "offset": 0, "hasMore": True}
    assert page["currentBalance"] == 17.25
    assert len(shop.books()["top_ups"]) == 3


def test_the_same_payment_is_credited_once_however_it_is_wrapped(open_shop: OpenShop) -> None:
    shop = open_shop()
    wallet = shop.wallet()
    entry = base_entry(shop)
    payload = wallet.authorize(entry["payTo"], FIVE)
    assert pay_v2(shop, entry, payload).status_code == 200
    assert pay_v2(shop, entry, payload).status_code == 409
    plain = {"x402Version": 1, "scheme": "exact", "network": "base", "payload": payload}
    assert shop.post("/x402/top-up", headers={"X-PAYMENT": header_of(plain)}).status_code == 409
    assert shop.balance(wallet).json()["data"]["balanceUsd"] == 5
    assert [payment["sends"] for payment in shop.books()["payments"]] == [3]


def test_a_payment_being_settled_is_answered_in_progress(open_shop: OpenShop) -> None:
    shop = open_shop()
    wallet = shop.wallet()
    entry = base_entry(shop)
    shop.faults({"action": "slow_settlement", "nth": 1, "value": 10})
    payload = wallet.authorize(entry["payTo"], FIVE)
    answers: list[httpx.Response] = []
    first = threading.Thread(target=lambda: answers.append(pay_v2(shop, entry, payload)))
    first.start()
    while not shop.seller._settling:
        assert first.is_alive()
    again = pay_v2(shop, entry, payload)
    assert (again.status_code, again.json()["error"]) == (409, "PAYMENT_IN_PROGRESS")
    shop.seller.release_stream.set()
    first.join()
    assert [answer.status_code for answer in answers] == [200]
    assert len(shop.books()["payments"]) == 1


CHANGED_BYTES: dict[str, dict[str, Callable[[str], str]]] = {
    "signature": {"signature": lambda text: text[:30] + ("0" if text[30] != "0" else "1") + text[31:]},
    "value": {"value": lambda text: "5000001"},
    "payTo": {"to": lambda text: text[:-1] + ("0" if text[-1] != "0" else "1")},
    "from": {"from": lambda text: text[:-1] + ("0" if text[-1] != "0" else "1")},
    "nonce": {"nonce": lambda text: text[:-1] + ("0" if text[-1] != "0" else "1")},
    "validAfter": {"validAfter": lambda text: str(int(text) + 1)},
    "validBefore": {"validBefore": lambda text: str(int(text) + 1)},
    "v": {"signature": lambda text: text[:-2] + ("1b" if text[-2:] == "1c" else "1c")},
    "v of 0": {"signature": lambda text: text[:-2] + "00"},
}


@pytest.mark.parametrize("name", CHANGED_BYTES)
def test_one_changed_byte_of_a_payment_moves_nothing(name: str, open_shop: OpenShop) -> None:
    shop = open_shop()
    wallet = shop.wallet()
    payload = wallet.authorize(base_entry(shop)["payTo"], FIVE)
    for member, change in CHANGED_BYTES[name].items():
        place = payload if member == "signature" else payload["authorization"]
        assert change(place[member]) != place[member]
        place[member] = change(place[member])
    flat = {"x402Version": 2, "scheme": "exact", "network": "base", "payload": payload}
    answer = shop.post("/x402/top-up", headers={"PAYMENT-SIGNATURE": header_of(flat)})
    code = "INVALID_PAYMENT_RECIPIENT" if name == "payTo" else "PAYMENT_VERIFICATION_FAILED"
    assert (answer.status_code, answer.json()["error"]) == (400, code)
    assert nothing_moved(shop, wallet)


@pytest.mark.parametrize(
    "domain",
    [
        {"chainId": 84532},
        {"name": "USDC"},
        {"version": "1"},
        {"verifyingContract": "0x036CbD53842c5426634e7929541eC2318f3dCF7e"},
    ],
    ids=["chain", "name", "version", "contract"],
)
def test_a_signature_under_another_domain_moves_nothing(domain: dict[str, Any], open_shop: OpenShop) -> None:
    shop = open_shop()
    wallet = shop.wallet()
    entry = base_entry(shop)
    answer = pay_v2(shop, entry, wallet.authorize(entry["payTo"], FIVE, domain=domain))
    assert answer.json()["details"] == {"reason": "invalid_exact_evm_payload_signature"}
    assert nothing_moved(shop, wallet)


def test_a_payment_out_of_its_time_moves_nothing(open_shop: OpenShop) -> None:
    shop = open_shop()
    wallet = shop.wallet()
    entry = base_entry(shop)
    now = int(shop.clock.now())
    for member, at in (("validBefore", now + 5), ("validBefore", now - 1), ("validAfter", now + 1)):
        changed: dict[str, Any] = {member: at}
        answer = pay_v2(shop, entry, wallet.authorize(entry["payTo"], FIVE, **changed))
        assert (answer.status_code, answer.json()["error"]) == (400, "PAYMENT_VERIFICATION_FAILED")
    assert nothing_moved(shop, wallet)


@pytest.mark.parametrize(
    ("member", "value", "code"),
    [
        ("scheme", "upto", "UNSUPPORTED_SCHEME"),
        ("network", "eip155:1", "UNSUPPORTED_NETWORK"),
        ("asset", "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "UNSUPPORTED_TOKEN"),
        ("payTo", "0x" + "11" * 20, "INVALID_PAYMENT_RECIPIENT"),
        ("amount", "6000000", "INVALID_AMOUNT"),
        ("maxTimeoutSeconds", 301, "INVALID_PAYMENT"),
        ("extra", {"name": "USDC", "version": "2"}, "INVALID_PAYMENT"),
    ],
)
def test_an_entry_that_was_not_offered_is_refused(
    member: str, value: object, code: str, open_shop: OpenShop
) -> None:
    shop = open_shop()
    wallet = shop.wallet()
    entry = base_entry(shop)
    answer = pay_v2(shop, {**entry, member: value}, wallet.authorize(entry["payTo"], FIVE))
    assert (answer.status_code, answer.json()["error"]) == (400, code)
    assert nothing_moved(shop, wallet)


def test_amounts_outside_the_range_and_empty_wallets_are_refused(open_shop: OpenShop) -> None:
    shop = open_shop()
    wallet = shop.wallet()
    entry = base_entry(shop)
    for value, code in (
        (4_999_999, "AMOUNT_TOO_LOW"),
        (10_000_000_001, "AMOUNT_TOO_HIGH"),
        (1_000_000_001, "PAYMENT_VERIFICATION_FAILED"),
    ):
        raised = {**entry, "amount": str(value)}
        answer = pay_v2(shop, raised, wallet.authorize(entry["payTo"], value))
        assert (answer.status_code, answer.json()["error"]) == (400, code)
    garbled = shop.post("/x402/top-up", headers={"PAYMENT-SIGNATURE": "%"})
    assert garbled.json()["error"] == "INVALID_PAYMENT_FORMAT"
    assert nothing_moved(shop, wallet)


def test_the_eleventh_top_up_call_of_a_minute_waits(open_shop: OpenShop) -> None:
    shop = open_shop()
    assert [shop.post("/x402/top-up").status_code for _ in range(11)] == [402] * 10 + [429]
    shop.clock.at += 61
    assert shop.post("/x402/top-up").status_code == 402
