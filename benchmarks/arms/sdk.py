"""The official x402 SDK's cost, measured where it is installed: `python sdk.py signing|paid-call|start URL ROUNDS CALLS`.

Runs in the peers' own environment and imports nothing of this project. Says one JSON list of rounds on stdout. The
curve is what ECC_BACKEND_CLASS names; without it, what eth_keys finds (the C curve when coincurve is installed).
"""

import asyncio
import json
import sys
import time
from base64 import b64decode
from typing import Any

KEY = "0x" + "5a" * 32
BODY = {"model": "elevenlabs-music", "prompt": "warm indie folk", "duration_seconds": 60}


def client() -> Any:
    from eth_account import Account
    from x402 import x402Client
    from x402.mechanisms.evm.exact import register_exact_evm_client
    from x402.mechanisms.evm.signers import EthAccountSigner

    return register_exact_evm_client(x402Client(), EthAccountSigner(Account.from_key(KEY)))


def cpu_us() -> float:
    return time.process_time_ns() / 1000


async def paid_call(url: str, rounds: int, calls: int) -> list[dict[str, float]]:
    import httpx
    from x402.http.clients.httpx import x402HttpxClient

    ready = {"PAYMENT-SIGNATURE": "x" * 900}
    async with (
        httpx.AsyncClient(trust_env=False) as bare,
        x402HttpxClient(client(), trust_env=False) as paying,
    ):

        async def floor() -> None:
            assert (await bare.post(url, json=BODY)).status_code == 402
            assert (await bare.post(url, json=BODY, headers=ready)).status_code == 200

        async def sdk() -> None:
            assert (await paying.post(url, json=BODY)).status_code == 200

        async def burst(act: Any) -> float:
            start = cpu_us()
            for _ in range(calls):
                await act()
            return (cpu_us() - start) / calls

        await burst(floor), await burst(sdk)
        return [{"floor": await burst(floor), "sdk": await burst(sdk)} for _ in range(rounds)]


async def signing(demand: str, rounds: int, calls: int) -> list[dict[str, float]]:
    """From terms already read to the finished header; the floor is the C curve signing a ready digest."""
    from coincurve import PrivateKey
    from x402.http.utils import decode_payment_required_header, encode_payment_signature_header

    paying, key, digest = client(), PrivateKey(bytes.fromhex(KEY[2:])), bytes(range(32))
    terms = decode_payment_required_header(demand)

    async def header() -> str:
        return encode_payment_signature_header(await paying.create_payment_payload(terms))

    nonces = {json.loads(b64decode(await header()))["payload"]["authorization"]["nonce"] for _ in range(3)}
    assert len(nonces) == 3
    found = []
    for _ in range(rounds):
        start = cpu_us()
        for _ in range(calls):
            key.sign_recoverable(digest, hasher=None)
        floor = (cpu_us() - start) / calls
        start = cpu_us()
        for _ in range(calls):
            await header()
        found.append({"floor": floor, "sdk": (cpu_us() - start) / calls})
    return found


if __name__ == "__main__":
    what, subject, rounds, calls = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    print(json.dumps(asyncio.run({"signing": signing, "paid-call": paid_call}[what](subject, rounds, calls))))
