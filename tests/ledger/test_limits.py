"""Limits: which one holds, what counts in which window, and when money comes back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.ledger.desk import (
    DOLLAR,
    NOON,
    ORIGIN,
    SELLER,
    SteppedClock,
    draw,
    limit,
    pay,
    signed,
    top_up,
    wish,
)
from x402_audio.errors import BudgetExceeded, LedgerError, PaymentRefused
from x402_audio.ledger.book import Limit
from x402_audio.ledger.limits import merge, name_of
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc


def of(source: Any, cents: int) -> Limit:
    return limit("jobs", "day", cents, source=source)


@pytest.mark.parametrize(
    ("given", "effective"),
    [
        ([of("default", 500)], 500),
        ([of("default", 500), of("flag", 900)], 900),
        ([of("default", 500), of("environment", 300), of("flag", 900)], 300),
        ([of("default", 500), of("file", 800), of("environment", 700), of("flag", 900)], 700),
        ([of("default", 500), of("flag", 0)], 0),
        ([of("ledger", 200), of("flag", 900), of("default", 100)], 200),
    ],
)
def test_the_smallest_explicit_limit_holds_and_a_flag_raises_only_a_default(
    given: list[Limit], effective: int
) -> None:
    assert [one.amount for one in merge(given)] == [effective * 10_000]
    assert merge(reversed(given)) == merge(given)


def test_limits_of_other_windows_purses_and_scopes_stand_beside_each_other() -> None:
    given = [limit("jobs", "day", 1), limit("jobs", "hour", 2), limit("wallet", "day", 3),
             limit("jobs", "day", 4, scope="model:m")]  # fmt: skip
    assert merge(given) == given


@pytest.mark.parametrize("wrong", [{"scope": "planet:mars"}, {"scope": "label:"}, {"amount": Usdc(-1)},
                                   {"purse": "wallet", "window": "job"}])  # fmt: skip
def test_a_limit_nobody_could_keep_is_an_error(ledger: SqliteLedger, wrong: dict[str, Any]) -> None:
    with pytest.raises(LedgerError):
        ledger.set_limit(limit("jobs", "day", 1)._replace(**wrong))


def test_the_ledgers_own_limit_joins_those_given(ledger: SqliteLedger) -> None:
    ledger.set_limit(limit("jobs", "payment", 50))
    with pytest.raises(BudgetExceeded):
        ledger.reserve(wish(51), [limit("jobs", "payment", 100)])
    ledger.set_limit(limit("jobs", "payment", 60))
    assert [(one.amount, one.source) for one in ledger.effective_limits([])] == [(600_000, "ledger")]
    ledger.drop_limit("jobs", "all", "payment")
    assert ledger.reserve(wish(61), [limit("jobs", "payment", 100)]).amount == 610_000


def test_a_refusal_names_the_limit_and_what_is_spent_held_and_needed(ledger: SqliteLedger) -> None:
    day = limit("jobs", "day", 500)
    pay(ledger, wish(300), day)
    signed(ledger, wish(100), day)
    with pytest.raises(BudgetExceeded) as refused:
        ledger.reserve(wish(101), [day])
    error = refused.value
    assert str(error) == "over MAX_PER_DAY $5.00 (environment): spent $3.00, held $1.00, needed $1.01"
    assert (error.amount, error.spent, error.held, error.needed) == (
        5_000_000,
        3_000_000,
        1_000_000,
        1_010_000,
    )
    assert "2026-01-02 12:05:00 UTC" in error.next_step
    assert (error.money_moved, error.retry) == ("no", "later")
    assert ledger.reserve(wish(100), [day]).state == "reserved"


def test_a_limit_is_named_as_people_set_it() -> None:
    assert name_of(limit("wallet", "ever", 100)) == "MAX_TOTAL $1.00 (environment)"
    assert (
        name_of(limit("top-ups", "payment", 0, scope=f"origin:{ORIGIN}"))
        == f"MAX_TOP_UP of origin:{ORIGIN} $0.00 (environment)"
    )


@pytest.mark.parametrize(("window", "length"), [("hour", 3_600), ("day", 86_400)])
def test_a_rolling_window_gives_back_after_its_length_and_not_before(
    ledger: SqliteLedger, clock: SteppedClock, window: Any, length: int
) -> None:
    bound = limit("jobs", window, 100)
    pay(ledger, wish(100), bound)
    clock.at = NOON + length - 1
    with pytest.raises(BudgetExceeded) as refused:
        ledger.reserve(wish(1), [bound])
    back: float = vars(refused.value)["returns_at"]
    assert NOON + length <= back <= NOON + length + 300
    clock.at = back - 1
    with pytest.raises(BudgetExceeded):
        ledger.reserve(wish(1), [bound])
    clock.at = back
    assert ledger.reserve(wish(100), [bound]).state == "reserved"


def test_a_month_is_a_calendar_month_in_utc(ledger: SqliteLedger, clock: SteppedClock) -> None:
    bound = limit("jobs", "month", 100)
    pay(ledger, wish(100), bound)
    clock.at = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC).timestamp()
    with pytest.raises(BudgetExceeded) as refused:
        ledger.reserve(wish(1), [bound])
    clock.at = datetime(2026, 2, 1, tzinfo=UTC).timestamp()
    assert vars(refused.value)["returns_at"] == clock.at
    assert ledger.reserve(wish(100), [bound]).state == "reserved"


def test_a_live_hold_counts_whatever_its_age(ledger: SqliteLedger, clock: SteppedClock) -> None:
    bound = limit("jobs", "hour", 100)
    signed(ledger, wish(100), bound)
    clock.at += 40 * 86_400
    with pytest.raises(BudgetExceeded) as refused:
        ledger.reserve(wish(1), [bound])
    assert (refused.value.held, refused.value.owner) == (DOLLAR, "human")


def test_settled_money_counts_from_when_it_was_settled(ledger: SqliteLedger, clock: SteppedClock) -> None:
    bound = limit("jobs", "hour", 100)
    hold = signed(ledger, wish(100), bound)
    clock.at += 3_000
    ledger.settle(hold, evidence="receipt")
    clock.at += 3_000
    with pytest.raises(BudgetExceeded):
        ledger.reserve(wish(1), [bound])


def test_presumed_money_counts_as_spent_until_it_is_void(ledger: SqliteLedger, clock: SteppedClock) -> None:
    bounds = [limit("jobs", "day", 100), limit("jobs", "ever", 100)]
    hold = signed(ledger, wish(100), *bounds)
    ledger.presume(hold, why="no witness")
    assert [(one.spent, one.held) for one in ledger.allowances(bounds)] == [(DOLLAR, 0), (DOLLAR, 0)]
    clock.at += 3_600
    assert ledger.void(hold, evidence="unused").counted_at is None
    assert [(one.spent, one.left) for one in ledger.allowances(bounds)] == [(0, DOLLAR), (0, DOLLAR)]


def test_a_presumed_hold_that_settles_is_counted_once_and_where_it_was(
    ledger: SqliteLedger, clock: SteppedClock
) -> None:
    hour = limit("jobs", "hour", 100)
    hold = signed(ledger, wish(100), hour)
    ledger.presume(hold, why="no witness")
    clock.at += 3_700
    ledger.settle(hold, evidence="receipt")
    assert [one.spent for one in ledger.allowances([hour, limit("jobs", "ever", 100)])] == [0, DOLLAR]


def test_void_money_comes_back_at_once(ledger: SqliteLedger) -> None:
    bound = limit("jobs", "ever", 100)
    ledger.void(signed(ledger, wish(100), bound), evidence="unused")
    assert ledger.reserve(wish(100), [bound]).state == "reserved"


def test_top_ups_and_payments_share_the_wallet_but_not_the_jobs(ledger: SqliteLedger) -> None:
    total, day, top = limit("wallet", "ever", 600), limit("jobs", "day", 100), limit("top-ups", "day", 500)
    ledger.deliver(pay(ledger, top_up(500), total, day, top), "its credit shows")
    pay(ledger, wish(100), total, day, top)
    assert [one.spent for one in ledger.allowances([total, day, top])] == [6_000_000, DOLLAR, 5_000_000]
    with pytest.raises(BudgetExceeded) as refused:
        ledger.reserve(top_up(1), [total, top._replace(amount=Usdc(9_000_000))])
    assert "MAX_TOTAL" in refused.value.limit


def test_a_payment_limit_looks_at_one_payment_and_a_job_limit_at_its_job(ledger: SqliteLedger) -> None:
    each, job = limit("jobs", "payment", 100), limit("jobs", "job", 150)
    first = pay(ledger, wish(100, job_id="one"), each, job)
    ledger.refund(first, DOLLAR, charge_id="r", why="failed")
    second = signed(ledger, wish(100, job_id="one"), each, job)
    ledger.void(second, evidence="unused")
    ledger.overcharge(first, Usdc(600_000), charge_id="c", why="took more")
    ledger.lift(wish().wallet, ORIGIN, "seller", "owner")
    with pytest.raises(BudgetExceeded) as refused:
        ledger.reserve(wish(100, job_id="one"), [each, job])
    assert (refused.value.spent, "MAX_PER_JOB" in refused.value.limit) == (600_000, True)
    with pytest.raises(BudgetExceeded):
        ledger.reserve(wish(101), [each])
    with pytest.raises(BudgetExceeded):
        ledger.reserve(wish(151), [job])


@pytest.mark.parametrize(
    ("scope", "fields"),
    [(f"origin:{ORIGIN}", {"origin": "https://other.example", "pay_to": SELLER}),
     (f"payee:{SELLER.upper()}", {"origin": "https://other.example", "pay_to": "0x" + "99" * 20}),
     ("model:song", {"model": "other"})],
)  # fmt: skip
def test_a_scope_counts_what_is_its_own_past_included(
    ledger: SqliteLedger, scope: str, fields: dict[str, Any]
) -> None:
    pay(ledger, wish(70, model="song"))
    pay(ledger, wish(70, model="song")._replace(**fields))
    bound = limit("jobs", "day", 100, scope=scope)
    with pytest.raises(BudgetExceeded) as refused:
        ledger.reserve(wish(31, model="song"), [bound])
    assert refused.value.spent == 700_000
    pay(ledger, wish(30, model="song"), bound)
    assert [one.left for one in ledger.allowances([bound])] == [0]
    assert ledger.reserve(wish(500)._replace(**fields), [bound]).state == "reserved"


def test_once_any_label_has_a_limit_others_are_refused(ledger: SqliteLedger) -> None:
    pay(ledger, wish(10, label="anything"))
    bound = limit("jobs", "day", 100, scope="label:jingles")
    assert ledger.reserve(wish(100, label="jingles"), [bound]).label == "jingles"
    for label in ("", "anything"):
        with pytest.raises(PaymentRefused) as refused:
            ledger.reserve(wish(1, label=label), [bound])
        assert not isinstance(refused.value, BudgetExceeded)


def test_credit_draws_count_in_jobs_and_credit_but_not_in_the_wallet(ledger: SqliteLedger) -> None:
    for _ in range(2):
        ledger.record_reading(
            wish().wallet, ORIGIN, Usdc(9_000_000), diem=None, minimum_top_up=Usdc(5_000_000)
        )
    pay(ledger, draw(100))
    found = ledger.allowances(
        [limit(purse, "ever", 900) for purse in ("jobs", "credit", "wallet", "account")]
    )
    assert [one.spent for one in found] == [DOLLAR, DOLLAR, 0, 0]


def test_an_allowance_says_when_the_oldest_part_comes_back(ledger: SqliteLedger, clock: SteppedClock) -> None:
    day = limit("jobs", "day", 500)
    assert ledger.allowances([day])[0].returns_at is None
    pay(ledger, wish(100), day)
    clock.at += 1_000
    pay(ledger, wish(100), day)
    (found,) = ledger.allowances([day])
    assert (found.spent, found.held, found.left, found.returns_at) == (
        2_000_000,
        0,
        3_000_000,
        NOON + 86_400 + 300,
    )
