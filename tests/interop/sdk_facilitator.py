"""A facilitator: the official SDK's, both versions, over HTTP. Verifies and settles on the chain of RPC_URL.

Run in the foreign packages' environment; takes GAS_KEY, RPC_URL and PATIENCE_S (how long it waits for a transaction to
be mined) from its own.
"""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from x402 import x402FacilitatorSync
from x402.mechanisms.evm import FacilitatorWeb3Signer
from x402.mechanisms.evm.exact import register_exact_evm_facilitator
from x402.schemas.helpers import parse_payment_payload, parse_payment_requirements

from tests.interop.sdk_server import serve

facilitator = x402FacilitatorSync()
signer = FacilitatorWeb3Signer(
    os.environ["GAS_KEY"],
    os.environ["RPC_URL"],
    confirmation_timeout_seconds=float(os.environ.get("PATIENCE_S", "30")),
)
register_exact_evm_facilitator(facilitator, signer, "eip155:8453")


async def supported() -> JSONResponse:
    return told(facilitator.get_supported())


async def verify(request: Request) -> JSONResponse:
    return told(await run_in_threadpool(facilitator.verify, *read(await request.json())))


async def settle(request: Request) -> JSONResponse:
    return told(await run_in_threadpool(facilitator.settle, *read(await request.json())))


def read(body: dict[str, Any]) -> tuple[Any, Any]:
    payload = parse_payment_payload(body["paymentPayload"])
    return payload, parse_payment_requirements(payload.x402_version, body["paymentRequirements"])


def told(answer: Any) -> JSONResponse:
    return JSONResponse(answer.model_dump(by_alias=True, exclude_none=True))


app = FastAPI()
app.add_api_route("/supported", supported, methods=["GET"])
app.add_api_route("/verify", verify, methods=["POST"])
app.add_api_route("/settle", settle, methods=["POST"])

if __name__ == "__main__":
    serve(app)
