"""A stranger's plain `httpx` client with `X402Auth`, at sellers built on the official SDK, on a real chain."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.interop.chain import LocalChain
from tests.interop.conftest import Wallet, hang_up_on_the_first_payment
from tests.interop.customer import Customer
from tests.interop.evidence import books_are_the_chain
from tests.interop.front import Fault, Front
from tests.interop.shop_v1 import ShopV1
from x402_audio import LocalSigner, PaymentPolicy, SqliteLedger, X402Auth, receipt_of
from x402_audio.errors import PaymentRejected
from x402_audio.payment.chain import ChainReader
from x402_audio.protocol.networks import BASE

ORDER = {"model": "elevenlabs-music", "prompt": "Warm indie folk", "duration_seconds": 3}
OpenFront = Callable[..., Front]


class Stranger:
    """Posts the same order by a new client each time, synchronous or not: one wallet, one ledger."""

    def __init__(self, auth: X402Auth, *, awaited: bool) -> None:
        self._awaited = awaited
        self._how: dict[str, Any] = {
            "auth": auth, "trust_env": False, "timeout": 60, "follow_redirects": True,
        }  # fmt: skip

    def hang_up_on_the_first_payment(self) -> None:
        """Its answer is not waited for: whether it is slow or never comes makes no difference here."""
        hang_up = hang_up_on_the_first_payment()

        async def awaited(request: httpx.Request) -> None:
            hang_up(request)

        self._how["event_hooks"] = {"request": [awaited if self._awaited else hang_up]}

    def buy(self, front: Front) -> httpx.Response:
        url = front.url + "/api/v1/audio/queue"
        if self._awaited:
            return asyncio.run(self._buy(url))
        with httpx.Client(**self._how) as http:
            return http.post(url, json=ORDER)

    async def _buy(self, url: str) -> httpx.Response:
        async with httpx.AsyncClient(**self._how) as http:
            return await http.post(url, json=ORDER)


@pytest.fixture(params=["sync", "async"])
def stranger(request: pytest.FixtureRequest, wallet: Wallet, chain: LocalChain) -> Iterator[Stranger]:
    """Its ledger is the file that the command line reads, too."""
    path = Path(os.environ["X402_AUDIO_STATE_DIR"]) / "ledger.db"
    with closing(SqliteLedger(path)) as ledger:
        signer, node = LocalSigner.from_hex(wallet.key), ChainReader([chain.url], BASE)
        auth = X402Auth(signer, ledger, PaymentPolicy(max_amount="1"), chain=node)
        yield Stranger(auth, awaited=request.param == "async")


def test_two_orders_are_two_payments(
    shop: str, stranger: Stranger, customer: Customer, chain: LocalChain, open_front: OpenFront
) -> None:
    front = open_front(shop, remembers=False)
    answers = [stranger.buy(front) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    receipts = [receipt_of(answer) for answer in answers]
    paid = chain.payments(customer.address)
    assert [(one.nonce, one.transaction, one.state) for one in receipts] == [
        (one.nonce, one.transaction, "settled") for one in paid
    ]
    books_are_the_chain(customer, chain, tracks=2)


@pytest.mark.parametrize("fault", ["hang", "drop"])
def test_what_was_lost_is_fetched_by_the_next_equal_request_with_the_same_payment(
    shop: str, stranger: Stranger, customer: Customer, chain: LocalChain, open_front: OpenFront, fault: Fault
) -> None:
    front = open_front(shop, remembers=True)
    front.break_down(fault)
    if fault == "hang":
        stranger.hang_up_on_the_first_payment()
    with pytest.raises(httpx.TransportError):
        stranger.buy(front)
    assert stranger.buy(front).json()["status"] == "QUEUED"
    assert (len(front.payments), len(set(front.payments))) == (2, 1)
    books_are_the_chain(customer, chain)


def test_where_the_seller_forgets_the_chain_settles_what_was_dropped(
    shop: str, stranger: Stranger, customer: Customer, chain: LocalChain, open_front: OpenFront
) -> None:
    front = open_front(shop, remembers=False)
    front.break_down("drop")
    with pytest.raises(httpx.TransportError):
        stranger.buy(front)
    for _ in range(2):
        with pytest.raises(PaymentRejected):
            stranger.buy(front)
    assert len(set(front.payments)) == 1
    chain.finalize()
    assert customer.reconcile(front.url + "/api/v1").code == 0
    books_are_the_chain(customer, chain)


def test_the_payment_does_not_follow_where_the_client_follows_a_redirect(
    shop: str, stranger: Stranger, customer: Customer, chain: LocalChain, open_front: OpenFront
) -> None:
    elsewhere = open_front(shop, remembers=True)
    front = open_front(shop, remembers=True, elsewhere=elsewhere.url)
    front.break_down("redirect")
    with pytest.raises(PaymentRejected):
        stranger.buy(front)
    assert (len(elsewhere.seen), elsewhere.payments) == (1, [])
    assert stranger.buy(front).status_code == 200
    assert len(set(front.payments)) == 1
    books_are_the_chain(customer, chain)


def test_without_a_receipt_the_payment_is_open_until_the_chain_shows_it(
    shop: str, stranger: Stranger, customer: Customer, chain: LocalChain, open_front: OpenFront
) -> None:
    front = open_front(shop, remembers=False)
    front.break_down("no receipt")
    assert receipt_of(stranger.buy(front)).state == "signed"
    chain.finalize()
    assert customer.reconcile(front.url + "/api/v1").code == 0
    books_are_the_chain(customer, chain)


@pytest.mark.parametrize("used", [True, False])
def test_what_was_handed_over_before_it_was_settled_is_judged_by_the_chain_later(
    shop_v1: ShopV1,
    stranger: Stranger,
    customer: Customer,
    chain: LocalChain,
    open_chain: Callable[..., LocalChain],
    open_front: OpenFront,
    monkeypatch: pytest.MonkeyPatch,
    *,
    used: bool,
) -> None:
    shop_v1.gives_away = True
    front = open_front(shop_v1.url, remembers=False)
    assert receipt_of(stranger.buy(front)).state == "signed"
    later = open_chain(fork_of=chain)
    if used:
        payload = json.loads(base64.b64decode(front.payments[0]))["payload"]
        assert later.use(payload["authorization"], payload["signature"])
    monkeypatch.setenv("X402_AUDIO_RPC_URL", later.url)
    assert customer.reconcile(front.url + "/api/v1").code == 8, "nothing is final"
    later.pass_time(360)
    assert customer.reconcile(front.url + "/api/v1").code == 0
    books_are_the_chain(customer, later, tracks=int(used))
