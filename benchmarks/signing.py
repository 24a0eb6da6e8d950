"""What a signed header costs beside a bare signature of a ready digest by the same curve library, and beside the SDK.

`signing payment`: from the terms as read to the finished header, a fresh nonce and amount each time. `signing sign-in`:
from host and nonce to the header. Each header is decoded and its signer recovered outside the timed part.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Final

from coincurve import PrivateKey

from benchmarks import peers
from benchmarks.measure import Row, beside, burst, row, shares
from benchmarks.seller import PAYEE, demand
from x402_audio.money import Usdc
from x402_audio.protocol.exact import Authorization, authorization_digest
from x402_audio.protocol.networks import BASE
from x402_audio.protocol.payload import payment_header
from x402_audio.protocol.requirements import PaymentRequired, read_payment_required
from x402_audio.protocol.signer import LocalSigner, message_digest, recover_address
from x402_audio.protocol.siwx import sign_in_header

NAMES: Final = ("signing payment", "signing payment sdk", "signing payment sdk-by-ours", "signing sign-in")
GOAL: Final = 2.0
FRESH: Final = 200
"""Different nonces and amounts before they come again."""
KEY: Final = "5a" * 32
URL: Final = "https://api.venice.ai/api/v1/audio/queue"


def rounds_of(act: Callable[[int], str], rounds: int, calls: int) -> list[Mapping[str, float]]:
    """Ours and the floor in turn."""
    key, digest, numbers = PrivateKey(bytes.fromhex(KEY)), message_digest("floor"), count()

    def floor() -> None:
        key.sign_recoverable(digest, hasher=None)

    def ours() -> None:
        act(next(numbers) % FRESH)

    burst(ours, calls)
    return [{"floor": burst(floor, calls), "ours": burst(ours, calls)} for _ in range(rounds)]


def offer(number: int) -> PaymentRequired:
    """The benchmark seller's terms with an amount of their own."""
    terms = json.loads(b64decode(demand(URL)))
    terms["accepts"][0]["amount"] = str(5_000_000 + number)
    return read_payment_required({}, json.dumps(terms).encode())


def payments(signer: LocalSigner) -> Callable[[int], str]:
    """Makes the header of a number; every one of them was checked."""
    offers = [offer(number) for number in range(FRESH)]
    fields = [
        Authorization(
            from_=signer.address, to=PAYEE, value=Usdc(5_000_000 + number), valid_after=1_740_671_489,
            valid_before=1_740_672_389, nonce=number.to_bytes(32, "big"),
        )
        for number in range(FRESH)
    ]  # fmt: skip

    def pay(number: int) -> str:
        terms, field = offers[number], fields[number]
        signature = signer.sign_authorization(BASE, field)
        return payment_header(terms, terms.requirements[0], field, signature)[1]

    for number in range(FRESH):
        payload = json.loads(b64decode(pay(number)))["payload"]
        digest = authorization_digest(BASE, fields[number])
        assert payload["authorization"] == fields[number].wire()
        assert recover_address(digest, bytes.fromhex(payload["signature"][2:])) == signer.address
    return pay


def sign_ins(signer: LocalSigner) -> Callable[[int], str]:
    """As `payments`, for sign-in headers."""

    def sign_in(number: int) -> str:
        nonce = f"{number:016x}"
        return sign_in_header(signer, domain="api.venice.ai", uri=URL, nonce=nonce, issued_at=1_740_672_000.5)

    for number in range(FRESH):
        header = json.loads(b64decode(sign_in(number)))
        digest, signed = message_digest(header["message"]), bytes.fromhex(header["signature"][2:])
        assert recover_address(digest, signed) == header["address"] == signer.address
    return sign_in


def rows(*, quick: bool) -> Iterator[Row]:
    rounds, calls = (7, 50) if quick else (41, 200)
    signer = LocalSigner.from_hex("0x" + KEY)
    bare = "C curve, ready digest"
    pay, sign_in = payments(signer), sign_ins(signer)
    mine = row(
        "signing payment", rounds_of(pay, rounds, calls), goal=GOAL, floor_name=bare,
        profile=f"of a header {shares(lambda: pay(0), calls)}",
    )  # fmt: skip
    yield mine
    for arm, curve in peers.CURVES.items():
        found = peers.sdk("signing", demand(URL), rounds=rounds, calls=calls // 5, curve=curve)
        theirs = row(
            f"signing payment {arm}", found, ours="sdk", floor_name=bare, peer=f"x402 (Python), {curve}"
        )
        yield theirs
        if arm == "sdk":
            yield beside("signing payment sdk-by-ours", theirs, mine, goal=6.0, bound="at least")
    yield row(
        "signing sign-in", rounds_of(sign_in, rounds, calls), goal=GOAL, floor_name=bare,
        profile=f"of a header {shares(lambda: sign_in(0), calls)}",
    )  # fmt: skip
