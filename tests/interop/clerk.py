"""What stands between shops and their facilitator, and may lie to them about a settlement: a false receipt is the result.

Honest, it passes everything on. Knows no version of x402.
"""

from __future__ import annotations

import json
from typing import Literal

import httpx

from tests.interop.door import Asked, Door, Told

Lie = Literal["never settled", "another transaction"]
MADE_UP = "0x" + "ab" * 32
"""The transaction it names when it lies."""


class Clerk(Door):
    """lie: it says "settled" and settles nothing, or settles and names a transaction it made up.

    hasty: it goes to the facilitator that waits for no block.
    """

    def __init__(self, facilitator: str) -> None:
        super().__init__()
        self.lie: Lie | None = None
        self.hasty = False
        self._http = httpx.Client(base_url=facilitator, trust_env=False, verify=False, timeout=60)

    def answer(self, asked: Asked) -> Told:
        settles = asked.path == "/settle"
        if settles and self.lie == "never settled":
            network = json.loads(asked.body)["paymentRequirements"]["network"]
            return _told(200, {"success": True, "transaction": MADE_UP, "network": network, "payer": ""})
        path = f"/hasty{asked.path}" if self.hasty else asked.path
        headers = {"content-type": "application/json"}
        answer = self._http.request(asked.method, path, content=asked.body, headers=headers)
        told = answer.json()
        if settles and self.lie == "another transaction":
            told["transaction"] = MADE_UP
        return _told(answer.status_code, told)

    def stop(self) -> None:
        super().stop()
        self._http.close()


def _told(status: int, told: object) -> Told:
    return Told(status, {"content-type": "application/json"}, json.dumps(told).encode())
