"""A second host: a tiny server that writes down the raw headers of whatever reaches it, and answers as told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = tuple[int, dict[str, str], bytes]


class Stranger:
    """What it heard, header lines and all, and what it says."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.say: Callable[[bytes], Answer] = lambda _: (200, {}, b"{}")
        self.origin = ""

    def headers_heard(self) -> str:
        """Everything in one lower-case text, to search in."""
        return "\n".join(self.heard).lower()


@contextmanager
def open_stranger() -> Iterator[Stranger]:
    """Listens on a free port of 127.0.0.1."""
    stranger = Stranger()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers.get("content-length", "0")))
            stranger.heard.append(f"{self.command} {self.path}\n{self.headers.as_string()}")
            status, headers, body = stranger.say(asked)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            """Silent."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Who hangs up before the end of an answer is no trouble."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    stranger.origin = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield stranger
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
