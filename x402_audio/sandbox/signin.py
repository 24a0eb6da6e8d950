"""Reading a `SIGN-IN-WITH-X` header: EIP-4361 text, its rules of time, chain and domain, and who signed it.

Whether the nonce was seen before is the seller's memory, not this module's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from x402_audio.jsontext import Json
from x402_audio.sandbox.answers import read_header_json
from x402_audio.sandbox.verify import checksum_address, is_address, recover_personal

AGE_SECONDS_MAX: Final = 300
AHEAD_SECONDS_MAX: Final = 30
_MESSAGE: Final = re.compile(
    r"(?P<domain>[^\s/?#]+) wants you to sign in with your Ethereum account:\n"
    r"(?P<address>0x[0-9a-fA-F]{40})\n\n"
    r"(?:(?P<statement>[^\n]+)\n)?\n"
    r"URI: (?P<uri>\S+)\n"
    r"Version: (?P<version>\S+)\n"
    r"(?:Chain ID: (?P<chain>[0-9]{1,20})\n)?"
    r"(?:Nonce: (?P<nonce>\S*)\n)?"
    r"Issued At: (?P<issued>\S+)"
    r"(?:\nExpiration Time: (?P<expiration>\S+))?"
    r"(?:\nNot Before: (?P<not_before>\S+))?"
    r"(?:\nRequest ID: \S*)?"
    r"(?:\nResources:(?:\n- \S+)*)?"
)
_NONCE: Final = re.compile(r"[A-Za-z0-9]{8,128}", re.ASCII)
_CHAIN: Final = re.compile(r"(?:eip155:)?([0-9]{1,20})", re.ASCII)


class SignInFault(Exception):
    """A sign-in that is not good; `word` follows `X402_SIGN_IN_`."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


@dataclass(frozen=True, slots=True)
class SignIn:
    """Who signed in (lower case) and the nonce that this spends."""

    wallet: str
    nonce: str


def read_sign_in(header: str, *, domains: frozenset[str], chains: frozenset[int], now: float) -> SignIn:
    """Check everything but the nonce's history. Raises SignInFault."""
    try:
        payload = read_header_json(header)
    except ValueError as error:
        raise SignInFault("INVALID_PAYLOAD") from error
    text = payload.get("message", None if "domain" not in payload else _written_out(payload))
    if not isinstance(text, str) or not isinstance(payload.get("signature"), str):
        raise SignInFault("INVALID_PAYLOAD")
    if not is_address(payload.get("address")):
        raise SignInFault("INVALID_WALLET")
    parts = _MESSAGE.fullmatch(text)
    if parts is None:
        raise SignInFault("PARSE_ERROR")
    address = parts["address"]
    if parts["version"] != "1" or address != checksum_address(address):
        raise SignInFault("INVALID_MESSAGE")
    if str(payload["address"]).lower() != address.lower():
        raise SignInFault("ADDRESS_MISMATCH")
    _check_chain(payload.get("chainId"), int(parts["chain"] or 1), chains)
    if not parts["nonce"]:
        raise SignInFault("MISSING_NONCE")
    if not _NONCE.fullmatch(parts["nonce"]):
        raise SignInFault("INVALID_MESSAGE")
    if parts["domain"] not in domains:
        raise SignInFault("DOMAIN_MISMATCH")
    _check_times(parts, payload.get("timestamp"), now)
    try:
        signer = recover_personal(text, payload["signature"])
    except ValueError as error:
        raise SignInFault("INVALID_SIGNATURE") from error
    if signer != address.lower():
        raise SignInFault("INVALID_SIGNATURE")
    return SignIn(wallet=signer, nonce=parts["nonce"])


def _check_chain(stated: Json, signed: int, chains: frozenset[int]) -> None:
    if stated is not None:
        found = _CHAIN.fullmatch(str(stated)) if isinstance(stated, int | str) else None
        if found is None:
            raise SignInFault("INVALID_CHAIN_ID")
        if int(found[1]) != signed:
            raise SignInFault("CHAIN_MISMATCH")
    if signed not in chains:
        raise SignInFault("UNSUPPORTED_CHAIN")


def _check_times(parts: re.Match[str], timestamp: Json, now: float) -> None:
    issued = _unix(parts["issued"])
    stated = timestamp / 1000 if isinstance(timestamp, int) else float("inf")
    if timestamp is not None and abs(stated - issued) > AHEAD_SECONDS_MAX:
        raise SignInFault("TIMESTAMP_MISMATCH")
    if issued - now > AHEAD_SECONDS_MAX:
        raise SignInFault("FUTURE_TIMESTAMP")
    if now - issued > AGE_SECONDS_MAX or (parts["expiration"] and _unix(parts["expiration"]) <= now):
        raise SignInFault("EXPIRED")
    if parts["not_before"] and _unix(parts["not_before"]) > now:
        raise SignInFault("NOT_BEFORE")


def _unix(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise SignInFault("INVALID_MESSAGE") from error
    if moment.tzinfo is None:
        raise SignInFault("INVALID_MESSAGE")
    return moment.astimezone(UTC).timestamp()


def _written_out(payload: dict[str, Json]) -> str:
    """The EIP-4361 text of the extension's echoed fields."""
    address = str(payload.get("address", ""))
    chain = str(payload.get("chainId", "")).removeprefix("eip155:")
    head = f"{payload['domain']} wants you to sign in with your Ethereum account:\n{address}\n\n"
    statement = payload.get("statement")
    lines = [
        f"URI: {payload.get('uri', '')}",
        f"Version: {payload.get('version', '')}",
        f"Chain ID: {chain}",
        f"Nonce: {payload.get('nonce', '')}",
        f"Issued At: {payload.get('issuedAt', '')}",
    ]
    for name, label in (
        ("expirationTime", "Expiration Time"), ("notBefore", "Not Before"), ("requestId", "Request ID")
    ):  # fmt: skip
        if payload.get(name) is not None:
            lines.append(f"{label}: {payload[name]}")
    resources = payload.get("resources")
    if isinstance(resources, list) and resources:
        lines += ["Resources:", *(f"- {item}" for item in resources)]
    return head + (f"{statement}\n" if statement else "") + "\n" + "\n".join(lines)
