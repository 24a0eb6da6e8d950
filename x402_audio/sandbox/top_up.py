"""The route that sells credit: one signed payment, checked, settled and credited once, however often it comes.

Takes the three envelopes seen in the field: version 2, the version 1 layout that says 2, and plain version 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from x402_audio.jsontext import Json
from x402_audio.money import ZERO, Usdc
from x402_audio.sandbox.answers import Answer, Request, header_json, json_answer, read_header_json
from x402_audio.sandbox.books import Payment
from x402_audio.sandbox.seller import SandboxSeller
from x402_audio.sandbox.terms import SOLANA, Terms, demand, discovery, entry_v2, solana_entry
from x402_audio.sandbox.verify import Authorization, PaymentFault, read_authorization

MAXIMUM: Final = Usdc(10_000_000_000)
_WORDS: Final = {"invalid_exact_evm_payload_recipient_mismatch": "INVALID_PAYMENT_RECIPIENT"}


class _Invalid(Exception):
    """A 400 with this code; `reason` is said beside it."""

    def __init__(self, code: str, reason: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Offer:
    """The one entry that can be paid here."""

    entry: Terms
    minimum: Usdc


class TopUp:
    """`POST /x402/top-up` of a prepaid seller."""

    def __init__(self, seller: SandboxSeller) -> None:
        self._seller = seller

    def answer(self, request: Request, header: str) -> Answer:
        """Discovery without a payment header; else check, settle, credit."""
        seller = self._seller
        entry = entry_v2(seller.network, seller.pay_to, seller.minimum_top_up, lower_case=True)
        if not header:
            terms = discovery([entry, solana_entry(seller.minimum_top_up, SOLANA)])
            return demand(terms, faults=request.faults, in_header=True, code="")
        try:
            authorization = self._read(header, _Offer(entry, seller.minimum_top_up))
            request.wallet = authorization.payer
            return self._take(request, authorization)
        except _Invalid as fault:
            return _refusal(400, fault.code, "The payment was not accepted", fault.reason)

    def _read(self, header: str, offer: _Offer) -> Authorization:
        try:
            envelope = read_header_json(header)
        except ValueError as error:
            raise _Invalid("INVALID_PAYMENT_FORMAT") from error
        if envelope.get("x402Version") not in (1, 2) or "payload" not in envelope:
            raise _Invalid("INVALID_PAYMENT")
        try:
            authorization = read_authorization(envelope["payload"])
        except PaymentFault as fault:
            raise _Invalid("INVALID_PAYMENT", fault.word) from fault
        if "accepted" in envelope:
            self._check_accepted(envelope["accepted"], offer, authorization)
        else:
            self._check_flat(envelope)
        if authorization.payer == self._seller.pay_to:
            raise _Invalid("INVALID_PAYMENT_PAYER")
        if authorization.value < offer.minimum:
            raise _Invalid("AMOUNT_TOO_LOW")
        if authorization.value > MAXIMUM:
            raise _Invalid("AMOUNT_TOO_HIGH")
        return authorization

    def _check_accepted(self, accepted: Json, offer: _Offer, authorization: Authorization) -> None:
        """Version 2: the entry as offered, member for member; only the amount may be raised, if at all."""
        if not isinstance(accepted, dict):
            raise _Invalid("INVALID_PAYMENT")
        for member, code in (
            ("scheme", "UNSUPPORTED_SCHEME"), ("network", "UNSUPPORTED_NETWORK"),
            ("asset", "UNSUPPORTED_TOKEN"), ("payTo", "INVALID_PAYMENT_RECIPIENT"),
        ):  # fmt: skip
            if accepted.get(member) != offer.entry[member]:
                raise _Invalid(code)
        amount = accepted.get("amount")
        if {**accepted, "amount": ""} != {**offer.entry, "amount": ""}:
            raise _Invalid("INVALID_PAYMENT", "accepted differs from the offered entry")
        if amount != str(authorization.value):
            raise _Invalid("INVALID_AMOUNT")
        if not self._seller.raised_amount_in_v2 and amount != offer.entry["amount"]:
            raise _Invalid("INVALID_AMOUNT")

    def _check_flat(self, envelope: dict[str, Json]) -> None:
        """The version 1 layout, whichever version it claims."""
        if envelope.get("scheme") != "exact":
            raise _Invalid("UNSUPPORTED_SCHEME")
        if envelope.get("network") not in (self._seller.network.name, self._seller.network.caip2):
            raise _Invalid("UNSUPPORTED_NETWORK")

    def _take(self, request: Request, authorization: Authorization) -> Answer:
        seller = self._seller
        with seller.lock:
            known = seller.payment(authorization)
            if known is not None:
                known.sends += 1
                return _refusal(409, "PAYMENT_ALREADY_PROCESSED", "This payment was already credited")
            try:
                seller.verify(authorization)
                claimed = seller.begin_settlement(authorization)
            except PaymentFault as fault:
                code = _WORDS.get(fault.word, "PAYMENT_VERIFICATION_FAILED")
                raise _Invalid(code, fault.word) from fault
            if not claimed:
                return _refusal(409, "PAYMENT_IN_PROGRESS", "This payment is being processed")
        pause = request.faults.get("slow_settlement")
        if pause is not None:
            seller.release_stream.wait(float(str(pause)))
        if "settlement_failed" in request.faults:
            seller.abandon_settlement(authorization)
            return _refusal(402, "SETTLEMENT_FAILED", "The payment could not be settled")
        with seller.lock:
            payment = seller.settle(authorization, request.path)
            return self._credited(request, payment)

    def _credited(self, request: Request, payment: Payment) -> Answer:
        account = self._seller.account(payment.payer)
        shown = account.credit + payment.value
        payment.credited = "never_credit" not in request.faults
        if payment.credited:
            account.enter("TOP_UP", payment.value, self._seller.now(), None, None)
        data = {
            "walletAddress": payment.payer,
            "amountCredited": payment.value,
            "newBalance": max(ZERO, shown),
            "paymentId": f"payment_{payment.transaction[2:28]}",
        }
        receipt = {
            "success": True,
            "network": self._seller.network.caip2,
            "payer": payment.payer,
            "transaction": payment.transaction,
        }
        return json_answer(200, {"success": True, "data": data}, ("PAYMENT-RESPONSE", header_json(receipt)))


def _refusal(status: int, code: str, message: str, reason: str = "") -> Answer:
    body: dict[str, object] = {"error": code, "message": message}
    if reason:
        body["details"] = {"reason": reason}
    return json_answer(status, body)
