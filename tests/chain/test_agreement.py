"""Reconcile by three witnesses: each planted difference of ledger, chain and seller is named by its kind and amount."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.stage import QUOTE, Shopper, Stage, open_stage, usd
from x402_audio.errors import Frozen, PaymentRefused, PaymentUnsettled
from x402_audio.payment.reconcile import ReconcileReport
from x402_audio.sandbox import FaultRule
from x402_audio.sandbox.rpc import ChainFaults

OpenStage = Callable[..., Stage]
NONCE = "0x" + "09" * 32
ELSEWHERE = "0x" + "cd" * 20


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[OpenStage]:
    with ExitStack() as stack:

        def open_one(*rules: FaultRule, **options: Any) -> Stage:
            return stack.enter_context(open_stage(tmp_path, *rules, **options))

        yield open_one


def shopper_of(shop: Stage) -> Shopper:
    """A client with the chain in sight."""
    return shop.shopper(RPC_URL=shop.server.rpc_url)


def named(report: ReconcileReport) -> list[tuple[str, int]]:
    return [(difference.kind, int(difference.amount)) for difference in report.differences]


def told(report: ReconcileReport) -> list[tuple[str, str, str, str, bool]]:
    return [(row.kind, row.ledger, row.chain, row.seller, row.agrees) for row in report.rows]


# --- all three agree


def test_a_direct_payment_agrees_between_ledger_and_chain(stage: OpenStage) -> None:
    shop = stage(mode="direct-v1")
    shopper = shopper_of(shop)
    shopper.generate(job_id="k")
    report = shopper.reconcile()
    assert (named(report), told(report)) == ([], [("direct", "settled", "used", "-", True)])
    shop.clock.wait(10_000)
    assert told(shopper.reconcile()) == [("direct", "settled", "used", "-", True)]


def test_a_top_up_and_a_draw_agree_between_all_three(stage: OpenStage) -> None:
    shop = stage()
    shopper = shopper_of(shop)
    shopper.generate(job_id="k", max_top_up="5")
    report = shopper.reconcile()
    assert told(report) == [
        ("topup", "settled", "used", "credited $5.00", True), ("credit", "settled", "-", "charged $0.69", True),
    ]  # fmt: skip
    assert (report.differences, report.unread, report.frozen) == ((), (), None)


def test_without_an_rpc_the_chain_was_not_read(stage: OpenStage) -> None:
    shop = stage(mode="direct-v1")
    shopper = shop.shopper()
    shopper.generate(job_id="k")
    assert told(shopper.reconcile()) == [("direct", "settled", "not read", "-", True)]


def test_with_the_rpc_down_everything_stays_counted_and_it_is_said(stage: OpenStage) -> None:
    shop = stage(mode="direct-v1")
    shopper = shopper_of(shop)
    shopper.generate(job_id="k")
    before = shopper.client.budget()
    shop.seller.rpc.faults = ChainFaults(error="over capacity")
    report = shopper.reconcile()
    assert told(report) == [("direct", "settled", "not read", "-", True)]
    assert any("could not be read" in text for text in report.unread)
    assert shopper.client.budget() == before


# --- the chain differs


def test_an_authorization_these_books_do_not_know_is_named_and_stops_spending_once(stage: OpenStage) -> None:
    shop = stage(mode="direct-v1")
    shopper = shopper_of(shop)
    shopper.generate(job_id="k")
    shop.seller.chain.transfer(shop.wallet.lower(), ELSEWHERE, 420_000, NONCE)
    shop.clock.wait(4)
    report = shopper.reconcile()
    assert (named(report), report.brake) == ([("chain more", 420_000)], "frozen")
    assert report.differences[0].subject == NONCE and ELSEWHERE in report.differences[0].text
    with pytest.raises(Frozen, match=r"chain more \$0.42"):
        shopper.generate("another song", job_id="l")
    again = shopper.reconcile()
    assert (named(again), again.brake) == ([("chain more", 420_000)], "lifted")
    assert shopper.resume("l").completed
    assert (named(shopper.reconcile()), len(shop.payments)) == ([("chain more", 420_000)], 2)


def test_a_plain_transfer_is_chain_more_too(stage: OpenStage) -> None:
    shop = stage(mode="direct-v1")
    shopper = shopper_of(shop)
    shopper.generate(job_id="k")
    moved = shop.seller.chain.transfer(shop.wallet.lower(), ELSEWHERE, 7)
    shop.clock.wait(4)
    (difference,) = shopper.reconcile().differences
    assert (difference.kind, difference.amount, difference.subject) == ("chain more", 7, moved.transaction)


def test_a_transfer_of_nothing_in_our_name_means_nothing(stage: OpenStage) -> None:
    """Anybody can make one: `transferFrom` of zero from any address succeeds."""
    shop = stage(mode="direct-v1")
    shopper = shopper_of(shop)
    shopper.generate(job_id="k")
    shop.seller.chain.transfer(shop.wallet.lower(), ELSEWHERE, 0)
    shop.clock.wait(4)
    assert shopper.reconcile().differences == ()


def test_what_is_booked_as_paid_and_never_was_is_chain_less(stage: OpenStage) -> None:
    shop = stage(mode="direct-v1")
    shopper = shopper_of(shop)
    shopper.generate(job_id="k")
    chain = shop.seller.chain
    chain.transfers.clear()
    chain._used.clear()
    chain._changes.clear()
    assert named(shopper.reconcile()) == [], "it may still be used"
    shop.clock.wait(400)
    for _ in range(2):
        report = shopper.reconcile()
        assert named(report) == [("chain less", QUOTE)]
        assert told(report) == [("direct", "settled", "never used", "-", False)]


def test_logs_that_miss_a_payment_do_not_make_it_unpaid(stage: OpenStage) -> None:
    """The state of the contract is asked for before a payment is called unpaid."""
    shop = stage(mode="direct-v1")
    shopper = shopper_of(shop)
    shopper.generate(job_id="k")
    shop.seller.chain.transfers.clear()
    shop.clock.wait(400)
    assert named(shopper.reconcile()) == []


def test_a_freed_payment_that_was_used_after_all_is_chain_more(stage: OpenStage) -> None:
    shop = stage(mode="direct-v1")
    shopper = shopper_of(shop)
    shopper.generate(job_id="k")
    payment = shop.payments[0]
    shop.seller.chain.transfer(shop.wallet.lower(), ELSEWHERE, 5, NONCE)
    ledger = shopper.client.ledger
    known = ledger.holds()
    vars(ledger)["holds"] = lambda **_: [one.but(state="void") for one in known]
    shop.clock.wait(4)
    differences = shopper.reconcile().differences
    del vars(ledger)["holds"]
    assert [(one.kind, int(one.amount)) for one in differences] == [("chain more", QUOTE), ("chain more", 5)]
    assert payment["nonce"] == differences[0].subject and "is void here" in differences[0].text


def test_the_chain_is_read_on_from_where_it_was_left(stage: OpenStage) -> None:
    shop = stage(mode="direct-v1")
    shopper = shopper_of(shop)
    shopper.generate(job_id="k")
    shopper.reconcile()
    shop.clock.wait(40_000)
    shopper.reconcile()
    height = shop.seller.chain.height()
    shop.clock.wait(20)
    asked: list[tuple[int, int]] = []
    honest = shop.seller.rpc._methods["eth_getLogs"]

    def counted(params: Any) -> object:
        asked.append((int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16)))
        return honest(params)

    shop.seller.rpc._methods["eth_getLogs"] = counted
    shopper.reconcile()
    assert asked[0][0] >= height - 301 and asked[-1][1] == height + 10
    assert all(last - first < 2_000 for first, last in asked)


# --- the seller differs


def test_a_request_charged_twice_is_named_booked_once_and_stops_the_seller(stage: OpenStage) -> None:
    shop = stage(credit=usd("5"))
    shopper = shopper_of(shop)
    shopper.generate(job_id="k")
    account = shop.seller.account(shop.wallet)
    row = account.rows[-1]
    account.enter("CHARGE", row.amount, shop.clock.at, row.request_id, row.model_id)
    report = shopper.reconcile()
    assert named(report) == [("doubled charge", QUOTE)]
    assert told(report)[-1] == ("credit", "settled, $0.69 overcharged", "-", "charged $1.38", False)
    assert shopper.reconcile().differences == ()
    with pytest.raises(PaymentRefused, match="stopped"):
        shopper.generate(job_id="l", again=True)


def test_a_row_shown_twice_is_named_and_counted_once(stage: OpenStage) -> None:
    shop = stage(credit=usd("5"))
    shopper = shopper_of(shop)
    shopper.generate(job_id="k")
    rows = shop.seller.account(shop.wallet).rows
    rows.append(rows[-1])
    assert named(shopper.reconcile()) == [("doubled row", QUOTE)]
    assert shopper.holds("k")[0].overcharged == 0


def test_a_payment_credited_twice_is_named(stage: OpenStage) -> None:
    shop = stage()
    shopper = shopper_of(shop)
    shopper.generate(job_id="k", max_top_up="5")
    shop.credit("5")
    assert named(shopper.reconcile()) == [("doubled top-up", usd("5"))]


def test_a_seller_that_names_its_charges_otherwise_still_agrees(stage: OpenStage) -> None:
    """That a charge's requestId is the queue_id is an assumption; without it nothing is missing and nothing unknown."""
    shop = stage(credit=usd("5"))
    shopper = shopper_of(shop)
    for name in ("k", "l"):
        shopper.generate(f"a song called {name}", job_id=name)
    rows = shop.seller.account(shop.wallet).rows
    rows[:] = [
        replace(row, request_id=f"chatcmpl-{place}") if row.type == "CHARGE" else row
        for place, row in enumerate(rows)
    ]
    assert shopper.reconcile().differences == ()
    account = shop.seller.account(shop.wallet)
    account.enter("CHARGE", -QUOTE, shop.clock.at, "chatcmpl-x", rows[-1].model_id)
    assert named(shopper.reconcile()) == [("unknown charge", QUOTE)]


def test_a_charge_that_may_be_an_undecided_jobs_is_not_called_unknown(stage: OpenStage) -> None:
    shop = stage(FaultRule("drop_before", "/audio/queue", every=True), credit=usd("5"))
    shopper = shopper_of(shop)
    with pytest.raises(PaymentUnsettled):
        shopper.generate("a song called a", job_id="a")
    shop.faults(FaultRule("drop_after", "/audio/queue", every=True))
    with pytest.raises(PaymentUnsettled):
        shopper.generate("a song called b", job_id="b")
    report = shopper.reconcile()
    assert (named(report), len(report.open), report.frozen) == ([], 2, None)


# --- the brake


def test_a_freeze_of_the_owner_is_never_lifted_by_reconcile(stage: OpenStage) -> None:
    shop = stage(mode="direct-v1")
    shopper = shopper_of(shop)
    shopper.generate(job_id="k")
    shopper.client.ledger.freeze("I am on holiday")
    shop.seller.chain.transfer(shop.wallet.lower(), ELSEWHERE, 420_000, NONCE)
    shop.clock.wait(4)
    for _ in range(2):
        report = shopper.reconcile()
        assert (report.brake, report.frozen) == ("", "I am on holiday")


def test_our_freeze_stays_while_the_chain_cannot_be_read(stage: OpenStage) -> None:
    shop = stage(mode="direct-v1")
    shopper = shopper_of(shop)
    shopper.generate(job_id="k")
    shop.seller.chain.transfer(shop.wallet.lower(), ELSEWHERE, 420_000, NONCE)
    shop.clock.wait(4)
    shopper.reconcile()
    shop.seller.rpc.faults = ChainFaults(error="over capacity")
    assert shopper.reconcile().brake == "kept"
    assert shop.shopper().reconcile().brake == "kept", "and without an RPC"
    shop.seller.rpc.faults = ChainFaults()
    assert shopper.reconcile().brake == "lifted"


def test_usdc_that_left_since_the_last_payment_stops_the_next_one(stage: OpenStage) -> None:
    shop = stage(mode="direct-v1")
    shopper = shopper_of(shop)
    shopper.generate(job_id="k")
    shop.clock.wait(1000)
    shopper.generate("another song", job_id="l")
    shop.clock.wait(1000)
    shop.seller.chain.transfer(shop.wallet.lower(), ELSEWHERE, 420_000, NONCE)
    shop.clock.wait(4)
    with pytest.raises(Frozen, match=r"chain more \$0.42"):
        shopper.generate("a third song", job_id="m")
    assert len(shop.payments) == 2
    report = shopper.reconcile()
    assert (named(report), report.brake) == ([("chain more", 420_000)], "lifted")
    assert shopper.resume("m").completed
