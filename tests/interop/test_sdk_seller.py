"""Sellers built on the official SDK: one authorization per track, whatever breaks after the money moved.

Version 2 is the SDK's own middleware, version 1 a shop of ours on the SDK's facilitator. The chain's logs are the
evidence. What breaks stands in `front.py`; a forgetful seller finds the nonce used when the same payment comes again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.interop.chain import LocalChain
from tests.interop.clerk import MADE_UP, Clerk
from tests.interop.conftest import PRICE
from tests.interop.customer import Customer, Ended, buying
from tests.interop.evidence import books_are_the_chain
from tests.interop.front import Fault, Front

OpenFront = Callable[..., Front]


def _delivered(ended: Ended) -> bool:
    return ended.code == 0 and Path(ended.result["path"]).stat().st_size > 3 * 8000


def test_a_track_is_bought_with_one_payment_on_chain(
    shop: str, customer: Customer, chain: LocalChain
) -> None:
    """By the command in a process of its own, which finds out by itself what kind of seller this is."""
    words = buying(shop + "/api/v1", provider="auto")
    assert _delivered(customer.wait_for(customer.start(*words)))
    books_are_the_chain(customer, chain)
    (row,) = customer.authorizations()
    (paid,) = chain.payments(customer.address)
    assert (row["transaction"], row["sends"]) == (paid.transaction, 1)


LOST = pytest.mark.parametrize("fault", ["hang", "drop", "500"])
REFUSED = pytest.mark.parametrize("fault", ["402", "redirect"])


def test_three_processes_that_want_the_same_job_buy_it_once(
    sdk_shop: str, customer: Customer, chain: LocalChain
) -> None:
    words = buying(sdk_shop + "/api/v1")
    running = [customer.start(*words) for _ in range(3)]
    assert [_delivered(customer.wait_for(process)) for process in running] == [True] * 3
    books_are_the_chain(customer, chain)


def test_a_command_killed_while_the_settled_answer_hangs_is_gone_on_with_and_pays_nothing_more(
    shop: str, customer: Customer, chain: LocalChain, open_front: OpenFront
) -> None:
    front = open_front(shop, remembers=True)
    front.break_down("hang")
    with customer.start(*buying(front.url + "/api/v1")) as process:
        assert front.struck.wait(30)
        process.kill()
    assert len(chain.payments(customer.address)) == 1
    assert _delivered(customer.generate(front.url + "/api/v1"))
    assert (len(front.payments), len(set(front.payments))) == (2, 1)
    books_are_the_chain(customer, chain)


@LOST
def test_a_lost_answer_is_fetched_with_the_same_payment_where_the_seller_remembers(
    request: pytest.FixtureRequest,
    shop: str,
    customer: Customer,
    chain: LocalChain,
    open_front: OpenFront,
    fault: Fault,
) -> None:
    if fault == "hang":
        request.getfixturevalue("impatient")
    front = open_front(shop, remembers=True)
    front.break_down(fault)
    assert _delivered(customer.generate(front.url + "/api/v1"))
    assert (len(front.payments), len(set(front.payments))) == (2, 1)
    books_are_the_chain(customer, chain)


@REFUSED
def test_a_seller_that_refuses_what_it_settled_is_asked_once_and_delivers_when_resumed(
    shop: str, customer: Customer, chain: LocalChain, open_front: OpenFront, fault: Fault
) -> None:
    elsewhere = open_front(shop, remembers=True)
    front = open_front(shop, remembers=True, elsewhere=elsewhere.url)
    front.break_down(fault)
    api_url = front.url + "/api/v1"
    assert (customer.generate(api_url).code, len(front.payments)) == (8, 1)
    assert _delivered(customer.resume(api_url))
    assert (len(front.payments), len(set(front.payments)), elsewhere.seen) == (2, 1, [])
    books_are_the_chain(customer, chain)


@pytest.mark.parametrize("fault", ["hang", "drop", "500", "402", "redirect"])
def test_where_the_seller_forgets_the_chain_ends_the_purchase(
    request: pytest.FixtureRequest,
    shop: str,
    customer: Customer,
    chain: LocalChain,
    open_front: OpenFront,
    fault: Fault,
) -> None:
    """Unknown until the use of the nonce is final, settled then; never a second nonce, whatever is tried."""
    if fault == "hang":
        request.getfixturevalue("impatient")
    elsewhere = open_front(shop, remembers=True)
    front = open_front(shop, remembers=False, elsewhere=elsewhere.url)
    front.break_down(fault)
    api_url = front.url + "/api/v1"
    assert customer.generate(api_url).code == 8
    assert customer.reconcile(api_url).code == 8, "it is not final yet"
    assert customer.generate(api_url).code == 8
    chain.finalize()
    ended = customer.reconcile(api_url)
    (row,) = customer.authorizations()
    assert (ended.code, ended.result["settled"]) == (0, [row["id"]])
    assert row["evidence"].startswith("AuthorizationUsed and Transfer by finalized block")
    assert row["transaction"] == chain.payments(customer.address)[0].transaction
    again = customer.generate(api_url)
    assert (again.code, again.told["error"]["moneyMoved"]) == (9, "yes")
    assert (len(set(front.payments)), elsewhere.seen) == (1, [])
    books_are_the_chain(customer, chain)


@pytest.mark.parametrize("remembers", [True, False])
def test_a_track_without_a_receipt_is_counted_and_the_chain_names_its_transaction(
    shop: str, customer: Customer, chain: LocalChain, open_front: OpenFront, *, remembers: bool
) -> None:
    front = open_front(shop, remembers=remembers)
    front.break_down("no receipt")
    api_url = front.url + "/api/v1"
    assert _delivered(customer.generate(api_url))
    assert _only(customer)["transaction"] == ""
    chain.finalize()
    assert customer.reconcile(api_url).code == 0
    assert len(front.payments) == 1
    _is_where_the_chain_says(customer, chain)


def test_a_receipt_that_names_another_transaction_is_put_right_by_the_chain(
    shop: str, customer: Customer, chain: LocalChain, clerk: Clerk
) -> None:
    clerk.lie = "another transaction"
    assert _delivered(customer.generate(shop + "/api/v1"))
    assert _only(customer)["transaction"] == MADE_UP
    chain.finalize()
    assert customer.reconcile(shop + "/api/v1").result["differences"] == []
    _is_where_the_chain_says(customer, chain)
    assert customer.reconcile(shop + "/api/v1").code == 0, "and that is said once"


@pytest.mark.parametrize("receipt", [True, False], ids=["false receipt", "no receipt"])
def test_a_track_whose_money_never_moved_stays_counted_and_is_named_chain_less(
    shop: str,
    customer: Customer,
    chain: LocalChain,
    clerk: Clerk,
    open_front: OpenFront,
    open_chain: Callable[..., LocalChain],
    monkeypatch: pytest.MonkeyPatch,
    *,
    receipt: bool,
) -> None:
    clerk.lie = "never settled"
    front = open_front(shop, remembers=False)
    if not receipt:
        front.break_down("no receipt")
    api_url = front.url + "/api/v1"
    assert _delivered(customer.generate(api_url))
    assert customer.reconcile(api_url).result["differences"] == [], "it may still be used"
    later = open_chain(fork_of=chain)
    later.pass_time(360)
    monkeypatch.setenv("X402_AUDIO_RPC_URL", later.url)
    for _ in range(2):
        told = customer.reconcile(api_url).result
        (less,) = told["differences"]
        assert (less["kind"], less["amount_atomic"]) == ("chain less", str(PRICE))
        assert [(row["ledger"], row["chain"]) for row in told["rows"]] == [("settled", "never used")]
    assert (later.left(customer.address), _only(customer)["state"]) == (0, "settled")


def _only(customer: Customer) -> dict[str, Any]:
    (row,) = customer.authorizations()
    return row


def _is_where_the_chain_says(customer: Customer, chain: LocalChain) -> None:
    row, (paid,) = _only(customer), chain.payments(customer.address)
    assert row["transaction"] == paid.transaction
    assert "AuthorizationUsed and Transfer" in row["evidence"]
    books_are_the_chain(customer, chain)
