"""Answers of the prepaid seller as plain values, and the models the tests speak of."""

from __future__ import annotations

from pathlib import Path

import pytest

from x402_audio.jsontext import Json, read_json_object
from x402_audio.providers.catalog import ModelSpec, read_model_specs

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="session")
def facts() -> dict[str, Json]:
    return read_json_object((DATA / "venice-answers.json").read_bytes())


@pytest.fixture(scope="session")
def models(facts: dict[str, Json]) -> dict[str, ModelSpec]:
    return {spec.id: spec for spec in read_model_specs(facts["models"])}


@pytest.fixture(scope="session")
def priced() -> dict[str, ModelSpec]:
    """The published prices, which say nothing of abilities."""
    listing = read_json_object((DATA / "venice-music-models.json").read_bytes())
    return {spec.id: spec for spec in read_model_specs(listing)}
