"""Money is an exact integer: texts are read in one grammar each, rounding goes against us, no float gets in."""

from __future__ import annotations

import pickle
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from x402_audio.money import CENT, UINT256_MAX, ZERO, Usdc

atomic = st.integers(-(10**18), 10**18)
dollars = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**11), max_value=10**11)


@given(st.integers(1, UINT256_MAX))
def test_a_wire_amount_is_read_digit_by_digit(amount: int) -> None:
    assert Usdc.from_atomic(str(amount)) == amount


@given(st.text(max_size=90))
def test_any_other_text_is_no_wire_amount(text: str) -> None:
    plain = text.isascii() and text.isdigit() and not text.startswith("0") and int(text) <= UINT256_MAX
    if plain:
        assert Usdc.from_atomic(text) == int(text)
    else:
        with pytest.raises(ValueError):
            Usdc.from_atomic(text)


@pytest.mark.parametrize(
    "text",
    [
        "0", "00", "01", "1.0", "1e3", "-1", "+1", " 1", "1 ", "1\n", "", "0x10", "1_000", "\uff11", "\u0661", "\u00b2",
        str(UINT256_MAX + 1), "9" * 78, "9" * 100_000,
    ],
)  # fmt: skip
def test_what_only_looks_like_a_wire_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Usdc.from_atomic(text)


@pytest.mark.parametrize("value", [1, 1.0, True, None, b"1", ["1"]])
def test_a_wire_amount_is_text(value: Any) -> None:
    with pytest.raises(ValueError):
        Usdc.from_atomic(value)


@given(st.integers(0, 10**18 - 1))
def test_what_is_shown_can_be_typed_again(amount: int) -> None:
    assert Usdc.parse_usd(Usdc(amount).usd) == amount
    assert Usdc.parse_usd(f"  {Usdc(amount).usd}\n") == amount


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1", 1_000_000),
        ("0.75", 750_000),
        ("0.000001", 1),
        ("0.7500000000", 750_000),
        ("007", 7_000_000),
        ("0", 0),
    ],
)
def test_plain_dollars_are_read(text: str, amount: int) -> None:
    assert Usdc.parse_usd(text) == amount


@pytest.mark.parametrize(
    "text",
    ["", "-1", "+1", "1e3", "1,5", "1.", ".5", "$1", "1 000", "0.0000001", "1.0000005", "nan", "inf", "\uff11", "1" * 13, "0x1"],
)  # fmt: skip
def test_what_is_no_plain_dollar_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Usdc.parse_usd(text)


@pytest.mark.parametrize("value", [1, 0.5, None, Decimal(1)])
def test_dollars_are_typed_as_text(value: Any) -> None:
    with pytest.raises(ValueError):
        Usdc.parse_usd(value)


@given(dollars)
def test_charges_are_rounded_up_and_credits_down(usd: Decimal) -> None:
    exact = Fraction(usd) * 1_000_000
    assert 0 <= int(Usdc.charge(usd)) - exact < 1
    assert 0 <= exact - int(Usdc.credit(usd)) < 1


@pytest.mark.parametrize("usd", ["NaN", "sNaN", "Infinity", "-Infinity", "1e12", "-1e12", "1e999999"])
def test_a_figure_that_is_not_finite_or_not_sane_is_refused(usd: str) -> None:
    for read in (Usdc.charge, Usdc.credit):
        with pytest.raises(ValueError):
            read(Decimal(usd))


def test_a_tiny_figure_costs_one_unit_and_gives_none() -> None:
    assert (Usdc.charge(Decimal("6.6e-7")), Usdc.credit(Decimal("6.6e-7"))) == (1, 0)
    assert (Usdc.charge(Decimal("-6.6e-7")), Usdc.credit(Decimal("-6.6e-7"))) == (0, -1)
    assert (Usdc.charge(Decimal("1e-999999")), Usdc.credit(Decimal("1e-999999"))) == (1, 0)


@pytest.mark.parametrize("value", [0.69, "0.69", 1, None, True])
def test_a_sellers_figure_is_a_decimal(value: Any) -> None:
    with pytest.raises(ValueError):
        Usdc.charge(value)


@given(atomic, atomic)
def test_sums_and_differences_stay_exact_and_stay_money(a: int, b: int) -> None:
    for result, expected in (
        (Usdc(a) + b, a + b),
        (a + Usdc(b), a + b),
        (Usdc(a) - b, a - b),
        (-Usdc(a), -a),
    ):
        assert type(result) is Usdc
        assert result == expected
    total = sum([Usdc(a), Usdc(b)], ZERO)
    assert type(total) is Usdc and total == a + b


@pytest.mark.parametrize("other", [0.5, 1.0, True, "1", None, Decimal(1)])
def test_money_meets_only_whole_numbers(other: Any) -> None:
    with pytest.raises(TypeError):
        _ = Usdc(1) + other
    with pytest.raises(TypeError):
        _ = Usdc(1) - other
    with pytest.raises(TypeError):
        Usdc(other)


@given(st.integers(0, 10**15))
def test_the_next_cent_is_the_smallest_that_is_not_less(amount: int) -> None:
    cents = Usdc(amount).ceil_to_cent()
    assert type(cents) is Usdc
    assert cents % CENT == 0
    assert 0 <= cents - amount < CENT


@pytest.mark.parametrize(
    ("amount", "usd"),
    [
        (690_000, "0.69"),
        (2_300, "0.0023"),
        (0, "0.00"),
        (1, "0.000001"),
        (5_000_000, "5.00"),
        (-690_000, "-0.69"),
        (-1, "-0.000001"),
    ],
)
def test_dollars_are_shown_with_two_decimals_at_least(amount: int, usd: str) -> None:
    assert Usdc(amount).usd == usd
    assert (str(Usdc(amount)), repr(Usdc(amount))) == (f"${usd}", f"Usdc({amount})")
    assert f"{Usdc(amount):>12}" == f"{'$' + usd:>12}"


def test_money_is_an_integer_to_everybody_else() -> None:
    assert {Usdc(5): 1}[5 and Usdc(5)] == 1
    assert pickle.loads(pickle.dumps(Usdc(7))) == 7
    assert max(Usdc(3), 2) == 3
    assert int(Usdc(3)).__class__ is int
