"""What stands between a shop and its customer, and breaks after the money moved: the same for every version and shop.

Requests pass through to the shop behind, unchanged. Once the shop has answered a payment with its receipt, the next
`strikes` answers to that very payment are lost in the way `fault` says.
"""

from __future__ import annotations

import base64
import json
import threading
from typing import Literal

import httpx

from tests.interop.door import RECEIPT_HEADERS, Asked, Door, Told

Fault = Literal["hang", "drop", "500", "402", "no receipt", "redirect"]
_HOP = ("connection", "content-length", "transfer-encoding", "date", "server", "keep-alive")


class Front(Door):
    """One door before one shop.

    remembers: the same payment gets the same answer again, as from a seller that keeps its answers; else the shop is
    asked again, and most shops find the nonce used. elsewhere: where a redirect points. struck: an answer was lost.
    """

    def __init__(self, shop: str, *, remembers: bool, elsewhere: str = "") -> None:
        super().__init__()
        self.fault: Fault | None = None
        self.strikes = 0
        self.struck = threading.Event()
        self.seen: list[Asked] = []
        self._shop = shop
        self._remembers = remembers
        self._elsewhere = elsewhere
        self._settled: dict[str, Told] = {}
        self._demand: Told | None = None
        self._http = httpx.Client(trust_env=False, verify=False, timeout=30)

    def break_down(self, fault: Fault, *, strikes: int = 1) -> None:
        """Lose the next answers to settled payments so."""
        self.fault, self.strikes = fault, strikes

    @property
    def payments(self) -> list[str]:
        """The payment headers that arrived, each as often as it was sent."""
        return [asked.payment for asked in self.seen if asked.payment]

    def answer(self, asked: Asked) -> Told | None:
        with self.lock:
            self.seen.append(asked)
            known = self._settled.get(asked.payment)
            told = known if known is not None and self._remembers else self._ask_shop(asked)
            if asked.payment and _has_receipt(told):
                self._settled[asked.payment] = told
            elif not asked.payment and told.status == 402:
                self._demand = told
            if asked.payment not in self._settled or not self.strikes:
                return told
            self.strikes -= 1
            self.struck.set()
        return self._lose(asked, told)

    def _ask_shop(self, asked: Asked) -> Told:
        headers = {name: value for name, value in asked.headers.items() if name not in _HOP}
        answer = self._http.request(
            asked.method, self._shop + asked.path, headers=headers, content=asked.body
        )
        kept = {name: value for name, value in answer.headers.items() if name not in _HOP}
        return Told(answer.status_code, kept, answer.content)

    def _lose(self, asked: Asked, told: Told) -> Told | None:
        match self.fault:
            case "hang":
                self.closing.wait()
                return None
            case "500":
                return Told(500, {"content-type": "application/json"}, b'{"error": "Internal Server Error"}')
            case "402":
                return self._demand
            case "no receipt":
                bare = {name: value for name, value in told.headers.items() if name not in RECEIPT_HEADERS}
                return Told(told.status, bare, told.body)
            case "redirect":
                return Told(307, {"location": self._elsewhere + asked.path})
        return None

    def stop(self) -> None:
        super().stop()
        self._http.close()


def _has_receipt(told: Told) -> bool:
    """The answer says that this payment was settled."""
    text = next((told.headers[name] for name in RECEIPT_HEADERS if name in told.headers), "")
    return bool(text) and json.loads(base64.b64decode(text))["success"] is True
