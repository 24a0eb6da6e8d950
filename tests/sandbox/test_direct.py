"""The sellers paid per call, version 1 and 2: good payments deliver once, and again for the same bytes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.sandbox.customer import MUSIC, OpenShop, Shop, Wallet, header_of, value_of

PRICE = 690_000
VERSIONS = pytest.mark.parametrize("version", [1, 2])


class Till:
    """Pays one seller in its own version, by hand."""

    def __init__(self, shop: Shop, version: int) -> None:
        self.shop = shop
        self.version = version
        demand = shop.post("/audio/queue", MUSIC)
        assert demand.status_code == 402
        self.terms: dict[str, Any] = (
            value_of(demand.headers["PAYMENT-REQUIRED"]) if version == 2 else demand.json()
        )
        self.entry = self.terms["accepts"][0]
        self.result = "PAYMENT-RESPONSE" if version == 2 else "X-PAYMENT-RESPONSE"

    def header(self, payload: dict[str, Any], entry: Any = None, **more: Any) -> dict[str, str]:
        if self.version == 1:
            network = (entry or self.entry)["network"]
            return {"X-PAYMENT": header_of(
                {"x402Version": 1, "scheme": "exact", "network": network, "payload": payload}
            )}  # fmt: skip
        return {"PAYMENT-SIGNATURE": header_of({
            "x402Version": 2, "resource": self.terms["resource"], "accepted": entry or self.entry,
            "payload": payload, **more,
        })}  # fmt: skip

    def authorize(self, wallet: Wallet, value: int = PRICE, **changed: Any) -> dict[str, Any]:
        return wallet.authorize(self.entry["payTo"], value, **changed)

    def word(self, answer: httpx.Response) -> str:
        """The reason in the result header of a 402."""
        assert answer.status_code == 402, answer.text
        result = value_of(answer.headers[self.result])
        assert (result["success"], result["transaction"]) == (False, "")
        return str(result["errorReason"])


@VERSIONS
def test_a_paid_call_delivers_and_the_same_bytes_again_get_the_same_answer(
    version: int, open_shop: OpenShop
) -> None:
    shop = open_shop(mode=f"direct-v{version}")
    wallet, till = shop.wallet(), Till(shop, version)
    amount = "amount" if version == 2 else "maxAmountRequired"
    assert (till.terms["x402Version"], till.entry[amount]) == (version, str(PRICE))
    header = till.header(till.authorize(wallet))
    first, second = (shop.post("/audio/queue", MUSIC, header) for _ in range(2))
    assert first.status_code == 200
    assert second.json() == first.json()
    result = value_of(first.headers[till.result])
    assert (result["success"], result["payer"]) == (True, wallet.address.lower())
    assert second.headers[till.result] == first.headers[till.result]
    shop.clock.at += 3
    job = {"model": first.json()["model"], "queue_id": first.json()["queue_id"]}
    assert shop.post("/audio/retrieve", job).headers["content-type"] == "audio/mpeg"
    assert shop.post("/audio/complete", job).json() == {"success": True}
    books = shop.books()
    assert [(p["value"], p["sends"]) for p in books["payments"]] == [(PRICE, 2)]
    assert len(books["jobs"]) == 1


@VERSIONS
def test_an_entry_leaves_out_what_it_does_not_say(version: int, open_shop: OpenShop) -> None:
    """x402-fetch 1.2.0 refuses a whole offer over one optional member that is null."""
    entry = Till(open_shop(mode=f"direct-v{version}"), version).entry
    assert [name for name, value in entry.items() if value is None] == []


@VERSIONS
def test_a_used_authorization_buys_nothing_else(version: int, open_shop: OpenShop) -> None:
    shop = open_shop(mode=f"direct-v{version}")
    wallet, till = shop.wallet(), Till(shop, version)
    header = till.header(till.authorize(wallet))
    assert shop.post("/audio/queue", MUSIC, header).status_code == 200
    other = shop.post("/audio/queue", {**MUSIC, "prompt": "Something else entirely"}, header)
    assert till.word(other) == "invalid_exact_evm_nonce_already_used"
    assert len(shop.books()["jobs"]) == 1


@VERSIONS
@pytest.mark.parametrize("member", ["signature", "value", "to", "nonce", "validAfter", "validBefore"])
def test_one_changed_byte_buys_nothing(version: int, member: str, open_shop: OpenShop) -> None:
    shop = open_shop(mode=f"direct-v{version}")
    till = Till(shop, version)
    payload = till.authorize(shop.wallet())
    place = payload if member == "signature" else payload["authorization"]
    last = place[member][-4]
    place[member] = place[member][:-4] + ("1" if last != "1" else "2") + place[member][-3:]
    answer = shop.post("/audio/queue", MUSIC, till.header(payload))
    assert till.word(answer).startswith("invalid_exact_evm_payload_")
    assert shop.books()["payments"] == []


@VERSIONS
def test_wrong_domain_short_value_and_expiry_buy_nothing(version: int, open_shop: OpenShop) -> None:
    shop = open_shop(mode=f"direct-v{version}")
    wallet, till = shop.wallet(), Till(shop, version)
    now = int(shop.clock.now())
    for payload in (
        till.authorize(wallet, domain={"name": "USDC"}),
        till.authorize(wallet, domain={"chainId": 84532}),
        till.authorize(wallet, PRICE - 1),
        till.authorize(wallet, validBefore=now + 5),
    ):
        till.word(shop.post("/audio/queue", MUSIC, till.header(payload)))
    unfunded = till.authorize(wallet)
    shop.seller.chain.transfer(wallet.address.lower(), "0x" + "01" * 20, 1_000_000_000)
    assert till.word(shop.post("/audio/queue", MUSIC, till.header(unfunded))) == "insufficient_funds"
    assert shop.books()["payments"] == []


def test_value_above_the_price_is_taken_in_version_1_and_refused_in_version_2(open_shop: OpenShop) -> None:
    for version, status in ((1, 200), (2, 402)):
        shop = open_shop(mode=f"direct-v{version}")
        till = Till(shop, version)
        paid = shop.post("/audio/queue", MUSIC, till.header(till.authorize(shop.wallet(), PRICE + 1)))
        assert paid.status_code == status


def test_accepted_must_be_the_offered_entry_member_for_member(open_shop: OpenShop) -> None:
    shop = open_shop(mode="direct-v2")
    wallet, till = shop.wallet(), Till(shop, 2)
    for changed in ({"payTo": till.entry["payTo"].upper()}, {"more": 1}, {"maxTimeoutSeconds": 60}):
        header = till.header(till.authorize(wallet), {**till.entry, **changed})
        assert till.word(shop.post("/audio/queue", MUSIC, header)) == "invalid_payment_requirements"


def test_the_payment_identifier_must_stay_the_same(open_shop: OpenShop) -> None:
    shop = open_shop(mode="direct-v2")
    wallet, till = shop.wallet(), Till(shop, 2)
    assert till.terms["extensions"]["payment-identifier"]["info"] == {"required": False}

    def named(name: str) -> dict[str, Any]:
        return {"extensions": {"payment-identifier": {"info": {"required": False, "id": name}}}}

    payload, other = till.authorize(wallet), till.authorize(wallet)
    first, second = named("pay_0123456789abcdef"), named("pay_fedcba9876543210")
    assert shop.post("/audio/queue", MUSIC, till.header(payload, **first)).status_code == 200
    assert shop.post("/audio/queue", MUSIC, till.header(payload, **first)).status_code == 200
    assert shop.post("/audio/queue", MUSIC, till.header(payload, **second)).status_code == 409
    assert shop.post("/audio/queue", MUSIC, till.header(other, **first)).status_code == 409
    assert shop.post("/audio/queue", MUSIC, till.header(other, **named("short"))).status_code == 400
    assert len(shop.books()["payments"]) == 1


@VERSIONS
def test_the_stream_holds_its_last_chunk_until_released(version: int, open_shop: OpenShop) -> None:
    shop = open_shop(mode=f"direct-v{version}")
    till = Till(shop, version)
    demand = shop.http.get("/stream")
    terms = value_of(demand.headers["PAYMENT-REQUIRED"]) if version == 2 else demand.json()
    header = till.header(till.authorize(shop.wallet(), 10_000), terms["accepts"][0])
    with shop.http.stream("GET", "/stream", headers=header, timeout=0.3) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        assert [next(lines), next(lines)] == ["chunk 1 of 3", "chunk 2 of 3"]
        with pytest.raises(httpx.ReadTimeout):
            next(lines)
    with shop.http.stream("GET", "/stream", headers=header) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "chunk 1 of 3"
        shop.http.post(f"{shop.server.origin}/sandbox/release")
        assert list(lines) == ["chunk 2 of 3", "chunk 3 of 3"]
    assert [payment["sends"] for payment in shop.books()["payments"]] == [2]


def test_a_direct_seller_has_no_credit_and_refuses_a_bad_request_before_its_price(
    open_shop: OpenShop,
) -> None:
    shop = open_shop(mode="direct-v2")
    assert shop.http.get(f"/x402/balance/{shop.wallet().address}").status_code == 404
    assert shop.post("/x402/top-up").status_code == 404
    assert shop.post("/audio/queue", {"model": "elevenlabs-music", "prompt": "x"}).status_code == 400
    assert shop.http.get("/audio/queue").status_code == 405
    assert shop.http.get("/models", params={"type": "music"}).json()["type"] == "music"
    assert shop.post("/audio/quote", {"model": "elevenlabs-music", "duration_seconds": 60}).json() == {
        "quote": 0.69
    }


def test_a_failed_job_is_sent_back_on_chain(open_shop: OpenShop) -> None:
    shop = open_shop(mode="direct-v1")
    wallet, till = shop.wallet(), Till(shop, 1)
    shop.faults({"action": "fail_job"})
    paid = shop.post("/audio/queue", MUSIC, till.header(till.authorize(wallet)))
    shop.clock.at += 3
    assert shop.books()["jobs"][0]["refund_atomic"] == PRICE
    assert shop.seller.chain.balance(wallet.address, shop.seller.chain.height()) == 1_000_000_000
    assert paid.status_code == 200


def test_base_sepolia_has_its_own_domain(open_shop: OpenShop) -> None:
    shop = open_shop(mode="direct-v2", network="base-sepolia")
    wallet, till = shop.wallet(), Till(shop, 2)
    sepolia = {
        "name": "USDC",
        "chainId": 84532,
        "verifyingContract": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
    }
    assert till.entry["network"] == "eip155:84532"
    assert till.word(shop.post("/audio/queue", MUSIC, till.header(till.authorize(wallet))))
    good = till.header(till.authorize(wallet, domain=sepolia))
    assert shop.post("/audio/queue", MUSIC, good).status_code == 200
