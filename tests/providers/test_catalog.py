"""A request is refused before any money when its model cannot do it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from x402_audio.errors import RequestInvalid
from x402_audio.jsontext import Json
from x402_audio.providers.catalog import ModelSpec, check_request, read_model_specs
from x402_audio.providers.provider import AudioRequest

ASK = AudioRequest("a calm piano piece", "elevenlabs-music")
OWN = "21m00Tcm4TlvDq8ikWAM"
LYRICS = "la la la la la"

FITS: list[tuple[str, dict[str, object]]] = [
    ("elevenlabs-music", {}),
    ("elevenlabs-music", {"duration_seconds": 3}),
    ("elevenlabs-music", {"duration_seconds": 600}),
    ("elevenlabs-music", {"instrumental": False}),
    ("elevenlabs-music", {"prompt": " " + "x" * 4100 + " "}),
    ("elevenlabs-music", {"prompt": "  " + "é" * 10 + "\n"}),
    ("ace-step-15", {"duration_seconds": 210, "lyrics": "x" * 4096}),
    ("ace-step-15", {"lyrics_optimizer": True}),
    ("ace-step-15", {"lyrics_optimizer": False, "lyrics": "la"}),
    ("elevenlabs-tts-multilingual-v2", {"prompt": "x", "speed": "0.7", "language": "en", "voice": "Aria"}),
    ("elevenlabs-tts-multilingual-v2", {"prompt": "x", "speed": "1.2", "voice": OWN}),
    ("elevenlabs-tts-v3", {"prompt": "x", "voice": "Aria"}),
    ("elevenlabs-sound-effects-v2", {"loop": True, "duration_seconds": 22}),
    ("minimax-music-v2", {"lyrics": LYRICS}),
    ("minimax-music-v25", {"lyrics": LYRICS}),
    ("minimax-music-v25", {"instrumental": True}),
    ("minimax-music-v25", {"lyrics_optimizer": True}),
    ("minimax-music-v26", {"instrumental": True}),
    ("lyrical", {"lyrics": "la"}),
    ("priced-only", {"duration_seconds": 61, "loop": True, "lyrics": "la", "voice": "Anyone", "speed": "1"}),
    ("silent", {"duration_seconds": 7, "language": "de", "lyrics_optimizer": True, "instrumental": False}),
]

REFUSED: list[tuple[str, dict[str, object], str, str]] = [
    ("elevenlabs-music", {"duration_seconds": 900}, "duration_seconds", "3..600"),
    ("elevenlabs-music", {"duration_seconds": 2}, "duration_seconds", "3..600"),
    ("elevenlabs-music", {"duration_seconds": "60"}, "duration_seconds", "a whole number of seconds"),
    ("elevenlabs-music", {"duration_seconds": True}, "duration_seconds", "a whole number of seconds"),
    ("elevenlabs-music", {"prompt": "  too short \n"}, "prompt", "10..4100 characters"),
    ("elevenlabs-music", {"prompt": "x" * 4101}, "prompt", "10..4100 characters"),
    ("elevenlabs-music", {"prompt": "broken \ud800 letter"}, "prompt", "whole Unicode characters"),
    ("elevenlabs-music", {"lyrics": LYRICS}, "lyrics", "not supported, leave it out"),
    ("elevenlabs-music", {"voice": "Aria"}, "voice", "not supported, leave it out"),
    ("elevenlabs-music", {"speed": "1"}, "speed", "not supported, leave it out"),
    ("elevenlabs-music", {"language": "en"}, "language", "not supported, leave it out"),
    ("elevenlabs-music", {"loop": False}, "loop", "not supported, leave it out"),
    ("elevenlabs-music", {"lyrics_optimizer": False}, "lyrics_optimizer", "not supported, leave it out"),
    ("ace-step-15", {"instrumental": False}, "instrumental", "not supported, leave it out"),
    ("ace-step-15", {"loop": True}, "loop", "not supported, leave it out"),
    ("ace-step-15", {"duration_seconds": 61}, "duration_seconds", "60, 90, 120, 150, 180, 210"),
    ("ace-step-15", {"prompt": "x" * 513}, "prompt", "10..512 characters"),
    ("ace-step-15", {"lyrics": "x" * 4097}, "lyrics", "1..4096 characters"),
    ("ace-step-15", {"lyrics": " \n "}, "lyrics", "1..4096 characters"),
    (
        "ace-step-15",
        {"lyrics": LYRICS, "lyrics_optimizer": True},
        "lyrics_optimizer",
        "not together with lyrics",
    ),
    ("elevenlabs-tts-multilingual-v2", {"speed": "0.69"}, "speed", "0.7..1.2"),
    ("elevenlabs-tts-multilingual-v2", {"speed": "1.21"}, "speed", "0.7..1.2"),
    ("elevenlabs-tts-multilingual-v2", {"speed": "1e0"}, "speed", "0.7..1.2"),
    ("elevenlabs-tts-multilingual-v2", {"speed": "fast"}, "speed", "0.7..1.2"),
    (
        "elevenlabs-tts-multilingual-v2",
        {"language": "eng"},
        "language",
        "an ISO 639-1 code, two small letters like en",
    ),
    ("elevenlabs-tts-multilingual-v2", {"voice": "Arai"}, "voice", "a voice id of its own, Aria, Roger"),
    (
        "elevenlabs-tts-multilingual-v2",
        {"duration_seconds": 5},
        "duration_seconds",
        "not supported, leave it out",
    ),
    ("elevenlabs-tts-v3", {"voice": OWN}, "voice", "Aria"),
    ("elevenlabs-sound-effects-v2", {"duration_seconds": 23}, "duration_seconds", "1..22"),
    ("minimax-music-v2", {"lyrics": "la"}, "lyrics", "10 characters or more"),
    ("minimax-music-v2", {}, "lyrics", "10 characters or more"),
    ("minimax-music-v25", {}, "lyrics", "10 characters or more or instrumental or lyrics_optimizer"),
    ("minimax-music-v26", {}, "lyrics", "10 characters or more or instrumental"),
    ("minimax-music-v26", {"lyrics_optimizer": True}, "lyrics", "10 characters or more or instrumental"),
    ("lyrical", {}, "lyrics", "lyrics are required"),
    ("priced-only", {"duration_seconds": 121}, "duration_seconds", "3..120"),
    ("silent", {"duration_seconds": 0}, "duration_seconds", "1 or more"),
    ("silent", {"speed": "4.01"}, "speed", "0.25..4"),
]


def request(model: str, asked: dict[str, Any]) -> AudioRequest:
    return replace(ASK, model=model, **asked)  # the tables hold wrong types on purpose


@pytest.mark.parametrize(("model", "asked"), FITS)
def test_what_the_model_can_do_passes(
    models: dict[str, ModelSpec], model: str, asked: dict[str, object]
) -> None:
    check_request(request(model, asked), models[model])


@pytest.mark.parametrize(("model", "asked", "field", "allowed"), REFUSED)
def test_what_it_cannot_do_is_refused_with_field_and_allowed_set(
    models: dict[str, ModelSpec], model: str, asked: dict[str, object], field: str, allowed: str
) -> None:
    with pytest.raises(RequestInvalid) as caught:
        check_request(request(model, asked), models[model])
    assert (caught.value.field, caught.value.allowed) == (field, allowed)
    assert model in caught.value.message
    assert "\n" not in caught.value.message


def test_the_line_reads_like_the_manual_says(models: dict[str, ModelSpec]) -> None:
    with pytest.raises(RequestInvalid) as caught:
        check_request(replace(ASK, duration_seconds=900), models["elevenlabs-music"])
    assert str(caught.value) == "duration_seconds 900 is not possible with elevenlabs-music: 3..600"
    assert caught.value.value == 900
    assert caught.value.money_moved == "no"


def test_a_spec_survives_its_cache(models: dict[str, ModelSpec], priced: dict[str, ModelSpec]) -> None:
    for spec in (*models.values(), *priced.values()):
        assert ModelSpec.from_json(spec.to_json()) == spec


def test_odd_fields_and_unreadable_models_are_left_out() -> None:
    listing: Json = {
        "data": [
            {
                "id": "good",
                "model_spec": {"supports_loop": "yes", "min_duration": -3, "new_thing": {}, "name": 7},
            },
            {"id": "good", "model_spec": {"supports_loop": True}},
            {"id": "two words"},
            {"id": "speech", "type": "tts"},
            {"no": "id"},
            "text",
            {"id": "odd", "model_spec": []},
            {"id": "bare"},
        ]
    }
    assert read_model_specs(listing) == (ModelSpec("good"), ModelSpec("bare"))


def test_what_a_list_names_is_one_printable_line() -> None:
    (spec,) = read_model_specs(
        {"data": [{"id": "m", "model_spec": {"name": "a\x1b[31m\nb" + "c" * 999, "voices": ["A\x1b", "B"]}}]}
    )
    assert spec.name.isprintable()
    assert len(spec.name) <= 160
    assert spec.voices == ("B",)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
spec_fields = st.sampled_from([
    "pricing", "voices", "duration_options", "min_duration", "max_speed", "supports_speed", "supports_loop",
    "prompt_character_limit", "name", "betaModel", "lyrics_character_limit", "min_speed",
])  # fmt: skip


@given(
    said=st.dictionaries(spec_fields, json_values, max_size=8),
    seconds=st.none() | st.integers(),
    speed=st.none() | st.text(max_size=6),
    voice=st.none() | st.text(max_size=30),
)
def test_no_list_makes_reading_or_checking_raise_anything_else(
    said: dict[str, Json], seconds: int | None, speed: str | None, voice: str | None
) -> None:
    (spec,) = read_model_specs([{"id": "m", "model_spec": said}])
    assert ModelSpec.from_json(spec.to_json()) == spec
    line = ""
    try:
        check_request(replace(ASK, model="m", duration_seconds=seconds, speed=speed, voice=voice), spec)
    except RequestInvalid as error:
        line = error.message
    assert line.isprintable()
    assert len(line) < 400
