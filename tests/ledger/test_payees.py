"""Who may be paid: the owner's setting, the ledger's rows, the expected address, else the first pin."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ledger.desk import ORIGIN, OTHER_SELLER, SELLER, draw, limit, pay, signed, wish
from x402_audio.errors import BudgetExceeded, PayeeRefused
from x402_audio.ledger.book import Payee, PayeeRule
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc

NETWORK = "eip155:8453"


def row(state: Any, address: str = SELLER) -> Payee:
    return Payee(ORIGIN, NETWORK, address, state, "owner")


def states(ledger: SqliteLedger) -> list[tuple[str, str]]:
    return [(one.address, one.state) for one in ledger.payees()]


def test_the_first_payment_pins_and_settlement_makes_it_firm(ledger: SqliteLedger) -> None:
    hold = signed(ledger, wish())
    assert states(ledger) == [(SELLER, "provisional")]
    with pytest.raises(PayeeRefused):
        ledger.reserve(wish(pay_to=OTHER_SELLER), [])
    ledger.settle(hold, evidence="receipt")
    assert states(ledger) == [(SELLER, "pinned")]
    assert ledger.reserve(wish(pay_to=SELLER.upper().replace("X", "x")), []).state == "reserved"
    with pytest.raises(PayeeRefused):
        ledger.reserve(wish(pay_to=OTHER_SELLER), [])


def test_a_void_drops_the_pin_unless_another_hold_stands_on_it(ledger: SqliteLedger) -> None:
    first, second = signed(ledger, wish()), signed(ledger, wish())
    ledger.void(first, evidence="unused")
    assert states(ledger) == [(SELLER, "provisional")]
    ledger.void(second, evidence="unused")
    assert states(ledger) == []
    assert ledger.reserve(wish(pay_to=OTHER_SELLER), []).pay_to == OTHER_SELLER


def test_a_firm_pin_survives_a_void(ledger: SqliteLedger) -> None:
    pay(ledger, wish())
    ledger.void(signed(ledger, wish()), evidence="unused")
    assert states(ledger) == [(SELLER, "pinned")]


def test_a_pin_holds_for_its_origin_and_network_alone(ledger: SqliteLedger) -> None:
    pay(ledger, wish())
    assert ledger.reserve(wish(origin="https://other.example", pay_to=OTHER_SELLER), []).state == "reserved"
    assert ledger.reserve(wish(network="eip155:84532", pay_to=OTHER_SELLER), []).state == "reserved"


def test_the_allowed_set_names_who_may_be_paid_where_nobody_is_pinned(ledger: SqliteLedger) -> None:
    rule = PayeeRule(allowed=frozenset({SELLER, OTHER_SELLER.upper().replace("X", "x")}))
    assert ledger.reserve(wish(pay_to=OTHER_SELLER), [], rule).state == "reserved"
    assert ledger.reserve(wish(pay_to=SELLER), [], rule).state == "reserved"
    with pytest.raises(PayeeRefused):
        ledger.reserve(wish(pay_to="0x" + "99" * 20), [], rule)


def test_no_setting_changes_who_is_pinned(ledger: SqliteLedger) -> None:
    pay(ledger, wish())
    with pytest.raises(PayeeRefused) as refused:
        ledger.reserve(wish(pay_to=OTHER_SELLER), [], PayeeRule(allowed=frozenset({OTHER_SELLER})))
    assert refused.value.next_step.endswith(f"x402-audio payees pin {ORIGIN} {OTHER_SELLER}")


@pytest.mark.parametrize("state", ["allowed", "pinned"])
def test_a_named_payee_never_replaces_one_that_is_known(ledger: SqliteLedger, state: Any) -> None:
    ledger.set_payee(row(state))
    for asked in (SELLER, OTHER_SELLER):
        with pytest.raises(PayeeRefused) as refused:
            ledger.reserve(wish(pay_to=asked), [], PayeeRule(only=OTHER_SELLER))
        assert refused.value.next_step.endswith(f"x402-audio payees pin {ORIGIN} {OTHER_SELLER}")
    assert ledger.reserve(wish(), [], PayeeRule(only=SELLER.upper().replace("X", "x"))).state == "reserved"


def test_a_named_payee_narrows_whatever_else_is_allowed(ledger: SqliteLedger) -> None:
    allowed = frozenset({SELLER, OTHER_SELLER})
    for rule in (
        PayeeRule(only=OTHER_SELLER),
        PayeeRule(allowed=allowed, only=OTHER_SELLER),
        PayeeRule(expected=SELLER, only=OTHER_SELLER),
    ):
        with pytest.raises(PayeeRefused):
            ledger.reserve(wish(), [], rule)
    with pytest.raises(PayeeRefused):
        ledger.reserve(wish(), [], PayeeRule(allowed=frozenset({OTHER_SELLER}), only=SELLER))
    with pytest.raises(PayeeRefused):
        ledger.reserve(wish(), [], PayeeRule(expected=OTHER_SELLER, only=SELLER))
    ledger.set_payee(row("any", ""))
    with pytest.raises(PayeeRefused):
        ledger.reserve(wish(), [], PayeeRule(only=OTHER_SELLER))
    assert ledger.reserve(wish(), [], PayeeRule(only=SELLER)).state == "reserved"


def test_a_payee_that_was_only_named_is_pinned_like_any_first_one(ledger: SqliteLedger) -> None:
    ledger.settle(ledger.reserve(wish(), [], PayeeRule(only=SELLER)).id, evidence="receipt")
    assert states(ledger) == [(SELLER, "pinned")]


def test_a_provisional_pin_is_no_match_for_the_owners_allowed_set(ledger: SqliteLedger) -> None:
    signed(ledger, wish())
    with pytest.raises(PayeeRefused):
        ledger.reserve(wish(), [], PayeeRule(allowed=frozenset({OTHER_SELLER})))


@pytest.mark.parametrize("state", ["allowed", "pinned", "any"])
def test_a_row_of_the_ledger_also_permits(ledger: SqliteLedger, state: Any) -> None:
    ledger.set_payee(row(state))
    rule = PayeeRule(allowed=frozenset({OTHER_SELLER}), expected=OTHER_SELLER)
    assert ledger.reserve(wish(), [], rule).pay_to == SELLER


def test_any_lets_an_origin_change_its_address(ledger: SqliteLedger) -> None:
    ledger.set_payee(row("any", ""))
    pay(ledger, wish())
    pay(ledger, wish(pay_to=OTHER_SELLER))
    assert states(ledger) == [("", "any")]


def test_an_expected_address_is_held_to_and_not_pinned(ledger: SqliteLedger) -> None:
    rule = PayeeRule(expected=SELLER)
    with pytest.raises(PayeeRefused):
        ledger.reserve(wish(pay_to=OTHER_SELLER), [], rule)
    assert ledger.reserve(wish(), [], rule).state == "reserved"
    assert ledger.payees() == []


def test_a_refused_reservation_pins_nothing(ledger: SqliteLedger) -> None:
    with pytest.raises(BudgetExceeded):
        ledger.reserve(wish(100), [limit("jobs", "day", 99)])
    assert (ledger.payees(), ledger.events()) == ([], [])


def test_draws_have_no_payee(ledger: SqliteLedger) -> None:
    for _ in range(2):
        ledger.record_reading(wish().wallet, ORIGIN, Usdc(9_000_000), diem=None, minimum_top_up=Usdc(0))
    pay(ledger, draw())
    assert ledger.payees() == []


def test_the_owner_may_drop_a_pin(ledger: SqliteLedger) -> None:
    pay(ledger, wish())
    ledger.drop_payee(ORIGIN, NETWORK, SELLER.upper().replace("X", "x"))
    assert ledger.reserve(wish(pay_to=OTHER_SELLER), []).state == "reserved"
