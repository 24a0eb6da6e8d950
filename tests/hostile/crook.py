"""A seller who plays foul on a raw socket: each route says exactly the bytes it is told to, the others behave.

It checks no signature: what it was sent is kept, and the tests judge by that, by what the wallet signed and by the
books. Nothing here knows how the client is made inside.
"""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.hostile.readers import PAYEE, demand, offer
from tests.jobs.stage import CountingSigner, Shopper, WaitingClock, settings_for
from x402_audio.sandbox.audio import make_audio

Script = bytes | Iterable[bytes]
"""One answer, status line and all; or its pieces, sent until the client has had enough."""
MODEL = "elevenlabs-music"
QUEUE_ID = "job-of-the-crook"
PRICE = 690_000


@dataclass(frozen=True, slots=True)
class Heard:
    """One request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def payment(self) -> str:
        return self.headers.get("x-payment") or self.headers.get("payment-signature") or ""


@dataclass
class Crook:
    """What was heard, in order, and what each route will say: scripts are used up one by one, then it is honest."""

    origin: str = ""
    heard: list[Heard] = field(default_factory=list)
    foul: dict[str, list[Script]] = field(default_factory=dict)
    always: dict[str, Callable[[Heard], Script]] = field(default_factory=dict)
    prepaid: bool = False
    credit: str = "5.00"

    @property
    def api_url(self) -> str:
        return f"{self.origin}/api/v1"

    def says(self, route: str, *scripts: Script) -> None:
        """These answers next, for requests of this route (`paid`: a queue call that carries a payment)."""
        self.foul.setdefault(route, []).extend(scripts)

    def insists(self, route: str, say: Callable[[Heard], Script]) -> None:
        self.always[route] = say

    def repents(self) -> None:
        self.foul.clear()
        self.always.clear()

    def asked(self, route: str) -> list[Heard]:
        return [one for one in self.heard if _route(one) == route]

    @property
    def payments(self) -> list[str]:
        """Every payment header that came, repeats and all."""
        return [one.payment for one in self.heard if one.payment]

    @property
    def nonces(self) -> set[str]:
        return {
            json.loads(base64.b64decode(text))["payload"]["authorization"]["nonce"] for text in self.payments
        }

    def answer(self, heard: Heard) -> Script:
        route = _route(heard)
        if self.foul.get(route):
            return self.foul[route].pop(0)
        if route in self.always:
            return self.always[route](heard)
        return self._honest(route, heard)

    def _honest(self, route: str, heard: Heard) -> Script:
        match route:
            case "balance" if self.prepaid:
                wallet = heard.path.rpartition("/")[2]
                return balance(wallet, self.credit)
            case "transactions" if self.prepaid:
                data = {"walletAddress": heard.path.rpartition("/")[2].partition("?")[0], "transactions": []}
                return reply(200, {"success": True, "data": {**data, "pagination": {"hasMore": False}}})
            case "quote" if self.prepaid:
                return reply(200, {"quote": 0.69})
            case "models" if self.prepaid:
                return reply(
                    200, {"data": [{"id": MODEL, "model_spec": {"pricing": {"generation": {"usd": 0.69}}}}]}
                )
            case "queue" if not self.prepaid:
                return reply(402, demand())
            case "queue" | "paid":
                return reply(200, {"queue_id": QUEUE_ID, "model": MODEL, "status": "QUEUED"})
            case "retrieve":
                return reply(200, sound(), {"content-type": "audio/wav"})
            case "complete":
                return reply(200, {"success": True})
        return reply(404, {"error": "not here"})


def _route(heard: Heard) -> str:
    path = heard.path.removeprefix("/api/v1").partition("?")[0]
    name = path.removeprefix("/audio/").removeprefix("/x402/").strip("/").partition("/")[0]
    return "paid" if name == "queue" and heard.payment else name


@cache
def sound() -> bytes:
    """A second of audio."""
    return make_audio("wav", 1, QUEUE_ID)


def reply(
    status: int, body: object = b"", headers: Mapping[str, str] | None = None, *, length: int | None = None
) -> bytes:
    """A whole answer; `length` is what its head claims."""
    raw = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    claimed = str(len(raw) if length is None else length)
    said = {"connection": "close", "content-type": "application/json", "content-length": claimed}
    lines = [f"{name}: {value}" for name, value in {**said, **(headers or {})}.items()]
    return "\r\n".join([f"HTTP/1.1 {status} Said", *lines, "", ""]).encode("latin-1") + raw


def balance(wallet: str, figure: str, **more: object) -> bytes:
    """A balance whose figure stands in the JSON as it is written here."""
    data = {
        "walletAddress": wallet.lower(),
        "balanceUsd": "FIGURE",
        "canConsume": True,
        "minimumTopUpUsd": 5,
        **more,
    }
    return reply(200, json.dumps({"success": True, "data": data}).replace('"FIGURE"', figure))


def endless(head: bytes, piece: bytes) -> Iterator[bytes]:
    """A head, and then the same again for as long as somebody reads."""
    yield head
    while True:
        yield piece


@contextmanager
def open_crook(**how: Any) -> Iterator[Crook]:
    """Listens on a free port of 127.0.0.1; one thread for each connection, one request for each."""
    crook = Crook(**how)
    listener = socket.create_server(("127.0.0.1", 0))
    crook.origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
    open_now: set[socket.socket] = set()

    def serve(line: socket.socket) -> None:
        open_now.add(line)
        with line, suppress(OSError, ValueError):
            heard = _hear(line)
            crook.heard.append(heard)
            script = crook.answer(heard)
            for piece in (script,) if isinstance(script, bytes) else script:
                line.sendall(piece)
            line.shutdown(socket.SHUT_WR)
            line.settimeout(2)
            while line.recv(65536):
                pass
        open_now.discard(line)

    def listen() -> None:
        with suppress(OSError):
            while True:
                line, _ = listener.accept()
                threading.Thread(target=serve, args=(line,), daemon=True).start()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield crook
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for line in list(open_now):
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def _hear(line: socket.socket) -> Heard:
    data = b""
    while b"\r\n\r\n" not in data:
        more = line.recv(65536)
        if not more:
            raise ValueError("hung up")
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += line.recv(65536)
    return Heard(method, path, headers, body)


@dataclass
class Victim:
    """A wallet, its books, and a client of the crook whose waiting moves the clock."""

    shopper: Shopper
    signer: CountingSigner
    folder: Path
    most: int = PRICE

    @property
    def signed(self) -> int:
        """How many authorizations the wallet signed, each nonce once."""
        return len({one.nonce for one in self.signer.authorizations})

    def files(self) -> list[str]:
        """What lies in the folder of tracks, leavings included."""
        return sorted(path.name for path in self.folder.iterdir())

    def generate(self, job_id: str = "the-job", **wishes: Any) -> Any:
        wishes.setdefault("output", self.folder / "track.wav")
        wishes.setdefault("max_price", "1")
        return self.shopper.generate(job_id=job_id, **wishes)

    def check_books(self) -> None:
        """Sound, within every limit, and never more than one live payment for the job."""
        ledger = self.shopper.client.ledger
        assert ledger.verify() == []
        holds = [hold for hold in ledger.holds() if hold.kind != "topup"]
        assert sum(hold.amount for hold in holds if hold.state != "void") <= self.most
        assert len({one.nonce for one in self.signer.authorizations}) <= 1


@contextmanager
def open_victim(crook: Crook, folder: Path, **more: str) -> Iterator[Victim]:
    """A client with a fresh state folder, its wallet counted."""
    state, tracks = folder / "state", folder / "tracks"
    state.mkdir(mode=0o700)
    tracks.mkdir()
    signer = CountingSigner()
    more.setdefault("PROVIDER", "venice" if crook.prepaid else "direct")
    shopper = Shopper(
        settings_for(crook.api_url, state, flagged=False, **more), WaitingClock(), signer=signer
    )
    try:
        yield Victim(shopper, signer, tracks)
    finally:
        shopper.close()


__all__ = [
    "PAYEE",
    "Crook",
    "Victim",
    "balance",
    "endless",
    "offer",
    "open_crook",
    "open_victim",
    "reply",
    "sound",
]
