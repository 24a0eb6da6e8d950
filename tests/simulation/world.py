"""One world: a seller, a chain, a disk, one ledger, and customers whose programs run, die and are started again.

First the storm, as the plan and the seed have it; then everything is healed and `reconcile` and `resume` must bring each
purchase to its end. The judge watches both. Nothing here waits in real time.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import httpx

from tests.simulation.chain import Nodes
from tests.simulation.disk import BooksDisk, Disk
from tests.simulation.driver import Machine, Process
from tests.simulation.judge import Judge
from tests.simulation.misfortune import Dice, Misfortune
from tests.simulation.network import Network
from tests.simulation.plan import Plan
from tests.simulation.programs import KEY, Programs
from tests.simulation.sellers import API_URL, MODEL, SECONDS, Door, Letter
from tests.simulation.timeline import MachineClock, Timeline
from tests.simulation.trace import Trace
from x402_audio.flow import Flow
from x402_audio.ledger.book import ENDED_JOBS
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc
from x402_audio.notices import Notice
from x402_audio.verbs import Verbs

PROMPT = "Warm indie folk, 120 BPM"
STORM_S = 4 * 3600.0
STEPS_MAX = 60_000
PROCESSES_MAX = 14
HEALING_ROUNDS = 6
HEALING_PAUSE_S = 25 * 60.0


@dataclass
class Customer:
    """Somebody who wants one purchase and tries again when a program of his ends without it."""

    name: str
    tries: int = 0
    happy: bool = False


@dataclass
class World:
    """Everything there is. `violations` is what the judge and the driver found wrong."""

    plan: Plan
    root: Path
    misfortune: Misfortune
    dice: Random
    timeline: Timeline = field(default_factory=Timeline)
    customers: list[Customer] = field(default_factory=list)
    healed: bool = False

    def __post_init__(self) -> None:
        plan, dice = self.plan, self.dice
        self.trace = Trace(str(self.root))
        (self.root / "tracks").mkdir()
        (self.root / "state").mkdir(mode=0o700)
        self.ledger_path = self.root / "state" / "ledger.db"
        self.ledger_path.write_bytes(_blank_ledger())
        self.ledger_path.chmod(0o600)
        self.books = BooksDisk(self.ledger_path, forgets=plan.power_cut)
        self.machine = Machine(
            self.timeline, self.misfortune, self.trace, self._transport, self._after_step,
            lambda process: self.disk.forget(process.owner), plan.opaque_owners,
        )  # fmt: skip
        self.disk = Disk(self.root / "tracks", self.machine.durable_point, self.machine.this_owner)
        self.door = Door(plan, self.timeline, Random(dice.random()))
        self.nodes = Nodes(plan, self.door)
        self.judge = Judge(self, KEY)
        self.network = Network(
            self.timeline, self.misfortune, self.trace, self.door, Random(dice.random()),
            self.judge.wire.leaving, self._arrived,
        )  # fmt: skip
        self.programs = Programs(
            plan, self.root, self.machine, self.nodes, self.judge, self.books, self._told, self._clock
        )
        self.customers = [Customer(f"k{i}") for i in range(plan.jobs)]
        self.timeline.at += 3600  # what the wallet has at the seller is older than any books

    @property
    def violations(self) -> list[str]:
        return [*self.machine.wrong, *self.judge.case.violations]

    def _clock(self) -> MachineClock:
        return MachineClock(self.timeline, 0.0 if self.healed else self.plan.clock_error_s)

    def _told(self, notice: Notice) -> None:
        process = self.machine.running
        self.judge.hear(f"{notice.text} {notice.data}")
        self.trace.say(self.timeline.at, process.name if process else "-", f"{notice.kind}: {notice.text}")

    def _transport(self, process: Process, step: Any, done: Callable[[object], None]) -> None:
        self.network.send(process, step, done)

    def _after_step(self, process: Process) -> None:
        self.judge.after_step(process)

    # --- what customers do
    def generate(self, customer: Customer) -> Callable[[Verbs], Flow[Any]]:
        return lambda verbs: verbs.generate(
            PROMPT, MODEL, self.timeline.monotonic() + 900,
            {"job_id": customer.name, "duration_seconds": SECONDS, "output": self.track(customer)},
        )  # fmt: skip

    def resume(self, customer: Customer) -> Callable[[Verbs], Flow[Any]]:
        return lambda verbs: verbs.resume(customer.name, self.timeline.monotonic() + 900)

    def track(self, customer: Customer) -> Path:
        return self.root / "tracks" / f"{customer.name}.mp3"

    def buy(self, customer: Customer) -> None:
        """Let the customer start a program for his purchase."""
        customer.tries += 1
        if self.plan.stranger:
            self._buy_as_stranger(customer)
            return
        verb = self.generate(customer)
        if customer.tries > 1:
            verb = self.dice.choice((self.generate(customer), self.resume(customer), _reconcile))
        self.programs.run(customer.name, verb, lambda process: self._try_again(customer, process))

    def _try_again(self, customer: Customer, process: Process) -> None:
        track = process.error is None and not process.killed and type(process.result).__name__ == "Track"
        customer.happy = customer.happy or track or type(process.result).__name__ == "Response"
        if (
            customer.happy
            or self.healed
            or customer.tries >= self.plan.tries
            or self.programs.started >= PROCESSES_MAX
        ):
            return
        self.timeline.later(self.dice.choice(self.plan.back_after_s), lambda: self.buy(customer))

    def _buy_as_stranger(self, customer: Customer) -> None:
        body = {"model": MODEL, "prompt": f"{PROMPT} {customer.name}", "duration_seconds": SECONDS}
        if customer.tries > 1 and self.dice.random() < 0.3:
            body["prompt"] = f"{PROMPT} something else"  # the same name with another body: to be refused
        request = httpx.Request(
            "POST", f"{API_URL}/audio/queue", json=body,
            extensions={"x402_audio": {"purchase": customer.name, "max_price": "0.70"}},
        )  # fmt: skip
        self.programs.ask(customer.name, request, lambda ended: self._try_again(customer, ended))

    # --- the story
    def storm(self) -> None:
        """Let everything happen until nothing is planned any more."""
        plan, dice = self.plan, self.dice
        for whose, lie in (("the seller", plan.lie), ("a node", plan.chain_lie)):
            if lie:
                self.trace.reach(f"{whose} lies", lie)
        together = plan.crowd or dice.random() < 0.5
        for customer in self.customers:
            self.timeline.later(0.0 if together else dice.random() * 3, partial(self.buy, customer))
        if not plan.stranger:
            for _ in range(plan.rivals):
                self.timeline.later(dice.choice((0.01, 1.0, 10.0, 300.0)), self._rival)
        if plan.power_cut:
            self.timeline.later(dice.choice((0.1, 1.0, 4.0, 20.0, 100.0)), self.power_cut)
        if plan.foreign_draws:
            self.timeline.later(dice.choice((0.5, 3.0, 60.0, 400.0)), self._foreign_draw)
        self._run(self.timeline.at + STORM_S)

    def _run(self, until: float) -> None:
        for _ in range(STEPS_MAX):
            if self.timeline.at >= until or not self.timeline.step():
                return
            if self.violations:
                return
        self.machine.wrong.append(f"no end after {STEPS_MAX} steps")

    def _rival(self) -> None:
        customer = self.dice.choice(self.customers)
        verb = self.dice.choice((self.generate(customer), self.resume(customer), _reconcile, self._work))
        self.programs.run(customer.name, verb, lambda process: None)

    def _work(self, verbs: Verbs) -> Flow[Any]:
        return verbs.work(self.timeline.monotonic() + 600)

    def power_cut(self) -> None:
        self.trace.say(self.timeline.at, "-", "the power fails")
        self.trace.reach("power cut", "anywhere")
        self.machine.power_cut()
        self.disk.cut(self.dice)
        self.judge.case.books.close()
        self.books.cut()
        self.judge.case.open_books()
        Path(f"{self.ledger_path}.rates").unlink(missing_ok=True)

    def _arrived(self, letter: Letter) -> None:
        """A letter was answered at the seller: another program may use the credit it brought."""
        brought = letter.path.endswith("/x402/top-up") and self.plan.foreign_draws and not self.healed
        if brought and self.dice.random() < 0.5:
            self.timeline.later(self.dice.choice((0.01, 0.1, 1.0)), self._foreign_draw)

    def _foreign_draw(self) -> None:
        account = self.door.seller.account(self.judge.wallet)
        amount = Usdc(min(account.credit, self.dice.choice((400_000, 2_000_000, 4_800_000))))
        if amount > 0:
            self.trace.say(self.timeline.at, "-", f"another program draws {amount}")
            self.door.seller.credit(self.judge.wallet, Usdc(-amount))

    def heal(self) -> None:
        """Nothing goes wrong any more; reconcile and resume until every purchase has its end, then the judge's verdict."""
        self.healed = True
        self.misfortune.calm()
        self.door.lie = ""
        self.nodes.heal()
        self._run(self.timeline.at + STORM_S)
        for process in list(self.machine.alive.values()):
            process.die("stopped by hand")
        self.trace.say(self.timeline.at, "-", "healed")
        for _ in range(HEALING_ROUNDS):
            if self.violations:
                return
            self._play("-", _reconcile)
            if not self.plan.stranger:
                known = self.judge.job_states()
                for customer in self.customers:
                    verb = self.resume if customer.name in known else self.generate
                    self._play(customer.name, verb(customer))
            if self._all_ended():
                break
            self.timeline.at += HEALING_PAUSE_S
        self._play("-", _reconcile)
        if not self.violations:
            self.judge.at_end()

    def _play(self, purpose: str, flow_of: Callable[[Verbs], Flow[Any]]) -> None:
        ends: list[Process] = []
        self.programs.run(purpose, flow_of, ends.append)
        while not ends and not self.violations:
            if not self.timeline.step():
                self.machine.wrong.append("a program waits for nothing")

    def _all_ended(self) -> bool:
        states = self.judge.job_states()
        return all(state in ENDED_JOBS for state in states.values()) and not self.judge.open_holds()


def _reconcile(verbs: Verbs) -> Flow[Any]:
    return verbs.reconcile()


@cache
def _blank_ledger() -> bytes:
    """A ledger nobody has written to, made once by the product and copied for every world."""
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        path = Path(folder) / "ledger.db"
        SqliteLedger(path, clock=Timeline(), random=Random("blank").randbytes).close()
        return path.read_bytes()


def memory_folder() -> str | None:
    """Where files cost nothing, if the system has such a place."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


@contextmanager
def open_world(plan: Plan, misfortune: Misfortune | None = None) -> Iterator[World]:
    """A world in a folder of its own, with the product asking its machine and its disk."""
    dice = Random(f"world {plan.seed}")
    folder = Path(tempfile.mkdtemp(prefix="world-", dir=memory_folder()))
    try:
        chosen = misfortune or Dice(plan, Random(f"misfortune {plan.seed}"))
        world = World(plan, folder, chosen, dice)
        with (
            world.machine.installed(),
            patch("x402_audio.jobs.download.os", world.disk),
        ):
            try:
                yield world
            finally:
                world.machine.power_cut()
                world.judge.close()
    finally:
        shutil.rmtree(folder)
