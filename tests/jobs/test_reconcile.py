"""Reconcile: each difference between our books, the chain and the seller by its kind and amount."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from tests.jobs.stage import QUOTE, OpenStage, Shopper, Stage, usd
from x402_audio.errors import JobTimedOut, PaymentRefused, PaymentUnsettled
from x402_audio.money import ZERO, Usdc
from x402_audio.payment.reconcile import ReconcileReport
from x402_audio.sandbox import FaultRule
from x402_audio.sandbox.answers import Answer, Request, json_answer

CREDIT = usd("5")
LATE = "seed-audio-1-0"


def _named(report: ReconcileReport) -> list[tuple[str, int]]:
    return [(difference.kind, int(difference.amount)) for difference in report.differences]


def test_books_that_agree_have_no_difference(stage: OpenStage) -> None:
    shopper = stage().shopper()
    shopper.generate(job_id="k", max_top_up="5")
    report = shopper.reconcile()
    assert (report.differences, report.open, report.unread, report.jobs) == ((), (), (), ())


def test_a_look_at_the_books_before_a_job_is_charged_is_no_fall_after_it(stage: OpenStage) -> None:
    """A model that is charged at the end: its charge is not in the balance yet, and not free either."""
    shop = stage(credit=CREDIT, job_seconds=300.0)
    shopper = shop.shopper()
    with pytest.raises(JobTimedOut):
        shopper.play(
            shopper.verbs.generate("a quiet song", LATE, shop.clock.monotonic() + 5, {"job_id": "k"})
        )
    shop.clock.wait(100)
    assert shop.left() == CREDIT
    assert shopper.reconcile().differences == ()
    shop.clock.wait(400)
    assert shopper.resume("k").completed
    assert shop.left() < CREDIT
    assert shopper.generate("another song", job_id="l").completed


def test_an_overcharge_is_named_booked_once_and_stops_the_seller(stage: OpenStage) -> None:
    shop = stage(FaultRule("overcharge", value="0.40"), credit=CREDIT)
    shopper = shop.shopper()
    shopper.generate(job_id="k")
    assert _named(shopper.reconcile()) == [("overcharge", usd("0.40"))]
    (hold,) = shopper.holds("k")
    assert (hold.amount, hold.overcharged) == (QUOTE, usd("0.40"))
    day = next(a for a in shopper.client.budget() if (a.limit.purse, a.limit.window) == ("jobs", "day"))
    assert day.spent == QUOTE + usd("0.40")
    with pytest.raises(PaymentRefused, match="stopped"):
        shopper.generate(job_id="l", again=True)
    assert len(shop.jobs) == 1
    assert shopper.reconcile().differences == ()
    assert shopper.holds("k")[0].overcharged == usd("0.40")


def test_a_charge_of_another_program_is_named(stage: OpenStage) -> None:
    shop = stage(credit=CREDIT)
    shopper = shop.shopper()
    shopper.generate(job_id="k")
    shop.credit("-0.33")
    for _ in range(2):
        assert _named(shopper.reconcile()) == [("unknown charge", usd("0.33"))]
    assert shopper.generate(job_id="l", again=True).completed, "reconcile explained the fall"


def test_a_refund_nobody_booked_is_named_and_booked_once(stage: OpenStage) -> None:
    shop = stage(credit=CREDIT, job_seconds=100)
    shopper = shop.shopper()
    with pytest.raises(JobTimedOut):
        shopper.generate(job_id="k", timeout=5)
    (job,) = shop.seller.jobs.values()
    shop.seller.end_job(job, "fail")
    assert _named(shopper.reconcile()) == [("refund", QUOTE)]
    assert shopper.holds("k")[0].refunded == QUOTE
    assert shopper.reconcile().differences == ()
    day = next(a for a in shopper.client.budget() if (a.limit.purse, a.limit.window) == ("jobs", "day"))
    assert day.spent == QUOTE, "a refund never gives a window back"


def test_credit_somebody_else_paid_is_named(stage: OpenStage) -> None:
    shop = stage(credit=CREDIT)
    shopper = shop.shopper()
    shopper.generate(job_id="k")
    shop.credit("3.21")
    assert _named(shopper.reconcile()) == [("unknown top-up", usd("3.21"))]


def test_a_top_up_that_never_shows_is_named(stage: OpenStage) -> None:
    shop = stage(FaultRule("never_credit", every=True))
    shopper = shop.shopper()
    with pytest.raises(PaymentRefused):
        shopper.generate(job_id="k", max_top_up="5")
    assert _named(shopper.reconcile()) == [("missing top-up", usd("5"))]
    assert shopper.client.ledger.suspended(shop.wallet, shop.server.origin, "top-ups") is not None


def test_a_top_up_the_chain_proves_and_the_seller_never_shows_is_the_owners_to_lift(stage: OpenStage) -> None:
    """Its program never saw the end, so nothing was stopped by name; yet no other top-up is made."""
    shop = stage(
        FaultRule("never_credit", every=True),
        *(FaultRule("status_after", "/x402/top-up", nth=nth, value=504) for nth in range(2, 20)),
    )
    shopper = shop.shopper(MAX_TOP_UP_PER_DAY="50", RPC_URL=shop.server.rpc_url)
    with pytest.raises(PaymentUnsettled):
        shopper.top_up("5")
    shop.faults()
    shop.clock.wait(3000)
    for _ in range(2):
        assert [kind for kind, _ in _named(shopper.reconcile())] == ["missing top-up"]
        with pytest.raises(PaymentRefused, match="shows no credit"):
            shopper.top_up("5")
    [(wallet, origin, what, _)] = shopper.client.ledger.suspensions()
    shopper.client.ledger.lift(wallet, origin, "top-ups", "the owner, on a terminal")
    assert what == "top-ups"
    shopper.reconcile()
    assert shopper.top_up("5").state == "settled"
    assert len(shop.payments) == 2


def lends_nothing_on_top_ups(shop: Stage) -> Callable[[Request], Answer]:
    """Let the seller's balance leave out whatever top-ups brought, though its rows show them; its honest answers."""
    told: Callable[[Request], Answer] = shop.server._http.routes.answer

    def answer(request: Request) -> Answer:
        if "/x402/balance" not in request.path:
            return told(request)
        kept = Decimal(str(Usdc(shop.left() - sum(payment["value"] for payment in shop.payments)).usd))
        data = {
            "walletAddress": shop.wallet.lower(), "balanceUsd": kept, "canConsume": True, "minimumTopUpUsd": 5,
            "suggestedTopUpUsd": 10,
        }  # fmt: skip
        return json_answer(200, {"success": True, "data": data})

    vars(shop.server._http.routes)["answer"] = answer
    return told


def test_charges_that_are_late_are_not_taken_for_the_credit_of_a_top_up(stage: OpenStage) -> None:
    """A job that is charged at its end is worth a top-up: what it leaves in the balance is not what was paid in."""
    dear = FaultRule(
        "status", "/audio/quote", every=True, value={"status": 200, "body": {"quote": Decimal("5.20")}}
    )
    shop = stage(dear, credit=usd("7"), job_seconds=3600.0)
    told = lends_nothing_on_top_ups(shop)
    shopper = shop.shopper(MAX_PER_PAYMENT="10", MAX_PER_JOB="10", MAX_TOP_UP_PER_DAY="50")
    with pytest.raises(JobTimedOut):
        shopper.generate(
            "a long story", model=LATE, duration_seconds=None, job_id="late", max_price="6", timeout=5
        )
    shop.clock.wait(100)
    with pytest.raises(PaymentRefused, match="did not show"):
        shopper.top_up("5")
    [paid] = shopper.holds(kind="topup")
    for _ in range(3):
        shop.clock.wait(200)
        assert _named(shopper.reconcile()) == [("balance", usd("5"))]
        assert shopper.client.ledger.hold(paid.id).delivered_at is None
        with pytest.raises(PaymentRefused, match="stopped"):
            shopper.top_up("5")
    vars(shop.server._http.routes)["answer"] = told
    assert shopper.reconcile().differences == ()
    assert shopper.client.ledger.suspended(shop.wallet, shop.server.origin, "top-ups") is None
    assert shopper.client.ledger.hold(paid.id).delivered_at is not None
    assert len(shop.payments) == 1


def test_a_top_up_nobody_knows_of_does_not_take_the_row_of_one_that_was_credited(stage: OpenStage) -> None:
    shop = stage(*(FaultRule("drop_before", "/x402/top-up", nth=number) for number in range(2, 9)))
    shopper = shop.shopper()
    with pytest.raises(PaymentUnsettled):
        shopper.generate(job_id="a", max_top_up="5", timeout=300)
    shop.clock.wait(26 * 3600)
    assert len(shopper.reconcile().presumed) == 1
    shop.clock.wait(26 * 3600)
    shop.faults()
    assert shopper.generate("another song", job_id="b", max_top_up="5").completed
    assert _named(shopper.reconcile()) == []


def test_a_job_the_seller_shows_no_charge_for_is_named(stage: OpenStage) -> None:
    shop = stage(credit=CREDIT)
    shopper = shop.shopper()
    shopper.generate(job_id="k")
    rows = shop.seller.account(shop.wallet).rows
    rows[:] = [row for row in rows if row.type != "CHARGE"]
    assert _named(shopper.reconcile()) == [("missing charge", QUOTE)]


def test_a_balance_that_no_row_explains_is_named(stage: OpenStage) -> None:
    shop = stage(credit=CREDIT)
    shopper = shop.shopper()
    shopper.generate(job_id="k")
    account = shop.seller.account(shop.wallet)
    account.credit = account.credit - usd("1")
    shop.credit("-0.50")
    assert _named(shopper.reconcile()) == [("unknown charge", usd("0.50")), ("balance", usd("1"))]
    assert _named(shopper.reconcile()) == [("unknown charge", usd("0.50"))]


def test_a_fall_stops_new_jobs_until_reconcile_has_named_it(stage: OpenStage) -> None:
    shop = stage(credit=CREDIT)
    shopper = shop.shopper()
    shopper.generate(job_id="k")
    shop.credit("-1.5")
    shop.clock.wait(10)
    with pytest.raises(PaymentRefused, match="fell by"):
        shopper.generate(job_id="l", again=True)
    shopper.reconcile()
    assert shopper.resume("l").completed


def test_two_sellers_are_compared_each_with_its_own_books(stage: OpenStage) -> None:
    one, two = stage(credit=CREDIT), stage(credit=CREDIT)
    first: Shopper = one.shopper()
    first.generate(job_id="k")
    second = two.shopper()
    second.submit(job_id="l")
    two.credit("-0.20")
    second.play(second.verbs.resume("l", second.clock.monotonic() + 60))
    assert _named(second.reconcile()) in ([], [("unknown charge", usd("0.20"))])
    assert one.left() == CREDIT - QUOTE


@pytest.mark.parametrize("hold", ["void", "settled"])
def test_what_was_decided_is_listed_once(stage: OpenStage, hold: str) -> None:
    shop = stage(credit=CREDIT)
    shopper = shop.shopper()
    drop = "drop_after" if hold == "settled" else "drop_before"
    shop.faults(FaultRule(drop, "/audio/queue", every=True))
    with pytest.raises(PaymentUnsettled, match=r"may have"):
        shopper.generate(job_id="k")
    shop.faults()
    shop.clock.wait(3600)
    first = shopper.reconcile()
    shop.clock.wait(100)
    second = shopper.reconcile()
    decided = (*first.settled, *second.settled) if hold == "settled" else (*first.voided, *second.voided)
    assert len(decided) == 1
    assert (first.differences, second.differences) == ((), ())
    assert shopper.reconcile().open == ()
    assert ZERO < shop.left() <= CREDIT
