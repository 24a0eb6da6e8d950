"""One JSON-RPC node over HTTP, as web3 wants a provider: bounded bytes, bounded time, no redirect, nothing but its URL.

An RPC URL may carry a key in its path, so only its host is ever named: not the path, in no error and no log. Whatever
goes wrong is ChainError. Knows no contract and no payment.
"""

from __future__ import annotations

import ssl
import time
from itertools import count
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpx

from x402_audio.errors import ChainError
from x402_audio.jsontext import Json, read_json_object, write_json

if TYPE_CHECKING:
    from web3 import Web3

READ_TIMEOUT_S: Final = 20.0
CONNECT_TIMEOUT_S: Final = 10.0
ANSWER_BYTES_MAX: Final = 4 << 20
_LOOPBACK: Final = ("all://127.0.0.1", "all://[::1]", "all://localhost")


class RpcNode:
    """A node behind one URL. timeout_s: for a whole answer, seconds."""

    _http: httpx.Client | None = None

    def __init__(self, url: str, *, timeout_s: float = READ_TIMEOUT_S) -> None:
        parts = urlsplit(url)
        self.host = (parts.hostname or "") + (f":{parts.port}" if parts.port else "")
        query = f"?{parts.query}" if parts.query else ""
        self._origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/"
        self._target = f"{parts.path or '/'}{query}".encode("ascii")
        self._timeout_s = timeout_s
        self._numbers = count(1)

    def __repr__(self) -> str:
        return f"RpcNode({self.host})"

    def web3(self) -> Web3:
        """The node as web3 sees it; no middleware, and no contract sends us to other hosts (CCIP read)."""
        import sys

        depth = sys.getrecursionlimit()
        from web3 import Web3
        from web3.providers import BaseProvider

        sys.setrecursionlimit(depth)  # a dependency lifts it to 100,000
        ask = self.ask

        class Provider(BaseProvider):
            global_ccip_read_enabled = False

            def make_request(self, method: Any, params: Any) -> Any:
                return ask(str(method), params)

        return Web3(Provider(), middleware=[])

    def ask(self, method: str, params: object) -> dict[str, Json]:
        """The JSON-RPC answer to one call, an error object included. Raises ChainError for anything else."""
        number = next(self._numbers)
        body = write_json({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        status, text = self._post(body.encode("ascii"))
        try:
            answer = read_json_object(text, bytes_max=ANSWER_BYTES_MAX)
        except ValueError:
            raise self.unread(f"HTTP {status} and no JSON-RPC") from None
        if answer.get("id") != number and "error" not in answer:
            raise self.unread("an answer to another question")
        if status != 200 and "error" not in answer:
            raise self.unread(f"HTTP {status}")
        return answer

    def _post(self, body: bytes) -> tuple[int, bytes]:
        end = time.monotonic() + self._timeout_s
        received = bytearray()
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        # The path travels beside the URL, so that a log of requests shows the host alone.
        hidden = {"target": self._target}
        try:
            with self._client().stream(
                "POST", self._origin, content=body, headers=headers, extensions=hidden
            ) as answer:
                for piece in answer.iter_raw():
                    received += piece
                    if len(received) > ANSWER_BYTES_MAX:
                        raise self.unread(f"an answer beyond {ANSWER_BYTES_MAX >> 20} MiB")
                    if time.monotonic() > end:
                        raise self.unread("an answer that does not end")
                return answer.status_code, bytes(received)
        except (httpx.HTTPError, OSError) as error:
            raise self.unread(type(error).__name__) from None

    def _client(self) -> httpx.Client:
        if self._http is None:
            timeout = httpx.Timeout(self._timeout_s, connect=min(CONNECT_TIMEOUT_S, self._timeout_s))
            plain = self._origin.startswith("http://")  # loopback: no certificates are loaded
            self._http = httpx.Client(
                timeout=timeout, follow_redirects=False, mounts=dict.fromkeys(_LOOPBACK),
                verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else True,
            )  # fmt: skip
        return self._http

    def unread(self, what: str) -> ChainError:
        """The error that says which node could not be read, by its host alone."""
        return ChainError(f"the RPC at {self.host} could not be read ({what})")

    def close(self) -> None:
        """Let go of the connection; the next call opens another."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def __del__(self) -> None:
        self.close()
