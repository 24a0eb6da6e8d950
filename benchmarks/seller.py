"""A seller that costs its customer as little as can be: canned answers over keep-alive, in a process of its own.

Asks for a payment (v2) where no payment header is, and takes any where one is. Checks nothing; it is no seller for tests.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager

USDC = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
PAYEE = "0x2670B922ef37C7Df47158725C0CC407b5382293F"
PATH = "/audio/queue"


def demand(url: str) -> str:
    """The PAYMENT-REQUIRED header of one offer."""
    offer = {
        "scheme": "exact", "network": "eip155:8453", "asset": USDC, "amount": "250000", "payTo": PAYEE,
        "maxTimeoutSeconds": 300, "extra": {"name": "USD Coin", "version": "2"},
    }  # fmt: skip
    terms = {"x402Version": 2, "error": "payment required", "resource": {"url": url}, "accepts": [offer]}
    return b64encode(json.dumps(terms).encode()).decode()


def demand_v1(url: str) -> bytes:
    """The same offer as version 1 makes it, in the body."""
    offer = {
        "scheme": "exact", "network": "base", "asset": USDC, "maxAmountRequired": "250000", "payTo": PAYEE,
        "maxTimeoutSeconds": 300, "resource": url, "description": "", "mimeType": "audio/mpeg",
        "extra": {"name": "USD Coin", "version": "2"},
    }  # fmt: skip
    return json.dumps({"x402Version": 1, "error": "payment required", "accepts": [offer]}).encode()


def _answer(status: str, header: str, value: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{header}: {value}\r\n\r\n"
    return head.encode() + body


async def serve() -> None:
    settled = b64encode(json.dumps({
        "success": True, "transaction": "0x" + "ab" * 32, "network": "eip155:8453", "amount": "250000",
    }).encode()).decode()  # fmt: skip
    paid = _answer("200 OK", "payment-response", settled, b'{"queue_id":"q"}')
    unpaid = {b"": b"", b"/v1": b""}

    async def customer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                _, _, rest = head.partition(b"content-length: ")
                await reader.readexactly(int(rest.partition(b"\r\n")[0] or 0))
                version = b"/v1" if head.startswith(b"post /v1/") else b""
                is_paid = b"\r\npayment-signature:" in head or b"\r\nx-payment:" in head
                writer.write(paid if is_paid else unpaid[version])
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(customer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{PATH}"
    unpaid[b""] = _answer("402 Payment Required", "payment-required", demand(url), b"{}")
    unpaid[b"/v1"] = _answer(
        "402 Payment Required", "x-version", "1", demand_v1(url.replace(PATH, "/v1" + PATH))
    )
    print(url, flush=True)
    async with server:
        await server.serve_forever()


@contextmanager
def open_seller() -> Iterator[str]:
    """Its URL, while it serves."""
    with subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


if __name__ == "__main__":
    asyncio.run(serve())
