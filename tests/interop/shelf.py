"""What the audio sellers of these tests have on their shelves: orders, and a sound for each. Standard library only.

Knows no payment; run by us and by the foreign packages' environment alike.
"""

from __future__ import annotations

import io
import json
import struct
import uuid
import wave
from typing import Any

BREAKS = "break after the check"
"""A prompt at which a shop fails once it has checked the payment, so that it never settles."""
RATE = 8000
Reply = tuple[int, str, bytes]
"""(status, content type, body)"""


class Shelf:
    """Jobs by their queue_id. Each is asked for twice before it is done."""

    def __init__(self) -> None:
        self.orders: dict[str, dict[str, Any]] = {}
        self._asked: dict[str, int] = {}

    def queue(self, body: bytes) -> Reply:
        """A new job for every call, paid or not: who may call is decided before."""
        order = json.loads(body)
        if not isinstance(order, dict) or not {"model", "prompt"} <= set(order):
            return as_json(400, {"error": "Invalid request parameters"})
        queue_id = str(uuid.uuid4())
        self.orders[queue_id] = order
        return as_json(200, {"model": order["model"], "queue_id": queue_id, "status": "QUEUED"})

    def retrieve(self, body: bytes) -> Reply:
        """The state of a job, then its sound."""
        queue_id = str(json.loads(body).get("queue_id"))
        order = self.orders.get(queue_id)
        if order is None:
            return as_json(404, {"error": "Media not found or expired"})
        self._asked[queue_id] = self._asked.get(queue_id, 0) + 1
        if self._asked[queue_id] == 1:
            state = {"status": "PROCESSING", "average_execution_time": 50, "execution_duration": 10}
            return as_json(200, state)
        return 200, "audio/wav", sound(int(order.get("duration_seconds", 1)))


def as_json(status: int, told: object) -> Reply:
    return status, "application/json", json.dumps(told).encode()


def sound(seconds: int) -> bytes:
    """So many seconds of a square wave."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(RATE)
        writer.writeframes(struct.pack("<16h", *[900] * 8, *[-900] * 8) * (RATE // 16 * seconds))
    return file.getvalue()
