"""A customer who owes the sandbox nothing: signs with eth_account's own encoders and speaks plain JSON."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from x402_audio.sandbox import SandboxServer

TRANSFER = {
    "TransferWithAuthorization": [
        {"name": "from", "type": "address"},
        {"name": "to", "type": "address"},
        {"name": "value", "type": "uint256"},
        {"name": "validAfter", "type": "uint256"},
        {"name": "validBefore", "type": "uint256"},
        {"name": "nonce", "type": "bytes32"},
    ]
}


def header_of(value: object) -> str:
    """Base64 of JSON."""
    return base64.b64encode(json.dumps(value).encode()).decode()


def value_of(header: str) -> Any:
    """JSON out of base64."""
    return json.loads(base64.b64decode(header))


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@dataclass
class SteppingClock:
    """Stands still until told."""

    at: float = 1_790_000_000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


@dataclass
class Wallet:
    """A test key; every signature is made by eth_account from a plain description of what is signed."""

    number: int = 1
    clock: SteppingClock = field(default_factory=SteppingClock)
    nonces: int = 0

    def __post_init__(self) -> None:
        limit = sys.getrecursionlimit()
        from eth_account import Account

        sys.setrecursionlimit(limit)
        self.account = Account.from_key((0xA11CE + self.number).to_bytes(32, "big"))

    @property
    def address(self) -> str:
        return str(self.account.address)

    def nonce(self) -> str:
        self.nonces += 1
        return f"0x{self.number:032x}{self.nonces:032x}"

    def authorize(
        self, pay_to: str, value: int, *, domain: dict[str, Any] | None = None, **changed: Any
    ) -> dict[str, Any]:
        """The member `payload` of a payment: a good authorization with `changed` members signed as such."""
        fields = {
            "from": self.address,
            "to": pay_to,
            "value": value,
            "validAfter": int(self.clock.now()) - 600,
            "validBefore": int(self.clock.now()) + 300,
            "nonce": self.nonce(),
            **changed,
        }
        usdc = {
            "name": "USD Coin",
            "version": "2",
            "chainId": 8453,
            "verifyingContract": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
            **(domain or {}),
        }
        signed = self.account.sign_typed_data(
            usdc, TRANSFER, {**fields, "nonce": bytes.fromhex(fields["nonce"][2:])}
        )
        written = {name: v if isinstance(v, str) else str(v) for name, v in fields.items()}
        return {"signature": "0x" + signed.signature.hex(), "authorization": written}

    def text(self, domain: str, **changed: str) -> str:
        """The EIP-4361 text of a good sign-in."""
        self.nonces += 1
        now = self.clock.now()
        parts = {
            "domain": domain,
            "address": self.address,
            "uri": f"http://{domain}",
            "chain": "8453",
            "nonce": f"{self.number:08x}{self.nonces:08x}",
            "issued": iso(now),
            "expires": iso(now + 240),
            **changed,
        }
        return (
            f"{parts['domain']} wants you to sign in with your Ethereum account:\n{parts['address']}\n\n"
            f"Sign in to Venice AI\n\nURI: {parts['uri']}\nVersion: 1\nChain ID: {parts['chain']}\n"
            f"Nonce: {parts['nonce']}\nIssued At: {parts['issued']}\nExpiration Time: {parts['expires']}"
        )

    def sign(self, text: str) -> str:
        from eth_account.messages import encode_defunct

        return "0x" + str(self.account.sign_message(encode_defunct(text=text)).signature.hex())

    def sign_in(self, domain: str, **changed: str) -> dict[str, str]:
        """A fresh header."""
        text = self.text(domain, **changed)
        payload = {"address": self.address, "message": text, "signature": self.sign(text), "chainId": 8453}
        return {"SIGN-IN-WITH-X": header_of(payload)}


class Shop:
    """A running seller, seen from outside."""

    def __init__(self, server: SandboxServer, clock: SteppingClock, http: httpx.Client) -> None:
        self.server = server
        self.seller = server.seller
        self.clock = clock
        self.http = http
        self.host = server.origin.partition("://")[2]

    def wallet(self, number: int = 1) -> Wallet:
        return Wallet(number, self.clock)

    def post(self, path: str, body: object = None, headers: dict[str, str] | None = None) -> httpx.Response:
        return self.http.post(path, json=body, headers=headers) if body is not None else self.http.post(
            path, headers=headers
        )  # fmt: skip

    def signed(self, wallet: Wallet, path: str, body: object) -> httpx.Response:
        """POST with a fresh sign-in."""
        return self.post(path, body, wallet.sign_in(self.host))

    def balance(self, wallet: Wallet) -> httpx.Response:
        return self.http.get(f"/x402/balance/{wallet.address}", headers=wallet.sign_in(self.host))

    def books(self) -> Any:
        return self.http.get(f"{self.server.origin}/sandbox/books").json()

    def faults(self, *rules: dict[str, object], **more: object) -> None:
        answer = self.http.post(f"{self.server.origin}/sandbox/faults", json={"rules": list(rules), **more})
        assert answer.status_code == 200, answer.text


OpenShop = Callable[..., Shop]
MUSIC = {"model": "elevenlabs-music", "prompt": "Warm indie folk, 120 BPM", "duration_seconds": 60}
