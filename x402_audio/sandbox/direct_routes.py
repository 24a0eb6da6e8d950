"""The seller that is paid per call: a demand on the very URL, one signed payment, and the answer for it.

Speaks x402 version 1 or 2. The same authorization for the same request gets the same answer again and pays once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from x402_audio.jsontext import Json
from x402_audio.money import Usdc
from x402_audio.sandbox.answers import Answer, Refusal, Request, header_json, json_answer, read_header_json
from x402_audio.sandbox.audio_routes import AudioRoutes, queue_answer, read_body, refused_content
from x402_audio.sandbox.books import Payment
from x402_audio.sandbox.seller import SandboxSeller
from x402_audio.sandbox.terms import (
    Terms,
    demand,
    demand_v1,
    demand_v2,
    entry_v1,
    entry_v2,
    payment_identifier,
)
from x402_audio.sandbox.verify import Authorization, PaymentFault, read_authorization

STREAM_PRICE: Final = Usdc(10_000)
STREAM_CHUNKS: Final = (b"chunk 1 of 3\n", b"chunk 2 of 3\n", b"chunk 3 of 3\n")
_IDENTIFIER_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


@dataclass(frozen=True, slots=True)
class _Sale:
    """What is for sale in one request, and how to make it once it is paid."""

    price: Usdc
    deliver: Callable[[Payment], Answer]


class DirectRoutes:
    """Every route of a seller that demands payment on the call itself."""

    def __init__(self, seller: SandboxSeller) -> None:
        self._seller = seller
        self._audio = AudioRoutes(seller)
        self._version = 1 if seller.mode == "direct-v1" else 2
        self._served: dict[tuple[str, str], Answer] = {}
        self._routes: dict[tuple[str, str], Callable[[Request], Answer]] = {
            ("GET", "/api/v1/models"): self._audio.models,
            ("POST", "/api/v1/audio/quote"): self._audio.quote,
            ("POST", "/api/v1/audio/retrieve"): lambda request: self._audio.retrieve(request, None),
            ("POST", "/api/v1/audio/complete"): lambda request: self._audio.complete(request, None),
            ("POST", "/api/v1/audio/queue"): self._queue,
            ("GET", "/api/v1/stream"): self._stream,
            ("POST", "/api/v1/stream"): self._stream,
        }

    def answer(self, request: Request) -> Answer:
        """Answer one request. Never raises for what the caller did."""
        handler = self._routes.get((request.method, request.path))
        if handler is None:
            known = any(path == request.path for _, path in self._routes)
            return json_answer(
                405 if known else 404, {"error": "Method not allowed" if known else "Not found"}
            )
        try:
            self._seller.advance()
            return handler(request)
        except Refusal as refusal:
            return refusal.answer

    def _queue(self, request: Request) -> Answer:
        order = self._audio.order(read_body(request))

        def deliver(payment: Payment) -> Answer:
            job = self._seller.open_job(
                order, None, faults=request.faults, payer=payment.payer, charged=payment.value
            )
            payment.queue_id = job.queue_id
            if job.fate == "refuse":
                self._seller.end_job(job, "refuse", job.suggestion)
                return refused_content(job)
            return json_answer(200, queue_answer(job))

        return self._sell(request, _Sale(order.price, deliver))

    def _stream(self, request: Request) -> Answer:
        def chunks() -> Iterator[bytes]:
            yield from STREAM_CHUNKS[:-1]
            self._seller.release_stream.wait()
            yield STREAM_CHUNKS[-1]

        sale = _Sale(STREAM_PRICE, lambda _: Answer(200, content_type="text/plain", chunks=chunks))
        return self._sell(request, sale)

    def _sell(self, request: Request, sale: _Sale) -> Answer:
        header = request.header("x-payment") if self._version == 1 else request.header("payment-signature")
        if not header:
            name = "X-PAYMENT" if self._version == 1 else "PAYMENT-SIGNATURE"
            return self._demand(request, sale, f"{name} header is required")
        try:
            envelope = read_header_json(header)
            authorization, identifier = self._read(request, sale, envelope)
        except ValueError:
            return json_answer(400, {"error": "invalid_payload"})
        except PaymentFault as fault:
            if fault.word in ("invalid_payload", "invalid_x402_version"):
                return json_answer(400, {"error": fault.word})
            return self._rejected(request, sale, fault.word)
        request.wallet = authorization.payer
        return self._take(request, sale, authorization, identifier)

    def _read(self, request: Request, sale: _Sale, envelope: dict[str, Json]) -> tuple[Authorization, str]:
        """The payment as this version writes it, its terms compared with ours. Raises PaymentFault."""
        if envelope.get("x402Version") != self._version:
            raise PaymentFault("invalid_x402_version")
        authorization = read_authorization(envelope.get("payload"))
        request.wallet = authorization.payer
        if self._version == 1:
            if envelope.get("scheme") != "exact":
                raise PaymentFault("unsupported_scheme")
            if envelope.get("network") != self._seller.network.name:
                raise PaymentFault("invalid_network")
            if authorization.value < sale.price:
                raise PaymentFault("invalid_exact_evm_payload_authorization_value")
            return authorization, ""
        if envelope.get("accepted") != self._entry(request, sale):
            raise PaymentFault("invalid_payment_requirements")
        if authorization.value != sale.price:
            raise PaymentFault("invalid_exact_evm_payload_authorization_value_mismatch")
        return authorization, _identifier(envelope.get("extensions"))

    def _take(self, request: Request, sale: _Sale, authorization: Authorization, identifier: str) -> Answer:
        """Settle once, deliver, and remember the answer for the same request."""
        seller = self._seller
        digest = hashlib.sha256(f"{request.method} {request.path}\n".encode() + request.body).hexdigest()
        with seller.lock:
            try:
                seller.verify(authorization)
                known = seller.payment(authorization)
                if known is not None:
                    return self._again(request, sale, known, digest, identifier)
                if identifier and any(paid.identifier == identifier for paid in seller.payments.values()):
                    return json_answer(409, {"error": "payment-identifier was used with another payment"})
                if not seller.begin_settlement(authorization):
                    raise PaymentFault("settlement_pending")
            except PaymentFault as fault:
                return self._rejected(request, sale, fault.word)
        pause = request.faults.get("slow_settlement")
        if pause is not None:
            seller.release_stream.wait(float(str(pause)))
        if "settlement_failed" in request.faults:
            seller.abandon_settlement(authorization)
            return self._rejected(request, sale, "transaction_failed")
        with seller.lock:
            payment = seller.settle(authorization, request.path)
            payment.request_digest, payment.identifier = digest, identifier
            plain = sale.deliver(payment)
            answer = Answer(
                plain.status, plain.body, (*plain.headers, self._receipt(payment)), plain.content_type,
                plain.code, plain.chunks,
            )  # fmt: skip
            self._served[payment.payer, payment.nonce] = answer
            return answer

    def _again(self, request: Request, sale: _Sale, known: Payment, digest: str, identifier: str) -> Answer:
        if known.request_digest != digest:
            return self._rejected(request, sale, "invalid_exact_evm_nonce_already_used")
        if known.identifier != identifier:
            return json_answer(409, {"error": "payment-identifier differs from the first sending"})
        known.sends += 1
        if known.queue_id:
            self._seller.jobs[known.queue_id].sends += 1
        return self._served[known.payer, known.nonce]

    def _entry(self, request: Request, sale: _Sale) -> Terms:
        seller = self._seller
        if self._version == 1:
            return entry_v1(seller.network, seller.pay_to, sale.price, request.url)
        return entry_v2(seller.network, seller.pay_to, sale.price)

    def _demand(self, request: Request, sale: _Sale, error: str, *more: tuple[str, str]) -> Answer:
        entry = self._entry(request, sale)
        if self._version == 1:
            return demand(
                demand_v1([entry], error), faults=request.faults, in_header=False, more=more, code=error
            )
        terms = demand_v2(request.url, [entry], payment_identifier(), error)
        return demand(terms, faults=request.faults, in_header=True, more=more, code=error)

    def _rejected(self, request: Request, sale: _Sale, word: str) -> Answer:
        """402 after a payment that failed: the terms again, and the result header that says so."""
        result = {
            "success": False,
            "errorReason": word,
            "transaction": "",
            "network": self._network_name(),
            "payer": request.wallet,
        }
        return self._demand(request, sale, word, (self._result_header(), header_json(result)))

    def _receipt(self, payment: Payment) -> tuple[str, str]:
        result = {
            "success": True,
            "transaction": payment.transaction,
            "network": self._network_name(),
            "payer": payment.payer,
        }
        return self._result_header(), header_json(result)

    def _result_header(self) -> str:
        return "X-PAYMENT-RESPONSE" if self._version == 1 else "PAYMENT-RESPONSE"

    def _network_name(self) -> str:
        return self._seller.network.name if self._version == 1 else self._seller.network.caip2


def _identifier(extensions: Json) -> str:
    """The payment-identifier sent along, empty if none. Raises PaymentFault when it is malformed."""
    if not isinstance(extensions, dict) or "payment-identifier" not in extensions:
        return ""
    extension = extensions["payment-identifier"]
    info = extension.get("info") if isinstance(extension, dict) else None
    found = info.get("id") if isinstance(info, dict) else None
    if found is None:
        return ""
    if not isinstance(found, str) or not 16 <= len(found) <= 128 or not set(found) <= _IDENTIFIER_CHARACTERS:
        raise PaymentFault("invalid_payload")
    return found
