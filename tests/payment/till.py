"""A stranger's httpx client that pays by `X402Auth`, and the sandbox seller it pays; nobody waits in real time.

The seller's books are the evidence. What the seller was sent is kept here, so that a test can say how often the same
header came, and search for it elsewhere.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.company import run_beside_another
from x402_audio.ledger.book import Limit
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc
from x402_audio.payment.auth import Prepaid, X402Auth
from x402_audio.payment.policy import PaymentPolicy
from x402_audio.protocol.exact import Authorization
from x402_audio.protocol.networks import Network
from x402_audio.protocol.signer import LocalSigner
from x402_audio.sandbox import FaultPlan, FaultRule, SandboxSeller, SandboxServer
from x402_audio.sandbox.answers import Answer, Request

KEY = "0x" + "6b" * 32
WALLET = LocalSigner.from_hex(KEY).address
PRICE = Usdc(690_000)
MUSIC: dict[str, Any] = {
    "model": "elevenlabs-music",
    "prompt": "Warm indie folk, 120 BPM",
    "duration_seconds": 60,
}
SECRET_HEADERS = (
    "x-payment",
    "payment-signature",
    "x-402-payment",
    "sign-in-with-x",
    "x-sign-in-with-x",
    "authorization",
)
TOP_UP_LIMITS = (
    Limit("top-ups", "payment", Usdc(5_000_000), source="flag"),
    Limit("top-ups", "day", Usdc(20_000_000), source="flag"),
)


@dataclass
class WaitingClock:
    """Moves only when somebody waits; notes each wait."""

    at: float = 1_790_000_000.0
    waits: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.at += seconds


class WaitingLoop:
    """What the asynchronous driver asks of asyncio, on that clock."""

    def __init__(self, clock: WaitingClock) -> None:
        self._clock = clock

    async def sleep(self, seconds: float) -> None:
        self._clock.sleep(seconds)
        await asyncio.sleep(0)


class CountingSigner:
    """The wallet, and what it was asked to sign; the same authorization again is the same one."""

    in_process = True

    def __init__(self, key: str = KEY) -> None:
        self._inner = LocalSigner.from_hex(key)
        self.authorizations: list[Authorization] = []
        self.messages: list[str] = []

    @property
    def address(self) -> str:
        return self._inner.address

    def sign_authorization(self, network: Network, authorization: Authorization) -> bytes:
        if authorization not in self.authorizations:
            self.authorizations.append(authorization)
        return self._inner.sign_authorization(network, authorization)

    def sign_message(self, text: str) -> bytes:
        self.messages.append(text)
        return self._inner.sign_message(text)


class Porter:
    """Stands before the seller's routes and keeps the secret headers of each request, in order."""

    def __init__(self, server: SandboxServer) -> None:
        routes = server._http.routes
        self._inner = routes.answer
        vars(routes)["answer"] = self.answer
        self.seen: list[tuple[str, str, str]] = []

    def answer(self, request: Request) -> Answer:
        for name in SECRET_HEADERS:
            value = request.header(name)
            if value:
                self.seen.append((request.path.removeprefix("/api/v1"), name, value))
        return self._inner(request)

    def values(self, path: str = "") -> list[str]:
        return [value for where, _, value in self.seen if where.startswith(path)]


class Buyer:
    """Sends requests on a plain client, synchronous or not, a new one each time."""

    def __init__(self, *, awaited: bool) -> None:
        self.awaited = awaited

    def send(
        self, auth: httpx.Auth, method: str, url: str, *, follow: bool = False, **more: Any
    ) -> httpx.Response:
        if self.awaited:
            return run_beside_another(self._send(auth, method, url, follow, more))
        with httpx.Client(auth=auth, trust_env=False, follow_redirects=follow) as http:
            return http.request(method, url, **more)

    async def _send(
        self, auth: httpx.Auth, method: str, url: str, follow: bool, more: dict[str, Any]
    ) -> httpx.Response:
        async with httpx.AsyncClient(auth=auth, trust_env=False, follow_redirects=follow) as http:
            return await http.request(method, url, **more)


class Till:
    """One seller, one wallet, one ledger."""

    def __init__(
        self, folder: Path, clock: WaitingClock, buyer: Buyer, *, limits: Iterable[Limit] = (), prepaid: bool = False,
        policy: PaymentPolicy | None = None, key: str = KEY, **seller: Any,
    ) -> None:  # fmt: skip
        self.clock = clock
        self.buyer = buyer
        self._drawn = 0
        self.seller = SandboxSeller(clock=clock, faults=FaultPlan(), **seller)
        self.server = SandboxServer(self.seller)
        self.porter = Porter(self.server)
        self.signer = CountingSigner(key)
        self.path = folder / "books" / "ledger.db"
        self.ledger = SqliteLedger(self.path, clock=clock, random=self._random)
        self.limits = tuple(limits)
        self._prepaid = prepaid
        self.policy = policy or PaymentPolicy(max_amount="1")

    def _random(self, length: int) -> bytes:
        self._drawn += 1
        return self._drawn.to_bytes(length, "big")

    def __enter__(self) -> Self:
        self.server.start()
        self.auth = self.new_auth()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.stop()
        assert self.ledger.verify() == []
        self.ledger.close()

    def new_auth(self, **more: Any) -> X402Auth:
        """Another auth on the same books, as another program of this wallet would have."""
        prepaid = [Prepaid(self.server.api_url, top_ups_allowed=True)] if self._prepaid else []
        more = {
            "limits": self.limits,
            "prepaid": prepaid,
            "clock": self.clock,
            "random": self._random,
            **more,
        }
        return X402Auth(self.signer, self.ledger, self.policy, **more)

    def url(self, path: str) -> str:
        return self.server.api_url + path

    def buy(self, path: str = "/audio/queue", *, follow: bool = False, **more: Any) -> httpx.Response:
        """POST the usual body, or what `more` says instead."""
        if not {"json", "content", "data"} & set(more):
            more["json"] = MUSIC
        return self.buyer.send(self.auth, "POST", self.url(path), follow=follow, **more)

    def faults(self, *rules: FaultRule) -> None:
        self.seller.faults.replace(rules)

    def credit(self, amount: int) -> None:
        self.seller.credit(self.signer.address, Usdc(amount))

    @property
    def books(self) -> dict[str, Any]:
        return self.seller.books()

    @property
    def payments(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.books["payments"]
        return found

    @property
    def jobs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.books["jobs"]
        return found

    def asked(self, path: str) -> list[int]:
        """How each request of a route was answered; 0 for not at all."""
        requests: list[dict[str, Any]] = self.books["requests"]
        return [entry["status"] for entry in requests if entry["path"] == "/api/v1" + path]

    def states(self) -> list[str]:
        return [hold.state for hold in self.ledger.holds()]

    @property
    def nonces(self) -> set[str]:
        """Every nonce that was ever signed."""
        return {authorization.nonce.hex() for authorization in self.signer.authorizations}


def body_of(response: httpx.Response) -> Any:
    return json.loads(response.content)
