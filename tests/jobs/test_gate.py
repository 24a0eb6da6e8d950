"""The balance gate: nothing is queued that credit does not cover, and what waits goes on by itself."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.jobs.stage import FLOOR, QUOTE, OpenStage, Stage, usd
from x402_audio.errors import InsufficientBalance, PaymentRefused, ProtocolError
from x402_audio.jsontext import Json
from x402_audio.money import ZERO, Usdc
from x402_audio.sandbox import FaultRule

NEEDED = Usdc(QUOTE + FLOOR)


def test_credit_for_quote_and_floor_is_enough_and_a_unit_less_is_not(stage: OpenStage) -> None:
    exact = stage(credit=NEEDED)
    exact.shopper().generate(job_id="k")
    assert exact.left() == FLOOR

    short = stage(credit=Usdc(NEEDED - 1))
    shopper = short.shopper(state="other")
    with pytest.raises(InsufficientBalance) as caught:
        shopper.generate(job_id="k")
    assert (caught.value.exit_code, caught.value.missing, caught.value.money_moved) == (4, 1, "no")
    assert short.asked()["/audio/queue"] == 0
    job = shopper.job("k")
    assert (job.state, job.parked_reason, job.missing) == ("parked", "funds", 1)


def test_jobs_parked_for_funds_go_on_in_their_order_as_credit_appears(stage: OpenStage) -> None:
    shop = stage(credit=usd("0"))
    shopper = shop.shopper()
    names = [f"job-{n}" for n in range(4)]
    for name in names:
        shopper.submit(job_id=name, again=True)
    shopper.work(until_idle=True)
    assert [shopper.job(name).parked_reason for name in names] == ["funds"] * 4

    shop.clock.later(20, lambda: shop.credit("1.48"))  # two jobs and the floor
    shop.clock.later(60, lambda: shop.credit("1.38"))  # the other two
    outcomes = shopper.work(timeout=120)

    assert all(outcome.track is not None for outcome in outcomes)
    queued_at = [shopper.job(name).queued_at or 0.0 for name in names]
    assert queued_at == sorted(queued_at)
    assert queued_at[2] - queued_at[1] > 30, "the third was queued on credit that was not there"
    assert set(shop.answers("/audio/queue")) == {200}
    assert shop.left() == FLOOR


def test_a_younger_job_leaves_returning_credit_to_the_older_one(stage: OpenStage) -> None:
    shop = stage()
    shopper = shop.shopper()
    for name in ("older", "younger"):
        with pytest.raises(InsufficientBalance):
            shopper.generate(job_id=name, again=True)
    shop.credit("0.79")
    with pytest.raises(InsufficientBalance) as caught:
        shopper.resume("younger", wait_parked=True, timeout=20)
    assert (caught.value.missing, shop.jobs) == (QUOTE, [])
    assert shopper.resume("older", wait_parked=True).completed


def _drained(shop: Stage, floor_stays: bool) -> None:
    shop.credit(f"-{Usdc(shop.left() - (FLOOR if floor_stays else ZERO)).usd}")


@pytest.mark.parametrize("floor_stays", [True, False])
def test_credit_drained_by_another_program_stops_new_jobs_and_loses_no_track(
    stage: OpenStage, *, floor_stays: bool
) -> None:
    """With the floor left the tracks arrive as if nothing were; without it they wait for credit and then arrive."""
    shop = stage(credit=usd("4"), job_seconds=60)
    shopper = shop.shopper()
    for name in ("first", "second"):
        shopper.submit(job_id=name, again=True)
    shopper.work(timeout=10)
    assert [shopper.job(name).state for name in ("first", "second")] == ["queued", "queued"]

    _drained(shop, floor_stays)
    shopper.submit(job_id="third", again=True)
    shopper.work(timeout=75)

    third = shopper.job("third")
    assert (third.state, third.parked_reason) == ("parked", "funds")
    fall = "2.52" if floor_stays else "2.62"
    assert f"credit fell by ${fall}" in third.last_error
    assert any("credit fell" in text for text in shopper.told("warning"))
    assert len(shop.jobs) == 2
    states = ["completed"] * 2 if floor_stays else ["parked"] * 2
    assert [shopper.job(name).state for name in ("first", "second")] == states

    shop.credit("2")
    outcomes = shopper.work(timeout=120)
    assert all(outcome.track is not None for outcome in outcomes)
    assert [job["completed"] for job in shop.jobs] == [True] * 3
    assert set(shop.answers("/audio/queue")) == {200}
    assert shopper.client.ledger.verify() == []


@pytest.mark.parametrize(
    "raw",
    [
        "NaN", "-5", '"5"', "1000000000000", "1e400", "true", "null", "[5]", "Infinity",
        ["5", "0", "5", "0", "5", "0", "5", "0", "5", "0"],
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["auto", "venice"])
def test_no_purchase_on_a_balance_that_cannot_be_trusted(stage: OpenStage, raw: Json, kind: str) -> None:
    shop = stage(FaultRule("raw_balance", every=not isinstance(raw, list), value=raw), credit=usd("0.20"))
    shopper = shop.shopper(PROVIDER=kind)
    with pytest.raises((InsufficientBalance, ProtocolError)) as caught:
        shopper.generate(job_id="k", max_top_up="5")
    assert caught.value.exit_code in (4, 7)
    if kind == "venice":
        assert (caught.value.code, shopper.job("k").parked_reason) == ("InsufficientBalance", "funds")
    assert shop.asked()["/audio/queue"] == 0
    assert shop.asked()["/x402/top-up"] == 0
    assert shop.payments == []


OTHER = "0x" + "11" * 20


@pytest.mark.parametrize(
    "body",
    [
        {"success": True, "data": {"walletAddress": OTHER, "balanceUsd": 5, "canConsume": True}},
        {"success": True, "data": {"walletAddress": "WALLET", "canConsume": True}},
        {"success": True, "data": {"walletAddress": "WALLET", "balanceUsd": 5, "canConsume": False}},
        {"success": True, "data": []},
        {"success": True},
        [],
    ],
)
def test_no_purchase_on_a_balance_of_another_wallet_or_without_its_figure(
    stage: OpenStage, body: Json
) -> None:
    shop = stage()
    written = shop.told_as(body)
    shop.faults(FaultRule("status", "/x402/balance", every=True, value={"status": 200, "body": written}))
    shopper = shop.shopper(PROVIDER="venice")
    with pytest.raises(InsufficientBalance):
        shopper.generate(job_id="k", max_top_up="5")
    assert (shop.asked()["/audio/queue"], shop.payments) == (0, [])


def test_a_shortfall_at_a_retrieve_parks_the_paid_job_and_credit_releases_it(stage: OpenStage) -> None:
    shop = stage(credit=NEEDED)
    shopper = shop.shopper()
    shop.clock.later(1, lambda: shop.credit("-0.05"))
    with pytest.raises(InsufficientBalance) as caught:
        shopper.generate(job_id="k")
    assert caught.value.money_moved == "yes"
    assert (shopper.job("k").parked_reason, shopper.job("k").resume_state) == ("funds", "queued")
    shop.credit("0.05")
    assert shopper.resume("k").completed
    assert shop.asked()["/audio/queue"] == 1


def test_a_queue_call_answered_402_although_credit_covered_it_parks_after_two(stage: OpenStage) -> None:
    body: Json = {"error": "Insufficient USD or Diem balance to complete request."}
    shop = stage(
        FaultRule("status", "/audio/queue", every=True, value={"status": 402, "body": body}), credit=usd("5")
    )
    shopper = shop.shopper()
    with pytest.raises(InsufficientBalance):
        shopper.generate(job_id="k", max_top_up="5")
    assert shop.asked()["/audio/queue"] == 2
    assert (shop.payments, shop.jobs) == ([], [])
    assert all(hold.state == "void" for hold in shopper.holds("k"))


def test_a_rise_of_the_credit_is_spent_only_when_it_was_read_twice(stage: OpenStage) -> None:
    shop = stage(FaultRule("raw_balance", nth=3, value="9"), credit=usd("0.20"))
    shopper = shop.shopper(PROVIDER="venice")
    for _ in range(2):
        with pytest.raises(InsufficientBalance):
            shopper.generate(job_id="k")
        shop.clock.wait(5)
    assert shop.asked()["/x402/balance"] > 3
    assert shop.asked()["/audio/queue"] == 0


@pytest.mark.parametrize(("asked", "bought"), [("0.70", False), ("1", True)])
def test_a_job_that_waited_for_credit_is_priced_anew(stage: OpenStage, asked: str, *, bought: bool) -> None:
    """Hours later its old quote is no price: above the most it may cost nothing is sent."""
    shop = stage()
    shopper = shop.shopper()
    with pytest.raises(InsufficientBalance):
        shopper.generate(job_id="k", max_price=asked)
    shop.clock.wait(20 * 3600)
    shop.credit("5")
    shop.clock.wait(100)
    shop.faults(
        FaultRule(
            "status", "/audio/quote", every=True, value={"status": 200, "body": {"quote": Decimal("0.80")}}
        )
    )
    if bought:
        assert shopper.resume("k").completed
        assert shopper.job("k").price == usd("0.80")
    else:
        with pytest.raises(PaymentRefused):
            shopper.resume("k")
    assert len(shop.jobs) == int(bought)
