"""A seller that is paid per call: the same audio routes, no credentials, no credit and perhaps no list or quote.

What an answer to a paid call says about money is for the payment room; here only a queue_id is read from it.
"""

from __future__ import annotations

from typing import Final, Literal

from x402_audio.clock import Clock, SystemClock
from x402_audio.errors import SellerError
from x402_audio.money import ZERO, Usdc
from x402_audio.providers import venice
from x402_audio.providers.answers import said, seller_error
from x402_audio.providers.catalog import ModelSpec
from x402_audio.providers.provider import (
    Answer,
    Ask,
    AudioRequest,
    Gone,
    Processing,
    Queued,
    Refused,
    Shortfall,
    Unclear,
)

MISSING: Final = frozenset({404, 405, 501})
_TAKEN: Final = frozenset({200, 201, 202})


class DirectSeller:
    """Keeps `Provider`; nothing stays at the seller, so its floor is 0."""

    name = "direct"

    def __init__(self, *, clock: Clock | None = None) -> None:
        self.billing: Literal["credit", "account", "direct"] = "direct"
        self.floor: Usdc = ZERO
        self._clock: Clock = clock or SystemClock()

    def ask_models(self) -> Ask:
        return venice.ask_models()

    def ask_quote(self, audio: AudioRequest, spec: ModelSpec | None) -> Ask | None:
        return venice.ask_quote(audio, spec)

    def ask_queue(self, audio: AudioRequest, spec: ModelSpec | None) -> Ask:
        del spec  # a stored call is sent again byte for byte, whatever the list says by then
        return Ask("POST", "/audio/queue", venice.queue_body(audio), route="queue")

    def ask_retrieve(self, model: str, queue_id: str) -> Ask:
        return Ask("POST", "/audio/retrieve", {"model": model, "queue_id": queue_id}, route="retrieve")

    def ask_complete(self, model: str, queue_id: str) -> Ask:
        return Ask("POST", "/audio/complete", {"model": model, "queue_id": queue_id})

    def read_models(self, answer: Answer) -> tuple[ModelSpec, ...]:
        """Raises ProtocolError, SellerError kinds; ask `models_missing` first."""
        return venice.read_models(answer, self._clock.now())

    def read_quote(self, answer: Answer) -> Usdc:
        """Raises ProtocolError, SellerError kinds; ask `quote_missing` first."""
        return venice.read_quote(answer, self._clock.now())

    def read_queued(self, answer: Answer) -> Queued | Shortfall | Refused | Unclear:
        if answer.status in _TAKEN:
            queued = venice.read_queue_id(answer, "queueId", "id")
            return queued or Unclear(f"{answer.status} without a readable queue_id")
        return venice.refused(answer, said(answer), self._clock.now())

    def read_progress(self, answer: Answer) -> Processing | Gone | Shortfall | Refused:
        return venice.read_progress(answer, self._clock.now())

    def read_completed(self, answer: Answer) -> bool:
        """A seller without that route keeps no copy we could delete."""
        return answer.status in MISSING or venice.read_completed(answer)

    def error_of(self, answer: Answer, what: str) -> SellerError:
        return seller_error(answer, what, now=self._clock.now())

    def charges_late(self, model: str) -> bool:
        del model  # the call itself is paid, whatever it is for
        return False


def models_missing(answer: Answer) -> bool:
    """The seller has no list of models."""
    return answer.status in MISSING


def quote_missing(answer: Answer) -> bool:
    """The seller has no quotes; a 404 that speaks of the model is an answer about the model."""
    return answer.status in MISSING and not (answer.status == 404 and "model" in said(answer).text.lower())
