"""Misfortune comes when ordered, to the request it was ordered for, and the books tell what really happened."""

from __future__ import annotations

import threading
from http.client import HTTPConnection
from typing import Any

import httpx
import pytest

from tests.sandbox.customer import MUSIC, OpenShop, Shop, Wallet, header_of, value_of
from x402_audio.money import Usdc
from x402_audio.sandbox import FaultPlan, FaultRule, SandboxServer, serve_forever

FIVE = 5_000_000


def funded(open_shop: OpenShop) -> tuple[Shop, Wallet]:
    shop = open_shop(starting_credit=Usdc(20_000_000))
    return shop, shop.wallet()


def handle(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return {"model": answer.json()["model"], "queue_id": answer.json()["queue_id"]}


def top_up(shop: Shop, wallet: Wallet) -> httpx.Response:
    payload = wallet.authorize(shop.seller.pay_to, FIVE)
    flat = {"x402Version": 2, "scheme": "exact", "network": "base", "payload": payload}
    return shop.post("/x402/top-up", headers={"PAYMENT-SIGNATURE": header_of(flat)})


@pytest.mark.parametrize(
    ("action", "value", "acted"),
    [
        ("drop_before", None, False),
        ("drop_after", None, True),
        ("hang_after", 0.05, True),
        ("garbage", None, True),
    ],
)
def test_an_answer_can_be_lost_before_or_after_the_act(
    action: str, value: object, acted: bool, open_shop: OpenShop
) -> None:
    shop, wallet = funded(open_shop)
    shop.faults({"action": action, "route": "/audio/queue", "value": value})
    if action == "garbage":
        with pytest.raises(ValueError):
            shop.signed(wallet, "/audio/queue", MUSIC).json()
    else:
        with pytest.raises(httpx.RemoteProtocolError):
            shop.signed(wallet, "/audio/queue", MUSIC)
    assert len(shop.books()["jobs"]) == int(acted)
    handle(shop.signed(wallet, "/audio/queue", MUSIC))


@pytest.mark.parametrize(("action", "acted"), [("status", False), ("status_after", True)])
def test_a_status_can_be_ordered_with_and_without_the_act(
    action: str, acted: bool, open_shop: OpenShop
) -> None:
    shop, wallet = funded(open_shop)
    busy = {"status": 503, "body": {"error": "busy"}, "headers": {"Retry-After": 7}}
    shop.faults({"action": action, "route": "/audio/queue", "method": "POST", "nth": 2, "value": busy})
    handle(shop.signed(wallet, "/audio/queue", MUSIC))
    answer = shop.signed(wallet, "/audio/queue", MUSIC)
    assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (503, {"error": "busy"}, "7")
    assert len(shop.books()["jobs"]) == 1 + int(acted)


@pytest.mark.parametrize(("action", "acted"), [("redirect", False), ("redirect_after", True)])
def test_a_redirect_names_the_other_origin(action: str, acted: bool, open_shop: OpenShop) -> None:
    shop, wallet = funded(open_shop)
    shop.faults({"action": action, "route": "/audio/queue", "value": "http://127.0.0.1:9"})
    answer = shop.signed(wallet, "/audio/queue", MUSIC)
    assert (answer.status_code, answer.headers["location"]) == (307, "http://127.0.0.1:9/api/v1/audio/queue")
    assert len(shop.books()["jobs"]) == int(acted)


def test_a_cut_download_is_shorter_than_it_said_and_whole_the_next_time(open_shop: OpenShop) -> None:
    shop, wallet = funded(open_shop)
    job = handle(shop.signed(wallet, "/audio/queue", MUSIC))
    shop.clock.at += 3
    shop.faults({"action": "truncate", "route": "/audio/retrieve"})
    with pytest.raises(httpx.RemoteProtocolError):
        shop.signed(wallet, "/audio/retrieve", job)
    assert shop.signed(wallet, "/audio/retrieve", job).status_code == 200


def test_a_receipt_can_be_missing_and_credit_never_shown(open_shop: OpenShop) -> None:
    shop = open_shop()
    wallet = shop.wallet()
    shop.faults({"action": "no_receipt", "route": "/x402/top-up"}, {"action": "never_credit", "nth": 2})
    assert "PAYMENT-RESPONSE" not in top_up(shop, wallet).headers
    assert top_up(shop, wallet).json()["data"]["newBalance"] == 10
    assert shop.balance(wallet).json()["data"]["balanceUsd"] == 5
    assert [payment["credited"] for payment in shop.books()["payments"]] == [True, False]


def test_a_settlement_that_fails_moves_nothing_and_may_be_tried_again(open_shop: OpenShop) -> None:
    shop = open_shop()
    wallet = shop.wallet()
    shop.faults({"action": "settlement_failed"})
    failed = top_up(shop, wallet)
    assert (failed.status_code, failed.json()["error"]) == (402, "SETTLEMENT_FAILED")
    assert shop.books()["payments"] == []
    assert top_up(shop, wallet).status_code == 200


def test_jobs_can_be_overcharged_undelivered_or_expired(open_shop: OpenShop) -> None:
    shop, wallet = funded(open_shop)
    shop.faults(
        {"action": "overcharge", "nth": 1, "value": "0.31"},
        {"action": "charge_without_delivery", "nth": 2},
        {"action": "expire_media", "nth": 3},
    )
    jobs = [handle(shop.signed(wallet, "/audio/queue", MUSIC)) for _ in range(3)]
    shop.clock.at += 3
    assert [shop.signed(wallet, "/audio/retrieve", job).status_code for job in jobs] == [200, 500, 404]
    books = shop.books()
    assert [job["charge_atomic"] for job in books["jobs"]] == [1_000_000, 690_000, 690_000]
    assert [job["refund_atomic"] for job in books["jobs"]] == [0, 0, 0]


def test_a_poll_can_end_its_job(open_shop: OpenShop) -> None:
    shop, wallet = funded(open_shop)
    job = handle(shop.signed(wallet, "/audio/queue", MUSIC))
    shop.faults({"action": "refuse_content", "route": "/audio/retrieve", "value": "Be kind"})
    refused = shop.signed(wallet, "/audio/retrieve", job)
    assert (refused.status_code, refused.json()["suggested_prompt"]) == (422, "Be kind")
    assert shop.books()["jobs"][0]["refund_atomic"] == 690_000


def test_raw_balances_come_in_their_order_and_then_the_truth(open_shop: OpenShop) -> None:
    shop, wallet = funded(open_shop)
    shop.faults({"action": "raw_balance", "value": ["NaN", "-1", '"text"', "1000000000000"]})
    texts = [shop.balance(wallet).text.partition('"balanceUsd":')[2].partition(",")[0] for _ in range(5)]
    assert texts == ["NaN", "-1", '"text"', "1000000000000", "20.00"]


def test_terms_can_be_spoiled_in_header_body_or_both(open_shop: OpenShop) -> None:
    shop = open_shop(mode="direct-v2")
    foreign = "0x" + "11" * 20
    shop.faults(
        {"action": "wrong_terms", "route": "/audio/queue", "nth": 1, "value": {"payTo": foreign}},
        {
            "action": "wrong_terms",
            "route": "/audio/queue",
            "nth": 2,
            "value": {"entry": {"extra": {"name": "USDC"}}, "envelope": {"resource": None}, "where": "body"},
        },
    )
    both = shop.post("/audio/queue", MUSIC)
    header = value_of(both.headers["PAYMENT-REQUIRED"])
    assert (both.json()["accepts"][0]["payTo"], header["accepts"][0]["payTo"]) == (foreign, foreign)
    body_only = shop.post("/audio/queue", MUSIC)
    header = value_of(body_only.headers["PAYMENT-REQUIRED"])
    assert body_only.json()["accepts"][0]["extra"] == {"name": "USDC", "version": "2"}
    assert header["accepts"][0]["extra"]["name"] == "USD Coin"
    assert ("resource" in body_only.json(), "resource" in header) == (False, True)


def test_the_same_seed_orders_the_same_accidents() -> None:
    def told(seed: int) -> list[dict[str, Any]]:
        plan = FaultPlan.from_seed(seed)
        routes = ("/audio/queue", "/x402/top-up", "/audio/retrieve", "/audio/quote", "/x402/balance")
        return [plan.take("POST", route) for route in routes * 3]

    assert [told(seed) for seed in range(30)] == [told(seed) for seed in range(30)]
    assert all(any(told(seed)) or seed for seed in range(30))
    assert told(1) != told(2)


def test_rules_that_cannot_be_read_change_nothing(open_shop: OpenShop) -> None:
    shop = open_shop()
    for rules in (
        [{"action": "explode"}],
        [{"action": "status", "nth": 0}],
        [{"action": "status", "x": 1}],
        "all",
        [1],
    ):
        assert (
            shop.http.post(f"{shop.server.origin}/sandbox/faults", json={"rules": rules}).status_code == 400
        )
    assert shop.http.post(f"{shop.server.origin}/sandbox/credit", json={"wallet": "0x1"}).status_code == 400
    assert shop.http.get(f"{shop.server.origin}/sandbox/else").status_code == 404
    with pytest.raises(ValueError):
        FaultRule("explode")


def test_a_body_too_large_or_without_length_is_refused_unread(open_shop: OpenShop) -> None:
    shop = open_shop()
    raw = HTTPConnection(shop.host, timeout=10)
    raw.putrequest("POST", "/api/v1/audio/quote")
    raw.putheader("Content-Length", str(36 * 1024 * 1024))
    raw.endheaders()
    assert raw.getresponse().status == 413
    raw.close()
    assert shop.http.post("/audio/quote", content=iter([b"{}"])).status_code == 411
    deep = b'{"model":' + b"[" * 5000 + b"]" * 5000 + b"}"
    assert (
        shop.http.post("/audio/quote", content=deep, headers={"Content-Type": "application/json"}).status_code
        == 400
    )


def test_serving_tells_its_urls_and_ends_when_told() -> None:
    until = threading.Event()
    seen: list[SandboxServer] = []

    def started(server: SandboxServer) -> None:
        seen.append(server)
        assert httpx.get(server.api_url + "/models?type=music", trust_env=False).status_code == 200
        until.set()

    serve_forever("venice", started=started, until=until)
    assert seen[0].origin.startswith("http://127.0.0.1:")
    with pytest.raises(httpx.ConnectError):
        httpx.get(seen[0].origin, trust_env=False)
