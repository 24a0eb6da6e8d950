"""`X402Auth` at a seller of prepaid credit: a call that can draw credit is a payment, and is drawn once.

Runs on `httpx.Client` and on `httpx.AsyncClient`. The sign-in header is the send-once token of a queue call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.payment.till import MUSIC, PRICE, TOP_UP_LIMITS, WALLET, Till, body_of
from x402_audio.errors import (
    AboveMaximum,
    BudgetExceeded,
    InsufficientBalance,
    PaymentRefused,
    PaymentUnsettled,
    ProtocolError,
)
from x402_audio.jsontext import Json
from x402_audio.ledger.book import Limit
from x402_audio.money import Usdc
from x402_audio.payment.auth import Prepaid, receipt_of
from x402_audio.payment.policy import PaymentPolicy
from x402_audio.sandbox import FaultRule
from x402_audio.sandbox.answers import Answer, Request

QUEUE = "/audio/queue"
CREDIT = 5_000_000
OpenTill = Callable[..., Till]


@pytest.fixture
def till(open_till: OpenTill) -> Till:
    """A wallet with five dollars of credit."""
    return open_till("venice", prepaid=True, limits=TOP_UP_LIMITS, starting_credit=Usdc(CREDIT))


@pytest.fixture
def poor(open_till: OpenTill) -> Till:
    """A wallet without credit that may top up by five dollars."""
    return open_till("venice", prepaid=True, limits=TOP_UP_LIMITS)


def test_a_queue_call_is_quoted_gated_held_and_sent_once(till: Till) -> None:
    answer = till.buy()
    assert answer.status_code == 200
    assert till.asked("/audio/quote") == [200]
    assert set(till.asked(f"/x402/balance/{WALLET}")) == {200}
    assert till.asked(QUEUE) == [200]
    [hold] = till.ledger.holds()
    assert (hold.kind, hold.state, hold.amount, hold.model) == (
        "credit",
        "settled",
        PRICE,
        "elevenlabs-music",
    )
    assert hold.charge_id == body_of(answer)["queue_id"] == till.jobs[0]["queue_id"]
    receipt = receipt_of(answer)
    assert (receipt.kind, receipt.state, receipt.amount) == ("credit", "settled", PRICE)
    assert till.signer.authorizations == []
    assert till.payments == []


def test_every_sign_in_header_serves_one_request(till: Till) -> None:
    till.buy()
    till.buyer.send(till.auth, "GET", till.url(f"/x402/balance/{WALLET}"))
    till.buyer.send(till.auth, "POST", till.url("/audio/retrieve"), json={"model": "m", "queue_id": "q"})
    values = till.porter.values()
    assert len(values) == len(set(values)) >= 4
    assert all(name == "sign-in-with-x" for _, name, _ in till.porter.seen)


def test_open_routes_are_asked_without_a_sign_in(till: Till) -> None:
    till.buyer.send(till.auth, "GET", till.url("/models"))
    till.buyer.send(
        till.auth,
        "POST",
        till.url("/audio/quote"),
        json={"model": "elevenlabs-music", "duration_seconds": 60},
    )
    till.buyer.send(till.auth, "GET", till.server.origin + "/elsewhere")
    assert till.porter.seen == []


def test_free_routes_need_no_hold(till: Till) -> None:
    queued = body_of(till.buy())
    till.clock.at += 3
    job = {"model": queued["model"], "queue_id": queued["queue_id"]}
    answer = till.buyer.send(till.auth, "POST", till.url("/audio/retrieve"), json=job)
    assert answer.headers["content-type"] == "audio/mpeg"
    assert body_of(till.buyer.send(till.auth, "POST", till.url("/audio/complete"), json=job)) == {
        "success": True
    }
    assert len(till.ledger.holds()) == 1


@pytest.mark.parametrize(
    "path",
    [
        "/image/generate", "/audio/queue/", "/audio/queue2", "/audio/retrievex", "/audio/retrieve/queue", "//audio/queue",
        "/audio/complete%2F..%2Fqueue", "/audio/retrieve%2f..%2fqueue", "/models%2F..%2Faudio%2Fqueue",
    ],
)  # fmt: skip
def test_another_post_that_could_draw_credit_is_refused_without_a_price(till: Till, path: str) -> None:
    before = len(till.books["requests"])
    with pytest.raises(PaymentRefused) as refused:
        till.buy(path)
    assert refused.value.money_moved == "no"
    assert (till.porter.seen, till.ledger.holds(), len(till.books["requests"])) == ([], [], before)


@pytest.mark.parametrize(
    "path", ["/audio/retrieve/../queue", "/models/../audio/queue", "/x402/balance/../../audio/queue"]
)
def test_a_roundabout_way_to_the_queue_is_held_like_the_straight_one(till: Till, path: str) -> None:
    assert till.buy(path).status_code == 200
    [hold] = till.ledger.holds()
    assert (hold.state, hold.amount, len(till.jobs)) == ("settled", PRICE, 1)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_no_other_method_is_signed_in(till: Till, method: str) -> None:
    with pytest.raises(PaymentRefused):
        till.buyer.send(till.auth, method, till.url(QUEUE), extensions={"x402_audio": {"max_price": "0.30"}})
    assert till.porter.seen == []


def test_a_post_outside_the_api_is_refused(till: Till) -> None:
    with pytest.raises(PaymentRefused):
        till.buyer.send(
            till.auth,
            "POST",
            till.server.origin + "/v2/queue",
            json={},
            extensions={"x402_audio": {"max_price": "1"}},
        )
    assert till.porter.seen == []


def test_another_post_with_a_stated_price_is_held_at_that_price(till: Till) -> None:
    stated = {"x402_audio": {"max_price": "0.30"}}
    till.faults(
        FaultRule("status", "/image/generate", every=True, value={"status": 200, "body": {"image": "…"}})
    )
    answer = till.buy("/image/generate", extensions=stated)
    assert answer.status_code == 200
    assert receipt_of(answer).amount == 300_000
    [hold] = till.ledger.holds()
    assert (hold.state, hold.amount) == ("settled", 300_000)
    till.faults()
    assert till.buy("/image/generate", extensions=stated).status_code == 404
    assert till.states() == ["settled", "void"], "a documented refusal of the first sending was not bought"


def test_a_drawn_answer_whose_body_breaks_is_drawn_for_no_second_time(till: Till) -> None:
    stated = {"x402_audio": {"max_price": "0.30"}}
    answer: Json = {"status": 200, "body": {"image": "x" * 200}}
    broken = FaultRule("truncate", "/image/generate", every=True)
    till.faults(FaultRule("status", "/image/generate", every=True, value=answer), broken)
    with pytest.raises(httpx.RemoteProtocolError):
        till.buy("/image/generate", extensions=stated)
    with pytest.raises(PaymentRefused, match="no answer came"):
        till.buy("/image/generate", extensions=stated)
    assert till.states() == ["settled"]


def test_a_top_up_is_no_request_of_the_callers(till: Till) -> None:
    with pytest.raises(PaymentRefused):
        till.buyer.send(till.auth, "POST", till.url("/x402/top-up"))
    assert till.signer.authorizations == []


def test_a_quote_above_what_was_stated_or_allowed_is_refused(till: Till, open_till: OpenTill) -> None:
    with pytest.raises(AboveMaximum):
        till.buy(extensions={"x402_audio": {"max_price": "0.68"}})
    till.auth = till.new_auth()
    till.auth._policy = PaymentPolicy(max_amount="0.50")
    with pytest.raises(AboveMaximum):
        till.buy()
    assert (till.asked(QUEUE), till.ledger.holds()) == ([], [])


def test_a_limit_holds_for_draws_too(till: Till) -> None:
    till.auth = till.new_auth(limits=[Limit("jobs", "day", Usdc(2 * PRICE), source="flag")])
    assert [till.buy().status_code for _ in range(2)] == [200, 200]
    with pytest.raises(BudgetExceeded):
        till.buy()
    assert (len(till.jobs), till.asked(QUEUE)) == (2, [200, 200])


def test_a_body_that_is_no_json_object_is_refused(till: Till) -> None:
    for content in (b"[]", b"{", b'{"model":"a","model":"b"}', b"[" * 100_000):
        with pytest.raises(ProtocolError):
            till.buy(content=content)
    assert till.asked(QUEUE) == []


def test_a_streamed_body_is_refused(till: Till) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"{}"

    async def awaited() -> Any:
        yield b"{}"

    content: Any = awaited() if till.buyer.awaited else chunks()
    with pytest.raises(PaymentRefused, match="streamed request body"):
        till.buy(content=content)
    assert till.books["requests"] == []


def test_missing_credit_is_topped_up_once_and_drawn(poor: Till) -> None:
    assert poor.buy().status_code == 200
    assert [top_up["value"] for top_up in poor.books["top_ups"]] == [5_000_000]
    assert len(poor.jobs) == 1
    assert poor.buy().status_code == 200
    assert len(poor.books["top_ups"]) == len(poor.signer.authorizations) == 1
    assert sorted(hold.kind for hold in poor.ledger.holds()) == ["credit", "credit", "topup"]


def test_no_top_up_is_made_where_none_is_allowed(open_till: OpenTill) -> None:
    till = open_till("venice", prepaid=True, limits=TOP_UP_LIMITS)
    till.auth = till.new_auth(prepaid=[Prepaid(till.server.api_url)])
    with pytest.raises(InsufficientBalance) as short:
        till.buy()
    assert short.value.missing == PRICE + 100_000
    till.auth = till.new_auth(limits=[])
    with pytest.raises(InsufficientBalance):
        till.buy()
    assert (till.signer.authorizations, till.asked(QUEUE)) == ([], [])


@pytest.mark.parametrize("balance", ["NaN", "-5", '"5.00"', "1e12", "null", "[5]"])
def test_a_balance_that_cannot_be_trusted_opens_nothing(poor: Till, balance: str) -> None:
    poor.faults(FaultRule("raw_balance", every=True, value=balance))
    with pytest.raises((ProtocolError, InsufficientBalance)):
        poor.buy()
    assert (poor.signer.authorizations, poor.asked(QUEUE)) == ([], [])


def test_a_draw_bought_but_unanswered_is_repeated_under_the_same_header_and_stays_unknown(till: Till) -> None:
    till.faults(FaultRule("drop_after", QUEUE))
    with pytest.raises(httpx.RemoteProtocolError):
        till.buy()
    assert till.states() == ["signed"]
    with pytest.raises(PaymentUnsettled) as unknown:
        till.buy()
    assert (unknown.value.money_moved, unknown.value.retry) == ("unknown", "same_id")
    assert len(set(till.porter.values(QUEUE))) == 1
    assert len(till.porter.values(QUEUE)) == 2
    assert (len(till.jobs), till.states()) == (1, ["signed"])
    [held] = till.ledger.allowances([Limit("credit", "ever", Usdc(10**9))])
    assert held.held == PRICE


def test_a_draw_the_sellers_ledger_shows_and_nobody_answered_is_bought_no_second_time(till: Till) -> None:
    till.faults(*(FaultRule("drop_after", QUEUE, nth=nth) for nth in range(1, 9)))
    with pytest.raises((PaymentUnsettled, httpx.TransportError)):
        till.buy()
    till.faults()
    [hold] = till.ledger.holds()
    till.ledger.settle(hold.id, evidence="the seller's charge", charge_id="q-1", delivered=False)
    asked = len(till.books["requests"])
    with pytest.raises(PaymentRefused, match="q-1"):
        till.buy()
    assert [entry["path"] for entry in till.books["requests"][asked:] if "quote" not in entry["path"]] == []
    assert len(till.jobs) == 1


def test_a_name_draws_once_even_after_its_answer_came(till: Till) -> None:
    named = {"x402_audio": {"purchase": "jingle-7"}}
    till.buy(extensions=named)
    with pytest.raises(PaymentRefused, match="answered already"):
        till.buy(extensions=named)
    assert len(till.jobs) == len(till.ledger.holds()) == 1


def test_a_draw_that_never_arrived_is_bought_by_the_equal_request(till: Till) -> None:
    till.faults(FaultRule("drop_before", QUEUE))
    with pytest.raises(httpx.RemoteProtocolError):
        till.buy()
    answer = till.buy()
    assert answer.status_code == 200
    assert receipt_of(answer).sends == 2
    assert (len(till.jobs), till.states()) == (1, ["settled"])
    assert len(till.porter.values(QUEUE)) == 1, (
        "the first never came to the door, the second carried its header"
    )


def test_an_unanswered_draw_is_repeated_three_times_at_most(till: Till) -> None:
    till.faults(FaultRule("drop_before", QUEUE, every=True))
    for _ in range(4):
        with pytest.raises(httpx.RemoteProtocolError):
            till.buy()
    for _ in range(2):
        with pytest.raises(PaymentUnsettled):
            till.buy()
    assert (till.asked(QUEUE), till.states()) == ([0] * 4, ["signed"])


def test_an_unknown_draw_is_not_sent_once_its_header_is_old_and_never_under_a_new_one(till: Till) -> None:
    till.faults(FaultRule("drop_after", QUEUE))
    with pytest.raises(httpx.RemoteProtocolError):
        till.buy()
    for _ in range(2):
        till.clock.at += 211
        with pytest.raises(PaymentUnsettled):
            till.buy()
    assert (len(till.porter.values(QUEUE)), len(till.jobs), till.states()) == (1, 1, ["signed"])


def test_a_seller_that_stays_ill_after_queueing_is_sent_the_same_header_and_left_unknown(till: Till) -> None:
    till.faults(FaultRule("status_after", QUEUE, every=True, value=500))
    with pytest.raises(PaymentUnsettled):
        till.buy()
    sent = till.porter.values(QUEUE)
    assert (len(sent), len(set(sent)), len(till.jobs), till.states()) == (4, 1, 1, ["signed"])


def test_another_body_under_an_open_name_is_not_sent_the_old_header(till: Till) -> None:
    named = {"x402_audio": {"purchase": "jingle-7"}}
    till.faults(FaultRule("drop_before", QUEUE))
    with pytest.raises(httpx.RemoteProtocolError):
        till.buy(extensions=named)
    with pytest.raises(PaymentUnsettled):
        till.buy(json={**MUSIC, "prompt": "Rain on tin"}, extensions=named)
    assert till.porter.values(QUEUE) == []
    assert till.buy(extensions=named).status_code == 200


def test_refused_content_may_have_been_charged(till: Till) -> None:
    till.faults(FaultRule("refuse_content", QUEUE))
    with pytest.raises(PaymentUnsettled):
        till.buy()
    assert till.states() == ["signed"]


@pytest.mark.parametrize("status", [400, 403, 404, 413, 415, 429])
def test_a_documented_refusal_of_the_first_sending_frees_the_hold(till: Till, status: int) -> None:
    till.faults(FaultRule("status", QUEUE, value=status))
    assert till.buy().status_code == status
    assert till.states() == ["void"]
    assert till.buy().status_code == 200


def test_a_402_of_the_queue_call_signs_no_payment(till: Till) -> None:
    till.faults(FaultRule("status", QUEUE, value={"status": 402, "body": {"error": "Insufficient USD"}}))
    with pytest.raises(InsufficientBalance):
        till.buy()
    assert (till.signer.authorizations, till.states()) == ([], ["void"])


@pytest.mark.parametrize("fault", ["drop_after", "drop_before"])
def test_a_top_up_without_an_answer_is_made_once(poor: Till, fault: str) -> None:
    poor.faults(FaultRule(fault, "/x402/top-up", nth=2))
    with pytest.raises(httpx.RemoteProtocolError):
        poor.buy()
    assert poor.buy().status_code == 200
    assert len(poor.books["top_ups"]) == len(poor.nonces) == 1
    assert len(poor.jobs) == 1


def test_a_top_up_of_another_program_meanwhile_is_used_instead_of_a_second_one(poor: Till) -> None:
    """It was made and shown after this program had read its balance, before it had the terms in hand."""
    routes, began = poor.server._http.routes, list[str]()

    def answer(request: Request) -> Answer:
        if request.path.endswith("/x402/top-up") and not began:
            began.append(request.path)
            other = {**MUSIC, "prompt": "Another song altogether"}
            assert poor.buyer.send(poor.new_auth(), "POST", poor.url(QUEUE), json=other).status_code == 200
        return poor.porter.answer(request)

    vars(routes)["answer"] = answer
    assert poor.buy().status_code == 200
    assert [payment["value"] for payment in poor.payments] == [CREDIT]
    assert len(poor.jobs) == 2


def test_a_credit_that_never_shows_stops_top_ups_for_every_program(poor: Till) -> None:
    poor.faults(FaultRule("never_credit", "/x402/top-up", every=True))
    with pytest.raises(PaymentRefused) as stopped:
        poor.buy()
    assert stopped.value.money_moved == "yes"
    poor.auth = poor.new_auth()
    with pytest.raises(PaymentRefused) as refused:
        poor.buy()
    assert refused.value.money_moved == "no"
    assert len(poor.payments) == len(poor.nonces) == 1
    assert poor.asked(QUEUE) == []
