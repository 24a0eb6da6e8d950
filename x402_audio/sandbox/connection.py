"""Sending an answer, and the ways a connection can fail on the way.

Knows the names of the faults and nothing of what is sold.
"""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler

from x402_audio.jsontext import Json
from x402_audio.sandbox.answers import Answer, Request, encode_json
from x402_audio.sandbox.seller import SandboxSeller

_RECEIPTS = ("payment-response", "x-payment-response")


class Broken(Exception):
    """The connection is to be closed without another byte."""


class Connection:
    """One request's way back to the client."""

    def __init__(self, handler: BaseHTTPRequestHandler, seller: SandboxSeller) -> None:
        self._handler = handler
        self._seller = seller

    def before(self, request: Request) -> Answer | None:
        """Faults that keep the request from being acted on. Raises Broken."""
        faults = request.faults
        if "drop_before" in faults:
            raise Broken
        if "status" in faults:
            return _ordered(faults["status"], 503)
        if "redirect" in faults:
            return _redirect(faults["redirect"], request)
        return None

    def after(self, request: Request, answer: Answer) -> Answer:
        """Faults between the act and the answer. Raises Broken."""
        faults = request.faults
        if "drop_after" in faults:
            raise Broken
        if "hang_after" in faults:
            self._pause(faults["hang_after"])
            raise Broken
        if "slow" in faults:
            self._pause(faults["slow"])
        if "status_after" in faults:
            return _ordered(faults["status_after"], 500)
        if "redirect_after" in faults:
            return _redirect(faults["redirect_after"], request)
        if "garbage" in faults:
            return Answer(
                answer.status,
                b'\xff{"queue_id": <html>\x00',
                answer.headers,
                answer.content_type,
                answer.code,
            )
        if "no_receipt" in faults:
            kept = tuple(pair for pair in answer.headers if pair[0].lower() not in _RECEIPTS)
            return Answer(answer.status, answer.body, kept, answer.content_type, answer.code, answer.chunks)
        return answer

    def send(self, answer: Answer, *, truncate: bool = False) -> None:
        """Write the answer; cut in the middle when asked to. Raises OSError, Broken."""
        handler = self._handler
        handler.send_response(answer.status)
        for name, value in answer.headers:
            handler.send_header(name, value)
        handler.send_header("Content-Type", answer.content_type)
        if answer.chunks is not None:
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            for chunk in answer.chunks():
                handler.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            handler.wfile.write(b"0\r\n\r\n")
            return
        handler.send_header("Content-Length", str(len(answer.body)))
        if handler.close_connection:
            handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(answer.body[: len(answer.body) // 2] if truncate else answer.body)
        if truncate:
            raise Broken

    def _pause(self, seconds: Json) -> None:
        """Wait that many real seconds, or until the seller's release when none are given."""
        self._seller.release_stream.wait(None if seconds is None else float(str(seconds)))


def _ordered(value: Json, absent: int) -> Answer:
    """The answer that a rule names: a status, or an object with status, body and headers."""
    if not isinstance(value, dict):
        status = value if isinstance(value, int) else absent
        return Answer(status, b'{"error":"ordered fault"}', code="FAULT")
    named, body, headers = (
        value.get("status"),
        value.get("body", {"error": "ordered fault"}),
        value.get("headers"),
    )
    pairs = tuple((name, str(text)) for name, text in headers.items()) if isinstance(headers, dict) else ()
    text = body if isinstance(body, str) else encode_json(body)
    return Answer(named if isinstance(named, int) else absent, text.encode(), pairs, code="FAULT")


def _redirect(origin: Json, request: Request) -> Answer:
    return Answer(307, b"", (("Location", f"{origin}{request.path}"),), code="FAULT")
