"""The life of a hold: one purchase, one authorization."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ledger.desk import (
    DOLLAR,
    NOON,
    ORIGIN,
    SELLER,
    WALLET,
    SteppedClock,
    limit,
    new_job,
    pay,
    signed,
    top_up,
    wish,
)
from x402_audio.errors import (
    AlreadyResolved,
    BudgetExceeded,
    Frozen,
    JobTakenOver,
    LedgerError,
    PaymentRefused,
    PaymentUnsettled,
    UnknownHold,
)
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc


def test_a_reserved_hold_has_every_field_that_will_be_signed(ledger: SqliteLedger) -> None:
    asked = wish(69)
    hold = ledger.reserve(asked, [])
    assert ledger.hold(hold.id) == hold
    assert (hold.state, hold.nonce, hold.amount, hold.pay_to) == (
        "reserved",
        asked.nonce,
        asked.amount,
        asked.pay_to,
    )
    assert (hold.valid_before, hold.body_digest, hold.sends) == (asked.valid_before, asked.body_digest, 0)


def test_where_a_settled_payment_moved_is_put_right_and_nothing_else_with_it(ledger: SqliteLedger) -> None:
    hold = ledger.reserve(wish(), [])
    with pytest.raises(LedgerError):
        ledger.trace(hold.id, transaction="0x02", evidence="the chain")
    ledger.depart(hold.id, b"header")
    before = ledger.settle(hold.id, evidence="the seller", transaction="0x01")
    after = before.but(transaction="0x02", evidence="the chain")
    for _ in range(2):
        assert ledger.trace(hold.id, transaction="0x02", evidence="the chain") == after
    assert [event.why for event in ledger.events(subject=f"hold:{hold.id}")].count("the chain") == 1
    assert (ledger.hold(hold.id), ledger.verify()) == (after, [])


def test_a_hold_that_departs_keeps_its_header_until_it_ends(ledger: SqliteLedger) -> None:
    hold = ledger.reserve(wish(), [])
    assert ledger.header_of(hold.id) is None
    assert ledger.depart(hold.id, b"header").state == "signed"
    assert ledger.header_of(hold.id) == b"header"
    settled = ledger.settle(hold.id, evidence="receipt", transaction="0x01")
    assert (settled.state, settled.transaction, settled.sends) == ("settled", "0x01", 1)
    assert ledger.header_of(hold.id) is None


@pytest.mark.parametrize("end", ["void", "presume", "settle"])
def test_no_secret_outlives_its_hold(ledger: SqliteLedger, path: Any, end: str) -> None:
    secret = b"X-PAYMENT: a very secret header"
    hold = ledger.depart(ledger.reserve(wish(), []).id, secret)
    if end == "void":
        ledger.void(hold.id, evidence="unused at a finalized block")
    elif end == "presume":
        ledger.presume(hold.id, why="no witness")
    else:
        ledger.settle(hold.id, evidence="receipt")
    ledger.close()
    assert secret not in path.read_bytes()


def test_the_same_purchase_adopts_its_open_hold(ledger: SqliteLedger) -> None:
    asked = wish(purchase="jingle")
    first = ledger.reserve(asked, [])
    again = ledger.reserve(asked._replace(nonce="0x" + "ee" * 32, valid_before=9), [limit("jobs", "day", 0)])
    assert again == first.but(adopted=True)


@pytest.mark.parametrize(
    ("field", "other"),
    [("amount", Usdc(2)), ("pay_to", "0x" + "99" * 20), ("network", "eip155:1"), ("body_digest", "other"),
     ("job_id", "other"), ("resource", "https://other.example/"), ("origin", "https://other.example")],
)  # fmt: skip
def test_an_open_hold_of_other_terms_is_never_adopted(ledger: SqliteLedger, field: str, other: Any) -> None:
    asked = wish(purchase="jingle")
    first = ledger.reserve(asked, [])
    with pytest.raises(PaymentUnsettled) as refused:
        ledger.reserve(asked._replace(nonce="0x" + "ee" * 32, **{field: other}), [])
    assert refused.value.hold_id == first.id


def test_what_moved_without_an_answer_is_reserved_no_second_time(ledger: SqliteLedger) -> None:
    """What was refunded whole is nobody's loss, and may be bought again."""
    asked = wish(purchase="jingle")
    first = ledger.reserve(asked, [])
    ledger.depart(first.id, b"header")
    ledger.settle(first.id, evidence="the chain", delivered=False)
    assert ledger.unanswered(WALLET, "jingle") == ledger.hold(first.id)
    with pytest.raises(PaymentRefused) as refused:
        ledger.reserve(asked._replace(nonce="0x" + "ee" * 32), [])
    assert refused.value.money_moved == "yes"
    ledger.refund(first.id, first.amount, charge_id="", why="paid back")
    assert ledger.unanswered(WALLET, "jingle") is None
    assert ledger.reserve(asked._replace(nonce="0x" + "ee" * 32), []).id != first.id


def test_after_delivery_an_equal_request_is_a_new_purchase(ledger: SqliteLedger) -> None:
    asked = wish(purchase="jingle")
    first = ledger.reserve(asked, [])
    ledger.depart(first.id, b"header")
    assert ledger.open_hold(WALLET, "jingle") is not None
    ledger.deliver(first.id, "200 without a receipt")
    assert ledger.open_hold(WALLET.upper().replace("X", "x"), "jingle") is None
    assert ledger.hold(first.id).state == "signed"
    assert ledger.reserve(asked._replace(nonce="0x" + "ee" * 32), []).id != first.id


def test_a_nonce_is_never_used_twice(ledger: SqliteLedger) -> None:
    asked = wish()
    pay(ledger, asked)
    with pytest.raises(LedgerError):
        ledger.reserve(asked._replace(purchase="another"), [])


def test_a_hold_ends_once(ledger: SqliteLedger) -> None:
    hold = pay(ledger, wish())
    with pytest.raises(AlreadyResolved):
        ledger.settle(hold, evidence="again")
    with pytest.raises(AlreadyResolved):
        ledger.void(hold, evidence="no")
    other = ledger.reserve(wish(), []).id
    ledger.void(other, evidence="unused")
    with pytest.raises(AlreadyResolved):
        ledger.settle(other, evidence="late")
    with pytest.raises(AlreadyResolved):
        ledger.depart(other, b"header")
    with pytest.raises(UnknownHold):
        ledger.hold("nothing")


@pytest.mark.parametrize("end", ["settle", "void"])
def test_a_presumed_hold_may_still_be_decided(ledger: SqliteLedger, end: str) -> None:
    hold = signed(ledger, wish())
    assert ledger.presume(hold, why="no witness").state == "presumed"
    with pytest.raises(AlreadyResolved):
        ledger.presume(hold, why="again")
    ended = ledger.settle(hold, evidence="x") if end == "settle" else ledger.void(hold, evidence="x")
    assert ended.state == ("settled" if end == "settle" else "void")


def test_a_hold_that_never_left_cannot_be_presumed(ledger: SqliteLedger) -> None:
    hold = ledger.reserve(wish(), []).id
    with pytest.raises(LedgerError) as refused:
        ledger.presume(hold, why="no")
    assert not isinstance(refused.value, AlreadyResolved)


def test_every_sending_is_counted_before_it_leaves(ledger: SqliteLedger) -> None:
    hold = ledger.reserve(wish(), []).id
    with pytest.raises(LedgerError):
        ledger.resend(hold)
    first = ledger.depart(hold, b"header")
    assert ledger.resend(hold).sends == 2
    assert ledger.depart(hold, b"header").sends == 3
    with pytest.raises(LedgerError):
        ledger.depart(hold, b"other bytes")
    wrapped = ledger.rewrap(hold, '{"v":1}', b"other envelope")
    assert (wrapped.sends, wrapped.envelope, wrapped.sent_at) == (4, '{"v":1}', first.sent_at)
    assert ledger.header_of(hold) == b"other envelope"


def test_a_lease_frees_only_what_was_never_signed(ledger: SqliteLedger, clock: SteppedClock) -> None:
    kept = [signed(ledger, wish()), ledger.reserve(wish(lease_s=None), []).id]
    freed = ledger.reserve(wish(lease_s=120), []).id
    clock.at += 119
    assert ledger.sweep() == 0
    clock.at += 2
    assert ledger.sweep() == 1
    assert ledger.hold(freed).state == "void"
    assert [ledger.hold(one).state for one in kept] == ["signed", "reserved"]


def test_frozen_books_reserve_nothing_and_send_nothing(ledger: SqliteLedger) -> None:
    reserved, sent = ledger.reserve(wish(), []).id, signed(ledger, wish())
    ledger.freeze("owner says stop")
    assert ledger.frozen() == "owner says stop"
    with pytest.raises(Frozen):
        ledger.reserve(wish(), [])
    with pytest.raises(Frozen):
        ledger.depart(reserved, b"header")
    assert ledger.hold(reserved).state == "void"
    with pytest.raises(Frozen) as moved:
        ledger.resend(sent)
    assert moved.value.money_moved == "unknown"
    assert ledger.hold(sent).state == "signed"
    assert ledger.settle(sent, evidence="a fact is a fact").state == "settled"
    ledger.unfreeze("owner says go")
    assert ledger.reserve(wish(), []).state == "reserved"


@pytest.mark.parametrize("state", ["reserved", "signed", "presumed", "settled"])
def test_a_job_is_paid_once(ledger: SqliteLedger, state: str) -> None:
    hold = ledger.reserve(wish(job_id="jingle"), []).id
    if state != "reserved":
        ledger.depart(hold, b"header")
    if state == "presumed":
        ledger.presume(hold, why="no witness")
    if state == "settled":
        ledger.settle(hold, evidence="receipt")
    with pytest.raises(PaymentUnsettled) as refused:
        ledger.reserve(wish(job_id="jingle"), [])
    assert refused.value.hold_id == hold


def test_a_job_is_paid_anew_only_after_void_or_whole_refund(ledger: SqliteLedger) -> None:
    ledger.void(signed(ledger, wish(job_id="one")), evidence="unused at a finalized block")
    assert ledger.reserve(wish(job_id="one"), []).state == "reserved"
    hold = pay(ledger, wish(100, job_id="two"))
    ledger.refund(hold, DOLLAR, charge_id="r", why="failed")
    assert ledger.reserve(wish(job_id="two"), []).state == "reserved"
    hold = pay(ledger, wish(100, job_id="three"))
    ledger.refund(hold, Usdc(500_000), charge_id="r", why="half")
    with pytest.raises(PaymentUnsettled):
        ledger.reserve(wish(job_id="three"), [])


@pytest.mark.parametrize(
    ("amount", "back", "whole"),
    [(1_000_000, 999_900, True), (1_000_000, 999_899, False), (101, 1, True), (101, 0, False), (100, 99, False),
     (1, 0, False)],
)  # fmt: skip
def test_what_rounding_took_of_a_refund_is_no_loss(
    ledger: SqliteLedger, amount: int, back: int, whole: bool
) -> None:
    hold = pay(ledger, wish(job_id="one", amount=Usdc(amount)))
    if back:
        ledger.refund(hold, Usdc(back), charge_id="r", why="failed")
    if whole:
        assert ledger.reserve(wish(job_id="one"), []).state == "reserved"
    else:
        with pytest.raises(PaymentUnsettled):
            ledger.reserve(wish(job_id="one"), [])
    assert ledger.verify() == []


def test_a_job_that_was_taken_over_pays_nothing(ledger: SqliteLedger) -> None:
    ledger.add_job(new_job())
    job = ledger.claim("jingle", "a", 60)
    assert job is not None
    with pytest.raises(JobTakenOver):
        ledger.reserve(wish(job_id="jingle", epoch=job.epoch - 1), [])
    assert ledger.reserve(wish(job_id="jingle", epoch=job.epoch), []).job_id == "jingle"


def test_a_wallet_has_one_top_up_under_way_and_a_job_one_ever(ledger: SqliteLedger) -> None:
    first = signed(ledger, top_up(job_id="one"))
    with pytest.raises(PaymentUnsettled) as refused:
        ledger.reserve(top_up(wallet=WALLET.upper().replace("X", "x")), [])
    assert refused.value.hold_id == first
    ledger.settle(first, evidence="receipt")
    with pytest.raises(PaymentUnsettled) as unshown:
        ledger.reserve(top_up(job_id="one"), [])
    assert unshown.value.hold_id == first
    ledger.deliver(first, "its credit shows")
    with pytest.raises(PaymentRefused):
        ledger.reserve(top_up(job_id="one"), [])
    second = signed(ledger, top_up(job_id="two"))
    ledger.void(second, evidence="unused")
    assert ledger.reserve(top_up(job_id="two"), []).state == "reserved"


def test_what_left_meanwhile_is_not_freed_by_one_who_believes_it_unsigned(ledger: SqliteLedger) -> None:
    hold = signed(ledger, wish())
    with pytest.raises(LedgerError) as refused:
        ledger.void(hold, evidence="never signed", unsigned=True)
    assert refused.value.money_moved == "unknown"
    assert ledger.hold(hold).state == "signed"


def test_a_refusal_of_the_first_sending_frees_nothing_once_it_was_sent_again(ledger: SqliteLedger) -> None:
    """The one who got the refusal does not know of the other program's sending."""
    hold = signed(ledger, wish())
    ledger.resend(hold)
    with pytest.raises(LedgerError) as refused:
        ledger.void(hold, evidence="the first sending was refused", sends=1)
    assert refused.value.money_moved == "unknown"
    assert ledger.hold(hold).state == "signed"


def test_suspended_top_ups_stop_only_top_ups(ledger: SqliteLedger) -> None:
    ledger.suspend(WALLET, ORIGIN, "top-ups", "credit never showed")
    with pytest.raises(PaymentRefused):
        ledger.reserve(top_up(), [])
    pay(ledger, wish())
    ledger.suspend(WALLET, ORIGIN, "seller", "three jobs not delivered")
    with pytest.raises(PaymentRefused):
        ledger.reserve(wish(), [])
    assert len(ledger.suspensions()) == 2
    ledger.lift(WALLET, ORIGIN, "seller", "explained")
    ledger.lift(WALLET, ORIGIN, "top-ups", "explained")
    assert ledger.suspended(WALLET, ORIGIN, "top-ups") is None
    assert ledger.reserve(top_up(), []).state == "reserved"


def test_an_overcharge_counts_everywhere_and_stops_the_seller(ledger: SqliteLedger) -> None:
    day = limit("jobs", "day", 200)
    hold = pay(ledger, wish(100), day)
    ledger.overcharge(hold, Usdc(50_000), charge_id="c1", why="took 1.05")
    with pytest.raises(AlreadyResolved):
        ledger.overcharge(hold, Usdc(50_000), charge_id="c1", why="took 1.05")
    assert ledger.suspended(WALLET, ORIGIN, "seller") == "took 1.05"
    ledger.lift(WALLET, ORIGIN, "seller", "owner")
    with pytest.raises(BudgetExceeded) as refused:
        ledger.reserve(wish(96), [day])
    assert refused.value.spent == 1_050_000
    assert ledger.reserve(wish(95), [day]).state == "reserved"


def test_a_refund_lowers_totals_once_and_never_a_window(ledger: SqliteLedger) -> None:
    bounds = [limit("jobs", "ever", 100), limit("jobs", "day", 150), limit("wallet", "ever", 500)]
    hold = pay(ledger, wish(100), *bounds)
    assert ledger.refund(hold, Usdc(9_000_000), charge_id="r1", why="failed").refunded == DOLLAR
    with pytest.raises(AlreadyResolved):
        ledger.refund(hold, DOLLAR, charge_id="r2", why="again")
    spent = {(one.limit.purse, one.limit.window): one.spent for one in ledger.allowances(bounds)}
    assert spent == {("jobs", "ever"): 0, ("jobs", "day"): DOLLAR, ("wallet", "ever"): DOLLAR}


@pytest.mark.parametrize(
    "fields",
    [{"amount": Usdc(0)}, {"amount": Usdc(-1)}, {"amount": Usdc(2**70)}, {"nonce": ""}, {"valid_before": 0},
     {"pay_to": ""}, {"purchase": ""}, {"wallet": ""}, {"origin": ""}],
)  # fmt: skip
def test_what_cannot_be_booked_exactly_is_refused(ledger: SqliteLedger, fields: dict[str, Any]) -> None:
    with pytest.raises(PaymentRefused):
        ledger.reserve(wish()._replace(**fields), [])
    assert ledger.holds() == []


def test_ledger_time_never_runs_back(ledger: SqliteLedger, clock: SteppedClock) -> None:
    first = ledger.reserve(wish(), [])
    clock.at -= 3_600
    second = ledger.reserve(wish(), [])
    assert NOON <= first.created_at < second.created_at <= ledger.now()


def test_holds_are_found_by_wallet_job_state_and_kind(ledger: SqliteLedger) -> None:
    paid = pay(ledger, wish(job_id="one"))
    live = ledger.reserve(top_up(), []).id
    assert [one.id for one in ledger.holds(wallet=WALLET)] == [paid, live]
    assert [one.id for one in ledger.holds(job_id="one")] == [paid]
    assert [one.id for one in ledger.holds(states=["reserved", "signed"])] == [live]
    assert [one.id for one in ledger.holds(kind="topup")] == [live]
    assert ledger.holds(wallet="0x00") == []
    assert ledger.hold(paid).pay_to == SELLER


def test_a_balance_older_than_a_top_up_that_shows_asks_for_no_second_one(ledger: SqliteLedger) -> None:
    before = ledger.now()
    first = ledger.settle(signed(ledger, top_up(purchase="topup:a")), evidence="receipt")
    between = ledger.now()
    ledger.deliver(first.id, "its credit shows")
    for read_at in (before, between):
        with pytest.raises(PaymentUnsettled) as refused:
            ledger.reserve(top_up(purchase="topup:b", read_at=read_at), [])
        assert refused.value.hold_id == first.id
    assert ledger.reserve(top_up(purchase="topup:b", read_at=ledger.now()), []).state == "reserved"
    ledger.void(ledger.holds(states=("reserved",))[0].id, evidence="a test")
    assert ledger.reserve(top_up(purchase="topup:b"), []).state == "reserved", "a person asked for it"
