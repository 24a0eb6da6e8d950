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
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.interop.neighbours import NpmShop
from tests.jobs.stage import KEY, CountingSigner, Shopper, WaitingClock, settings_for
from x402_audio.errors import X402AudioError
from x402_audio.ledger.book import Hold
from x402_audio.payment.reconcile import ReconcileReport
from x402_audio.protocol.exact import Authorization
from x402_audio.providers.provider import Track

JOB: Final = "the-one-purchase"
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
    delivered: bool = False
    crash: str = ""

    @property
    def in_words(self) -> str:
        held = f", held, {self.second}" if self.second else ""
        sends = sum(hold.sends for hold in self.holds)
        return f"{self.first}{held}; {len(self.signed)} signed, {sends} sent"


class Customer:
    """Buys with a new wallet's books at one shop of one version, one facilitator after the other."""

    def __init__(self, shop: NpmShop, version: str, folder: Path) -> None:
        self._shop = shop
        self._version = version
        self._folder = folder

    def buy(self, facilitator: str) -> Outcome:
        """One purchase behind this facilitator; an exception without a type is a crash and is kept as such."""
        outcome = Outcome()
        state = self._folder / facilitator.rpartition(":")[2]
        state.mkdir(mode=0o700)
        try:
            self._buy(facilitator, state, outcome)
        except Exception:
            outcome.crash = traceback.format_exc()
        return outcome

    def _buy(self, facilitator: str, state: Path, outcome: Outcome) -> None:
        signer, clock, track = CountingSigner(), WaitingClock(time.time()), state / "track.wav"
        settings = settings_for(
            self._shop.api_url(self._version, facilitator), state, key=KEY, PROVIDER="direct"
        )
        shopper = Shopper(settings, clock, signer=signer)
        outcome.signed = signer.authorizations
        outcome.first = _ended(lambda: shopper.generate(job_id=JOB, max_price="1", output=track))
        if outcome.first != "delivered":
            # An address with a query is none that settings would take, but the battery's read has one.
            nonce = shopper.holds(JOB)[0].nonce
            read = f"{facilitator}/rpc?nonce={nonce}&read=/reconcile"
            asker = Shopper(replace(settings, rpc_urls=(read,)), clock, signer=signer)
            outcome.asked = asker.reconcile()
            asker.close()
            outcome.second = _ended(lambda: shopper.resume(JOB))
        outcome.holds = shopper.holds()
        outcome.unsound = [str(fault) for fault in shopper.client.ledger.verify()]
        outcome.delivered = track.is_file()
        shopper.close()


def _ended(attempt: Callable[[], Track]) -> str:
    try:
        track = attempt()
    except X402AudioError as error:
        return f"{error.code} {error.exit_code}"
    return "delivered" if track.completed else "not completed"


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
