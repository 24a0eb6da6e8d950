"""Prepaid credit: a reading opens the gate only while it agrees with our own books."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ledger.desk import DOLLAR, NOON, ORIGIN, WALLET, SteppedClock, draw, new_job, pay, signed, top_up
from x402_audio.errors import InsufficientBalance, PaymentUnsettled
from x402_audio.ledger.book import Reading
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc


def read(ledger: SqliteLedger, cents: int, diem: int | None = None) -> Reading:
    return ledger.record_reading(
        WALLET, ORIGIN, Usdc(cents * 10_000), diem=None if diem is None else Usdc(diem * 10_000),
        minimum_top_up=Usdc(5_000_000),
    )  # fmt: skip


def agreed(ledger: SqliteLedger, cents: int, diem: int | None = None) -> Reading:
    read(ledger, cents, diem)
    return read(ledger, cents, diem)


def refusal(ledger: SqliteLedger, *args: Any, **fields: Any) -> dict[str, Any]:
    with pytest.raises(InsufficientBalance) as refused:
        ledger.reserve(draw(*args, **fields), [])
    return vars(refused.value)


def test_credit_is_trusted_after_a_second_equal_reading(ledger: SqliteLedger) -> None:
    assert refusal(ledger)["reason"] == "stale"
    assert read(ledger, 300).trust == "unconfirmed"
    assert refusal(ledger)["reason"] == "unconfirmed"
    assert read(ledger, 300).trust == "agreed"
    assert ledger.reserve(draw(300), []).state == "reserved"


def test_a_reading_is_good_for_a_minute(ledger: SqliteLedger, clock: SteppedClock) -> None:
    agreed(ledger, 300)
    clock.at += 59
    ledger.void(ledger.reserve(draw(), []).id, evidence="not sent")
    clock.at += 2
    assert refusal(ledger)["reason"] == "stale"


def test_draws_in_flight_and_the_floor_are_kept_back(ledger: SqliteLedger) -> None:
    agreed(ledger, 300)
    first = signed(ledger, draw(100))
    second = signed(ledger, draw(100))
    found = refusal(ledger, 91, floor=Usdc(100_000))
    assert (found["missing"], found["needed"], found["balance"]) == (10_000, 1_010_000, DOLLAR)
    assert found["suggested_top_up"] == 5_000_000
    ledger.settle(first, evidence="200")
    ledger.presume(second, why="no answer")
    assert refusal(ledger, 91, floor=Usdc(100_000))["reason"] == "short"
    reading = ledger.reading(WALLET, ORIGIN)
    assert reading is not None
    assert reading.available == DOLLAR
    assert ledger.reserve(draw(90, floor=Usdc(100_000)), []).state == "reserved"


def test_diem_that_covers_the_quote_opens_the_gate(ledger: SqliteLedger) -> None:
    agreed(ledger, 0, diem=150)
    signed(ledger, draw(100))
    assert refusal(ledger, 100)["reason"] == "short"
    assert ledger.reserve(draw(50), []).state == "reserved"


def test_a_draw_may_show_a_little_later(ledger: SqliteLedger, clock: SteppedClock) -> None:
    agreed(ledger, 300)
    pay(ledger, draw(100))
    clock.at += 5
    lagging = read(ledger, 300)
    assert (lagging.trust, lagging.books, lagging.available) == ("agreed", 2_000_000, 2_000_000)
    clock.at += 5
    assert read(ledger, 200).trust == "agreed"
    clock.at += 100
    assert read(ledger, 300).trust == "unconfirmed"


def test_a_late_charge_may_show_until_its_job_has_ended(ledger: SqliteLedger, clock: SteppedClock) -> None:
    agreed(ledger, 300)
    ledger.add_job(new_job())
    job = ledger.claim("jingle", "me", 9_999)
    assert job is not None
    pay(ledger, draw(100, job_id="jingle", late_charge=True))
    clock.at += 600
    assert read(ledger, 300).trust == "agreed"
    ledger.move("jingle", job.epoch, "failed")
    clock.at += 600
    assert read(ledger, 300).trust == "unconfirmed"


def test_a_reading_is_accepted_without_what_is_charged_later(
    ledger: SqliteLedger, clock: SteppedClock
) -> None:
    agreed(ledger, 300)
    ledger.add_job(new_job())
    assert ledger.claim("jingle", "me", 9_999) is not None
    pay(ledger, draw(100, job_id="jingle", late_charge=True))
    clock.at += 600
    read(ledger, 300)
    ledger.accept_reading(WALLET, ORIGIN)
    reading = read(ledger, 300)
    assert (reading.trust, reading.available) == ("agreed", 2_000_000)
    assert read(ledger, 200).trust == "agreed"


def test_an_unexplained_fall_stops_spending_until_it_is_explained(ledger: SqliteLedger) -> None:
    agreed(ledger, 300)
    fallen = read(ledger, 200)
    assert (fallen.trust, fallen.fallen_by) == ("fallen", DOLLAR)
    assert read(ledger, 200).trust == "fallen"
    assert refusal(ledger)["reason"] == "fallen"
    ledger.accept_reading(WALLET, ORIGIN)
    assert ledger.reserve(draw(200), []).state == "reserved"


def test_our_own_top_up_explains_a_rise(ledger: SqliteLedger) -> None:
    agreed(ledger, 300)
    pay(ledger, top_up(500))
    for _ in range(3):
        late = read(ledger, 300)
        assert (late.trust, late.available) == ("agreed", 3_000_000)
    shown = read(ledger, 800)
    assert (shown.trust, shown.available) == ("agreed", 8_000_000)


@pytest.mark.parametrize("first", [[], [300], [300, 300]])
@pytest.mark.parametrize("then", [[800], [800, 800], [850, 850]])
def test_while_a_top_ups_credit_does_not_show_there_is_no_other(
    ledger: SqliteLedger, first: list[int], then: list[int]
) -> None:
    """Whenever it was read: no balance before it, one that lacks it, a rise that holds more than it.

    Without a balance before it the first reading shows nothing by itself.
    """
    for cents in first:
        read(ledger, cents)
    paid = pay(ledger, top_up(500))
    if first:
        read(ledger, 300)
    with pytest.raises(PaymentUnsettled) as refused:
        ledger.reserve(top_up(500), [])
    assert refused.value.hold_id == paid
    for cents in then if first else [*then, then[-1]]:
        read(ledger, cents)
    assert ledger.hold(paid).delivered_at is not None
    assert ledger.reserve(top_up(500), []).state == "reserved"
    assert ledger.verify() == []


@pytest.mark.parametrize("first", [[], [300, 300]])
def test_a_rise_that_is_gone_again_showed_no_credit(ledger: SqliteLedger, first: list[int]) -> None:
    for cents in first:
        read(ledger, cents)
    paid = pay(ledger, top_up(500))
    for cents in (9_000, 300, 300):
        read(ledger, cents)
    assert ledger.hold(paid).delivered_at is None
    with pytest.raises(PaymentUnsettled):
        ledger.reserve(top_up(500), [])


def test_a_row_alone_shows_no_credit_and_a_lift_does(ledger: SqliteLedger) -> None:
    hold = signed(ledger, top_up(500))
    ledger.settle(hold, evidence="TOP_UP row", charge_id="row")
    with pytest.raises(PaymentUnsettled):
        ledger.reserve(top_up(500), [])
    ledger.lift(WALLET, ORIGIN, "top-ups", "every top-up shows at the seller")
    assert ledger.reserve(top_up(500), []).state == "reserved"
    assert ledger.verify() == []


@pytest.mark.parametrize("then", ["settled", "presumed"])
def test_credit_that_shows_before_anybody_knows_of_the_payment_shows_that_top_up(
    ledger: SqliteLedger, then: str
) -> None:
    """Its program died before the answer; others read the balance meanwhile."""
    agreed(ledger, 300)
    hold = signed(ledger, top_up(500))
    if then == "presumed":
        ledger.presume(hold, why="no RPC")
    read(ledger, 800)
    reading = read(ledger, 800)
    assert (reading.trust, reading.available) == ("agreed", 8_000_000)
    ledger.settle(hold, evidence="TOP_UP row", charge_id="row")
    assert ledger.hold(hold).delivered_at is not None
    read(ledger, 800)
    assert ledger.reserve(top_up(500), []).state == "reserved"
    assert ledger.verify() == []


def test_a_top_up_perhaps_paid_hides_no_credit_of_another(ledger: SqliteLedger) -> None:
    agreed(ledger, 300)
    ledger.presume(signed(ledger, top_up(700)), why="no RPC")
    paid = pay(ledger, top_up(500))
    read(ledger, 800)
    assert ledger.hold(paid).delivered_at is not None


def test_draws_that_nobody_knows_of_show_no_credit(ledger: SqliteLedger) -> None:
    """Together they are worth a top-up; without it the balance stands still."""
    agreed(ledger, 900)
    for number in range(2):
        signed(ledger, draw(300, purchase=f"draw {number}"))
    paid = pay(ledger, top_up(500))
    read(ledger, 900)
    assert ledger.hold(paid).delivered_at is None
    read(ledger, 1100)
    assert ledger.hold(paid).delivered_at is not None


def test_charges_that_are_late_show_no_credit(ledger: SqliteLedger, clock: SteppedClock) -> None:
    """They are worth a top-up: until they must have come, a figure that stands says nothing."""
    agreed(ledger, 900)
    for number in range(2):
        pay(ledger, draw(250, purchase=f"draw {number}"))
    paid = pay(ledger, top_up(500))
    clock.at += 2
    assert read(ledger, 900).available == 4_000_000
    assert ledger.hold(paid).delivered_at is None
    clock.at += 2
    assert read(ledger, 400).available == 4_000_000
    clock.at += 60
    read(ledger, 900)
    assert ledger.hold(paid).delivered_at is not None


def test_credit_that_came_while_charges_were_late_shows_once_they_must_have_come(
    ledger: SqliteLedger, clock: SteppedClock
) -> None:
    agreed(ledger, 900)
    pay(ledger, draw(500))
    paid = pay(ledger, top_up(500))
    clock.at += 2
    read(ledger, 900)
    clock.at += 60
    reading = read(ledger, 900)
    assert (reading.trust, reading.available) == ("agreed", 9_000_000)
    assert ledger.hold(paid).delivered_at is not None


def test_a_rise_shows_credit_while_charges_are_late(ledger: SqliteLedger) -> None:
    agreed(ledger, 900)
    pay(ledger, draw(700))
    paid = pay(ledger, top_up(500))
    read(ledger, 1400)
    assert ledger.hold(paid).delivered_at is not None


def test_a_small_rise_that_late_charges_leave_room_for_shows_no_credit(ledger: SqliteLedger) -> None:
    """Some of them come, a refund too: the figure has risen, and not by what was paid in."""
    agreed(ledger, 900)
    for cents in (100, 600):
        pay(ledger, draw(cents, purchase=f"draw of {cents}"))
    paid = pay(ledger, top_up(500))
    read(ledger, 800)
    read(ledger, 850)
    assert ledger.hold(paid).delivered_at is None
    read(ledger, 1350)
    assert ledger.hold(paid).delivered_at is not None


def test_a_late_charge_that_its_ended_job_still_owes_shows_no_credit(
    ledger: SqliteLedger, clock: SteppedClock
) -> None:
    agreed(ledger, 900)
    ledger.add_job(new_job())
    job = ledger.claim("jingle", "me", 9_999)
    assert job is not None
    hold = signed(ledger, draw(500, job_id="jingle", late_charge=True))
    ledger.queued("jingle", job.epoch, hold, queue_id="q", due=clock.at, evidence="queue_id given")
    clock.at += 600
    paid = pay(ledger, top_up(500))
    assert (read(ledger, 900).trust, ledger.hold(paid).delivered_at) == ("agreed", None)
    ledger.move("jingle", job.epoch, "failed")
    clock.at += 5
    assert (read(ledger, 900).trust, ledger.hold(paid).delivered_at) == ("agreed", None)
    clock.at += 5
    assert read(ledger, 400).trust == "agreed"
    assert ledger.hold(paid).delivered_at is None


def test_credit_of_one_top_up_is_not_taken_for_that_of_an_older_one_too(ledger: SqliteLedger) -> None:
    """Draws nobody knows of are worth the older one; the books would expect too much and then see a fall."""
    agreed(ledger, 900)
    old = signed(ledger, top_up(500))
    ledger.presume(old, why="no RPC")
    draws = [signed(ledger, draw(250, purchase=f"draw {number}")) for number in range(2)]
    paid = pay(ledger, top_up(500))
    read(ledger, 1400)
    assert (ledger.hold(paid).delivered_at is None, ledger.hold(old).delivered_at) == (False, None)
    for hold in draws:
        ledger.settle(hold, evidence="200")
    assert read(ledger, 900).trust == "agreed"


def test_credit_that_showed_before_its_payment_was_proven_is_expected_once(
    ledger: SqliteLedger, clock: SteppedClock
) -> None:
    agreed(ledger, 300)
    hold = signed(ledger, top_up(500))
    read(ledger, 800)
    clock.at += 1
    ledger.settle(hold, evidence="the seller credited the top-up")
    draws = [signed(ledger, draw(250, purchase=f"draw {number}")) for number in range(2)]
    read(ledger, 820)
    read(ledger, 820)
    for each in draws:
        ledger.settle(each, evidence="200")
    assert read(ledger, 320).trust == "agreed"


def test_a_top_up_that_shows_ends_a_fall(ledger: SqliteLedger) -> None:
    agreed(ledger, 300)
    read(ledger, 200)
    pay(ledger, top_up(500))
    assert read(ledger, 200).trust == "fallen"
    ended = read(ledger, 700)
    assert (ended.trust, ended.fallen_by) == ("agreed", 0)


def test_a_doubtful_reading_closes_the_gate_until_the_next(ledger: SqliteLedger) -> None:
    agreed(ledger, 300)
    ledger.distrust_reading(WALLET, ORIGIN, "NaN")
    assert refusal(ledger)["reason"] == "unconfirmed"
    assert read(ledger, 300).trust == "agreed"


def test_a_draw_in_the_same_second_as_the_reading_counts_as_since(ledger: SqliteLedger) -> None:
    agreed(ledger, 300)
    hold = ledger.hold(pay(ledger, draw(100)))
    reading = ledger.reading(WALLET, ORIGIN)
    assert reading is not None
    assert hold.resolved_at is not None
    assert hold.resolved_at > reading.read_at >= NOON
    assert reading.available == 2_000_000


def test_readings_of_other_sellers_and_wallets_are_apart(ledger: SqliteLedger) -> None:
    agreed(ledger, 300)
    assert ledger.reading(WALLET, "https://other.example") is None
    assert ledger.reading("0x00", ORIGIN) is None
    assert ledger.reading(WALLET.upper().replace("X", "x"), ORIGIN) is not None
