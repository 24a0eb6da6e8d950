"""Sign-in-with-x: an EIP-4361 text, signed (EIP-191) and wrapped as a header. Every word of it is ours.

A header serves one request. Whether domain and URI belong to the host that is asked is the caller's to see to. Knows
no seller and no clock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from time import gmtime, strftime
from typing import Final

from x402_audio.protocol import base64text
from x402_audio.protocol.address import is_address
from x402_audio.protocol.echo import echo_json
from x402_audio.protocol.signer import Signer

STATEMENT: Final = "Sign in to Venice AI"
LIFETIME_S: Final = 240
CHAIN_ID: Final = 8453
_DOMAIN: Final = re.compile(r"[A-Za-z0-9.\-\[\]:]{1,255}", re.ASCII)
_URI: Final = re.compile(r"[a-z][a-z0-9+.-]*://[!-~]{1,2000}", re.ASCII)
_NONCE: Final = re.compile(r"[A-Za-z0-9]{8,128}", re.ASCII)
_STATEMENT: Final = re.compile(r"[ -~]{1,200}", re.ASCII)


@dataclass(frozen=True, slots=True)
class HeaderProfile:
    """Which header names a prepaid seller is spoken to with."""

    sign_in: str
    payment: str


CURRENT_HEADERS: Final = HeaderProfile(sign_in="SIGN-IN-WITH-X", payment="PAYMENT-SIGNATURE")
LEGACY_HEADERS: Final = HeaderProfile(sign_in="X-Sign-In-With-X", payment="X-402-Payment")


def sign_in_message(
    *,
    domain: str,
    address: str,
    uri: str,
    nonce: str,
    issued_at: float,
    lifetime_s: int = LIFETIME_S,
    chain_id: int = CHAIN_ID,
    statement: str = STATEMENT,
) -> str:
    """The EIP-4361 text. address: EIP-55. issued_at: Unix seconds. lifetime_s: seconds until Expiration Time.

    Raises ValueError for a field that could be read as another one: line breaks, controls, spaces where none belong.
    """
    if not (
        _DOMAIN.fullmatch(domain)
        and is_address(address)
        and _STATEMENT.fullmatch(statement)
        and _URI.fullmatch(uri)
        and _NONCE.fullmatch(nonce)
    ):
        raise ValueError("a sign-in has a field of the wrong form (domain, address, uri, nonce or statement)")
    if lifetime_s <= 0 or chain_id <= 0:
        raise ValueError("a sign-in has a positive life and chain id")
    issued_ms = round(issued_at * 1000)
    return (
        f"{domain} wants you to sign in with your Ethereum account:\n{address}\n\n{statement}\n\n"
        f"URI: {uri}\nVersion: 1\nChain ID: {chain_id}\nNonce: {nonce}\n"
        f"Issued At: {_iso(issued_ms)}\nExpiration Time: {_iso(issued_ms + lifetime_s * 1000)}"
    )


def sign_in_header(
    signer: Signer,
    *,
    domain: str,
    uri: str,
    nonce: str,
    issued_at: float,
    lifetime_s: int = LIFETIME_S,
    chain_id: int = CHAIN_ID,
    statement: str = STATEMENT,
) -> str:
    """The value of one sign-in header, for one request. Fields and errors: `sign_in_message`; SignerError."""
    message = sign_in_message(
        domain=domain,
        address=signer.address,
        uri=uri,
        nonce=nonce,
        issued_at=issued_at,
        lifetime_s=lifetime_s,
        chain_id=chain_id,
        statement=statement,
    )
    signature = signer.sign_message(message).hex()
    return base64text.encode(
        f'{{"address":"{signer.address}","message":{echo_json(message)},"signature":"0x{signature}","chainId":{chain_id}}}'
    )


def _iso(unix_ms: int) -> str:
    """ISO 8601 with milliseconds and Z."""
    seconds, ms = divmod(unix_ms, 1000)
    return f"{strftime('%Y-%m-%dT%H:%M:%S', gmtime(seconds))}.{ms:03d}Z"
