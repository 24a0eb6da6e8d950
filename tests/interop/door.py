"""A small HTTP server on 127.0.0.1 in threads of the test: the ground of our own shop and of what stands before shops."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

PAYMENT_HEADERS = ("x-payment", "payment-signature")
RECEIPT_HEADERS = ("x-payment-response", "payment-response")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def payment(self) -> str:
        """The payment it carries, as sent; empty for none."""
        return next((self.headers[name] for name in PAYMENT_HEADERS if name in self.headers), "")


@dataclass(frozen=True, slots=True)
class Told:
    """One answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class Door:
    """Subclasses answer. None cuts the connection without a word."""

    def __init__(self) -> None:
        self.closing = threading.Event()
        self.lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.door = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def answer(self, asked: Asked) -> Told | None:
        """Called in a thread of each connection."""
        raise NotImplementedError

    def stop(self) -> None:
        """End it; whoever still waits for an answer is cut off."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    door: Door

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that hung up is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        told = self.server.door.answer(Asked(self.command, self.path, headers, body))
        if told is None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(told.status)
        for name, value in {**told.headers, "content-length": str(len(told.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(told.body)

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""
