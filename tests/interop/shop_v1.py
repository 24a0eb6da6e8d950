"""An audio seller that speaks x402 version 1, as shops did before the SDK left it: the SDK's facilitator checks and settles.

Ours and small; it keeps no answers: the same payment a second time is whatever the facilitator makes of it.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx

from tests.interop.chain import USDC
from tests.interop.door import Asked, Door, Told
from tests.interop.shelf import BREAKS, Reply, Shelf, as_json


class ShopV1(Door):
    """pay_to, price: whom and how much (atomic units) each track is paid.

    broken: it fails where the prompt says so. gives_away: it checks payments, hands the tracks over and never settles.
    """

    def __init__(self, facilitator: str, *, pay_to: str, price: int) -> None:
        super().__init__()
        self.broken = True
        self.gives_away = False
        self.shelf = Shelf()
        self._pay_to = pay_to
        self._price = price
        self._http = httpx.Client(base_url=facilitator, trust_env=False, verify=False, timeout=30)

    def answer(self, asked: Asked) -> Told:
        with self.lock:
            match asked.method, asked.path:
                case "POST", "/api/v1/audio/queue":
                    return self._sell(asked)
                case "POST", "/api/v1/audio/retrieve":
                    return _told(self.shelf.retrieve(asked.body))
            return _told(as_json(404, {"error": "Not found"}))

    def _sell(self, asked: Asked) -> Told:
        if not asked.payment:
            return self._demand(asked, "X-PAYMENT header is required")
        judged = self._ask_facilitator("/verify", asked)
        if not judged["isValid"]:
            return self._demand(asked, judged["invalidReason"])
        if self.broken and BREAKS.encode() in asked.body:
            return _told(as_json(500, {"error": "Internal Server Error"}))
        queued = _told(self.shelf.queue(asked.body))
        if self.gives_away:
            return queued
        settled = self._ask_facilitator("/settle", asked)
        if not settled["success"]:
            return self._demand(asked, settled["errorReason"])
        receipt = base64.b64encode(json.dumps(settled).encode()).decode()
        return Told(queued.status, {**queued.headers, "x-payment-response": receipt}, queued.body)

    def _demand(self, asked: Asked, error: str) -> Told:
        return _told(as_json(402, {"x402Version": 1, "error": error, "accepts": [self._entry(asked)]}))

    def _entry(self, asked: Asked) -> dict[str, Any]:
        return {
            "scheme": "exact", "network": "base", "maxAmountRequired": str(self._price),
            "resource": f"http://{asked.headers['host']}{asked.path}", "description": "one track",
            "mimeType": "application/json", "payTo": self._pay_to, "maxTimeoutSeconds": 300, "asset": USDC,
            "outputSchema": None, "extra": {"name": "USD Coin", "version": "2"},
        }  # fmt: skip

    def _ask_facilitator(self, path: str, asked: Asked) -> dict[str, Any]:
        body = {
            "x402Version": 1,
            "paymentPayload": json.loads(base64.b64decode(asked.payment)),
            "paymentRequirements": self._entry(asked),
        }
        told: dict[str, Any] = self._http.post(path, json=body).raise_for_status().json()
        return told

    def stop(self) -> None:
        super().stop()
        self._http.close()


def _told(reply: Reply) -> Told:
    status, content_type, body = reply
    return Told(status, {"content-type": content_type}, body)
