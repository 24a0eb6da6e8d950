"""A queue call that nobody can answer for: never a second job, and an end by the witnesses alone."""

from __future__ import annotations

import httpx
import pytest

from tests.jobs.stage import QUOTE, OpenStage, Shopper, Stage, usd
from x402_audio.errors import JobParked, JobTimedOut, PaymentUnsettled, SellerError
from x402_audio.jsontext import Json
from x402_audio.ledger.book import JobRecord
from x402_audio.sandbox import FaultRule

CREDIT = usd("5")


def _one_job_or_none(shop: Stage, most: int = 1) -> None:
    assert len(shop.jobs) <= most
    charged = [row for row in shop.seller.account(shop.wallet).rows if row.type == "CHARGE"]
    assert len(charged) <= most


@pytest.mark.parametrize(
    "rule",
    [
        FaultRule("drop_before", "/audio/queue"),
        FaultRule("status", "/audio/queue", value=500),
        FaultRule("status", "/audio/queue", value=503),
    ],
    ids=str,
)
def test_dropped_before_the_seller_acted_the_same_header_is_simply_sent_again(
    stage: OpenStage, rule: FaultRule
) -> None:
    shop = stage(FaultRule(rule.action, rule.route, value=rule.value), credit=CREDIT)
    shopper = shop.shopper()
    assert shopper.generate(job_id="k").completed
    (hold,) = shopper.holds("k")
    assert (hold.state, hold.sends) == ("settled", 2)
    assert len(shop.jobs) == 1
    assert shop.left() == CREDIT - QUOTE


AFTER = [
    FaultRule("drop_after", "/audio/queue"),
    FaultRule("status_after", "/audio/queue", value=500),
    FaultRule("status_after", "/audio/queue", value={"status": 504, "body": "gateway"}),
    FaultRule("garbage", "/audio/queue"),
    FaultRule("status_after", "/audio/queue", value={"status": 200, "body": {"status": "QUEUED"}}),
    FaultRule("redirect_after", "/audio/queue", value="http://127.0.0.1:9"),
    FaultRule("status_after", "/audio/queue", value={"status": 200, "body": "no gzip at all", "headers": {"Content-Encoding": "gzip"}}),
]  # fmt: skip


@pytest.mark.parametrize("rule", AFTER, ids=str)
def test_an_answer_lost_after_the_seller_acted_buys_nothing_again_and_the_file_arrives(
    stage: OpenStage, rule: FaultRule
) -> None:
    shop = stage(FaultRule(rule.action, rule.route, value=rule.value), credit=CREDIT)
    shopper = shop.shopper()
    with pytest.raises(PaymentUnsettled) as caught:
        shopper.generate(job_id="k")
    assert (caught.value.exit_code, caught.value.money_moved) == (8, "unknown")
    assert (shopper.job("k").state, shopper.job("k").parked_reason) == ("parked", "unknown")
    assert len({hold.nonce for hold in shopper.holds("k")}) == 1

    report = shopper.reconcile()
    assert (len(report.settled), report.open, report.differences) == (1, (), ())
    assert shopper.job("k").state == "queued"
    assert shopper.resume("k").completed
    assert (len(shop.jobs), shop.left()) == (1, CREDIT - QUOTE)
    assert shopper.client.ledger.verify() == []


def test_while_the_sellers_ledger_is_silent_too_it_stays_unknown(stage: OpenStage) -> None:
    silent = FaultRule("status", "/x402/transactions", every=True, value=500)
    shop = stage(FaultRule("drop_after", "/audio/queue"), silent, credit=CREDIT)
    shopper = shop.shopper()
    for walk in (shopper.generate, shopper.generate):
        with pytest.raises(PaymentUnsettled):
            walk(job_id="k")
    assert shopper.reconcile().unread
    shop.faults()
    assert shopper.resume("k").completed
    assert (len(shop.jobs), shop.left()) == (1, CREDIT - QUOTE)


def test_a_seller_that_hangs_is_left_and_asked_with_the_same_header(stage: OpenStage) -> None:
    shop = stage(FaultRule("hang_after", "/audio/queue"), credit=CREDIT)
    shopper = shop.shopper()
    shopper.hang_up_after(0.2, times=1, route="/audio/queue", skip=0)
    with pytest.raises(PaymentUnsettled):
        shopper.generate(job_id="k")
    assert shopper.resume("k").completed
    assert (len(shop.jobs), shopper.holds("k")[0].sends) == (1, 2)


def test_nothing_is_sent_again_once_the_header_is_about_to_die(stage: OpenStage) -> None:
    shop = stage(FaultRule("drop_before", "/audio/queue", every=True), credit=CREDIT)
    shopper = shop.shopper()
    with pytest.raises(PaymentUnsettled):
        shopper.generate(job_id="k")
    assert shop.asked()["/audio/queue"] == 4, "the first sending and three more"
    for _ in range(3):
        with pytest.raises(PaymentUnsettled):
            shopper.resume("k")
    assert shop.asked()["/audio/queue"] == 4
    _one_job_or_none(shop, most=0)


def _unknown(shop: Stage, shopper: Shopper, model: str = "elevenlabs-music") -> None:
    shop.faults(FaultRule("drop_before", "/audio/queue", every=True))
    seconds = None if model == "seed-audio-1-0" else 3
    with pytest.raises(PaymentUnsettled):
        shopper.generate(job_id="k", model=model, duration_seconds=seconds)
    shop.faults()


def test_silence_voids_only_after_half_an_hour_and_two_readings_a_minute_apart(stage: OpenStage) -> None:
    shop = stage(credit=CREDIT)
    shopper = shop.shopper()
    _unknown(shop, shopper)
    shop.clock.wait(29 * 60)
    assert (shopper.reconcile().voided, shopper.reconcile().voided) == ((), ())
    shop.clock.wait(90)
    assert shopper.reconcile().voided == ()
    shop.clock.wait(30)
    assert shopper.reconcile().voided == (), "the second reading came too soon"
    shop.clock.wait(31)
    assert len(shopper.reconcile().voided) == 1
    assert shopper.resume("k").completed
    assert (len(shop.jobs), shop.left()) == (1, CREDIT - QUOTE)


def test_silence_proves_nothing_while_another_program_draws(stage: OpenStage) -> None:
    shop = stage(credit=CREDIT)
    shopper = shop.shopper()
    _unknown(shop, shopper)
    shop.credit("-0.80")
    shop.clock.wait(3600)
    for _ in range(3):
        assert shopper.reconcile().voided == ()
        shop.clock.wait(120)


@pytest.mark.parametrize("case", ["late", "diem"])
def test_silence_never_voids_what_is_charged_at_the_end_or_drawn_from_diem(
    stage: OpenStage, case: str
) -> None:
    shop = stage(credit=CREDIT)
    shopper = shop.shopper()
    _unknown(shop, shopper, "seed-audio-1-0" if case == "late" else "elevenlabs-music")
    if case == "diem":
        shop.seller.account(shop.wallet).diem = usd("3")
    shop.clock.wait(3600)
    for _ in range(3):
        assert shopper.reconcile().voided == ()
        shop.clock.wait(120)


def test_the_late_charge_of_an_older_job_is_not_taken_for_an_unknown_one(stage: OpenStage) -> None:
    """Charged days after it was queued, when its track is done and long before anybody fetches it."""
    shop = stage(credit=CREDIT, job_seconds=4 * 86_400.0)
    shopper = shop.shopper()
    with pytest.raises(JobTimedOut):
        shopper.generate(
            "a long story", model="seed-audio-1-0", duration_seconds=None, job_id="older", timeout=5
        )
    shop.clock.wait(3.9 * 86_400)
    _unknown(shop, shopper, "seed-audio-1-0")
    shop.clock.wait(86_400)
    with pytest.raises(PaymentUnsettled):
        shopper.resume("k")
    assert [row.type for row in shop.seller.account(shop.wallet).rows].count("CHARGE") == 1
    (hold,) = shopper.holds("k")
    assert (hold.state, hold.charge_id) == ("signed", "")


def test_two_charges_that_could_be_it_want_a_human(stage: OpenStage) -> None:
    shop = stage(FaultRule("drop_after", "/audio/queue"), credit=CREDIT)
    shopper = shop.shopper()
    with pytest.raises(PaymentUnsettled):
        shopper.generate(job_id="k")
    shop.credit("-0.69")
    shopper.reconcile()
    assert (shopper.job("k").state, shopper.job("k").parked_reason) == ("parked", "human")
    with pytest.raises(JobParked) as caught:
        shopper.resume("k")
    assert (caught.value.money_moved, caught.value.owner) == ("unknown", "human")
    assert len(shop.jobs) == 1
    assert [hold.state for hold in shopper.holds("k")] == ["presumed"]


NOT_BOUGHT: list[tuple[int, Json]] = [
    (400, {"error": "Invalid request parameters"}),
    (401, {"error": "Sign-in-with-x authentication failed", "code": "X402_SIGN_IN_INVALID_SIGNATURE"}),
    (403, {"error": "no"}),
    (404, {"error": "Specified model not found"}),
    (413, {"error": "too long"}),
    (415, {"error": "type"}),
]


@pytest.mark.parametrize(("status", "body"), NOT_BOUGHT)
def test_a_plain_no_to_the_first_sending_is_not_bought(stage: OpenStage, status: int, body: Json) -> None:
    shop = stage(FaultRule("status", "/audio/queue", value={"status": status, "body": body}), credit=CREDIT)
    shopper = shop.shopper()
    with pytest.raises(SellerError) as caught:
        shopper.generate(job_id="k")
    assert (caught.value.exit_code, caught.value.money_moved) == (7, "no")
    assert [hold.state for hold in shopper.holds("k")] == ["void"]
    assert shopper.generate(job_id="k").completed
    assert (len(shop.jobs), shop.left()) == (1, CREDIT - QUOTE)


@pytest.mark.parametrize("status", [400, 402, 404, 422, 429])
def test_the_same_no_to_a_later_sending_leaves_it_unknown(stage: OpenStage, status: int) -> None:
    """The first sending may have been acted on: only a queue_id ends it."""
    refusal = FaultRule("status", "/audio/queue", nth=2, value={"status": status, "body": {"error": "no"}})
    shop = stage(FaultRule("drop_after", "/audio/queue"), refusal, credit=CREDIT)
    shopper = shop.shopper()
    with pytest.raises(PaymentUnsettled):
        shopper.generate(job_id="k")
    assert [hold.state for hold in shopper.holds("k")] == ["signed"]
    assert shopper.resume("k").completed
    assert (len(shop.jobs), shop.left()) == (1, CREDIT - QUOTE)


def test_too_many_requests_at_the_queue_is_waited_for_and_signed_in_anew(stage: OpenStage) -> None:
    slow: Json = {"status": 429, "headers": {"Retry-After": "7"}, "body": {"error": "Rate limit exceeded"}}
    shop = stage(FaultRule("status", "/audio/queue", value=slow), credit=CREDIT)
    shopper = shop.shopper()
    began = shop.clock.at
    assert shopper.generate(job_id="k").completed
    assert shop.clock.at - began >= 7
    assert [hold.state for hold in shopper.holds("k")] == ["void", "settled"]
    assert len(shop.jobs) == 1


def test_reconcile_leaves_a_job_alone_that_another_thread_of_the_client_resumes(stage: OpenStage) -> None:
    silent = FaultRule("status", "/x402/transactions", every=True, value=500)
    shop = stage(FaultRule("drop_after", "/audio/queue"), silent, credit=CREDIT)
    shopper = shop.shopper()
    with pytest.raises(PaymentUnsettled):
        shopper.generate(job_id="k")
    claims: list[JobRecord | None] = []

    def reconcile(request: httpx.Request) -> None:
        if "/x402/transactions" in request.url.path and not claims:
            claims.append(None)
            shopper.reconcile()
            claims.append(shopper.client.ledger.claim("k", "another program", 60))

    shopper.http.event_hooks = {"request": [reconcile]}
    with pytest.raises(PaymentUnsettled):
        shopper.resume("k")
    assert claims == [None, None]


def test_a_job_whose_payment_was_presumed_while_it_ran_waits_for_a_person(stage: OpenStage) -> None:
    """Reconcile gave up on the draw; the program that was at the job said "unknown" after it."""
    shop = stage(FaultRule("status", "/audio/queue", every=True, value=503), credit=CREDIT)
    shopper = shop.shopper()
    with pytest.raises(PaymentUnsettled):
        shopper.generate(job_id="k")
    shop.faults()
    ledger, [hold] = shopper.client.ledger, shopper.holds("k")
    ledger.presume(hold.id, why="several charges could be its own")
    ledger.move("k", shopper.job("k").epoch, "parked", parked_reason="unknown")
    words = set()
    for _ in range(3):
        with pytest.raises(JobParked, match="waits for a person") as caught:
            shopper.resume("k")
        words.add(caught.value.message)
        assert (shopper.job("k").state, shopper.job("k").parked_reason) == ("parked", "human")
        shopper.reconcile()
    assert len(words) == 1, "said the same way each time"
    assert (shop.jobs, [one.state for one in shopper.holds("k")]) == ([], ["presumed"])
