"""Letters on their way: lost, late, twice, cut, answered by somebody else. Knows the door, and no money.

A request that may arrive after its sender gave up is the heart of it: the answer is lost at once, the letter is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

import httpx

from tests.simulation.driver import Process
from tests.simulation.misfortune import Misfortune
from tests.simulation.sellers import Door, Letter
from tests.simulation.timeline import Timeline
from tests.simulation.trace import Trace
from x402_audio.flow import Send, read_bounded
from x402_audio.payment.auth import _stays_open
from x402_audio.payment.onehop import detach
from x402_audio.sandbox.answers import Answer, json_answer

READ_TIMEOUT_S = 30.0
LATE_S = (1.0, 60.0, 200.0, 400.0)


class _Pieces(httpx.SyncByteStream):
    """A body as it comes over a line that may break."""

    def __init__(self, body: bytes, *, breaks: bool) -> None:
        self._body = body
        self._breaks = breaks

    def __iter__(self) -> Iterator[bytes]:
        if self._breaks:
            yield self._body[: len(self._body) // 2]
            raise httpx.ReadError("the line broke")
        yield self._body


@dataclass
class Network:
    """Between the programs and one seller."""

    timeline: Timeline
    misfortune: Misfortune
    trace: Trace
    door: Door
    dice: Random
    leaving: Callable[[Process, Letter], None]
    arrived: Callable[[Letter], None]
    _sent: int = 0
    _newest: int = 0

    def send(self, process: Process, step: Send, done: Callable[[object], None]) -> None:
        """Take a request from a process; `done` is called with a response or an exception."""
        request = step.request
        letter = Letter(
            request.method, str(request.url),
            tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw),
            request.content,
        )  # fmt: skip
        self.leaving(process, letter)
        fate = self.misfortune.fate(process.steps, letter.path)
        if fate:
            self.trace.reach(fate, f"{letter.method} {letter.route}")
        said = f" [{fate}]" if fate else ""
        self.trace.say(self.timeline.at, process.name, f"sends {letter.method} {letter.route}{said}")
        timeout = request.extensions.get("timeout", {}).get("read") or READ_TIMEOUT_S

        def give(answer: Answer | Exception, *, breaks: bool = False) -> None:
            if isinstance(answer, Exception):
                self.trace.say(self.timeline.at, process.name, f"  no answer: {type(answer).__name__}")
                done(answer)
                return
            self.trace.say(self.timeline.at, process.name, f"  answered {answer.status} {answer.code}")
            done(_received(step, answer, breaks=breaks, strict=process.strict_transport))

        self._befall(fate, letter, float(timeout), give)

    def _befall(self, fate: str, letter: Letter, timeout: float, give: Callable[..., None]) -> None:
        later, there, back = self.timeline.later, self.misfortune.latency(), self.misfortune.latency()

        self._sent += 1
        number = self._sent

        def arrives(then: Callable[[Answer], None], what: Letter = letter) -> Callable[[], None]:
            def act() -> None:
                if number < self._newest:
                    self.trace.reach("overtaken", f"{letter.method} {letter.route}")
                self._newest = max(self._newest, number)
                answer = self.door.arrive(what)
                self.arrived(what)
                then(answer)

            return act

        def nothing(_: Answer) -> None:
            return

        def answers(made: Callable[[Answer], Answer]) -> Callable[[Answer], None]:
            return lambda answer: later(back, lambda: give(made(answer)))

        gave_up = httpx.ReadTimeout("no answer in time")
        match fate:
            case "lost":
                later(timeout, lambda: give(gave_up))
            case "answer lost":
                later(there, arrives(nothing))
                later(timeout, lambda: give(gave_up))
            case "late":
                later(timeout + self.dice.choice(LATE_S), arrives(nothing))
                later(timeout, lambda: give(gave_up))
            case "twice":
                first_counts = self.dice.random() < 0.5
                told = answers(lambda answer: answer)
                later(there, arrives(told if first_counts else nothing))
                later(there + self.misfortune.latency(), arrives(nothing if first_counts else told))
            case "slow":
                later(
                    there,
                    arrives(lambda answer: later(max(back, timeout * 0.9 - there), lambda: give(answer))),
                )
            case "cut":
                later(there, arrives(lambda answer: later(back, lambda: give(answer, breaks=True))))
            case "garbage":
                broken = b'\xff{"queue_id": <html>\x00'
                later(
                    there,
                    arrives(
                        answers(
                            lambda answer: Answer(answer.status, broken, answer.headers, answer.content_type)
                        )
                    ),
                )
            case "500":
                later(there + back, lambda: give(json_answer(self.dice.choice((500, 502, 503, 504)), {})))
            case "500 after":
                later(there, arrives(answers(lambda _: json_answer(self.dice.choice((500, 502, 504)), {}))))
            case "429":
                later(
                    there + back, lambda: give(json_answer(429, {"error": "slow down"}, ("Retry-After", "2")))
                )
            case "402 again":
                later(there, arrives(answers(lambda answer: answer), letter.stripped()))
            case "redirect":
                later(there + back, lambda: give(_elsewhere()))
            case "redirect after":
                later(there, arrives(answers(lambda _: _elsewhere())))
            case _:
                later(there, arrives(answers(lambda answer: answer)))


def _elsewhere() -> Answer:
    return Answer(307, b"", (("Location", "https://elsewhere.example/api/v1/audio/queue"),), code="REDIRECT")


def _received(step: Send, answer: Answer, *, breaks: bool, strict: bool) -> object:
    """What httpx would hand over: a response, read unless it is to be streamed, or the error of reading it."""
    headers = [
        *answer.headers, ("Content-Type", answer.content_type), ("Content-Length", str(len(answer.body))),
    ]  # fmt: skip
    response = httpx.Response(
        answer.status, headers=headers, stream=_Pieces(answer.body, breaks=breaks), request=step.request
    )
    paid = detach(step.request) if strict else False
    stays = step.stream and (not strict or _stays_open(response, paid=paid))
    if not stays:
        try:
            read_bounded(response)
        except httpx.TransportError as error:
            return error
    return response
