"""What the sandbox sells: the models of `catalog.json`, what each allows, and what it costs.

Ids, names, voices and prices are the seller's published ones; capabilities that are not published are
plausible. Knows no HTTP and no money but the price of an order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from importlib import resources
from typing import Final

from x402_audio.jsontext import Json, read_json_object
from x402_audio.money import Usdc

RESERVED_SECONDS: Final = 120
"""What a model without a known length (Seed Audio) holds back at queue time."""
_FLAT_SECONDS: Final = 45
_CHARACTERS_PER_SECOND: Final = 15
_FIELDS: Final = frozenset({
    "model", "prompt", "lyrics_prompt", "duration_seconds", "force_instrumental", "lyrics_optimizer", "loop",
    "speed", "language_code", "voice",
})  # fmt: skip
_SWITCHES: Final = {
    "force_instrumental": "supports_force_instrumental",
    "lyrics_optimizer": "supports_lyrics_optimizer",
    "loop": "supports_loop",
}
_LYRICS_UNLESS: Final[Mapping[str, tuple[str, ...]]] = {
    "minimax-music-v2": (),
    "minimax-music-v25": ("force_instrumental", "lyrics_optimizer"),
    "minimax-music-v26": ("force_instrumental",),
}
_DIGITS: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_LANGUAGE: Final = re.compile(r"[a-z]{2}", re.ASCII)
_VOICE_ID: Final = re.compile(r"[A-Za-z0-9]{20}", re.ASCII)
_MICRO: Final = Decimal("0.000001")


class UnknownModel(Exception):
    """No such model."""


class BadRequest(Exception):
    """A body that the seller refuses; `field` is what is wrong with it."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field
        self.text = text


@dataclass(frozen=True, slots=True)
class Order:
    """A checked request: what will be made, and for how much. `final` is the price of the real length."""

    model: str
    name: str
    seconds: int
    audio_format: str
    price: Usdc
    final: Usdc
    at_end: bool


class Catalog:
    """The models by id."""

    def __init__(self) -> None:
        text = resources.files("x402_audio.sandbox").joinpath("catalog.json").read_bytes()
        self.listing = read_json_object(text)
        data = self.listing["data"]
        assert isinstance(data, list)
        self._specs = {
            str(item["id"]): _object(item["model_spec"]) for item in data if isinstance(item, dict)
        }

    def spec(self, model: Json) -> dict[str, Json]:
        """Raises UnknownModel; BadRequest when it is not a text."""
        if not isinstance(model, str):
            raise BadRequest("model", "Required")
        if model not in self._specs:
            raise UnknownModel(model)
        return self._specs[model]

    def quote(self, body: Mapping[str, Json]) -> Usdc:
        """The price of a quote request. Raises UnknownModel, BadRequest."""
        spec = self.spec(body.get("model"))
        for name in sorted(set(body) - {"model", "duration_seconds", "character_count"}):
            raise BadRequest(name, "Unrecognized key")
        per_character = "per_thousand_characters" in _object(spec["pricing"])
        characters = body.get("character_count")
        if per_character:
            limit = _whole(spec.get("prompt_character_limit"), 10_000)
            if not isinstance(characters, int) or isinstance(characters, bool) or not 0 < characters <= limit:
                raise BadRequest("character_count", f"Required, 1 to {limit}")
        elif "character_count" in body:
            raise BadRequest("character_count", "Not supported by this model")
        seconds = _duration(spec, body)
        return _price(spec, seconds, characters if isinstance(characters, int) else 0)

    def order(self, body: Mapping[str, Json]) -> Order:
        """Check a queue request against the model. Raises UnknownModel, BadRequest."""
        spec = self.spec(body.get("model"))
        for name in sorted(set(body) - _FIELDS):
            raise BadRequest(name, "Unrecognized key")
        prompt = body.get("prompt")
        if not isinstance(prompt, str):
            raise BadRequest("prompt", "Required")
        prompt = prompt.strip()
        low, high = (
            _whole(spec.get("min_prompt_length"), 10),
            _whole(spec.get("prompt_character_limit"), 10_000),
        )
        if not low <= len(prompt) <= high:
            raise BadRequest("prompt", f"Must be {low} to {high} characters")
        _check_lyrics(str(body["model"]), spec, body)
        _check_manner(spec, body)
        duration = _duration(spec, body)
        seconds = duration if _has_duration(spec) else _natural_seconds(spec, len(prompt))
        at_end = not _has_duration(spec) and "per_second" in _object(spec["pricing"])
        return Order(
            model=str(body["model"]),
            name=str(spec["name"]),
            seconds=seconds,
            audio_format=str(spec["default_format"]),
            price=_price(spec, duration, len(prompt)),
            final=_price(spec, seconds, len(prompt)),
            at_end=at_end,
        )


def _check_lyrics(model: str, spec: Mapping[str, Json], body: Mapping[str, Json]) -> None:
    for field, capability in _SWITCHES.items():
        if field in body:
            if spec.get(capability) is not True:
                raise BadRequest(field, "Not supported by this model")
            if not isinstance(body[field], bool):
                raise BadRequest(field, "Expected boolean")
    lyrics = body.get("lyrics_prompt")
    if "lyrics_prompt" in body:
        if spec.get("supports_lyrics") is not True:
            raise BadRequest("lyrics_prompt", "Not supported by this model")
        limit = _whole(spec.get("lyrics_character_limit"), 4096)
        if not isinstance(lyrics, str) or not 0 < len(lyrics.strip()) <= limit:
            raise BadRequest("lyrics_prompt", f"Must be 1 to {limit} characters")
        if body.get("lyrics_optimizer") is True:
            raise BadRequest("lyrics_optimizer", "Cannot be combined with lyrics_prompt")
    elif spec.get("lyrics_required") is True:
        raise BadRequest("lyrics_prompt", "Required")
    excused = model not in _LYRICS_UNLESS or any(body.get(way) is True for way in _LYRICS_UNLESS[model])
    if not excused and (not isinstance(lyrics, str) or len(lyrics.strip()) < 10):
        raise BadRequest("lyrics_prompt", "At least 10 characters of lyrics")


def _check_manner(spec: Mapping[str, Json], body: Mapping[str, Json]) -> None:
    if "speed" in body:
        speed = body["speed"]
        if spec.get("supports_speed") is not True:
            raise BadRequest("speed", "Not supported by this model")
        low, high = _decimal(spec.get("min_speed"), "0.25"), _decimal(spec.get("max_speed"), "4")
        if not isinstance(speed, int | Decimal) or isinstance(speed, bool) or not low <= speed <= high:
            raise BadRequest("speed", f"Must be {low} to {high}")
    if "language_code" in body:
        if spec.get("supports_language_code") is not True:
            raise BadRequest("language_code", "Not supported by this model")
        if not isinstance(body["language_code"], str) or not _LANGUAGE.fullmatch(body["language_code"]):
            raise BadRequest("language_code", "Expected an ISO 639-1 code")
    if "voice" in body:
        voice, voices = body["voice"], spec.get("voices")
        if not isinstance(voices, list):
            raise BadRequest("voice", "Not supported by this model")
        own = (
            spec.get("supports_custom_voice_id") is True
            and isinstance(voice, str)
            and _VOICE_ID.fullmatch(voice)
        )
        if voice not in voices and not own:
            raise BadRequest("voice", "Unknown voice")


def _has_duration(spec: Mapping[str, Json]) -> bool:
    return "duration_options" in spec or "min_duration" in spec


def _duration(spec: Mapping[str, Json], body: Mapping[str, Json]) -> int:
    """Seconds asked for, the model's default, or what is reserved when it has no duration."""
    if not _has_duration(spec):
        if "duration_seconds" in body:
            raise BadRequest("duration_seconds", "Not supported by this model")
        return RESERVED_SECONDS
    if "duration_seconds" not in body:
        return _whole(spec.get("default_duration"), _FLAT_SECONDS)
    asked = body["duration_seconds"]
    if isinstance(asked, str) and _DIGITS.fullmatch(asked):
        asked = int(asked)
    if not isinstance(asked, int) or isinstance(asked, bool):
        raise BadRequest("duration_seconds", "Expected an integer")
    options = spec.get("duration_options")
    if isinstance(options, list):
        if asked not in options:
            raise BadRequest("duration_seconds", f"Must be one of {', '.join(map(str, options))}")
    elif not _whole(spec.get("min_duration"), 1) <= asked <= _whole(spec.get("max_duration"), 600):
        raise BadRequest(
            "duration_seconds", f"Must be {spec.get('min_duration')} to {spec.get('max_duration')}"
        )
    return asked


def _natural_seconds(spec: Mapping[str, Json], characters: int) -> int:
    if "generation" in _object(spec["pricing"]):
        return _FLAT_SECONDS
    return max(1, min(RESERVED_SECONDS, -(-characters // _CHARACTERS_PER_SECOND)))


def _price(spec: Mapping[str, Json], seconds: int, characters: int) -> Usdc:
    pricing = _object(spec["pricing"])
    if "durations" in pricing:
        for tier in map(_object, _object(pricing["durations"]).values()):
            if _whole(tier.get("min_seconds"), 0) <= seconds <= _whole(tier.get("max_seconds"), 0):
                return _usdc(_decimal(tier.get("usd"), "0"))
        raise BadRequest("duration_seconds", "No price for this length")
    if "generation" in pricing:
        return _usdc(_decimal(_object(pricing["generation"]).get("usd"), "0"))
    if "per_second" in pricing:
        return _usdc(_decimal(_object(pricing["per_second"]).get("usd"), "0") * seconds)
    return _usdc(_decimal(_object(pricing["per_thousand_characters"]).get("usd"), "0") * characters / 1000)


def _usdc(usd: Decimal) -> Usdc:
    """Listed prices carry binary noise in the 17th digit; round it away, then to a charge."""
    return Usdc.charge(usd.quantize(_MICRO, rounding=ROUND_HALF_UP))


def _object(value: Json) -> dict[str, Json]:
    assert isinstance(value, dict)
    return value


def _whole(value: Json, absent: int) -> int:
    return value if isinstance(value, int) else absent


def _decimal(value: Json, absent: str) -> Decimal:
    return Decimal(value) if isinstance(value, int | Decimal) else Decimal(absent)
