"""Writes the payment header around a signed authorization, and reads the seller's settlement response.

    v1  X-PAYMENT          {x402Version, scheme, network, payload}
    v2  PAYMENT-SIGNATURE  {x402Version, payload, accepted, resource?, extensions?}

What the seller offered is echoed as received. An `Envelope` is everything but the signature, so it can be stored as
plain text and give the same header again. Knows no keys and no ledger.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from x402_audio.errors import ProtocolError
from x402_audio.jsontext import Json, read_json_object
from x402_audio.money import Usdc
from x402_audio.protocol import base64text
from x402_audio.protocol.echo import echo_json
from x402_audio.protocol.exact import Authorization
from x402_audio.protocol.networks import network_named
from x402_audio.protocol.requirements import PaymentRequired, PaymentRequirements, printable

PAYMENT_IDENTIFIER: Final = "payment-identifier"
_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9_-]{16,128}", re.ASCII)
_ECHO_BYTES_MAX: Final = base64text.HEADER_CHARS_MAX // 4 * 3 - 1024
"""What an offer may add to a payment header; most servers refuse requests with more than 16 KiB of headers."""
_STORED_BYTES_MAX: Final = 128 * 1024
_SETTLEMENT_HEADERS: Final = ("payment-response", "x-payment-response")
_TRANSACTION: Final = re.compile(r"0x[0-9a-fA-F]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payment without its signature: the terms' version and what is echoed of them.

    accepted: the chosen entry as offered. wrapped_again: the third form, v1 layout that says version 2.
    """

    version: Literal[1, 2]
    accepted: Mapping[str, Json]
    resource: Mapping[str, Json] | None = None
    extensions: Mapping[str, Json] | None = None
    wrapped_again: bool = False
    _around: tuple[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_around", self._layout())

    @classmethod
    def of(
        cls,
        terms: PaymentRequired,
        chosen: PaymentRequirements,
        *,
        payment_identifier: str | None = None,
        accepted_amount: Usdc | None = None,
    ) -> Envelope:
        """The envelope for one entry of the terms.

        payment_identifier: 16 to 128 letters, digits, `-`, `_`; used where the terms offer that extension.
        accepted_amount: atomic units, when more than the offered amount is signed (a prepaid top-up).
        Raises ProtocolError when the terms ask for an identifier and none is given, or echoing them takes too long a
        header; ValueError for an identifier of another form or an amount below the offered one.
        """
        accepted = chosen.offered
        if accepted_amount is not None and accepted_amount != chosen.amount:
            if accepted_amount < chosen.amount:
                raise ValueError("never less than is offered")
            member = "maxAmountRequired" if terms.version == 1 else "amount"
            accepted = {**accepted, member: str(int(accepted_amount))}
        extensions = terms.extensions
        if extensions is not None and PAYMENT_IDENTIFIER in extensions:
            extensions = _identified(extensions, payment_identifier)
        envelope = cls(terms.version, accepted, terms.resource, extensions)
        echo = envelope._around[1]
        if 4 * len(echo) > _ECHO_BYTES_MAX and len(echo.encode()) > _ECHO_BYTES_MAX:
            raise ProtocolError("the terms are too long to be echoed in a payment header; nothing was signed")
        return envelope

    @classmethod
    def from_json(cls, text: str) -> Envelope:
        """The envelope `to_json` wrote. Raises ValueError for any other text."""
        stored = read_json_object(text, bytes_max=_STORED_BYTES_MAX)
        version, accepted = stored.get("version"), stored.get("accepted")
        resource, extensions = stored.get("resource"), stored.get("extensions")
        if version not in (1, 2) or not isinstance(accepted, dict):
            raise ValueError("not a stored payment envelope")
        if not isinstance(resource, dict | None) or not isinstance(extensions, dict | None):
            raise ValueError("not a stored payment envelope")
        return cls(
            1 if version == 1 else 2, accepted, resource, extensions, stored.get("wrapped_again") is True
        )

    def to_json(self) -> str:
        """Plain text for the ledger; holds nothing secret."""
        marked = {"wrapped_again": True} if self.wrapped_again else {}
        return echo_json({"version": self.version, **self._echoed(), **marked})

    @property
    def header_name(self) -> str:
        """The request header this payment travels in."""
        return "X-PAYMENT" if self.version == 1 and not self.wrapped_again else "PAYMENT-SIGNATURE"

    def header(self, authorization: Authorization, signature: bytes) -> tuple[str, str]:
        """(name, value) of the payment header. Raises ValueError when the authorization is not what was accepted."""
        a, value, accepted = authorization, str(int(authorization.value)), self.accepted
        amount = accepted.get("maxAmountRequired" if self.version == 1 else "amount")
        if value != amount or a.to.lower() != str(accepted.get("payTo")).lower() or len(signature) != 65:
            raise ValueError("the signed payment is not the one this envelope is for")
        before, after = self._around
        text = (
            f'{before}"payload":{{"signature":"0x{signature.hex()}","authorization":{{'
            f'"from":"{a.from_}","to":"{a.to}","value":"{value}","validAfter":"{a.valid_after}",'
            f'"validBefore":"{a.valid_before}","nonce":"0x{a.nonce.hex()}"}}}}{after}'
        )
        return self.header_name, base64text.encode(text)

    def rewrapped(self) -> Envelope:
        """The third form seen in the field: v1 layout, version 2, short network name; for one more try after a 400.

        Raises ValueError when this already is that form.
        """
        if self.wrapped_again:
            raise ValueError("this payment was already wrapped again")
        return Envelope(self.version, self.accepted, self.resource, self.extensions, wrapped_again=True)

    def _echoed(self) -> dict[str, object]:
        """What is echoed, in the order of the payment header; only what was offered."""
        echoed: dict[str, object] = {"accepted": self.accepted}
        if self.resource is not None:
            echoed["resource"] = self.resource
        if self.extensions is not None:
            echoed["extensions"] = self.extensions
        return echoed

    def _layout(self) -> tuple[str, str]:
        """What stands before and after `"payload"`; the same for every signature."""
        if self.version == 2 and not self.wrapped_again:
            return '{"x402Version":2,', "," + echo_json(self._echoed())[1:]
        network = self.accepted.get("network")
        if self.wrapped_again and isinstance(network, str) and (known := network_named(network)):
            network = known.v1_name
        version = 2 if self.wrapped_again else 1
        scheme = echo_json(self.accepted.get("scheme"))
        return f'{{"x402Version":{version},"scheme":{scheme},"network":{echo_json(network)},', "}"


def payment_header(
    terms: PaymentRequired,
    chosen: PaymentRequirements,
    authorization: Authorization,
    signature: bytes,
    *,
    payment_identifier: str | None = None,
    accepted_amount: Usdc | None = None,
) -> tuple[str, str]:
    """(name, value) of the payment header in the version of the terms. Options and errors: `Envelope.of`, `.header`."""
    envelope = Envelope.of(
        terms, chosen, payment_identifier=payment_identifier, accepted_amount=accepted_amount
    )
    return envelope.header(authorization, signature)


def _identified(extensions: Mapping[str, Json], identifier: str | None) -> dict[str, Json]:
    """The extensions with our `info.id`, everything else as offered."""
    offered = extensions[PAYMENT_IDENTIFIER]
    extension = offered if isinstance(offered, dict) else {}
    info = extension.get("info")
    info = info if isinstance(info, dict) else {}
    if identifier is None:
        if info.get("required") is True:
            raise ProtocolError(
                "the terms require a payment-identifier and none was given; nothing was signed"
            )
        return dict(extensions)
    if not _IDENTIFIER.fullmatch(identifier):
        raise ValueError("a payment-identifier is 16 to 128 letters, digits, - and _")
    return {**extensions, PAYMENT_IDENTIFIER: {**extension, "info": {**info, "id": identifier}}}


# --- the answer
@dataclass(frozen=True, slots=True)
class SettlementResponse:
    """What the seller says became of a payment. Its statement, not proof; texts are printable and bounded."""

    success: bool
    transaction: str
    network: str
    payer: str
    error_reason: str | None


def read_settlement(headers: Mapping[str, str]) -> SettlementResponse | None:
    """The settlement response of an answer; None when there is none or it cannot be read (`settlement_fault`)."""
    read = _settlement(headers)
    return read if isinstance(read, SettlementResponse) else None


def settlement_fault(headers: Mapping[str, str]) -> str | None:
    """Why a settlement response that is there cannot be read; None when it can, or when there is none."""
    read = _settlement(headers)
    return read if isinstance(read, str) else None


def _settlement(headers: Mapping[str, str]) -> SettlementResponse | str | None:
    lowered = {name.lower(): value for name, value in headers.items()}
    name = next((name for name in _SETTLEMENT_HEADERS if name in lowered), None)
    if name is None:
        return None
    try:
        said = read_json_object(base64text.decode(lowered[name]))
    except ValueError as error:
        return f"{name}: {printable(error)}"
    if not isinstance(said.get("success"), bool):
        return f"{name}: success is neither true nor false"
    reason = said.get("errorReason")
    return SettlementResponse(
        success=said["success"] is True,
        transaction=_transaction(said.get("transaction")),
        network=_text(said, "network"),
        payer=_text(said, "payer"),
        error_reason=printable(reason) if isinstance(reason, str) and reason else None,
    )


def _transaction(value: Json) -> str:
    """A transaction hash as it stands; of anything else as little as of any text."""
    if not isinstance(value, str):
        return ""
    return value if _TRANSACTION.fullmatch(value) else printable(value, 80)


def _text(said: Mapping[str, Json], member: str) -> str:
    value = said.get(member)
    return printable(value, 80) if isinstance(value, str) else ""
