"""`X402Auth` on a plain httpx client, both clients and both versions: one purchase, one authorization, whatever happens.

Each test runs on `httpx.Client` and on `httpx.AsyncClient`. Evidence: the seller's books and what it was sent.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.company import run_beside_another
from tests.payment.till import KEY, MUSIC, PRICE, WALLET, Buyer, Till, WaitingClock, body_of
from x402_audio.errors import (
    AboveMaximum,
    AlreadyResolved,
    BudgetExceeded,
    Frozen,
    InsufficientBalance,
    PayeeRefused,
    PaymentRefused,
    PaymentRejected,
    PaymentUnsettled,
)
from x402_audio.ledger.book import Hold, Limit
from x402_audio.money import Usdc
from x402_audio.payment.auth import X402Auth, receipt_of
from x402_audio.payment.policy import PaymentPolicy
from x402_audio.sandbox import FaultRule

VERSIONS = pytest.mark.parametrize("mode", ["direct-v1", "direct-v2"])
HEADER = {"direct-v1": "x-payment", "direct-v2": "payment-signature"}
QUEUE = "/audio/queue"
OpenTill = Callable[..., Till]


def every(action: str, value: Any = None, *, method: str = "") -> FaultRule:
    return FaultRule(action, QUEUE, method, every=True, value=value)


def second(action: str, value: Any = None) -> FaultRule:
    """The paid request, after the one that is answered by the demand."""
    return FaultRule(action, QUEUE, nth=2, value=value)


@VERSIONS
def test_a_402_is_paid_once_and_the_answer_carries_its_receipt(open_till: OpenTill, mode: str) -> None:
    till = open_till(mode)
    answer = till.buy()
    assert answer.status_code == 200
    assert body_of(answer)["queue_id"] == till.jobs[0]["queue_id"]
    [payment] = till.payments
    receipt = receipt_of(answer)
    assert (payment["value"], payment["from"], payment["sends"]) == (PRICE, WALLET.lower(), 1)
    assert (receipt.state, receipt.amount, receipt.transaction) == ("settled", PRICE, payment["transaction"])
    assert receipt.nonce == payment["nonce"]
    assert [(name, path) for path, name, _ in till.porter.seen] == [(HEADER[mode], QUEUE)]
    assert till.states() == ["settled"]


def test_an_answer_that_asks_for_nothing_is_not_paid(open_till: OpenTill) -> None:
    till = open_till("direct-v2")
    answer = till.buyer.send(till.auth, "GET", till.url("/models"))
    assert answer.status_code == 200
    assert till.signer.authorizations == []
    with pytest.raises(LookupError):
        receipt_of(answer)


@VERSIONS
def test_an_answer_dropped_three_times_costs_one_nonce(open_till: OpenTill, mode: str) -> None:
    till = open_till(mode)
    till.faults(*(FaultRule("drop_after", QUEUE, nth=nth) for nth in (2, 3, 4)))
    for _ in range(3):
        with pytest.raises(httpx.RemoteProtocolError):
            till.buy()
        assert till.states() == ["signed"]
    answer = till.buy()
    assert answer.status_code == 200
    assert len(till.nonces) == 1
    assert len(set(till.porter.values(QUEUE))) == 1
    assert [payment["sends"] for payment in till.payments] == [4]
    assert len(till.jobs) == 1
    assert receipt_of(answer).sends == 4


@VERSIONS
def test_a_payment_lost_on_its_way_is_sent_again(open_till: OpenTill, mode: str) -> None:
    till = open_till(mode)
    till.faults(second("drop_before"))
    with pytest.raises(httpx.RemoteProtocolError):
        till.buy()
    assert till.payments == []
    assert till.buy().status_code == 200
    assert len(till.nonces) == len(till.payments) == 1


def test_another_program_of_the_wallet_sends_the_stored_payment_again(open_till: OpenTill) -> None:
    till = open_till("direct-v2")
    till.faults(second("drop_after"))
    with pytest.raises(httpx.RemoteProtocolError):
        till.buy()
    till.auth = till.new_auth()
    assert till.buy().status_code == 200
    assert (len(till.payments), len(till.nonces)) == (1, 1)


def test_an_equal_request_after_a_delivered_answer_is_a_new_purchase(open_till: OpenTill) -> None:
    till = open_till("direct-v1")
    queue_ids = {body_of(till.buy())["queue_id"] for _ in range(2)}
    assert len(queue_ids) == len(till.payments) == len(till.nonces) == 2


@VERSIONS
def test_a_short_paid_answer_that_breaks_is_asked_for_again_with_the_same_payment(
    open_till: OpenTill, mode: str
) -> None:
    till = open_till(mode)
    till.faults(second("truncate"))
    assert body_of(till.buy())["queue_id"] == till.jobs[0]["queue_id"]
    sent = till.porter.values(QUEUE)
    assert (len(sent), len(set(sent)), len(till.payments), till.states()) == (2, 1, 1, ["settled"])


@VERSIONS
def test_a_short_paid_answer_is_still_a_stream_to_who_reads_it_so(open_till: OpenTill, mode: str) -> None:
    till = open_till(mode)

    def plain() -> bytes:
        with (
            httpx.Client(auth=till.auth) as http,
            http.stream("POST", till.url(QUEUE), json=MUSIC) as answer,
        ):
            assert not answer.is_stream_consumed
            return b"".join(answer.iter_raw(16))

    async def awaited() -> bytes:
        async with (
            httpx.AsyncClient(auth=till.auth) as http,
            http.stream("POST", till.url(QUEUE), json=MUSIC) as answer,
        ):
            assert not answer.is_stream_consumed
            return b"".join([part async for part in answer.aiter_raw(16)])

    body = run_beside_another(awaited()) if till.buyer.awaited else plain()
    assert json.loads(body)["queue_id"] == till.jobs[0]["queue_id"]
    [hold] = till.ledger.holds()
    assert hold.delivered_at is not None
    moves = [event for event in till.ledger.events() if event.subject == f"hold:{hold.id}"]
    assert [event.to for event in moves] == ["signed", "settled"], "paid and delivered in one commit"


@VERSIONS
def test_a_paid_answer_whose_body_breaks_is_fetched_again_and_not_bought_again(
    open_till: OpenTill, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its head said paid; the caller never had what was bought."""
    till = open_till(mode)
    monkeypatch.setattr("x402_audio.payment.delivery.SHORT_BYTES", 0)
    till.faults(second("truncate"))
    with pytest.raises(httpx.RemoteProtocolError):
        till.buy()
    till.faults()
    assert body_of(till.buy())["queue_id"] == till.jobs[0]["queue_id"]
    assert (len(till.payments), len(till.nonces), till.states()) == (1, 1, ["settled"])
    till.buy()
    assert len(till.nonces) == 2, "what came whole was delivered"


def test_who_leaves_a_paid_stream_early_has_what_was_bought(open_till: OpenTill) -> None:
    till = open_till("direct-v2")
    till.seller.release_stream.set()

    def plain() -> None:
        with (
            httpx.Client(auth=till.auth, timeout=20) as http,
            http.stream("GET", till.url("/stream")) as answer,
        ):
            next(answer.iter_raw())

    async def awaited() -> None:
        async with (
            httpx.AsyncClient(auth=till.auth, timeout=20) as http,
            http.stream("GET", till.url("/stream")) as answer,
        ):
            await anext(answer.aiter_raw())

    for _ in range(2):
        run_beside_another(awaited()) if till.buyer.awaited else plain()
    assert len(till.payments) == len(till.nonces) == 2


def test_other_bytes_are_another_purchase_while_the_first_is_open(open_till: OpenTill) -> None:
    till = open_till("direct-v1")
    till.faults(second("drop_after"))
    with pytest.raises(httpx.RemoteProtocolError):
        till.buy()
    assert till.buy(json={**MUSIC, "prompt": "Rain on tin"}).status_code == 200
    assert len(till.payments) == 2
    assert till.states() == ["signed", "settled"]


@VERSIONS
def test_a_named_purchase_is_recognised_by_its_name(open_till: OpenTill, mode: str) -> None:
    till = open_till(mode)
    named = {"x402_audio": {"purchase": "jingle-7"}}
    till.faults(second("drop_after"))
    with pytest.raises(httpx.RemoteProtocolError):
        till.buy(extensions=named)
    till.faults(second("drop_after"))
    with pytest.raises(httpx.RemoteProtocolError):
        till.buy()
    assert len(till.nonces) == 2, "the same request without the name is another purchase"
    till.faults()
    first = body_of(till.buy(extensions=named))["queue_id"]
    assert first == till.jobs[0]["queue_id"]
    assert len(till.payments) == 2


@VERSIONS
def test_a_name_is_bought_once_even_after_its_answer_came(open_till: OpenTill, mode: str) -> None:
    """Who died with the answer in hand may ask again: the same payment is shown while it is valid, and none is made."""
    till = open_till(mode)
    named = {"x402_audio": {"purchase": "jingle-7"}}
    first = body_of(till.buy(extensions=named))["queue_id"]
    assert body_of(till.buy(extensions=named))["queue_id"] == first
    assert (len(till.nonces), len(till.payments), len(set(till.porter.values(QUEUE)))) == (1, 1, 1)
    till.clock.at += 300
    asked = len(till.books["requests"])
    with pytest.raises(PaymentRefused, match="answered already") as refused:
        till.buy(extensions=named)
    assert (refused.value.money_moved, len(till.books["requests"])) == ("yes", asked)
    with pytest.raises(PaymentRefused):
        till.buy(json={**MUSIC, "prompt": "Rain on tin"}, extensions=named)
    assert (len(till.nonces), len(till.payments)) == (1, 1)
    assert till.ledger.verify() == []


def test_a_name_whose_money_came_back_may_be_bought_again(open_till: OpenTill) -> None:
    till = open_till("direct-v2")
    named = {"x402_audio": {"purchase": "jingle-7"}}
    till.buy(extensions=named)
    [hold] = till.ledger.holds()
    till.ledger.refund(hold.id, hold.amount, charge_id="", why="paid back")
    assert till.buy(extensions=named).status_code == 200
    assert len(till.nonces) == 2


def test_a_named_purchase_with_another_body_is_not_sent_the_old_payment(open_till: OpenTill) -> None:
    till = open_till("direct-v2")
    named = {"x402_audio": {"purchase": "jingle-7"}}
    till.faults(second("drop_after"))
    with pytest.raises(httpx.RemoteProtocolError):
        till.buy(extensions=named)
    with pytest.raises(PaymentUnsettled) as refused:
        till.buy(json={**MUSIC, "prompt": "Rain on tin"}, extensions=named)
    assert refused.value.money_moved == "unknown"
    assert len(till.porter.values(QUEUE)) == 1
    assert (len(till.nonces), len(till.jobs)) == (1, 1)


def test_a_stated_price_is_the_most_that_is_paid(open_till: OpenTill) -> None:
    till = open_till("direct-v2")
    with pytest.raises(BudgetExceeded):
        till.buy(extensions={"x402_audio": {"max_price": "0.68"}})
    assert till.signer.authorizations == []
    assert till.buy(extensions={"x402_audio": {"max_price": "0.69"}}).status_code == 200


def test_without_limits_of_its_own_the_built_in_ones_hold(open_till: OpenTill) -> None:
    """One payment 1, an hour 5: what a fresh command would allow."""
    till = open_till("direct-v2", policy=PaymentPolicy())
    long = {**MUSIC, "duration_seconds": 240}
    with pytest.raises(BudgetExceeded) as dear:
        till.buy(json=long)
    for take in range(7):
        till.buy(json={**MUSIC, "prompt": f"A quiet take, {take}"})
    with pytest.raises(BudgetExceeded) as hour:
        till.buy(json={**MUSIC, "prompt": "A quiet take, 7"})
    assert ("MAX_PER_PAYMENT" in str(dear.value), "MAX_PER_HOUR" in str(hour.value)) == (True, True)
    assert len(till.signer.authorizations) == 7


def test_a_stated_maximum_may_raise_the_built_in_one_and_nothing_else(open_till: OpenTill) -> None:
    till = open_till("direct-v2", policy=PaymentPolicy(max_amount="4"))
    long = {**MUSIC, "duration_seconds": 240}
    assert till.buy(json=long).status_code == 200
    till.ledger.set_limit(Limit("jobs", "payment", Usdc(1_000_000), source="ledger"))
    with pytest.raises(BudgetExceeded):
        till.buy(json={**long, "prompt": "The same again, please"})
    assert len(till.signer.authorizations) == 1


def test_a_price_above_the_policy_is_refused_unsigned(open_till: OpenTill) -> None:
    till = open_till("direct-v1", policy=PaymentPolicy(max_amount="0.50"))
    with pytest.raises(AboveMaximum) as refused:
        till.buy()
    assert refused.value.money_moved == "no"
    assert (till.signer.authorizations, till.states()) == ([], [])


def test_a_streamed_body_is_refused_before_paying(open_till: OpenTill) -> None:
    till = open_till("direct-v1")

    def chunks() -> Iterator[bytes]:
        yield b"{}"

    async def awaited() -> AsyncIterator[bytes]:
        yield b"{}"

    till.faults(every("status", {"status": 402, "body": "{}"}))
    content: Any = awaited() if till.buyer.awaited else chunks()
    with pytest.raises(PaymentRefused, match="streamed request body"):
        till.buy(content=content, headers={"content-length": "2"})
    assert (till.signer.authorizations, till.states()) == ([], [])


@VERSIONS
def test_a_500_after_settlement_is_answered_with_the_same_payment(open_till: OpenTill, mode: str) -> None:
    till = open_till(mode)
    till.faults(second("status_after", 500))
    assert till.buy().status_code == 200
    assert (len(till.nonces), till.payments[0]["sends"]) == (1, 2)
    assert till.clock.waits == [0.5]


@VERSIONS
@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_a_seller_that_stays_ill_after_settlement_leaves_it_unknown(
    open_till: OpenTill, mode: str, status: int
) -> None:
    till = open_till(mode)
    till.faults(*(FaultRule("status_after", QUEUE, nth=nth, value=status) for nth in range(2, 20)))
    with pytest.raises(PaymentUnsettled) as unsettled:
        till.buy()
    assert (unsettled.value.money_moved, unsettled.value.retry) == ("unknown", "same_id")
    assert f"{status}" in str(unsettled.value)
    [payment] = till.payments
    assert unsettled.value.nonce == payment["nonce"]
    assert (len(till.nonces), payment["sends"], till.states()) == (1, 4, ["signed"])
    till.faults()
    assert till.buy().status_code == 200
    assert (len(till.nonces), len(till.payments)) == (1, 1)


@VERSIONS
def test_a_402_after_the_payment_frees_nothing(open_till: OpenTill, mode: str) -> None:
    till = open_till(mode)
    till.faults(every("settlement_failed"))
    for _ in range(2):
        with pytest.raises(PaymentRejected) as rejected:
            till.buy()
        assert rejected.value.money_moved == "unknown"
        assert rejected.value.error_reason == "transaction_failed"
        assert till.states() == ["signed"]
    till.faults()
    assert till.buy().status_code == 200
    assert len(till.nonces) == len(till.payments) == 1
    assert len(set(till.porter.values(QUEUE))) == 1


@VERSIONS
def test_an_answer_without_a_receipt_stays_to_be_proven(open_till: OpenTill, mode: str) -> None:
    till = open_till(mode)
    till.faults(every("no_receipt"))
    answer = till.buy()
    assert (answer.status_code, receipt_of(answer).state) == (200, "signed")
    [hold] = till.ledger.holds()
    assert hold.state == "signed" and hold.delivered_at is not None
    assert till.ledger.allowances([Limit("wallet", "ever", Usdc(10**9))])[0].held == PRICE
    till.buy()
    assert len(till.payments) == 2, "delivered is delivered: an equal request buys anew"


class Chain:
    """What the wallet has by the chain, where every payment of the till arrives at once."""

    def __init__(self, till: Till, had: Usdc) -> None:
        self._till, self._had = till, had

    def usdc_balance(self, _: str, /) -> Usdc:
        return Usdc(self._had - PRICE * len(self._till.payments))

    def latest_time(self) -> int:
        return int(self._till.clock.now())


@VERSIONS
def test_a_payment_that_nobody_proved_keeps_usdc_back_only_while_it_could_still_move(
    open_till: OpenTill, mode: str
) -> None:
    till = open_till(mode)
    till.faults(every("no_receipt"))
    auth = till.new_auth(chain=Chain(till, Usdc(PRICE * 2)))
    assert till.buyer.send(auth, "POST", till.url(QUEUE), json=MUSIC).status_code == 200
    with pytest.raises(InsufficientBalance, match="is needed"):
        till.buyer.send(auth, "POST", till.url(QUEUE), json=MUSIC)
    till.clock.at += 3600
    assert till.buyer.send(auth, "POST", till.url(QUEUE), json=MUSIC).status_code == 200
    assert (len(till.payments), till.ledger.frozen()) == (2, None)


@VERSIONS
@pytest.mark.parametrize("follow", [False, True])
def test_a_307_after_settlement_leaves_it_unknown(open_till: OpenTill, mode: str, follow: bool) -> None:
    till = open_till(mode)
    till.faults(second("redirect_after", till.server.origin))
    with pytest.raises((PaymentRejected, PaymentUnsettled)) as unknown:
        till.buy(follow=follow)
    assert unknown.value.money_moved == "unknown"
    assert (len(till.nonces), len(till.payments), till.states()) == (1, 1, ["signed"])
    till.faults()
    assert till.buy(follow=follow).status_code == 200
    assert (len(till.nonces), len(till.payments)) == (1, 1)


def test_a_payment_too_old_to_be_sent_is_not_sent_and_not_replaced(open_till: OpenTill) -> None:
    till = open_till("direct-v1")
    till.faults(second("drop_after"))
    with pytest.raises(httpx.RemoteProtocolError):
        till.buy()
    till.clock.at += 291
    with pytest.raises(PaymentUnsettled):
        till.buy()
    till.clock.at += 3600
    with pytest.raises(PaymentUnsettled):
        till.buy()
    assert (len(till.nonces), len(till.porter.values(QUEUE)), till.states()) == (1, 1, ["signed"])


def _settled_unanswered(till: Till) -> Hold:
    """Reconcile found the transfer; the track never came."""
    till.faults(*(FaultRule("status_after", QUEUE, nth=nth, value=500) for nth in range(2, 20)))
    with pytest.raises(PaymentUnsettled) as unknown:
        till.buy()
    till.faults()
    return till.ledger.settle(
        unknown.value.hold_id, evidence="the chain", transaction="0xabc", delivered=False
    )


@VERSIONS
def test_what_the_chain_settled_and_nobody_answered_is_shown_again_while_it_is_valid(
    open_till: OpenTill, mode: str
) -> None:
    till = open_till(mode)
    hold = _settled_unanswered(till)
    assert till.buy().status_code == 200
    assert (len(till.nonces), len(till.payments), len(set(till.porter.values(QUEUE)))) == (1, 1, 1)
    assert till.ledger.hold(hold.id).delivered_at is not None
    till.buy()
    assert len(till.payments) == 2, "answered is answered: an equal request buys anew"
    assert till.ledger.verify() == []


def test_what_the_chain_settled_and_nobody_answered_is_bought_no_second_time(open_till: OpenTill) -> None:
    """Another name is another purchase."""
    till = open_till("direct-v2")
    _settled_unanswered(till)
    till.clock.at += 300
    asked = len(till.books["requests"])
    with pytest.raises(PaymentRefused, match="0xabc") as refused:
        till.buy()
    assert (refused.value.money_moved, len(till.books["requests"])) == ("yes", asked)
    assert till.buy(extensions={"x402_audio": {"purchase": "once more"}}).status_code == 200
    assert len(till.payments) == 2


def test_retry_after_is_obeyed(open_till: OpenTill) -> None:
    till = open_till("direct-v1")
    ordered = {"status": 503, "headers": {"Retry-After": "7"}}
    till.faults(second("status_after", ordered))
    assert till.buy().status_code == 200
    assert till.clock.waits == [7.0]


class Flood(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body of a hundred megabytes; knows how much of it was taken."""

    def __init__(self) -> None:
        self.taken = 0

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(100):
            self.taken += 1
            yield b"x" * (1 << 20)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in iter(self):
            yield piece


def test_the_refusal_of_a_payment_is_not_read_to_any_length(open_till: OpenTill) -> None:
    till = open_till("direct-v1")
    demand = till.buyer.send(httpx.Auth(), "POST", till.url(QUEUE), json=MUSIC)
    floods: list[Flood] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if b"X-PAYMENT" not in dict(request.headers.raw):
            return httpx.Response(402, content=demand.content)
        floods.append(Flood())
        return httpx.Response(500, stream=floods[-1])

    def plain() -> None:
        with httpx.Client(auth=till.auth, transport=httpx.MockTransport(answer)) as http:
            http.post(till.url(QUEUE), json=MUSIC)

    async def awaited() -> None:
        async with httpx.AsyncClient(auth=till.auth, transport=httpx.MockTransport(answer)) as http:
            await http.post(till.url(QUEUE), json=MUSIC)

    with pytest.raises(PaymentUnsettled):
        run_beside_another(awaited()) if till.buyer.awaited else plain()
    assert [flood.taken for flood in floods] == [5] * 4
    assert len(till.nonces) == 1


def test_a_frozen_ledger_signs_nothing_and_sends_nothing_again(open_till: OpenTill) -> None:
    till = open_till("direct-v1")
    till.ledger.freeze("the owner said so")
    with pytest.raises(Frozen) as stopped:
        till.buy()
    assert (stopped.value.money_moved, till.signer.authorizations) == ("no", [])
    till.ledger.unfreeze("go on")
    till.faults(FaultRule("drop_after", QUEUE, nth=2))
    with pytest.raises(httpx.RemoteProtocolError):
        till.buy()
    till.ledger.freeze("again")
    with pytest.raises(Frozen) as stopped:
        till.buy()
    assert stopped.value.money_moved == "unknown"
    assert len(till.porter.values(QUEUE)) == 1


def test_another_payee_than_the_pinned_one_is_refused(open_till: OpenTill) -> None:
    till = open_till("direct-v2")
    till.buy()
    till.seller.pay_to = "0x" + "cd" * 20
    with pytest.raises(PayeeRefused):
        till.buy()
    assert len(till.signer.authorizations) == 1


class UsersTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """What a user has set up for a proxy, for certificates, for limits: it must carry every request."""

    def __init__(self) -> None:
        self._plain = httpx.HTTPTransport()
        self._awaited = httpx.AsyncHTTPTransport()
        self.carried: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.carried.append(request.url.path)
        return self._plain.handle_request(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.carried.append(request.url.path)
        return await self._awaited.handle_async_request(request)

    def close(self) -> None:
        self._plain.close()

    async def aclose(self) -> None:
        await self._awaited.aclose()


def test_every_request_goes_through_the_users_own_transport(open_till: OpenTill) -> None:
    till, transport = open_till("direct-v2"), UsersTransport()

    async def awaited() -> httpx.Response:
        async with httpx.AsyncClient(auth=till.auth, transport=transport) as http:
            return await http.post(till.url(QUEUE), json=MUSIC)

    if till.buyer.awaited:
        answer = run_beside_another(awaited())
    else:
        with httpx.Client(auth=till.auth, transport=transport) as http:
            answer = http.post(till.url(QUEUE), json=MUSIC)
    assert answer.status_code == 200
    assert transport.carried == ["/api/v1" + QUEUE] * 2


@VERSIONS
def test_the_first_chunk_is_the_callers_before_the_last_may_be_sent(open_till: OpenTill, mode: str) -> None:
    till = open_till(mode)

    def plain() -> tuple[bytes, bool, bytes]:
        with (
            httpx.Client(auth=till.auth, timeout=20) as http,
            http.stream("GET", till.url("/stream")) as answer,
        ):
            chunks = answer.iter_raw()
            first, held = next(chunks), not till.seller.release_stream.is_set()
            till.seller.release_stream.set()
            assert receipt_of(answer).amount == 10_000
            return first, held, b"".join(chunks)

    async def awaited() -> tuple[bytes, bool, bytes]:
        async with (
            httpx.AsyncClient(auth=till.auth, timeout=20) as http,
            http.stream("GET", till.url("/stream")) as answer,
        ):
            chunks = answer.aiter_raw()
            first, held = await anext(chunks), not till.seller.release_stream.is_set()
            till.seller.release_stream.set()
            return first, held, b"".join([chunk async for chunk in chunks])

    first, held, rest = run_beside_another(awaited()) if till.buyer.awaited else plain()
    assert held and first.startswith(b"chunk 1 of 3\n")
    assert (first + rest).endswith(b"chunk 3 of 3\n")
    assert len(till.payments) == 1


LIMITS = (Limit("jobs", "day", Usdc(2 * PRICE + 1), source="flag"),)


@VERSIONS
def test_of_ten_payments_at_once_exactly_the_two_that_fit_are_made(
    open_till: OpenTill, clock: WaitingClock, mode: str
) -> None:
    till = open_till(mode, limits=LIMITS)
    bodies = [{**MUSIC, "prompt": f"Warm indie folk, take {number}"} for number in range(10)]

    def one(body: dict[str, Any]) -> int:
        with httpx.Client(auth=till.auth) as http:
            try:
                return http.post(till.url(QUEUE), json=body).status_code
            except BudgetExceeded:
                return 0

    async def awaited() -> list[int]:
        async def one_awaited(body: dict[str, Any]) -> int:
            try:
                return (await http.post(till.url(QUEUE), json=body)).status_code
            except BudgetExceeded:
                return 0

        async with httpx.AsyncClient(auth=till.auth) as http:
            return await asyncio.gather(*(one_awaited(body) for body in bodies))

    if till.buyer.awaited:
        ended = run_beside_another(awaited())
    else:
        with ThreadPoolExecutor(10) as pool:
            ended = list(pool.map(one, bodies))
    assert sorted(ended) == [0] * 8 + [200] * 2
    assert len(till.payments) == len(till.signer.authorizations) == 2


@VERSIONS
def test_eight_askers_of_one_named_purchase_make_one_payment_and_none_is_told_that_nothing_moved(
    open_till: OpenTill, mode: str
) -> None:
    """Who comes while another's payment is on its way gets the answer too, or is told to ask again."""
    till = open_till(mode)
    named = {"x402_audio": {"purchase": "jingle-7"}}

    def one(number: int) -> str:
        with httpx.Client(auth=till.auth) as http:
            try:
                return str(body_of(http.post(till.url(QUEUE), json=MUSIC, extensions=named))["queue_id"])
            except (PaymentRefused, PaymentRejected) as told:
                return told.money_moved

    async def awaited() -> list[str]:
        async def one_awaited() -> str:
            try:
                answer = await http.post(till.url(QUEUE), json=MUSIC, extensions=named)
            except (PaymentRefused, PaymentRejected) as told:
                return told.money_moved
            return str(body_of(answer)["queue_id"])

        async with httpx.AsyncClient(auth=till.auth) as http:
            return await asyncio.gather(*(one_awaited() for _ in range(8)))

    if till.buyer.awaited:
        ends = run_beside_another(awaited())
    else:
        with ThreadPoolExecutor(8) as pool:
            ends = list(pool.map(one, range(8)))
    track = one(8)
    assert track in ends
    assert set(ends) <= {track, "yes", "unknown"}
    assert (len(till.payments), len(till.nonces), till.states()) == (1, 1, ["settled"])
    assert till.ledger.verify() == []


def _ask(till: Till, *answers: Callable[[], object], name: str | None = "jingle-7") -> str:
    """One asker of the purchase; as each of its answers arrives, and before it is read, something else happens."""
    left = [*answers]

    def hear(_: httpx.Response) -> None:
        if left:
            left.pop(0)()

    with httpx.Client(auth=till.auth, trust_env=False, event_hooks={"response": [hear]}) as http:
        named = {"x402_audio": {"purchase": name}} if name else {}
        return str(body_of(http.post(till.url(QUEUE), json=MUSIC, extensions=named))["queue_id"])


@VERSIONS
def test_who_comes_after_the_answer_is_told_that_it_was_paid_and_to_ask_again(
    open_till: OpenTill, mode: str
) -> None:
    """Its demand arrives before another asker pays, and its turn to reserve comes after that one was answered."""
    till, tracks = open_till(mode), list[str]()
    with pytest.raises(PaymentRefused) as told:
        _ask(till, lambda: tracks.append(_ask(till)))
    assert (told.value.money_moved, told.value.retry, told.value.owner) == ("yes", "same_id", "agent")
    assert "same request again" in told.value.next_step
    assert _ask(till) == tracks[0]
    assert (len(till.payments), len(till.nonces)) == (1, 1)
    till.clock.at += 3600
    with pytest.raises(PaymentRefused) as too_late:
        _ask(till)
    assert (too_late.value.money_moved, too_late.value.retry) == ("yes", "never")


@VERSIONS
def test_who_is_declined_while_another_asker_is_served_is_told_that_it_was_paid_and_to_ask_again(
    open_till: OpenTill, mode: str
) -> None:
    till, tracks = open_till(mode), list[str]()
    till.faults(second("status", 402))
    with pytest.raises(PaymentRejected) as told:
        _ask(till, lambda: None, lambda: tracks.append(_ask(till)))
    assert (told.value.money_moved, told.value.retry, told.value.owner) == ("yes", "same_id", "agent")
    assert "same request again" in told.value.next_step
    assert _ask(till) == tracks[0]
    assert (len(till.payments), len(till.nonces)) == (1, 1)


@VERSIONS
def test_without_a_name_who_is_declined_while_another_is_served_is_warned_of_a_new_purchase(
    open_till: OpenTill, mode: str
) -> None:
    """An equal request after a delivered answer buys anew: nobody is told to repeat it for the old one."""
    till = open_till(mode)
    till.faults(second("status", 402))
    with pytest.raises(PaymentRejected) as told:
        _ask(till, lambda: None, lambda: _ask(till, name=None), name=None)
    assert (told.value.money_moved, told.value.retry, told.value.owner) == ("yes", "never", "agent")
    assert "new purchase" in told.value.next_step
    assert (len(till.payments), len(till.nonces)) == (1, 1)


@VERSIONS
def test_who_joins_a_payment_that_never_left_is_told_that_nothing_moved_and_to_ask_again(
    open_till: OpenTill, mode: str
) -> None:
    till = open_till(mode)
    reserve = till.ledger.reserve

    def joins_late(*wish: Any) -> Hold:
        joined = reserve(*wish)
        till.ledger.void(joined.id, evidence="its signer failed before anything left", sends=1)
        return joined.but(adopted=True)

    vars(till.ledger)["reserve"] = joins_late
    with pytest.raises(AlreadyResolved) as told:
        _ask(till)
    assert (told.value.money_moved, told.value.retry, told.value.owner) == ("no", "same_id", "agent")
    assert "same request again" in told.value.next_step
    del vars(till.ledger)["reserve"]
    assert _ask(till)
    assert len(till.payments) == 1


def test_four_processes_on_one_ledger_make_exactly_the_payments_that_fit(tmp_path: Path) -> None:
    from x402_audio.sandbox import SandboxSeller, SandboxServer

    with SandboxServer(SandboxSeller(mode="direct-v2")) as server:
        command = [
            sys.executable,
            "-m",
            "tests.payment.spender",
            server.api_url,
            str(tmp_path / "ledger.db"),
            KEY,
        ]
        root = Path(__file__).parents[2]
        running = [
            subprocess.Popen([*command, str(number)], cwd=root, stdout=subprocess.PIPE, text=True)
            for number in range(4)
        ]
        paid = [int(process.communicate(timeout=60)[0]) for process in running]
        assert [process.returncode for process in running] == [0] * 4
        books: dict[str, Any] = server.seller.books()
    assert sum(paid) == len(books["payments"]) == 7
    assert len({payment["nonce"] for payment in books["payments"]}) == 7


def test_the_auth_shows_its_wallet_and_nothing_else(open_till: OpenTill, buyer: Buyer) -> None:
    till = open_till("direct-v1")
    assert repr(till.auth) == f"X402Auth(wallet={WALLET})"
    assert isinstance(till.auth, httpx.Auth)
    assert isinstance(till.auth, X402Auth)
