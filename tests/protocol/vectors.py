"""The published test vectors, as the package's own types, and terms to spoil in a test."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any, Final

from x402_audio.money import Usdc
from x402_audio.protocol.exact import Authorization
from x402_audio.protocol.networks import BASE, BASE_SEPOLIA, Network

PUBLISHED: Final[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "data" / "x402-vectors.json").read_text("utf-8")
)
KEY: Final[str] = PUBLISHED["private_key"]
ADDRESS: Final[str] = PUBLISHED["address"]
CASES: Final[list[dict[str, Any]]] = PUBLISHED["vectors"]
PAYEE: Final = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"


def network_of(case: dict[str, Any]) -> Network:
    return {network.chain_id: network for network in (BASE, BASE_SEPOLIA)}[case["domain"]["chainId"]]


def authorization_of(case: dict[str, Any]) -> Authorization:
    wire = case["authorization"]
    return Authorization(
        from_=wire["from"],
        to=wire["to"],
        value=Usdc(int(wire["value"])),
        valid_after=int(wire["validAfter"]),
        valid_before=int(wire["validBefore"]),
        nonce=bytes.fromhex(wire["nonce"][2:]),
    )


def unhex(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def entry_v2(**changes: Any) -> dict[str, Any]:
    entry = {
        "scheme": "exact",
        "network": "eip155:8453",
        "amount": "690000",
        "asset": BASE.usdc,
        "payTo": PAYEE,
        "maxTimeoutSeconds": 300,
        "extra": {"name": "USD Coin", "version": "2"},
    }
    return {name: value for name, value in {**entry, **changes}.items() if value is not ...}


def entry_v1(**changes: Any) -> dict[str, Any]:
    named = {
        "network": "base",
        "amount": ...,
        "maxAmountRequired": "690000",
        "resource": "https://seller.test/queue",
    }
    return entry_v2(**{**named, **changes})


def terms_v2(*entries: Any, **members: Any) -> dict[str, Any]:
    return {"x402Version": 2, "accepts": list(entries) or [entry_v2()], **members}


def terms_v1(*entries: Any, **members: Any) -> dict[str, Any]:
    return {
        "x402Version": 1,
        "error": "payment required",
        "accepts": list(entries) or [entry_v1()],
        **members,
    }


def body(terms: Any) -> bytes:
    return json.dumps(terms).encode()


def header(terms: Any) -> dict[str, str]:
    return {"PAYMENT-REQUIRED": b64encode(body(terms)).decode()}
