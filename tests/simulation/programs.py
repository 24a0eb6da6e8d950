"""The product's programs in a world: real verbs, real wiring and real books, with the world's time, dice, wallet and chain.

What is replaced is only what a test cannot have: sockets, the chain's nodes, the machine's file of rate tickets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, cast

import httpx

from tests.simulation.chain import Nodes
from tests.simulation.disk import BooksDisk
from tests.simulation.driver import Machine, Process
from tests.simulation.judge import Judge
from tests.simulation.plan import Plan
from tests.simulation.sellers import API_URL
from tests.simulation.timeline import MachineClock
from tests.simulation.wire_rules import WatchedSigner
from x402_audio.errors import X402AudioError
from x402_audio.flow import Flow
from x402_audio.jobs.desk import Desk, JobOptions
from x402_audio.ledger.book import Limit
from x402_audio.ledger.rates import Rates
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc
from x402_audio.notices import OnNotice
from x402_audio.payment.auth import Prepaid, X402Auth
from x402_audio.payment.policy import PaymentPolicy
from x402_audio.payment.session import SellerSession
from x402_audio.settings import Settings, load_settings
from x402_audio.verbs import Verbs
from x402_audio.wiring import SellerKind, Wiring

KEY = "0x" + "5a" * 32


class Slots:
    """Places for requests in flight, without a file: courtesy among the processes of one machine."""

    def __init__(self, machine: Machine, outside: Callable[[str], None]) -> None:
        self._machine = machine
        self._outside = outside
        self._taken: dict[str, tuple[str, str]] = {}
        self._given = 0

    def take(self, wallet: str, route: str, per_minute: float, burst: int, /) -> float:
        self._outside("a turn taken")
        return 0.0

    def push_back(self, wallet: str, route: str, seconds: float, /) -> None:
        return

    def note_error(self, wallet: str, /) -> None:
        return

    def error_budget_wait(self, wallet: str, /) -> float:
        return 0.0

    def slot(self, wallet: str, limit: int, lease_s: float, /) -> str | None:
        self._outside("a place taken")
        alive = self._machine.alive
        self._taken = {token: entry for token, entry in self._taken.items() if entry[1] in alive}
        if sum(entry[0] == wallet for entry in self._taken.values()) >= limit:
            return None
        self._given += 1
        token = f"slot {self._given}"
        self._taken[token] = (wallet, self._machine.this_owner())
        return token

    def release(self, token: str, /) -> None:
        self._taken.pop(token, None)


class ProcessWiring(Wiring):
    """The product's own wiring in one simulated process: its threads are not those of another process."""

    place = ""

    def desk(self, kind: SellerKind, session: SellerSession, options: JobOptions) -> Desk:
        return replace(super().desk(kind, session, options), place=self.place)


class AskedInVain(X402AudioError):
    """A stranger's program got another answer than it wants; it tries again."""

    next_step = "ask again"


@dataclass
class Programs:
    """Starts processes of one wallet on one ledger. `started` counts them."""

    plan: Plan
    root: Path
    machine: Machine
    nodes: Nodes
    judge: Judge
    books: BooksDisk
    told: OnNotice
    clock: Callable[[], MachineClock]
    started: int = 0
    _inside: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._slots = Slots(self.machine, self._outside)

    def run(
        self, purpose: str, flow_of: Callable[[Verbs], Flow[Any]], ended: Callable[[Process], None]
    ) -> None:
        """Another process of this wallet on the same books, running one verb."""
        name = self._next_name()
        wiring = self._wiring(name)
        ledger = cast(SqliteLedger, wiring.ledger)
        self._process(name, purpose, lambda: flow_of(Verbs(wiring)), ledger, ended).start()

    def ask(self, purpose: str, request: httpx.Request, ended: Callable[[Process], None]) -> None:
        """A stranger's program: one request through `X402Auth`, driven as httpx drives it."""
        name, plan = self._next_name(), self.plan
        ledger = self._ledger(name)
        auth = X402Auth(
            WatchedSigner(KEY, self.judge.wire), ledger, PaymentPolicy(max_amount="1"), limits=_limits(plan),
            prepaid=[Prepaid(API_URL, top_ups_allowed=True)] if plan.credit else [],
            chain=self.nodes.reader(), clock=self.clock(), random=Random(f"{plan.seed} {name}").randbytes,
        )  # fmt: skip
        flow = auth._flow(request)
        process = self._process(name, purpose, lambda: _asked(flow), ledger, ended)
        process.inner = flow
        process.strict_transport = True
        process.start()

    def _next_name(self) -> str:
        self.started += 1
        return f"p{self.started}"

    def _process(
        self, name: str, purpose: str, flow_of: Callable[[], Flow[Any]], ledger: SqliteLedger,
        ended: Callable[[Process], None],
    ) -> Process:  # fmt: skip
        def lazy() -> Flow[Any]:
            return (yield from flow_of())

        process = Process(self.machine, name, purpose, lazy(), ended, ledger)
        self.judge.watch(process)
        return process

    def _wiring(self, name: str) -> ProcessWiring:
        wiring = ProcessWiring(
            self._settings(), clock=self.clock(), random=Random(f"{self.plan.seed} {name}").randbytes,
            on_notice=self.told, signer=WatchedSigner(KEY, self.judge.wire), ledger=self._ledger(name),
        )  # fmt: skip
        wiring.place = f"{self.root}/{name}"
        wiring._chain = self.nodes.reader()
        if not self.plan.real_rates:
            wiring._rates = cast(Rates, self._slots)
        return wiring

    def _ledger(self, name: str) -> SqliteLedger:
        ledger = SqliteLedger(
            self.books.path, clock=self.clock(), random=Random(f"{self.plan.seed} ids {name}").randbytes
        )
        database = ledger._database
        inner = database.transaction

        @contextmanager
        def transaction() -> Iterator[Any]:
            self._outside("a transaction begun")
            self._inside.add(name)
            try:
                with inner() as tx:
                    yield tx
            finally:
                self._inside.discard(name)
            self.books.committed(database._connection)
            self.machine.durable_point("commit")

        vars(database)["transaction"] = transaction
        return ledger

    def _outside(self, what: str) -> None:
        process = self.machine.running
        inside = process is not None and process.name in self._inside
        self.judge.case.demand("I10", not inside, f"{what} inside a transaction")

    def _settings(self) -> Settings:
        plan = self.plan
        env = {
            "PRIVATE_KEY": KEY, "STATE_DIR": str(self.root / "state"), "API_URL": API_URL,
            "MAX_PER_HOUR": plan.max_per_hour, "MAX_PER_DAY": "100", "MAX_TOP_UP": plan.max_top_up,
            "MAX_TOP_UP_PER_DAY": plan.max_top_up_day,
        }  # fmt: skip
        if plan.max_total:
            env["MAX_TOTAL"] = plan.max_total
        return load_settings(
            env={f"X402_AUDIO_{name}": value for name, value in env.items()}, cwd=self.root, flags={}
        )


def _limits(plan: Plan) -> tuple[Limit, ...]:
    limits = [
        Limit("jobs", "hour", Usdc.parse_usd(plan.max_per_hour), source="flag"),
        Limit("top-ups", "payment", Usdc.parse_usd(plan.max_top_up), source="flag"),
        Limit("top-ups", "day", Usdc.parse_usd(plan.max_top_up_day), source="flag"),
    ]
    if plan.max_total:
        limits.append(Limit("wallet", "ever", Usdc.parse_usd(plan.max_total), source="flag"))
    return tuple(limits)


def _asked(flow: Flow[Any]) -> Flow[httpx.Response]:
    """The auth's own body, as httpx drives it; the last answer is the caller's."""
    last: list[httpx.Response] = []
    try:
        step = next(flow)
        while True:
            try:
                result = yield step
            except Exception as error:
                step = flow.throw(error)
                continue
            if isinstance(result, httpx.Response):
                last.append(result)
            step = flow.send(result)
    except StopIteration:
        if not last or last[-1].status_code != 200:
            raise AskedInVain(f"answered {last[-1].status_code if last else 0}") from None
        return last[-1]
    finally:
        flow.close()
