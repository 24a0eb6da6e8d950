"""The local price follows the seller's list; a quote may be a cent above it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from x402_audio.jsontext import Json
from x402_audio.money import Usdc
from x402_audio.providers.catalog import ModelSpec
from x402_audio.providers.prices import (
    Generation,
    PerSecond,
    PerThousandCharacters,
    agrees,
    price_of,
    read_pricing,
    write_pricing,
)
from x402_audio.providers.provider import AudioRequest


@pytest.mark.parametrize(
    ("model", "seconds", "characters", "usd"),
    [
        ("elevenlabs-music", 3, 20, "0.69"),
        ("elevenlabs-music", 60, 20, "0.69"),
        ("elevenlabs-music", 61, 20, "1.38"),
        ("elevenlabs-music", 180, 20, "2.08"),
        ("elevenlabs-music", 600, 20, "6.90"),
        ("ace-step-15", 61, 20, "0.04"),
        ("stable-audio-25", None, 20, "0.19"),
        ("lyria-3-pro", 30, 20, "0.10"),
        ("elevenlabs-sound-effects-v2", 10, 20, "0.023"),
        ("mmaudio-v2-text-to-audio", 30, 20, "0.0276"),
        ("elevenlabs-tts-v3", None, 1500, "0.1725"),
        ("seed-audio-1-0", None, 20, "0.345"),
        ("seed-audio-1-0", 5, 20, "0.345"),
    ],
)
def test_published_prices_are_multiplied_out_exactly(
    priced: dict[str, ModelSpec], model: str, seconds: int | None, characters: int, usd: str
) -> None:
    audio = AudioRequest("x" * characters, model, duration_seconds=seconds)
    assert price_of(audio, priced[model]) == Usdc.parse_usd(usd)


@pytest.mark.parametrize(
    ("model", "seconds"),
    [("elevenlabs-music", None), ("elevenlabs-music", 601), ("elevenlabs-sound-effects-v2", None)],
)
def test_without_a_length_the_list_prices_nothing(
    priced: dict[str, ModelSpec], model: str, seconds: int | None
) -> None:
    assert price_of(AudioRequest("x" * 20, model, duration_seconds=seconds), priced[model]) is None


def test_the_default_length_is_priced_when_none_is_asked(priced: dict[str, ModelSpec]) -> None:
    spec = replace(priced["elevenlabs-music"], default_duration=61)
    assert price_of(AudioRequest("x" * 20, spec.id), spec) == Usdc.parse_usd("1.38")


def test_characters_are_code_points_of_the_trimmed_prompt() -> None:
    spec = ModelSpec("m", pricing=PerThousandCharacters(Decimal(1)))
    assert price_of(AudioRequest("  é𝄞x \n", "m"), spec) == Usdc.parse_usd("0.003")


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"generation": {"usd": Decimal("-0.1")}},
        {"generation": {"usd": True}},
        {"generation": {"usd": Decimal("NaN")}},
        {"generation": {"usd": Decimal("1E+999999")}},
        {"generation": {"diem": 1}},
        {"generation": {"usd": 1}, "per_second": {"usd": 1}},
        {"durations": {}},
        {"durations": {"60": {"usd": 1, "min_seconds": 61, "max_seconds": 60}}},
        {"durations": {"60": {"usd": 1, "min_seconds": 1, "max_seconds": 60}, "120": {"usd": 2}}},
        {"unheard_of": {"usd": 1}},
    ],
)
def test_an_odd_price_is_no_price(value: Json) -> None:
    assert read_pricing(value) is None


def test_prices_survive_their_cache(priced: dict[str, ModelSpec]) -> None:
    assert len(priced) == 14
    for spec in priced.values():
        assert spec.pricing is not None
        assert read_pricing(write_pricing(spec.pricing)) == spec.pricing


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_quote_agrees_up_to_one_cent_above_and_at_any_figure_below(quote: int, local: int) -> None:
    assert agrees(Usdc(quote), Usdc(local)) == (quote - local <= 10_000)
    assert agrees(Usdc(quote), None)


@given(
    usd=st.decimals(min_value=0, max_value=10, places=6),
    noise=st.integers(-9, 9),
    count=st.integers(1, 600),
)
def test_the_noise_of_binary_numbers_never_reaches_the_price(usd: Decimal, noise: int, count: int) -> None:
    listed = max(usd + Decimal(noise).scaleb(-17), Decimal(0))
    audio = AudioRequest("x" * 20, "m", duration_seconds=count)
    assert price_of(audio, ModelSpec("m", pricing=PerSecond(listed))) == Usdc.charge(usd * count)


@given(st.decimals(min_value=0, max_value=1000, places=9))
def test_a_price_is_never_below_the_list(usd: Decimal) -> None:
    price = price_of(AudioRequest("x", "m"), ModelSpec("m", pricing=Generation(usd)))
    assert price is not None
    assert 0 <= Decimal(int(price)) - usd * 1_000_000 < 1
