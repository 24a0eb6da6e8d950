"""Runs real flows step by step in simulated time: several processes on one machine, killed at any step.

A killed process loses its memory and nothing else: no `finally` of its flow reaches the books any more, its owner's name is
provably dead, what it committed stays. Knows no seller and no money.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, NoReturn
from unittest.mock import patch

import httpx

from tests.simulation.misfortune import Misfortune, When
from tests.simulation.timeline import Timeline
from tests.simulation.trace import Trace
from x402_audio.errors import X402AudioError
from x402_audio.flow import AnswerTooLong, Call, Chunk, Close, Send, Sleep, Step, _parts
from x402_audio.ledger.sqlite import SqliteLedger

TINY_S = 0.0005


class Killed(BaseException):
    """The process is no more; nothing of the product may catch this."""


class _NoDatabase:
    """What a dead process has instead of its books."""

    def __getattr__(self, name: str) -> NoReturn:
        raise Killed


Transport = Callable[["Process", Send, Callable[[object], None]], None]
"""Takes a request; calls back later with a response or an exception."""


@dataclass
class Machine:
    """One computer: which of its processes lives, and whose line of code runs now."""

    timeline: Timeline
    misfortune: Misfortune
    trace: Trace
    transport: Transport
    after_step: Callable[[Process], None]
    died: Callable[[Process], None]
    opaque_owners: bool = False
    alive: dict[str, Process] = field(default_factory=dict)
    running: Process | None = None
    wrong: list[str] = field(default_factory=list)

    def this_owner(self) -> str:
        assert self.running is not None
        return self.running.owner

    def owner_is_dead(self, owner: str) -> bool:
        """As far as another process can prove it."""
        return owner not in self.alive and not self.opaque_owners

    def durable_point(self, what: str) -> None:
        """A commit, sync or rename has just been done; the process may die here."""
        process = self.running
        if process is not None and self.misfortune.kills("at", process.steps):
            self.trace.reach(f"killed at {what}", process.where)
            raise Killed

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """The product asks this machine who it is and who is dead."""
        with (
            patch("x402_audio.wiring.this_owner", self.this_owner),
            patch("x402_audio.ledger.rates.this_owner", self.this_owner),
            patch("x402_audio.ledger.rates.owner_is_dead", self.owner_is_dead),
            patch("x402_audio.ledger.jobs_book.owner_is_dead", self.owner_is_dead),
        ):
            yield

    def power_cut(self) -> None:
        """Everything that runs here dies at once."""
        for process in list(self.alive.values()):
            process.die("the power failed")


@dataclass
class Process:
    """One program with one flow. `purpose` is the purchase it serves; `strict_transport` closes the flow as httpx does."""

    machine: Machine
    name: str
    purpose: str
    flow: Generator[Step, Any, object]
    ended: Callable[[Process], None]
    ledger: SqliteLedger
    strict_transport: bool = False
    steps: int = 0
    result: object = None
    error: BaseException | None = None
    killed: bool = False
    where: str = ""
    inner: Generator[Step, Any, object] | None = None
    _streams: dict[int, Iterator[bytes]] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        return f"boot:ns:{self.name}:0"

    @property
    def alive(self) -> bool:
        return self.owner in self.machine.alive

    def start(self) -> None:
        self.machine.alive[self.owner] = self
        self.machine.timeline.later(0.0, lambda: self._go_on(lambda: next(self.flow)))

    # --- one step and the next
    def _go_on(self, resume: Callable[[], Step]) -> None:
        if not self.alive:
            return
        try:
            step = self._run(resume)
        except StopIteration as stop:
            self._end(stop.value, None)
        except Killed:
            self.die("killed")
        except (X402AudioError, httpx.TransportError) as error:
            self._end(None, error)
        except Exception as error:
            self.machine.wrong.append(
                f"{self.name}: the flow ended with {type(error).__name__}: {error} at {self.where}"
            )
            self._end(None, error)
        else:
            self._ask(step)

    def _run(self, act: Callable[[], Any]) -> Any:
        self.machine.running, before = self, self.machine.running
        try:
            return act()
        finally:
            self.machine.running = before
            self.machine.after_step(self)

    def _ask(self, step: Step) -> None:
        self.steps += 1
        self.where = _where(self.inner or self.flow)
        pause = self.machine.misfortune.stall()
        if isinstance(step, Sleep):
            self.machine.timeline.later(step.seconds + TINY_S, lambda: self._give(None))
        else:
            self.machine.timeline.later(pause, lambda: self._effect(step))

    def _effect(self, step: Step) -> None:
        if not self.alive or self._dies("before"):
            return
        if isinstance(step, Send):
            self.machine.transport(self, step, self._answered)
            return
        try:
            result: object = self._run(lambda: self._do(step))
        except Killed:
            self.die("killed")
            return
        except Exception as error:
            result = error
        if not self._dies("after"):
            self._give(result)

    def _do(self, step: Step) -> object:
        match step:
            case Call(function):
                return function()
            case Chunk(response):
                if id(response) not in self._streams:
                    self._streams[id(response)] = _parts(response)
                return next(filter(None, self._streams[id(response)]), b"")
            case Close(response):
                self._streams.pop(id(response), None)
                response.close()
                return None
        raise AssertionError(step)

    def _answered(self, result: object) -> None:
        """The network's answer to our request: a response or an exception."""
        if self.alive and not self._dies("after"):
            if self.strict_transport and isinstance(result, httpx.TransportError | AnswerTooLong):
                self._run(self.flow.close)
                self._end(None, result)
                return
            self._give(result)

    def _give(self, result: object) -> None:
        if isinstance(result, Exception):
            self._go_on(lambda: self.flow.throw(result))
        else:
            self._go_on(lambda: self.flow.send(result))

    # --- ends
    def _dies(self, when: When) -> bool:
        if not self.machine.misfortune.kills(when, self.steps):
            return False
        self.machine.trace.reach(f"killed {when}", self.where)
        self.die(f"killed {when} {self.where}")
        return True

    def die(self, how: str) -> None:
        """Stop for ever, as by SIGKILL."""
        self.machine.trace.say(self.machine.timeline.at, self.name, how)
        self.machine.alive.pop(self.owner, None)
        self.killed = True
        self.ledger.close()
        vars(self.ledger)["_database"] = _NoDatabase()
        try:
            self.flow.close()
        except Killed:
            pass
        except RuntimeError as error:
            self.machine.wrong.append(f"{self.name}: a dying flow asked for another step: {error}")
        self.machine.died(self)
        self.ended(self)

    def _end(self, result: object, error: BaseException | None) -> None:
        said = (
            f"ended: {type(error).__name__}: {error}"
            if error is not None
            else f"ended with {type(result).__name__}"
        )
        self.machine.trace.say(self.machine.timeline.at, self.name, said)
        self.machine.alive.pop(self.owner, None)
        self.result, self.error = result, error
        self.ledger.close()
        self.ended(self)


def _where(flow: Generator[Any, Any, Any]) -> str:
    """The product's line that asked for the step: the innermost frame above `flow.py`."""
    found: FrameType | None = None
    inner: Any = flow
    while inner is not None and hasattr(inner, "gi_frame"):
        frame = inner.gi_frame
        if frame is not None and not frame.f_code.co_filename.endswith("/flow.py"):
            found = frame
        inner = inner.gi_yieldfrom
    if found is None:
        return "its first line"
    place = found.f_code.co_filename.rpartition("x402_audio/")[2]
    return f"{place}:{found.f_lineno} {found.f_code.co_qualname}"
