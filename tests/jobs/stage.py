"""A customer and a seller on one clock that only moves when somebody waits: the whole walk, without a second lost.

The seller's own books are the evidence. Real requests on 127.0.0.1; nothing here knows how the client is made inside
but that its verbs are flows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, Unpack

import httpx

from x402_audio.client import AudioClient
from x402_audio.flow import Flow, run
from x402_audio.jsontext import Json, read_json, write_json
from x402_audio.ledger.book import Hold, JobRecord
from x402_audio.money import ZERO, Usdc
from x402_audio.notices import Notice
from x402_audio.payment.reconcile import ReconcileReport
from x402_audio.protocol.exact import Authorization
from x402_audio.protocol.networks import Network
from x402_audio.protocol.signer import LocalSigner, Signer
from x402_audio.providers.provider import Track
from x402_audio.reports import Outcome
from x402_audio.sandbox import FaultPlan, FaultRule, SandboxSeller, SandboxServer
from x402_audio.settings import Settings, load_settings
from x402_audio.verbs import JobWishes

KEY = "0x" + "5a" * 32
PROMPT = "Warm indie folk, 120 BPM"
MODEL = "elevenlabs-music"
SECONDS = 3
QUOTE = Usdc.parse_usd("0.69")
FLOOR = Usdc.parse_usd("0.10")
T = TypeVar("T")


def usd(text: str) -> Usdc:
    return Usdc.parse_usd(text)


@dataclass
class WaitingClock:
    """Moves only when somebody waits; `meanwhile` is what the world does in that time, each thing at its own."""

    at: float = 1_790_000_000.0
    meanwhile: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    def wait(self, seconds: float) -> None:
        end = self.at + seconds
        while due := [entry for entry in self.meanwhile if entry[0] <= end]:
            first = min(due, key=lambda entry: entry[0])
            self.meanwhile.remove(first)
            self.at = max(self.at, first[0])
            first[1]()
        self.at = max(self.at, end)

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Let it happen once so many seconds were waited."""
        self.meanwhile.append((self.at + seconds, act))


class CountingSigner:
    """The wallet, and each authorization it signed; the same fields again are the same one."""

    in_process = True

    def __init__(self, key: str = KEY) -> None:
        self._inner = LocalSigner.from_hex(key)
        self.authorizations: list[Authorization] = []

    @property
    def address(self) -> str:
        return self._inner.address

    def sign_authorization(self, network: Network, authorization: Authorization) -> bytes:
        if authorization not in self.authorizations:
            self.authorizations.append(authorization)
        return self._inner.sign_authorization(network, authorization)

    def sign_message(self, text: str) -> bytes:
        return self._inner.sign_message(text)


def settings_for(
    api_url: str, state: Path, *, key: str = KEY, flagged: bool = False, **more: str
) -> Settings:
    """A stranger's settings, the seller configured or named by flag; the built-in limits stand out of the way."""
    env = {
        "X402_AUDIO_PRIVATE_KEY": key, "X402_AUDIO_STATE_DIR": str(state),
        "X402_AUDIO_MAX_PER_HOUR": "100", "X402_AUDIO_MAX_PER_DAY": "100",
        **{f"X402_AUDIO_{name}": value for name, value in more.items()},
    }  # fmt: skip
    seller = {} if flagged else {"X402_AUDIO_API_URL": api_url}
    return load_settings(
        env={**env, **seller}, cwd=state.parent, flags={"API_URL": api_url} if flagged else {}
    )


class Shopper:
    """One wallet's client whose waiting moves the clock. Several on one state folder are several processes' clients."""

    def __init__(self, settings: Settings, clock: WaitingClock, *, signer: Signer | None = None) -> None:
        self.clock = clock
        self.notices: list[Notice] = []
        self.http = httpx.Client(trust_env=False)
        self.client = AudioClient(
            settings, http=self.http, clock=clock, signer=signer, on_notice=self.notices.append
        )
        self.verbs = self.client._verbs

    def play(self, flow: Flow[T]) -> T:
        return run(flow, self.http, self.clock.wait)

    def generate(
        self, prompt: str = PROMPT, *, model: str = MODEL, timeout: float = 900.0, **wishes: Unpack[JobWishes]
    ) -> Track:
        wishes.setdefault("duration_seconds", SECONDS)
        return self.play(self.verbs.generate(prompt, model, self.clock.monotonic() + timeout, wishes))

    def submit(self, prompt: str = PROMPT, *, model: str = MODEL, **wishes: Unpack[JobWishes]) -> JobRecord:
        wishes.setdefault("duration_seconds", SECONDS)
        return self.play(self.verbs.submit(prompt, model, wishes))

    def resume(self, job_id: str, *, timeout: float = 900.0, **more: Any) -> Track:
        return self.play(self.verbs.resume(job_id, self.clock.monotonic() + timeout, **more))

    def work(self, *, timeout: float = 900.0, until_idle: bool = False) -> list[Outcome]:
        return self.play(self.verbs.work(self.clock.monotonic() + timeout, until_idle=until_idle))

    def top_up(self, amount: str) -> Hold:
        return self.play(self.verbs.top_up(amount, None))

    def reconcile(self) -> ReconcileReport:
        return self.play(self.verbs.reconcile())

    def job(self, job_id: str) -> JobRecord:
        return self.client.job(job_id)

    def holds(self, job_id: str | None = None, **more: Any) -> list[Hold]:
        return self.client.ledger.holds(job_id=job_id, **more)

    def told(self, what: str) -> list[str]:
        return [notice.text for notice in self.notices if notice.kind == what]

    def hang_up_after(
        self, seconds: float, *, times: int, route: str = "/x402/top-up", skip: int = 1
    ) -> None:
        """Wait only so long for the answers to the next `times` requests of a route, after `skip` of them."""
        left = [skip, times]

        def shorten(request: httpx.Request) -> None:
            if not request.url.path.endswith(route) or left[1] == 0:
                return
            if left[0]:
                left[0] -= 1
                return
            left[1] -= 1
            request.extensions["timeout"] = httpx.Timeout(seconds).as_dict()

        self.http.event_hooks = {"request": [shorten]}

    def close(self) -> None:
        self.http.close()
        self.client.close()


class Stage:
    """A seller with its published limits, and shoppers who come to it."""

    def __init__(self, server: SandboxServer, clock: WaitingClock, folder: Path, stack: ExitStack) -> None:
        self.server = server
        self.seller = server.seller
        self.clock = clock
        self.folder = folder
        self._stack = stack
        self.wallet = LocalSigner.from_hex(KEY).address

    def shopper(
        self, *, signer: Signer | None = None, state: str = "state", flagged: bool = False, **more: str
    ) -> Shopper:
        """Another client; the same `state` shares the books, as another process would."""
        (self.folder / state).mkdir(mode=0o700, exist_ok=True)
        settings = settings_for(self.server.api_url, self.folder / state, flagged=flagged, **more)
        return self.kept(Shopper(settings, self.clock, signer=signer))

    def kept(self, shopper: Shopper) -> Shopper:
        """Closed when the stage is."""
        self._stack.callback(shopper.close)
        return shopper

    def faults(self, *rules: FaultRule) -> None:
        self.seller.faults.replace(rules)

    def credit(self, text: str) -> None:
        """What another program pays in, or (with a minus) takes out."""
        amount = usd(text.removeprefix("-"))
        self.seller.credit(self.wallet, Usdc(-amount) if text.startswith("-") else amount)

    def books(self) -> dict[str, Any]:
        return self.seller.books()

    @property
    def jobs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.books()["jobs"]
        return found

    @property
    def payments(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.books()["payments"]
        return found

    def told_as(self, body: Json) -> Json:
        """A body in which `WALLET` stands for the wallet."""
        return read_json(write_json(body).replace("WALLET", self.wallet.lower()))

    def left(self) -> Usdc:
        """The wallet's credit at the seller."""
        return self.seller.account(self.wallet).credit

    def answers(self, route: str) -> list[int]:
        """How each request of a route was answered, 0 for not at all."""
        return [entry["status"] for entry in self.books()["requests"] if entry["path"].endswith(route)]

    def asked(self) -> Counter[str]:
        """How often each route was asked."""
        paths = (
            entry["path"].removeprefix("/api/v1").partition("/0x")[0] for entry in self.books()["requests"]
        )
        return Counter(paths)


@contextmanager
def open_stage(folder: Path, *rules: FaultRule, credit: Usdc = ZERO, **options: Any) -> Iterator[Stage]:
    """A seller on a free port; jobs take 4 s of its clock."""
    clock = WaitingClock()
    options.setdefault("job_seconds", 4.0)
    seller = SandboxSeller(clock=clock, starting_credit=credit, faults=FaultPlan(rules), **options)
    seller.account(LocalSigner.from_hex(KEY).address)
    clock.wait(3600)  # what the wallet has there is older than any books
    with ExitStack() as stack, SandboxServer(seller) as server:
        yield Stage(server, clock, folder, stack)


OpenStage = Callable[..., Stage]
