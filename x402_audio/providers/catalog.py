"""What a model can do, as its seller says, and whether a request fits before any money is spoken of.

None means the seller did not say. Rule for what a list leaves out: a list that states any `supports_*` speaks of all
of them, so an ability it leaves out is not there (the presence of such a field is a 400 at the seller). A list that
states none (a snapshot of prices) proves nothing, and everything passes that no other figure forbids.
Knows no HTTP and no prices but their shape.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NoReturn

from x402_audio.errors import RequestInvalid
from x402_audio.jsontext import Json, read_json_object, write_json
from x402_audio.providers.answers import quoted
from x402_audio.providers.prices import Durations, Pricing, decimal_of, read_pricing, whole_of, write_pricing

if TYPE_CHECKING:
    from x402_audio.providers.provider import AudioRequest

PROMPT_MIN: Final = 10
LYRICS_MAX: Final = 4096
SPEED_MIN: Final = Decimal("0.25")
SPEED_MAX: Final = Decimal(4)
MODELS_MAX: Final = 2000
LIST_MAX: Final = 500
LYRICS_UNLESS: Final[Mapping[str, tuple[str, ...]]] = {
    "minimax-music-v2": (),
    "minimax-music-v25": ("instrumental", "lyrics_optimizer"),
    "minimax-music-v26": ("instrumental",),
}
"""Rules no model list states: these models need ten characters of lyrics unless one of these is asked."""
_OTHER_TYPES: Final = frozenset({"asr", "embedding", "image", "text", "tts", "upscale", "inpaint", "video"})
_MODEL_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}", re.ASCII)
_LANGUAGE: Final = re.compile(r"[a-z]{2}", re.ASCII)
SPEED: Final = re.compile(r"[0-9]{1,2}(\.[0-9]{1,6})?", re.ASCII)
_OWN_VOICE: Final = re.compile(r"[A-Za-z0-9]{16,40}", re.ASCII)
_WIRE_NAMES: Final[Mapping[str, str]] = {"beta": "betaModel"}


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model by the names its seller uses. Lengths in characters, durations in whole seconds; None: not said."""

    id: str
    name: str = ""
    description: str = ""
    privacy: str | None = None
    offline: bool | None = None
    beta: bool | None = None
    pricing: Pricing | None = None
    supports_lyrics: bool | None = None
    lyrics_required: bool | None = None
    lyrics_character_limit: int | None = None
    supports_lyrics_optimizer: bool | None = None
    supports_force_instrumental: bool | None = None
    supports_loop: bool | None = None
    supports_language_code: bool | None = None
    supports_speed: bool | None = None
    default_speed: Decimal | None = None
    min_speed: Decimal | None = None
    max_speed: Decimal | None = None
    voices: tuple[str, ...] | None = None
    default_voice: str | None = None
    supports_custom_voice_id: bool | None = None
    voice_changer: bool | None = None
    duration_options: tuple[int, ...] | None = None
    min_duration: int | None = None
    max_duration: int | None = None
    default_duration: int | None = None
    min_prompt_length: int | None = None
    prompt_character_limit: int | None = None
    supported_formats: tuple[str, ...] | None = None
    default_format: str | None = None

    @property
    def states_abilities(self) -> bool:
        """Whether the list says of any `supports_*` if it is there."""
        return any(
            getattr(self, field.name) is not None
            for field in fields(self)
            if field.name.startswith("supports_")
        )

    @property
    def takes_duration(self) -> bool | None:
        """Whether a length can be asked for; None when the list does not say."""
        if self.duration_options or self.min_duration is not None or self.max_duration is not None:
            return True
        if self.duration_options is not None or self.states_abilities:
            return False
        return None

    def to_json(self) -> str:
        """This spec as JSON text for a cache; `from_json` gives an equal one back."""
        said: dict[str, Json] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "pricing":
                said["pricing"] = write_pricing(value)
            elif field.name != "id" and value is not None:
                said[_WIRE_NAMES.get(field.name, field.name)] = _plain(value)
        return write_json({"id": self.id, "model_spec": said})

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Raises ValueError when this is not a spec."""
        spec = _read_model(read_json_object(text))
        if spec is None:
            raise ValueError("not a model")
        return spec


def read_model_specs(value: Json) -> tuple[ModelSpec, ...]:
    """The music models of a parsed `/models` answer; what cannot be read is left out, the first of an id stays."""
    data = value.get("data") if isinstance(value, dict) else value
    if not isinstance(data, list):
        return ()
    specs: dict[str, ModelSpec] = {}
    for item in data[:MODELS_MAX]:
        spec = _read_model(item)
        if spec is not None:
            specs.setdefault(spec.id, spec)
    return tuple(specs.values())


def check_request(audio: AudioRequest, spec: ModelSpec) -> None:
    """Refuse what this model cannot do. Raises RequestInvalid (field, value, allowed)."""
    _check_prompt(audio, spec)
    _check_duration(audio, spec)
    _check_lyrics(audio, spec)
    for field, asked, ability in (
        ("instrumental", audio.instrumental, spec.supports_force_instrumental),
        ("loop", audio.loop, spec.supports_loop),
        ("lyrics_optimizer", audio.lyrics_optimizer, spec.supports_lyrics_optimizer),
    ):
        if asked is not None:
            _need(spec, ability, field, asked)
    _check_voice(audio, spec)
    _check_speed(audio, spec)
    if audio.language is not None:
        _need(spec, spec.supports_language_code, "language", audio.language)
        if not _LANGUAGE.fullmatch(audio.language):
            _refuse(spec, "language", audio.language, "an ISO 639-1 code, two small letters like en")


# --- reading


def _read_model(item: Json) -> ModelSpec | None:
    if not isinstance(item, dict):
        return None
    kind = item.get("type")
    if isinstance(kind, str) and kind in _OTHER_TYPES:
        return None
    model_id, said = item.get("id"), item.get("model_spec", {})
    if not isinstance(model_id, str) or not _MODEL_ID.fullmatch(model_id) or not isinstance(said, dict):
        return None
    known: dict[str, Any] = {}
    for field, read in _READERS.items():
        value = read(said.get(_WIRE_NAMES.get(field, field)))
        if value is not None:
            known[field] = value
    return ModelSpec(id=model_id, **known)


def _flag(value: Json) -> bool | None:
    return value if isinstance(value, bool) else None


def _text(value: Json) -> str | None:
    return quoted(value) if isinstance(value, str) and value else None


def _texts(value: Json) -> tuple[str, ...] | None:
    if not isinstance(value, list):
        return None
    return tuple(item for item in value[:LIST_MAX] if isinstance(item, str) and item and item == quoted(item))


def _wholes(value: Json) -> tuple[int, ...] | None:
    if not isinstance(value, list):
        return None
    return tuple(number for item in value[:LIST_MAX] if (number := whole_of(item)))


def _speed(value: Json) -> Decimal | None:
    number = decimal_of(value)
    return number if number is not None and 0 < number <= 100 else None


_READERS: Final[Mapping[str, Callable[[Json], object]]] = {
    "pricing": read_pricing, "voices": _texts, "supported_formats": _texts, "duration_options": _wholes,
    **dict.fromkeys(("name", "description", "privacy", "default_voice", "default_format"), _text),
    **dict.fromkeys((
        "offline", "beta", "supports_lyrics", "lyrics_required", "supports_lyrics_optimizer",
        "supports_force_instrumental", "supports_loop", "supports_language_code", "supports_speed",
        "supports_custom_voice_id", "voice_changer",
    ), _flag),
    **dict.fromkeys((
        "lyrics_character_limit", "min_duration", "max_duration", "default_duration", "min_prompt_length",
        "prompt_character_limit",
    ), whole_of),
    **dict.fromkeys(("default_speed", "min_speed", "max_speed"), _speed),
}  # fmt: skip


def _plain(value: object) -> Json:
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, bool | int | str):
        return value
    return str(value)


# --- checking


def _check_prompt(audio: AudioRequest, spec: ModelSpec) -> None:
    for field, text in (("prompt", audio.prompt), ("lyrics", audio.lyrics or "")):
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            _refuse(spec, field, len(text), "whole Unicode characters", shown="with half a character")
    low = PROMPT_MIN if spec.min_prompt_length is None else max(spec.min_prompt_length, 1)
    high, length = spec.prompt_character_limit, len(audio.prompt.strip())
    if length < low or (high is not None and length > high):
        _refuse(spec, "prompt", length, f"{_span(low, high)} characters", shown=f"of {length} characters")


def _check_duration(audio: AudioRequest, spec: ModelSpec) -> None:
    seconds = audio.duration_seconds
    if seconds is None:
        return
    if type(seconds) is not int:  # a boolean or a text from an untyped caller would be compared, or raise
        _refuse(spec, "duration_seconds", repr(seconds), "a whole number of seconds")
    low, high, options = spec.min_duration or 1, spec.max_duration, spec.duration_options
    tiers = spec.pricing.tiers if isinstance(spec.pricing, Durations) else ()
    if options:
        if seconds not in options:
            _refuse(spec, "duration_seconds", seconds, ", ".join(map(str, sorted(options))))
    elif spec.takes_duration:
        if seconds < low or (high is not None and seconds > high):
            _refuse(spec, "duration_seconds", seconds, _span(low, high))
    elif tiers:
        if not any(tier.min_seconds <= seconds <= tier.max_seconds for tier in tiers):
            allowed = _spans([(tier.min_seconds, tier.max_seconds) for tier in tiers])
            _refuse(spec, "duration_seconds", seconds, allowed)
    else:
        _need(spec, spec.takes_duration, "duration_seconds", seconds)
        if seconds < 1:
            _refuse(spec, "duration_seconds", seconds, "1 or more")


def _check_lyrics(audio: AudioRequest, spec: ModelSpec) -> None:
    lyrics = audio.lyrics
    length = 0 if lyrics is None else len(lyrics)
    shown = "missing" if lyrics is None else f"of {length} characters"
    if lyrics is not None:
        _need(spec, spec.supports_lyrics, "lyrics", length, shown=shown)
        limit = LYRICS_MAX if spec.lyrics_character_limit is None else spec.lyrics_character_limit
        if not lyrics.strip() or length > limit:
            _refuse(spec, "lyrics", length, f"1..{limit} characters", shown=shown)
        if audio.lyrics_optimizer:
            _refuse(spec, "lyrics_optimizer", True, "not together with lyrics")
    ways = LYRICS_UNLESS.get(spec.id)
    if ways is None:
        if spec.lyrics_required and lyrics is None:
            _refuse(spec, "lyrics", None, "lyrics are required", shown=shown)
    elif len((lyrics or "").strip()) < PROMPT_MIN and not any(getattr(audio, way) for way in ways):
        unless = "".join(f" or {way}" for way in ways)
        _refuse(spec, "lyrics", length, f"{PROMPT_MIN} characters or more{unless}", shown=shown)


def _check_voice(audio: AudioRequest, spec: ModelSpec) -> None:
    voice, named = audio.voice, spec.voices or ()
    if voice is None or voice in named:
        return
    own = spec.supports_custom_voice_id
    if not named and own is not True:
        _need(spec, False if spec.voices is not None else own, "voice", voice)
        return
    if not _OWN_VOICE.fullmatch(voice) or own is False or (own is None and spec.states_abilities):
        _refuse(spec, "voice", voice, ", ".join((*(("a voice id of its own",) if own else ()), *named)))


def _check_speed(audio: AudioRequest, spec: ModelSpec) -> None:
    if audio.speed is None:
        return
    _need(spec, spec.supports_speed, "speed", audio.speed)
    low, high = max(spec.min_speed or SPEED_MIN, SPEED_MIN), min(spec.max_speed or SPEED_MAX, SPEED_MAX)
    if not SPEED.fullmatch(audio.speed) or not low <= Decimal(audio.speed) <= high:
        _refuse(spec, "speed", audio.speed, f"{low}..{high}")


def _need(spec: ModelSpec, ability: bool | None, field: str, value: object, shown: str = "") -> None:
    """The rule of the module's first lines."""
    if ability is False or (ability is None and spec.states_abilities):
        _refuse(spec, field, value, "not supported, leave it out", shown=shown)


def _refuse(spec: ModelSpec, field: str, value: object, allowed: str, shown: str = "") -> NoReturn:
    """One line; `value` and the whole of `allowed` go along for programs."""
    said = shown or quoted(str(value).lower() if isinstance(value, bool) else str(value), 60)
    raise RequestInvalid(
        f"{field} {said} is not possible with {spec.id}: {quoted(allowed)}",
        field=field,
        value=value,
        allowed=allowed,
    )


def _span(low: int | Decimal, high: int | Decimal | None) -> str:
    return f"{low} or more" if high is None else f"{low}..{high}"


def _spans(spans: list[tuple[int, int]]) -> str:
    """Touching spans as one: 3..60, 61..120 reads 3..120."""
    joined: list[tuple[int, int]] = []
    for low, high in sorted(spans):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return ", ".join(f"{low}..{high}" for low, high in joined)
