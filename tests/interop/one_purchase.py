"""Our client buys one track, whatever the facilitator behind the shop does, each time its doorbell is rung.

`hostile-facilitator test` starts a command for every mode; that command only rings, so that ten modes do not cost ten
starts of Python. Waiting takes no time here: the client's clock moves when it would wait.
"""

from __future__ import annotations

import socketserver
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx

from tests.interop.neighbours import NpmShop
from tests.jobs.stage import MODEL, PROMPT, CountingSigner, Shopper, WaitingClock, settings_for
from x402_audio import PaymentPolicy, X402Auth
from x402_audio.errors import X402AudioError
from x402_audio.ledger.book import Hold, Ledger
from x402_audio.payment.reconcile import ReconcileReport
from x402_audio.protocol.exact import Authorization
from x402_audio.providers.provider import Track

JOB: Final = "the-one-purchase"
FACES: Final = ("the client", "X402Auth")
"""What is judged: the job-running client, and the payment flow inside a stranger's httpx client."""
_RING: Final = (
    "import os, socket, sys\n"
    "bell = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
    "bell.sendall(os.environ['FACILITATOR_URL'].encode() + b'\\n')\n"
    "bell.recv(1)\n"
)


@dataclass(slots=True)
class Outcome:
    """What came of one purchase: `delivered` or the typed error of each attempt, and what the books say in the end.

    A first attempt that ends otherwise is reconciled with the facilitator's own "did it land?" read as its chain
    (`asked`), and then resumed.
    """

    first: str = ""
    asked: ReconcileReport | None = None
    second: str = ""
    signed: list[Authorization] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    unsound: list[str] = field(default_factory=list)
    crash: str = ""

    @property
    def in_words(self) -> str:
        held = f", held, {self.second}" if self.second else ""
        sends = sum(hold.sends for hold in self.holds)
        return f"{self.first}{held}; {len(self.signed)} signed, {sends} sent"


class Customer:
    """Buys at one shop of one version, one facilitator after the other, each time with empty books."""

    def __init__(self, shop: NpmShop, version: str, face: str, folder: Path) -> None:
        self._shop = shop
        self._version = version
        self._face = face
        self._folder = folder

    def buy(self, facilitator: str) -> Outcome:
        """One purchase behind this facilitator; an exception without a type is a crash and is kept as such."""
        outcome = Outcome()
        try:
            with ExitStack() as stack:
                self._buy(facilitator, outcome, stack)
        except Exception:
            outcome.crash = traceback.format_exc()
        return outcome

    def _buy(self, facilitator: str, outcome: Outcome, stack: ExitStack) -> None:
        signer, clock = CountingSigner(), WaitingClock(time.time())
        state = self._folder / facilitator.rpartition(":")[2]
        state.mkdir(mode=0o700)
        api_url = self._shop.api_url(self._version, facilitator)
        settings = settings_for(api_url, state, PROVIDER="direct", LEDGER=str(state / "books.db"))

        def shopper(*rpc_urls: str) -> Shopper:
            opened = Shopper(replace(settings, rpc_urls=rpc_urls), clock, signer=signer)
            stack.callback(opened.close)
            return opened

        buyer = shopper()
        if self._face == "X402Auth":
            http = stack.enter_context(stranger(signer, buyer.client.ledger, clock))
            first = second = partial(_bought_by_post, http, api_url)
        else:
            first = partial(_bought_by_job, buyer, state.with_suffix(".wav"))
            second = partial(_bought_by_resuming, buyer)
        outcome.signed = signer.authorizations
        outcome.first = _ended(first)
        if outcome.first != "delivered":
            # An address with a query is none that settings would take, but the battery's read has one.
            read = f"{facilitator}/rpc?nonce={buyer.holds()[0].nonce}&read=/reconcile"
            outcome.asked = shopper(read).reconcile()
            outcome.second = _ended(second)
        outcome.holds = buyer.holds()
        outcome.unsound = [str(fault) for fault in buyer.client.ledger.verify()]


def stranger(signer: CountingSigner, ledger: Ledger, clock: WaitingClock) -> httpx.Client:
    """A stranger's httpx client that pays."""
    auth = X402Auth(signer, ledger, PaymentPolicy(max_amount="0.50"), clock=clock)
    return httpx.Client(auth=auth, trust_env=False, timeout=30)


def _bought_by_post(http: httpx.Client, api_url: str) -> bool:
    answer = http.post(f"{api_url}/audio/queue", json={"model": MODEL, "prompt": PROMPT})
    return answer.status_code == 200 and bool(answer.json()["queue_id"])


def _bought_by_job(buyer: Shopper, file: Path) -> bool:
    return _is_here(buyer.generate(job_id=JOB, max_price="1", output=file))


def _bought_by_resuming(buyer: Shopper) -> bool:
    return _is_here(buyer.resume(JOB))


def _is_here(track: Track) -> bool:
    return track.completed and Path(track.path).is_file()


def _ended(attempt: Callable[[], bool]) -> str:
    try:
        return "delivered" if attempt() else "not delivered"
    except X402AudioError as error:
        return f"{error.code} {error.exit_code}"


class Doorbell(socketserver.ThreadingTCPServer):
    """Lets the customer buy whenever it is rung; `outcomes` in the order of the rings."""

    daemon_threads = True

    def __init__(self, customer: Customer) -> None:
        self.customer = customer
        self.outcomes: list[Outcome] = []
        super().__init__(("127.0.0.1", 0), _Ring)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def command(self) -> list[str]:
        """What to start for one purchase; it takes FACILITATOR_URL from its environment and ends with the purchase."""
        return [sys.executable, "-I", "-S", "-c", _RING, str(self.server_address[1])]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Ring(socketserver.StreamRequestHandler):
    server: Doorbell

    def handle(self) -> None:
        facilitator = self.rfile.readline().decode().strip()
        self.server.outcomes.append(self.server.customer.buy(facilitator))
        self.wfile.write(b"\n")
