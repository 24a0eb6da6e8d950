"""Secret headers travel one hop: on a client that follows redirects no other host receives one, nothing keeps one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.payment.stranger import Stranger, open_stranger
from tests.payment.till import MUSIC, SECRET_HEADERS, TOP_UP_LIMITS, WALLET, Till
from x402_audio.errors import ForeignOrigin, PaymentUnsettled, X402AudioError
from x402_audio.sandbox import FaultRule

VERSIONS = pytest.mark.parametrize("mode", ["direct-v1", "direct-v2"])
QUEUE = "/audio/queue"
OpenTill = Callable[..., Till]


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    with open_stranger() as stranger:
        yield stranger


def carried(message: httpx.Request) -> list[str]:
    """The secret headers a request object would still give out, by any of its doors."""
    raw = [name.decode().lower() for name, _ in message.headers.raw]
    return [
        name
        for name in SECRET_HEADERS
        if name in raw or name in message.headers or name in repr(message.headers).lower()
    ]


def kept_by(response: httpx.Response) -> list[str]:
    requests = [response.request, *(earlier.request for earlier in response.history)]
    later = [response.next_request] if response.next_request else []
    return [name for request in (*requests, *later) for name in carried(request)]


def assert_nothing_heard(till: Till, stranger: Stranger) -> None:
    heard = stranger.headers_heard()
    assert not [name for name in SECRET_HEADERS if name in heard]
    assert not [value for value in till.porter.values() if value.lower() in heard]


@VERSIONS
def test_a_redirected_payment_reaches_no_other_host(
    open_till: OpenTill, stranger: Stranger, mode: str
) -> None:
    till = open_till(mode)
    for action, nth in (
        ("redirect_after", 2),
        ("redirect", 1),
    ):  # the second time the stored payment goes first
        till.faults(FaultRule(action, QUEUE, nth=nth, value=stranger.origin))
        with pytest.raises(PaymentUnsettled) as unknown:
            till.buy(follow=True)
        assert unknown.value.money_moved == "unknown"
    assert len(stranger.heard) == 2, "httpx followed, or this test shows nothing"
    assert_nothing_heard(till, stranger)
    assert len(till.nonces) == 1


@VERSIONS
def test_a_demand_from_another_host_is_never_paid(open_till: OpenTill, stranger: Stranger, mode: str) -> None:
    till = open_till(mode)
    demand = till.buyer.send(httpx.Auth(), "POST", till.url(QUEUE), json=MUSIC)
    assert demand.status_code == 402
    required = demand.headers.get("payment-required")
    stranger.say = lambda _: (402, {"PAYMENT-REQUIRED": required} if required else {}, demand.content)
    till.faults(FaultRule("redirect", QUEUE, every=True, value=stranger.origin))
    with pytest.raises(ForeignOrigin, match=f"{stranger.origin} demands payment") as foreign:
        till.buy(follow=True)
    assert (foreign.value.money_moved, till.signer.authorizations, till.states()) == ("no", [], [])
    assert len(stranger.heard) == 1


def test_a_demand_after_a_redirect_on_the_same_host_is_not_paid(open_till: OpenTill) -> None:
    till = open_till("direct-v1")
    till.faults(FaultRule("redirect", QUEUE, value=till.server.origin + "/api/v1/stream?"))
    with pytest.raises(ForeignOrigin):
        till.buy(follow=True)
    assert till.signer.authorizations == []


@VERSIONS
def test_neither_the_answer_nor_its_history_keeps_a_payment_header(open_till: OpenTill, mode: str) -> None:
    till = open_till(mode)
    seen: list[httpx.Request] = []

    class Watching(httpx.Auth):
        def sync_auth_flow(self, request: httpx.Request) -> Any:
            seen.append(request)
            return till.auth.sync_auth_flow(request)

        def async_auth_flow(self, request: httpx.Request) -> Any:
            seen.append(request)
            return till.auth.async_auth_flow(request)

    answer = till.buyer.send(Watching(), "POST", till.url(QUEUE), json=MUSIC, follow=True)
    assert answer.status_code == 200
    assert [earlier.status_code for earlier in answer.history] == [402]
    assert len(till.porter.seen) == 1
    assert kept_by(answer) == carried(seen[0]) == []


@pytest.mark.parametrize("fault", ["drop_after", "redirect_after", "status_after"])
def test_a_failed_request_keeps_no_payment_header(
    open_till: OpenTill, stranger: Stranger, fault: str
) -> None:
    till = open_till("direct-v2")
    till.faults(
        *(
            FaultRule(fault, QUEUE, nth=nth, value={"redirect_after": stranger.origin}.get(fault))
            for nth in range(2, 9)
        )
    )
    with pytest.raises((httpx.TransportError, X402AudioError)) as failed:
        till.buy()
    if isinstance(failed.value, httpx.TransportError):
        assert carried(failed.value.request) == []
    assert till.porter.seen


def test_a_redirected_sign_in_reaches_no_other_host(open_till: OpenTill, stranger: Stranger) -> None:
    till = open_till("venice", prepaid=True)
    till.faults(FaultRule("redirect", "/x402/balance", every=True, value=stranger.origin))
    answer = till.buyer.send(till.auth, "GET", till.url(f"/x402/balance/{WALLET}"), follow=True)
    assert answer.status_code == 200 and len(stranger.heard) == 1
    assert_nothing_heard(till, stranger)
    assert kept_by(answer) == []


def test_a_redirected_top_up_and_queue_call_reach_no_other_host(
    open_till: OpenTill, stranger: Stranger
) -> None:
    till = open_till("venice", prepaid=True, limits=TOP_UP_LIMITS)
    till.faults(FaultRule("redirect_after", "/x402/top-up", nth=2, value=stranger.origin))
    answer = till.buy(follow=True)
    assert answer.status_code == 200
    till.faults(FaultRule("redirect_after", QUEUE, every=True, value=stranger.origin))
    with pytest.raises(PaymentUnsettled):
        till.buy(follow=True)
    assert len(stranger.heard) >= 2
    assert_nothing_heard(till, stranger)
    assert kept_by(answer) == []
