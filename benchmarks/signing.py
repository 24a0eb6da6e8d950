"""What a signed header costs beside a bare signature by the same curve library, and beside eth_account's way.

Run `python -m benchmarks.signing`: one JSON row a line. `ratio` is ours over the floor, the median of interleaved
rounds; `limit` is what it must not pass. Each header is decoded and its signer recovered outside the timed part.
"""

from __future__ import annotations

import json
import sys
from base64 import b64decode
from collections.abc import Callable
from statistics import median
from time import perf_counter_ns
from typing import Any, Final

from coincurve import PrivateKey

from x402_audio.money import Usdc
from x402_audio.protocol.exact import Authorization, authorization_digest, typed_data
from x402_audio.protocol.networks import BASE
from x402_audio.protocol.payload import Envelope, payment_header
from x402_audio.protocol.requirements import PaymentRequired, read_payment_required
from x402_audio.protocol.signer import LocalSigner, message_digest, recover_address
from x402_audio.protocol.siwx import sign_in_header

ROUNDS: Final = 31
CALLS: Final = 100
PEER_CALLS: Final = 5
LIMIT: Final = 2.0
KEY: Final = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
"""A published test key, never to be funded."""
PAYEE: Final = "0x2670B922ef37C7Df47158725C0CC407b5382293F"
URL: Final = "https://api.venice.ai/api/v1/audio/queue"


def time_us(act: Callable[[int], object], calls: int) -> float:
    """Microseconds a call, mean of one burst."""
    start = perf_counter_ns()
    for number in range(calls):
        act(number)
    return (perf_counter_ns() - start) / calls / 1000


def measure(
    name: str, act: Callable[[int], str], peer: Callable[[int], object], peer_name: str
) -> dict[str, Any]:
    """One row: ours, the floor and the peer in turn, so that a slow moment of the machine meets all three."""
    key, digest = PrivateKey(bytes.fromhex(KEY)), message_digest("floor")
    rounds = [
        (
            time_us(lambda _: key.sign_recoverable(digest, hasher=None), CALLS),
            time_us(act, CALLS),
            time_us(peer, PEER_CALLS),
        )
        for _ in range(ROUNDS)
    ]
    return {
        "name": name,
        "ratio": round(median(ours / floor for floor, ours, _ in rounds), 2),
        "limit": LIMIT,
        "floor": "coincurve sign_recoverable",
        "floor_us": round(median(floor for floor, _, _ in rounds), 1),
        "ours_us": round(median(ours for _, ours, _ in rounds), 1),
        "peer": peer_name,
        "peer_ratio": round(median(other / floor for floor, _, other in rounds), 2),
    }


def authorization(signer: LocalSigner, number: int) -> Authorization:
    return Authorization(
        from_=signer.address,
        to=PAYEE,
        value=Usdc(5_000_000),
        valid_after=1_740_671_489,
        valid_before=1_740_672_389,
        nonce=number.to_bytes(32, "big"),
    )


def offer() -> PaymentRequired:
    entry = {
        "scheme": "exact", "network": BASE.caip2, "asset": BASE.usdc.lower(), "amount": "5000000",
        "payTo": PAYEE.lower(), "maxTimeoutSeconds": 300, "extra": {"name": "USD Coin", "version": "2"},
    }  # fmt: skip
    terms = {"x402Version": 2, "resource": {"url": URL}, "accepts": [entry]}
    return read_payment_required({}, json.dumps(terms).encode())


def payment_row(signer: LocalSigner, account: Any) -> dict[str, Any]:
    """From the committed fields and envelope to the header: digest, signature, JSON, base64.

    `unprepared_ratio` also makes the envelope (the echo of the terms) anew, as `payment_header` does in one go.
    """
    from eth_account.messages import encode_typed_data

    terms = offer()
    chosen = terms.requirements[0]
    fields = [authorization(signer, number) for number in range(CALLS)]

    envelope = Envelope.of(terms, chosen)

    def pay(number: int) -> str:
        return envelope.header(fields[number], signer.sign_authorization(BASE, fields[number]))[1]

    def pay_unprepared(number: int) -> str:
        signature = signer.sign_authorization(BASE, fields[number])
        return payment_header(terms, chosen, fields[number], signature)[1]

    def peer(number: int) -> object:
        return account.sign_message(encode_typed_data(full_message=typed_data(BASE, fields[number])))

    for number in range(CALLS):
        assert pay(number) == pay_unprepared(number)
        payload = json.loads(b64decode(pay(number)))["payload"]
        digest = authorization_digest(BASE, fields[number])
        assert payload["authorization"] == fields[number].wire()
        assert recover_address(digest, bytes.fromhex(payload["signature"][2:])) == signer.address
    row = measure("signing payment", pay, peer, "eth_account, signature only")
    return {**row, "unprepared_ratio": measure("", pay_unprepared, peer, "")["ratio"]}


def sign_in_row(signer: LocalSigner, account: Any) -> dict[str, Any]:
    """From host and nonce to the header: text, digest, signature, JSON, base64."""
    from eth_account.messages import encode_defunct

    def sign_in(number: int) -> str:
        return sign_in_header(
            signer, domain="api.venice.ai", uri=URL, nonce=f"{number:016x}", issued_at=1_740_672_000.5
        )

    def peer(number: int) -> object:
        return account.sign_message(encode_defunct(text=messages[number]))

    messages = []
    for number in range(CALLS):
        header = json.loads(b64decode(sign_in(number)))
        messages.append(header["message"])
        signed = bytes.fromhex(header["signature"][2:])
        assert (
            recover_address(message_digest(header["message"]), signed) == header["address"] == signer.address
        )
    return measure("signing sign-in", sign_in, peer, "eth_account, signature only")


def main() -> int:
    """Print both rows; 1 when one is past its limit."""
    from eth_account import Account

    signer, account = LocalSigner.from_hex(KEY), Account.from_key(KEY)
    rows = [payment_row(signer, account), sign_in_row(signer, account)]
    for row in rows:
        print(json.dumps(row))
    return int(any(row["ratio"] > row["limit"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
