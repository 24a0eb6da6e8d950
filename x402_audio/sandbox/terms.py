"""The demands for payment, written out: prepaid 402 forms, version 1 and version 2, and their spoiled variants.

Pure building of JSON; decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from x402_audio.jsontext import Json
from x402_audio.money import Usdc
from x402_audio.sandbox.answers import Answer, Request, header_json, json_answer
from x402_audio.sandbox.books import iso
from x402_audio.sandbox.verify import Network

TIMEOUT_SECONDS: Final = 300
SOLANA: Final = "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"
_SOLANA_USDC: Final = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"
_SOLANA_NOBODY: Final = "11111111111111111111111111111111"
"""The system program: it owns no token account, so nothing can be paid there."""
_IDENTIFIER: Final[Mapping[str, object]] = {
    "info": {"required": False},
    "schema": {
        "type": "object",
        "properties": {
            "required": {"type": "boolean"},
            "id": {"type": "string", "minLength": 16, "maxLength": 128},
        },
        "required": ["required"],
    },
}

Terms = dict[str, object]


def entry_v2(network: Network, pay_to: str, amount: Usdc, *, lower_case: bool = False) -> Terms:
    """One EVM `PaymentRequirements` of version 2."""
    return {
        "scheme": "exact",
        "network": network.caip2,
        "amount": str(int(amount)),
        "asset": network.asset.lower() if lower_case else network.asset,
        "payTo": pay_to,
        "maxTimeoutSeconds": TIMEOUT_SECONDS,
        "extra": {"name": network.token_name, "version": "2"},
    }


def entry_v1(network: Network, pay_to: str, amount: Usdc, url: str) -> Terms:
    """One EVM `PaymentRequirements` of version 1."""
    return {
        "scheme": "exact",
        "network": network.name,
        "maxAmountRequired": str(int(amount)),
        "asset": network.asset,
        "payTo": pay_to,
        "resource": url,
        "description": "Audio generation",
        "mimeType": "application/json",
        "maxTimeoutSeconds": TIMEOUT_SECONDS,
        "extra": {"name": network.token_name, "version": "2"},
    }


def solana_entry(amount: Usdc, network: str) -> Terms:
    return {
        "scheme": "exact",
        "network": network,
        "amount": str(int(amount)),
        "asset": _SOLANA_USDC,
        "payTo": _SOLANA_NOBODY,
        "maxTimeoutSeconds": TIMEOUT_SECONDS,
        "extra": {"name": "USD Coin", "version": "2", "feePayer": _SOLANA_NOBODY},
    }


def discovery(entries: list[Terms]) -> Terms:
    """402 form a: what the top-up route demands."""
    return {"x402Version": 2, "accepts": entries}


def demand_v2(url: str, entries: list[Terms], extensions: Mapping[str, object], error: str) -> Terms:
    return {
        "x402Version": 2,
        "error": error,
        "resource": {"url": url, "description": "Audio generation", "mimeType": "application/json"},
        "accepts": entries,
        "extensions": dict(extensions),
    }


def demand_v1(entries: list[Terms], error: str) -> Terms:
    return {"x402Version": 1, "error": error, "accepts": entries}


def payment_identifier() -> Mapping[str, object]:
    return {"payment-identifier": _IDENTIFIER}


def sign_in_challenge(request: Request, chain_id: int, nonce: str, now: float) -> Terms:
    """The sign-in-with-x extension for this request."""
    return {
        "info": {
            "domain": request.origin.partition("://")[2],
            "uri": request.url,
            "version": "1",
            "nonce": nonce,
            "issuedAt": iso(now),
            "expirationTime": iso(now + 300),
            "statement": "Sign in to Venice AI",
        },
        "supportedChains": [{"chainId": f"eip155:{chain_id}", "type": "eip191"}],
        "schema": {"type": "object"},
    }


def auth_options() -> Terms:
    return {
        "apiKey": {
            "header": "Authorization: Bearer YOUR_API_KEY",
            "getKey": "https://venice.ai/settings/api",
            "docs": "https://docs.venice.ai/api-reference",
        },
        "x402Wallet": {
            "header": "SIGN-IN-WITH-X",
            "legacyHeader": "X-Sign-In-With-X",
            "topUp": "POST /api/v1/x402/top-up",
            "docs": "https://docs.venice.ai/api-reference/endpoint/x402/top-up",
        },
    }


def demand(
    terms: Terms,
    *,
    faults: Mapping[str, Json],
    in_header: bool,
    body: Terms | None = None,
    more: tuple[tuple[str, str], ...] = (),
    code: str = "PAYMENT_REQUIRED",
) -> Answer:
    """402 with these terms in the body (unless it has another) and, if wanted, in `PAYMENT-REQUIRED`.

    The fault `wrong_terms` is an object laid over each EVM entry, or `{"entry", "envelope", "where"}` with where
    one of header, body, both.
    """
    patch = faults.get("wrong_terms")
    header_terms, body_terms = terms, terms if body is None else body
    if isinstance(patch, dict):
        where = str(patch.get("where", "both"))
        header_terms = _patched(header_terms, patch) if where in ("both", "header") else header_terms
        body_terms = _patched(body_terms, patch) if where in ("both", "body") else body_terms
    headers = (("PAYMENT-REQUIRED", header_json(header_terms)),) if in_header else ()
    return json_answer(402, body_terms, *headers, *more, code=code)


def _patched(terms: Terms, patch: dict[str, Json]) -> Terms:
    named = bool({"entry", "envelope", "where"} & set(patch))
    entry_patch, envelope_patch = (patch.get("entry"), patch.get("envelope")) if named else (patch, None)
    result = dict(terms)
    entries = terms.get("accepts")
    if isinstance(entries, list) and isinstance(entry_patch, dict):
        result["accepts"] = [
            entry if str(entry["network"]).startswith("solana") else _merged(entry, entry_patch)
            for entry in entries
        ]
    return _merged(result, envelope_patch) if isinstance(envelope_patch, dict) else result


def _merged(target: Terms, patch: Mapping[str, Json]) -> Terms:
    """RFC 7396: null removes a member, an object is merged, all else replaces."""
    result = dict(target)
    for name, value in patch.items():
        old = result.get(name)
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict) and isinstance(old, dict):
            result[name] = _merged(old, value)
        else:
            result[name] = value
    return result
