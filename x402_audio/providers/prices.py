"""What a request should cost by the seller's own list: four price shapes and a local figure to hold a quote against.

Only the quote is a price. Listed figures carry binary noise (0.0023000000000000004), so they stay Decimals until
they are multiplied out, then become a charge in atomic units. Knows no HTTP and no limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final

from x402_audio.jsontext import Json
from x402_audio.money import CENT, Usdc

if TYPE_CHECKING:
    from x402_audio.providers.catalog import ModelSpec
    from x402_audio.providers.provider import AudioRequest

RESERVED_SECONDS: Final = 120
"""What Seed Audio, whose length nobody knows before, holds back when it is queued."""
TIERS_MAX: Final = 100
USD_MAX: Final = Decimal(1_000_000)
_NOISE: Final = Decimal("1e-12")
_DECIMAL_CHARS_MAX: Final = 40


@dataclass(frozen=True, slots=True)
class Tier:
    """Price of every length from `min_seconds` to `max_seconds`, both included; usd in dollars."""

    min_seconds: int
    max_seconds: int
    usd: Decimal


@dataclass(frozen=True, slots=True)
class Durations:
    """A price per span of length."""

    tiers: tuple[Tier, ...]

    def tier(self, seconds: int) -> Tier | None:
        """The tier this length falls into."""
        return next((tier for tier in self.tiers if tier.min_seconds <= seconds <= tier.max_seconds), None)


@dataclass(frozen=True, slots=True)
class Generation:
    """One price for one track, in dollars."""

    usd: Decimal


@dataclass(frozen=True, slots=True)
class PerSecond:
    """Dollars for each second."""

    usd: Decimal


@dataclass(frozen=True, slots=True)
class PerThousandCharacters:
    """Dollars for a thousand characters of the trimmed prompt."""

    usd: Decimal


Pricing = Durations | Generation | PerSecond | PerThousandCharacters
_FLAT: Final[Mapping[str, type[Generation | PerSecond | PerThousandCharacters]]] = {
    "generation": Generation, "per_second": PerSecond, "per_thousand_characters": PerThousandCharacters,
}  # fmt: skip


def price_of(audio: AudioRequest, spec: ModelSpec) -> Usdc | None:
    """The list price in atomic units, None when the list does not say; characters are code points."""
    pricing, seconds = spec.pricing, audio.duration_seconds or spec.default_duration
    match pricing:
        case Generation(usd):
            return _charge(usd)
        case PerThousandCharacters(usd):
            return _charge(usd * len(audio.prompt.strip()) / 1000)
        case PerSecond(usd) if audio.model.startswith("seed-audio-"):
            return _charge(usd * RESERVED_SECONDS)
        case PerSecond(usd) if seconds is not None:
            return _charge(usd * seconds)
        case Durations() if seconds is not None:
            tier = pricing.tier(seconds)
            return None if tier is None else _charge(tier.usd)
    return None


def size_of(audio: AudioRequest, spec: ModelSpec | None) -> str:
    """What the price of a request depends on besides the model, in one spelling: prices of one size compare."""
    seconds = audio.duration_seconds or (spec.default_duration if spec is not None else None)
    match spec.pricing if spec is not None else None:
        case Generation():
            return "one track"
        case Durations() as pricing if seconds is not None and (tier := pricing.tier(seconds)) is not None:
            return f"{tier.min_seconds}-{tier.max_seconds} s"
        case PerThousandCharacters():
            seconds = None
    return f"{len(audio.prompt.strip())} characters" if seconds is None else f"{seconds} s"


def agrees(quote: Usdc, local: Usdc | None) -> bool:
    """Whether a quote is at most a cent above our own figure (tiers look rounded up); True with nothing to compare."""
    return local is None or quote <= local + CENT


def read_pricing(value: Json) -> Pricing | None:
    """The one known shape in `model_spec.pricing`; None when there is none, more than one, or an odd figure in it."""
    if not isinstance(value, dict):
        return None
    found = [name for name in ("durations", *_FLAT) if name in value]
    if len(found) != 1:
        return None
    name, inner = found[0], value[found[0]]
    if not isinstance(inner, dict):
        return None
    if name == "durations":
        return _read_tiers(inner)
    usd = _usd(inner)
    return None if usd is None else _FLAT[name](usd)


def write_pricing(pricing: Pricing | None) -> Json:
    """The same shape back, dollars as decimal text, for a cache."""
    if isinstance(pricing, Durations):
        return {
            "durations": {
                str(number): {
                    "usd": str(tier.usd), "min_seconds": tier.min_seconds, "max_seconds": tier.max_seconds,
                }
                for number, tier in enumerate(pricing.tiers)
            }
        }  # fmt: skip
    for name, shape in _FLAT.items():
        if isinstance(pricing, shape):
            return {name: {"usd": str(pricing.usd)}}
    return None


def decimal_of(value: Json) -> Decimal | None:
    """A JSON number or short decimal text, finite; a boolean is none."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return None
    if isinstance(value, str) and (len(value) > _DECIMAL_CHARS_MAX or not value.isascii()):
        return None
    try:
        number = Decimal(value)
    except InvalidOperation:
        return None
    # As text it must fit too: a cache keeps it so, and must give the same figure back.
    return number if number.is_finite() and len(str(number)) <= _DECIMAL_CHARS_MAX else None


def whole_of(value: Json) -> int | None:
    """A whole number from 0 to 10^9, also written as 60.0 or "60"."""
    number = decimal_of(value)
    if number is None or not 0 <= number <= 10**9 or number != int(number):
        return None
    return int(number)


def _read_tiers(value: Mapping[str, Json]) -> Durations | None:
    """All tiers or nothing: with one missing, a length could be priced by the wrong one."""
    if not 0 < len(value) <= TIERS_MAX:
        return None
    tiers = []
    for item in value.values():
        if not isinstance(item, dict):
            return None
        low, high, usd = whole_of(item.get("min_seconds")), whole_of(item.get("max_seconds")), _usd(item)
        if low is None or high is None or usd is None or low > high:
            return None
        tiers.append(Tier(low, high, usd))
    return Durations(tuple(sorted(tiers, key=lambda tier: tier.min_seconds)))


def _usd(value: Mapping[str, Json]) -> Decimal | None:
    usd = decimal_of(value.get("usd"))
    return usd if usd is not None and 0 <= usd <= USD_MAX else None


def _charge(usd: Decimal) -> Usdc | None:
    """Take the noise of the list away, then round up like every charge; None beyond any honest price."""
    return Usdc.charge(usd.quantize(_NOISE)) if usd <= USD_MAX else None
