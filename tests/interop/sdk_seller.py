"""An audio seller as anybody builds one: FastAPI, and the official SDK's middleware on its queue route (version 2).

Run in the foreign packages' environment; takes FACILITATOR, PAY_TO and PRICE from its own. What fails in the shop after
the check of a payment is never settled: that is the middleware's own rule.
"""

from __future__ import annotations

import os

from fastapi import FastAPI, Request, Response
from x402 import x402ResourceServer
from x402.http import FacilitatorConfig, HTTPFacilitatorClient
from x402.http.middleware.fastapi import payment_middleware
from x402.http.types import PaymentOption, RouteConfig
from x402.mechanisms.evm.exact import register_exact_evm_server

from tests.interop.sdk_server import serve
from tests.interop.shelf import BREAKS, Reply, Shelf

shelf = Shelf()


async def queue(request: Request) -> Response:
    body = await request.body()
    if BREAKS.encode() in body:
        return Response(b'{"error": "Internal Server Error"}', 500, media_type="application/json")
    return reply(shelf.queue(body))


async def retrieve(request: Request) -> Response:
    return reply(shelf.retrieve(await request.body()))


def reply(answer: Reply) -> Response:
    status, content_type, body = answer
    return Response(body, status, media_type=content_type)


def shop() -> FastAPI:
    """The application, its routes and their price."""
    server = x402ResourceServer(HTTPFacilitatorClient(FacilitatorConfig(url=os.environ["FACILITATOR"])))
    register_exact_evm_server(server, "eip155:8453")
    option = PaymentOption(
        scheme="exact", pay_to=os.environ["PAY_TO"], price=os.environ["PRICE"], network="eip155:8453"
    )
    route = RouteConfig(
        accepts=[option],
        mime_type="application/json",
        description="one track",
        extensions={"payment-identifier": {"info": {"required": False}, "schema": {"type": "object"}}},
    )
    app = FastAPI()
    app.middleware("http")(payment_middleware({"POST /api/v1/audio/queue": route}, server))
    app.add_api_route("/api/v1/audio/queue", queue, methods=["POST"])
    app.add_api_route("/api/v1/audio/retrieve", retrieve, methods=["POST"])
    return app


if __name__ == "__main__":
    serve(shop())
