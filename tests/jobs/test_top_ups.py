"""Top-ups: one of the smallest sufficient amount, one signature whatever is answered, and never into a hole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from decimal import Decimal

import httpx
import pytest

from tests.jobs.stage import CountingSigner, OpenStage, Shopper, Stage, usd
from x402_audio.errors import (
    BudgetExceeded,
    InsufficientBalance,
    PaymentRefused,
    PaymentRejected,
    PaymentUnsettled,
    X402AudioError,
)
from x402_audio.flow import Flow
from x402_audio.ledger.book import Hold, Limit
from x402_audio.protocol.networks import BASE
from x402_audio.sandbox import FaultRule
from x402_audio.sandbox.answers import Answer, Request, header_json, json_answer


def test_the_minimum_is_paid_when_less_is_missing(stage: OpenStage) -> None:
    shop = stage()
    track = shop.shopper().generate(job_id="k", max_price="1", max_top_up="5")
    (payment,) = shop.payments
    assert payment["value"] == usd("5")
    assert track.payments[0]["nonce"] == payment["nonce"]
    assert shop.left() == usd("4.31")
    assert shop.asked()["/x402/top-up"] == 2, "one discovery, one payment"


def test_what_is_missing_is_paid_rounded_up_to_the_cent_when_it_is_more(stage: OpenStage) -> None:
    """A quote of 7.21 and the floor: 7.31 less what is there."""
    dear = FaultRule(
        "status", "/audio/quote", every=True, value={"status": 200, "body": {"quote": Decimal("7.21")}}
    )
    for credit, paid in (("0", "7.31"), ("0.004999", "7.31"), ("0.01", "7.30")):
        shop = stage(dear, credit=usd(credit))
        shopper = shop.shopper(MAX_PER_PAYMENT="10", MAX_PER_JOB="10", state=f"state-{credit}")
        shopper.generate(job_id="k", max_price="10", max_top_up="10", output=shop.folder / f"{credit}.mp3")
        assert [payment["value"] for payment in shop.payments] == [usd(paid)]


@pytest.mark.parametrize("most", [None, "0", "4.99"])
def test_without_leave_for_it_nothing_is_signed(stage: OpenStage, most: str | None) -> None:
    shop, signer = stage(), CountingSigner()
    shopper = shop.shopper(signer=signer)
    with pytest.raises(InsufficientBalance) as caught:
        shopper.generate(job_id="k", max_top_up=most)
    assert (caught.value.exit_code, caught.value.missing) == (4, usd("0.79"))
    assert caught.value.suggested_top_up == usd("5")
    assert signer.authorizations == []
    assert (shop.payments, shop.asked()["/audio/queue"]) == ([], 0)
    assert shopper.job("k").parked_reason == "funds"


@pytest.mark.parametrize("flagged", [False, True])
def test_leave_given_when_the_command_is_repeated_is_used(stage: OpenStage, *, flagged: bool) -> None:
    """As a person does: refused, then the same command with --max-top-up; also for a seller named by --api-url."""
    shop = stage()
    shopper = shop.shopper(flagged=flagged)
    with pytest.raises(InsufficientBalance):
        shopper.generate(job_id="k")
    assert shopper.generate(job_id="k", max_top_up="5").completed
    assert [payment["value"] for payment in shop.payments] == [usd("5")]


def test_a_second_top_up_of_the_day_stays_within_the_first_ones_limit(stage: OpenStage) -> None:
    shop = stage()
    shopper = shop.shopper()
    shopper.generate(job_id="a", max_top_up="5")
    shop.credit("-4.31")
    shopper.reconcile()
    with pytest.raises(BudgetExceeded) as caught:
        shopper.generate(job_id="b", max_top_up="5", again=True)
    assert caught.value.exit_code == 3
    assert len(shop.payments) == 1


@pytest.mark.parametrize("by", ["setting", "ledger"])
def test_a_flag_does_not_raise_the_days_top_ups_above_what_the_owner_wrote(
    stage: OpenStage, *, by: str
) -> None:
    """MAX_TOP_UP 5 is also the day's; `--max-top-up 1000` changes neither."""
    shop = stage()
    shopper = shop.shopper(MAX_TOP_UP="5") if by == "setting" else shop.shopper()
    if by == "ledger":
        shopper.client.ledger.set_limit(Limit("top-ups", "payment", usd("5"), source="ledger"))
    shopper.generate(job_id="a", max_top_up="1000")
    shop.credit("-4.31")
    shopper.reconcile()
    with pytest.raises(BudgetExceeded):
        shopper.generate(job_id="b", max_top_up="1000", again=True)
    assert [payment["value"] for payment in shop.payments] == [usd("5")]


def test_a_wallet_with_diem_left_is_not_topped_up(stage: OpenStage) -> None:
    shop = stage()
    shop.seller.account(shop.wallet).diem = usd("0.20")
    with pytest.raises(InsufficientBalance, match="DIEM"):
        shop.shopper().generate(job_id="k", max_top_up="5")
    assert (shop.payments, shop.jobs) == ([], [])


def test_diem_that_covers_the_price_opens_the_gate_without_a_top_up(stage: OpenStage) -> None:
    shop = stage()
    shop.seller.account(shop.wallet).diem = usd("1")
    assert shop.shopper().generate(job_id="k", max_top_up="5").completed
    assert shop.payments == []
    assert shop.seller.account(shop.wallet).diem == usd("0.31")


def test_credit_that_never_shows_stops_top_ups_for_every_job_and_process(stage: OpenStage) -> None:
    shop = stage(FaultRule("never_credit", every=True))
    shopper, other = shop.shopper(MAX_TOP_UP_PER_DAY="100"), shop.shopper(MAX_TOP_UP_PER_DAY="100")
    began = shop.clock.at
    with pytest.raises(PaymentRefused) as caught:
        shopper.generate(job_id="a", max_top_up="5")
    assert caught.value.money_moved == "yes"
    assert 60 <= shop.clock.at - began < 120
    for client in (shopper, other):
        for name in ("b", "c"):
            with pytest.raises(PaymentRefused, match="stopped"):
                client.generate(job_id=name, max_top_up="5", again=True)
    assert len(shop.payments) == 1

    shop.credit("5")
    report = other.reconcile()
    assert not any(difference.kind == "missing top-up" for difference in report.differences)
    assert other.generate(job_id="b").completed
    assert len(shop.payments) == 1


def test_a_balance_that_rises_for_one_reading_shows_no_credit(stage: OpenStage) -> None:
    """A seller that keeps what it was paid and says once that it did not."""
    shop = stage(FaultRule("never_credit", every=True))
    told = shop.server._http.routes.answer
    flips: list[int] = []
    rich = {"walletAddress": shop.wallet.lower(), "balanceUsd": 90, "canConsume": True, "minimumTopUpUsd": 5}

    def answer(request: Request) -> Answer:
        if "/x402/balance" in request.path and len(shop.payments) > len(flips):
            flips.append(len(shop.payments))
            return json_answer(200, {"success": True, "data": {**rich, "suggestedTopUpUsd": 10}})
        return told(request)

    vars(shop.server._http.routes)["answer"] = answer
    for name in ("a", "b", "c"):
        shopper = shop.shopper(MAX_TOP_UP="5", MAX_TOP_UP_PER_DAY="50")
        with pytest.raises(PaymentRefused):
            shopper.generate(f"the song called {name}", job_id=name)
        shop.clock.wait(20)
    assert (len(shop.payments), flips) == (1, [1])


def lends_nothing(shop: Stage) -> Callable[[Request], Answer]:
    """Let the seller say a balance of nothing, whatever it was paid; what it would have answered otherwise."""
    told: Callable[[Request], Answer] = shop.server._http.routes.answer
    poor = {"walletAddress": shop.wallet.lower(), "balanceUsd": 0, "canConsume": False, "minimumTopUpUsd": 5}

    def answer(request: Request) -> Answer:
        if "/x402/balance" in request.path:
            return json_answer(200, {"success": True, "data": {**poor, "suggestedTopUpUsd": 10}})
        return told(request)

    vars(shop.server._http.routes)["answer"] = answer
    return told


def test_a_row_without_the_balance_shows_no_credit(stage: OpenStage) -> None:
    """A seller that writes down what it was paid and lends nothing on it."""
    shop = stage()
    told = lends_nothing(shop)
    for name in ("a", "b", "c"):
        shopper = shop.shopper(MAX_TOP_UP="5", MAX_TOP_UP_PER_DAY="50")
        with pytest.raises(PaymentRefused, match="did not show"):
            shopper.generate(f"the song called {name}", job_id=name)
    assert len(shop.payments) == 1

    shopper = shop.shopper(MAX_TOP_UP="5", MAX_TOP_UP_PER_DAY="50")
    for _ in range(3):
        shop.clock.wait(200)
        report = shopper.reconcile()
        assert [(one.kind, one.amount) for one in report.differences] == [("balance", usd("5"))]
        with pytest.raises(PaymentRefused, match="stopped"):
            shopper.generate("another song", job_id="d", again=True)
    assert len(shop.payments) == 1

    vars(shop.server._http.routes)["answer"] = told
    assert shopper.reconcile().differences == ()
    assert shopper.generate("another song", job_id="d").completed
    assert len(shop.payments) == 1


def test_a_row_that_alone_proves_the_payment_shows_no_credit(stage: OpenStage) -> None:
    """As above, and the seller's answer to the top-up is lost: its row is the only witness."""
    shop = stage(*(FaultRule("status_after", "/x402/top-up", nth=nth, value=504) for nth in (2, 4, 6)))
    lends_nothing(shop)
    for name in ("a", "b", "c"):
        shopper = shop.shopper(MAX_TOP_UP="5", MAX_TOP_UP_PER_DAY="50")
        with pytest.raises(PaymentRefused):
            shopper.generate(f"the song called {name}", job_id=name)
        shop.clock.wait(200)
        shopper.reconcile()
    assert len(shop.payments) == 1


def test_a_job_that_comes_while_a_credit_is_awaited_pays_no_second_top_up(stage: OpenStage) -> None:
    """Eight programs within the minute in which nobody knows yet; the owner would allow ten top-ups a day."""
    shop = stage(FaultRule("never_credit", every=True))
    programs = [shop.shopper(MAX_TOP_UP="5", MAX_TOP_UP_PER_DAY="50") for _ in range(8)]
    ends: list[str] = []

    def start(number: int) -> None:
        if number + 1 < len(programs):
            shop.clock.later(4.0, lambda: start(number + 1))
        with pytest.raises(PaymentRefused) as caught:
            programs[number].generate(f"A song for number {number}", job_id=f"k{number}")
        ends.append(caught.value.message)

    start(0)
    assert len(ends) == 8
    assert [payment["value"] for payment in shop.payments] == [usd("5")]


def test_a_top_up_whose_program_died_before_its_credit_showed_is_awaited_by_the_next(
    stage: OpenStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = stage()

    def died(account: object, hold: Hold) -> Flow[None]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("x402_audio.payment.prepaid.await_credit", died)
        with pytest.raises(KeyboardInterrupt):
            shop.shopper(MAX_TOP_UP="5").generate(job_id="a")
    other = shop.shopper(MAX_TOP_UP="5", MAX_TOP_UP_PER_DAY="50")
    (hold,) = other.holds(kind="topup")
    assert (hold.state, hold.delivered_at) == ("settled", None)
    assert other.generate("Another song altogether", job_id="b").completed
    assert other.resume("a").completed
    assert len(shop.payments) == 1
    assert other.holds(kind="topup")[0].delivered_at is not None


def test_a_balance_that_was_read_before_a_top_up_and_booked_after_it_buys_no_second_one(
    stage: OpenStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer was on its way while another program topped up, whose credit then showed."""
    shop = stage()
    first, late = (shop.shopper(MAX_TOP_UP="5", MAX_TOP_UP_PER_DAY="50") for _ in range(2))
    read: Counter[str] = Counter()

    def died(account: object, hold: Hold) -> Flow[None]:
        raise KeyboardInterrupt

    def top_up_meanwhile(response: httpx.Response) -> None:
        read.update([response.request.url.path.partition("/0x")[0]])
        if read["/api/v1/x402/balance"] == 2 and not shop.payments:  # the one that confirms the first
            with monkeypatch.context() as patched:
                patched.setattr("x402_audio.payment.prepaid.await_credit", died)
                with pytest.raises(KeyboardInterrupt):
                    first.top_up("5")

    def show_meanwhile(request: httpx.Request) -> None:
        for hold in first.holds(kind="topup", states=("settled",)):
            if request.url.path.endswith("/x402/top-up") and hold.delivered_at is None:
                first.client.ledger.deliver(hold.id, "its credit shows")

    late.http.event_hooks = {"response": [top_up_meanwhile], "request": [show_meanwhile]}
    assert late.generate(job_id="k").completed
    assert [payment["value"] for payment in shop.payments] == [usd("5")]


def _one_payment(shop: Stage, shopper: Shopper, signer: CountingSigner) -> None:
    """One nonce was ever signed, one payment settled, one credit given."""
    assert len({authorization.nonce for authorization in signer.authorizations}) == 1
    assert len(shop.payments) == 1
    rows = [row for row in shop.seller.account(shop.wallet).rows if row.type == "TOP_UP"]
    assert [row.amount for row in rows] == [usd("5")]
    assert [hold.state for hold in shopper.holds(kind="topup")] == ["settled"]


DROPPED = FaultRule("drop_after", "/x402/top-up", nth=2)
BAD_ENVELOPE = FaultRule(
    "status", "/x402/top-up", nth=2, value={"status": 400, "body": {"error": "INVALID_PAYMENT"}}
)


@pytest.mark.parametrize(
    "rules",
    [
        [DROPPED],
        [FaultRule("drop_before", "/x402/top-up", nth=2)],
        [BAD_ENVELOPE],
        [FaultRule("status", "/x402/top-up", nth=2, value=500)],
        [FaultRule("status_after", "/x402/top-up", nth=2, value=500)],
        [FaultRule("status_after", "/x402/top-up", nth=2, value=504)],
        [FaultRule("status_after", "/x402/top-up", nth=2, value=409)],
        [FaultRule("status", "/x402/top-up", nth=2, value={"status": 429, "headers": {"Retry-After": "7"}})],
        [FaultRule("settlement_failed", "/x402/top-up", nth=2)],
        [FaultRule("garbage", "/x402/top-up", nth=2)],
        [FaultRule("status", "/x402/top-up", nth=2, value={"status": 200, "body": "<html>Welcome to this hotel</html>"})],
        [FaultRule("status", "/x402/top-up", nth=2, value={"status": 200, "body": {"success": True}})],
        [FaultRule("status", "/x402/top-up", nth=2, value={"status": 200, "body": {
            "success": True, "data": {"walletAddress": "0x" + "ab" * 20, "amountCredited": 5, "newBalance": 5}}})],
        [FaultRule("status", "/x402/top-up", nth=2, value={"status": 200, "headers": {
            "PAYMENT-RESPONSE": header_json({"success": True, "network": BASE.caip2, "payer": "0x" + "ab" * 20,
                                             "transaction": "0x" + "11" * 32})}})],
        [FaultRule("status", "/x402/top-up", nth=2, value={"status": 200, "headers": {
            "PAYMENT-RESPONSE": header_json({"success": True, "network": "eip155:1", "transaction": ""})}})],
        [FaultRule("no_receipt", "/x402/top-up", nth=2)],
        [FaultRule("redirect_after", "/x402/top-up", nth=2, value="http://127.0.0.1:9")],
        [FaultRule("status_after", "/x402/top-up", nth=2, value={"status": 402, "body": {"error": "SETTLEMENT_FAILED"}})],
        [DROPPED, FaultRule("status", "/x402/transactions", nth=1, value=500)],
    ],
    ids=str,
)  # fmt: skip
def test_whatever_the_top_up_is_answered_it_is_one_nonce_and_one_payment(
    stage: OpenStage, rules: list[FaultRule]
) -> None:
    shop, signer = stage(), CountingSigner()
    shop.faults(*(FaultRule(rule.action, rule.route, nth=rule.nth, value=rule.value) for rule in rules))
    shopper = shop.shopper(signer=signer)
    assert shopper.generate(job_id="k", max_top_up="5").completed
    _one_payment(shop, shopper, signer)


def test_a_settlement_slower_than_the_line_is_waited_out(stage: OpenStage) -> None:
    """The first sending still settles when the second comes: 409, then the credit shows."""
    shop, signer = stage(FaultRule("slow_settlement", "/x402/top-up", nth=2, value=30)), CountingSigner()
    shopper = shop.shopper(signer=signer)
    shopper.hang_up_after(0.2, times=1)
    shop.clock.later(40, shop.seller.release_stream.set)
    assert shopper.generate(job_id="k", max_top_up="5").completed
    assert shop.answers("/x402/top-up").count(409) == 1
    _one_payment(shop, shopper, signer)


@pytest.mark.parametrize("status", [400, 402, 403, 500])
def test_a_seller_that_keeps_saying_failed_frees_nothing(stage: OpenStage, status: int) -> None:
    """Discovery is let through; every payment is refused, and the next try sends the same authorization."""
    shop, signer = stage(), CountingSigner()
    shop.faults(
        *(
            FaultRule("status", "/x402/top-up", nth=n, value={"status": status, "body": {"error": "NO"}})
            for n in range(2, 7)
        )
    )
    shopper = shop.shopper(signer=signer)
    with pytest.raises((PaymentRejected, PaymentUnsettled)) as caught:
        shopper.generate(job_id="k", max_top_up="5")
    assert (caught.value.exit_code, caught.value.money_moved) == (8, "unknown")
    assert shopper.job("k").parked_reason == "unknown"
    assert [hold.state for hold in shopper.holds("k")] == ["signed"]
    shop.faults()
    assert shopper.resume("k").completed
    _one_payment(shop, shopper, signer)


def test_a_top_up_by_command_is_paid_once_and_can_be_limited(stage: OpenStage) -> None:
    shop = stage()
    shopper = shop.shopper()
    hold = shopper.top_up("7.31")
    assert (hold.state, hold.amount, shop.left()) == ("settled", usd("7.31"), usd("7.31"))
    with pytest.raises(X402AudioError):
        shop.shopper(MAX_TOP_UP="6", state="other").top_up("7")
    assert len(shop.payments) == 1


def test_a_top_up_whose_program_slept_past_its_validity_is_signed_no_second_time(stage: OpenStage) -> None:
    """A refused layout is written anew around the same authorization, but not around one that is over."""
    shop, signer = stage(), CountingSigner()
    told = shop.server._http.routes.answer

    def answer(request: Request) -> Answer:
        if request.path.endswith("/x402/top-up") and signer.authorizations:
            shop.clock.at += 4000
            return json_answer(400, {"error": "INVALID_PAYMENT", "message": "no"})
        return told(request)

    vars(shop.server._http.routes)["answer"] = answer
    with pytest.raises((PaymentRejected, PaymentUnsettled)):
        shop.shopper(signer=signer).top_up("5")
    assert len(signer.authorizations) == 1
