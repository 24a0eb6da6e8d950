"""A facilitator: the official SDK's, both versions, over HTTP. Verifies and settles on the chain of RPC_URL.

Run in the foreign packages' environment; takes RPC_URL and two GAS_KEYS from its own. Under `/hasty` stands a second
one that gives up at once on a transaction that is not mined.
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

HASTE_S = 0.3
PATIENCE_S = 30.0


def add_facilitator(app: FastAPI, prefix: str, gas_key: str, patience_s: float) -> None:
    """patience_s: how long it waits for a transaction to be mined."""
    facilitator = x402FacilitatorSync()
    signer = FacilitatorWeb3Signer(gas_key, os.environ["RPC_URL"], confirmation_timeout_seconds=patience_s)
    register_exact_evm_facilitator(facilitator, signer, "eip155:8453")

    async def supported() -> JSONResponse:
        return told(facilitator.get_supported())

    async def verify(request: Request) -> JSONResponse:
        return told(await run_in_threadpool(facilitator.verify, *read(await request.json())))

    async def settle(request: Request) -> JSONResponse:
        return told(await run_in_threadpool(facilitator.settle, *read(await request.json())))

    app.add_api_route(f"{prefix}/supported", supported, methods=["GET"])
    app.add_api_route(f"{prefix}/verify", verify, methods=["POST"])
    app.add_api_route(f"{prefix}/settle", settle, methods=["POST"])


def read(body: dict[str, Any]) -> tuple[Any, Any]:
    payload = parse_payment_payload(body["paymentPayload"])
    return payload, parse_payment_requirements(payload.x402_version, body["paymentRequirements"])


def told(answer: Any) -> JSONResponse:
    return JSONResponse(answer.model_dump(by_alias=True, exclude_none=True))


if __name__ == "__main__":
    patient_key, hasty_key = os.environ["GAS_KEYS"].split()
    both = FastAPI()
    add_facilitator(both, "", patient_key, PATIENCE_S)
    add_facilitator(both, "/hasty", hasty_key, HASTE_S)
    serve(both)
