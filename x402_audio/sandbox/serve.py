"""The socket of the sandbox: HTTP/1.1 on 127.0.0.1, the faults of a bad connection, and the room for its owner.

Logs nothing at all, headers least of all. Knows no payment: the routes of the seller's mode answer.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Final, Self
from urllib.parse import parse_qsl, urlsplit

from x402_audio.sandbox.admin import Admin
from x402_audio.sandbox.answers import BODY_BYTES_MAX, Answer, Request, json_answer
from x402_audio.sandbox.connection import Broken, Connection
from x402_audio.sandbox.direct_routes import DirectRoutes
from x402_audio.sandbox.seller import SandboxSeller
from x402_audio.sandbox.venice_routes import VeniceRoutes

_IDLE_SECONDS: Final = 120


class SandboxServer:
    """A seller on a loopback port (0: any free one), from `start` to `stop` or as a context manager."""

    def __init__(self, seller: SandboxSeller | None = None, *, port: int = 0) -> None:
        self.seller = seller or SandboxSeller()
        self._http = _Http(self, port)
        self._thread: threading.Thread | None = None

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def api_url(self) -> str:
        return self.origin + "/api/v1"

    @property
    def rpc_url(self) -> str:
        return self.origin + "/sandbox/chain"

    def start(self) -> SandboxServer:
        """Listen in a thread of its own."""
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(0.02,), name="sandbox", daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop listening and end every open connection."""
        self.seller.release_stream.set()
        if self._thread is not None:
            self._http.shutdown()
            self._thread.join()
            self._thread = None
        self._http.server_close()
        self._http.close_connections()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def serve_forever(
    mode: str,
    port: int = 0,
    *,
    network: str = "base",
    started: Callable[[SandboxServer], None] | None = None,
    until: threading.Event | None = None,
) -> None:
    """Serve until interrupted or until the event is set; `started` is told the server, and so its URLs."""
    with SandboxServer(SandboxSeller(mode=mode, network=network), port=port) as server:
        if started is not None:
            started(server)
        (until or threading.Event()).wait()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    allow_reuse_address = True

    def __init__(self, sandbox: SandboxServer, port: int) -> None:
        self.sandbox = sandbox
        seller = sandbox.seller
        self.routes = VeniceRoutes(seller) if seller.mode == "venice" else DirectRoutes(seller)
        self.admin = Admin(seller)
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: object, client_address: object) -> None:
        if isinstance(request, socket.socket):
            with self._open_lock:
                self._open.add(request)
            super().process_request(request, client_address)

    def shutdown_request(self, request: object) -> None:
        if isinstance(request, socket.socket):
            with self._open_lock:
                self._open.discard(request)
            super().shutdown_request(request)

    def close_connections(self) -> None:
        with self._open_lock:
            sockets = list(self._open)
        for open_socket in sockets:
            try:
                open_socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no event, and nothing about a request is ever printed."""


class _Handler(BaseHTTPRequestHandler):
    server: _Http
    protocol_version = "HTTP/1.1"
    server_version = "x402-audio-sandbox"
    sys_version = ""
    timeout = _IDLE_SECONDS
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def do_DELETE(self) -> None:
        self._handle()

    def log_message(self, _format: str, *args: object) -> None:
        """Nothing is logged."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate(self.server.sandbox.seller.now() if timestamp is None else timestamp, usegmt=True)

    def _handle(self) -> None:
        body = self._body()
        if body is None:
            return
        parts = urlsplit(self.path)
        request = Request(
            method=self.command,
            path=parts.path,
            query=dict(parse_qsl(parts.query)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=body,
            origin=self.server.sandbox.origin,
            peer=str(self.client_address[0]),
        )
        connection = Connection(self, self.server.sandbox.seller)
        try:
            if parts.path.startswith("/sandbox/") and parts.path != "/sandbox/chain":
                connection.send(self.server.admin.answer(request))
            else:
                self._serve(request, connection)
        except (Broken, OSError):
            self.close_connection = True

    def _serve(self, request: Request, connection: Connection) -> None:
        """Faults before, the answer, faults after; the books are written before the client can know."""
        seller = self.server.sandbox.seller
        request.faults = seller.faults.take(request.method, request.path)
        status, code = 0, ""
        try:
            answer = connection.before(request)
            if answer is None and request.path == "/sandbox/chain":
                answer = self.server.admin.chain(request)
            elif answer is None:
                answer = self.server.routes.answer(request)
            code = answer.code
            answer = connection.after(request, answer)
            status = answer.status
        finally:
            for leave in request.on_end:
                leave()
            if request.path != "/sandbox/chain":
                seller.note_request(request.method, request.path, status, request.wallet, code)
        connection.send(answer, truncate="truncate" in request.faults)

    def _body(self) -> bytes | None:
        """The request body, or None after a refusal."""
        text = self.headers.get("content-length", "0")
        refusal: Answer | None = None
        if self.headers.get("transfer-encoding") or not text.isascii() or not text.isdigit():
            refusal = json_answer(411, {"error": "Content-Length required"})
        elif len(text) > 12 or int(text) > BODY_BYTES_MAX:
            refusal = json_answer(413, {"error": "Request body too large"})
        if refusal is None:
            body = self.rfile.read(int(text))
            return body if len(body) == int(text) else None
        self.close_connection = True
        Connection(self, self.server.sandbox.seller).send(refusal)
        return None
