"""A seller paid per call has the same audio routes, without credentials, and may lack some."""

from __future__ import annotations

import pytest

from tests.providers.shapes import FACTS, FixedClock, answer, fact
from x402_audio.errors import RateLimited
from x402_audio.providers.direct import DirectSeller, models_missing, quote_missing
from x402_audio.providers.provider import (
    Ask,
    AudioRequest,
    Gone,
    Processing,
    Provider,
    Queued,
    Refused,
    Unclear,
)

SELLER = DirectSeller(clock=FixedClock())


def test_it_keeps_the_contract_without_credentials() -> None:
    provider: Provider = SELLER
    assert (provider.name, provider.billing, provider.floor) == ("direct", "direct", 0)
    asked = provider.ask_queue(AudioRequest(" a piece ", "m", duration_seconds=5), None)
    assert asked == Ask(
        "POST", "/audio/queue", {"model": "m", "prompt": "a piece", "duration_seconds": 5}, route="queue"
    )
    quote = provider.ask_quote(AudioRequest("a piece", "m"), None)
    assert quote is not None
    others = (provider.ask_models(), quote, provider.ask_retrieve("m", "q"), provider.ask_complete("m", "q"))
    assert not any(ask.signed for ask in others)
    assert not provider.charges_late("m")


@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize("name", ["queue_id", "queueId", "id"])
def test_a_paid_answer_with_an_id_is_a_job(status: int, name: str) -> None:
    assert SELLER.read_queued(answer(status, {name: "q-1", "model": "m"})) == Queued("q-1", "m")


def test_a_paid_answer_without_an_id_proves_nothing() -> None:
    assert isinstance(SELLER.read_queued(answer(200, {"ok": True})), Unclear)


@pytest.mark.parametrize("status", [400, 402, 404, 409, 422, 429, 500, 503])
def test_any_other_answer_is_handed_on_with_its_status(status: int) -> None:
    outcome = SELLER.read_queued(answer(status, {"error": "no", "queue_id": "q"}))
    assert outcome == Refused(status, "", "no")


def test_progress_reads_like_everywhere_and_a_402_is_no_shortfall() -> None:
    assert SELLER.read_progress(answer(200, {"average_execution_time": 1000})) == Processing(1.0, None)
    assert isinstance(SELLER.read_progress(answer(404, {"error": "gone"})), Gone)
    assert isinstance(SELLER.read_progress(fact(FACTS["forms_of_402"]["c no credentials"][0])), Refused)


@pytest.mark.parametrize(
    ("status", "done"), [(200, True), (404, True), (405, True), (501, True), (400, False), (500, False)]
)
def test_a_seller_without_completion_keeps_nothing_to_delete(status: int, done: bool) -> None:
    assert SELLER.read_completed(answer(status, {"success": True, "error": "x"})) is done


def test_prices_and_models_read_like_everywhere() -> None:
    assert SELLER.read_quote(answer(200, {"quote": 0.25})) == 250_000
    assert len(SELLER.read_models(answer(200, FACTS["models"]))) == len(FACTS["models"]["data"])


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_missing_route_is_told_from_a_refusal(status: int) -> None:
    assert quote_missing(answer(status, {"error": "Not found"}))
    assert models_missing(answer(status))
    assert not quote_missing(answer(500))
    assert not models_missing(answer(401))


def test_a_404_about_the_model_is_not_a_missing_route() -> None:
    assert not quote_missing(answer(404, {"error": "Specified model not found"}))


def test_an_error_is_named_like_everywhere_and_waits_by_this_clock() -> None:
    headers = {"x-ratelimit-reset-requests": "1787313612000"}
    error = SELLER.error_of(answer(429, {"error": "slow"}, headers), "quote")
    assert isinstance(error, RateLimited)
    assert error.retry_after == 12
