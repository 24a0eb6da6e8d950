"""Holds a seller's answer back once it has acted, so that a test knows exactly where its customer stands."""

from __future__ import annotations

import threading
from collections.abc import Callable

from x402_audio.sandbox import SandboxServer
from x402_audio.sandbox.answers import Answer, Request

PATIENCE_S = 30


class Gate:
    """Closed before the `nth` answer of a route; `reached` when the seller has acted, open again after `open`."""

    def __init__(self, server: SandboxServer) -> None:
        routes = server._http.routes
        self._answer: Callable[[Request], Answer] = routes.answer
        vars(routes)["answer"] = self._hold
        self._route, self._left = "", 0
        self._reached, self._open = threading.Event(), threading.Event()
        self._counting = threading.Lock()

    def close(self, route: str, nth: int = 1) -> None:
        """Hold the answer to the nth request from now on whose path ends so."""
        self._route, self._left = route, nth
        self._reached.clear()
        self._open.clear()

    def wait(self) -> None:
        """Until the customer stands at the gate."""
        assert self._reached.wait(PATIENCE_S), f"nobody asked {self._route}"

    def open(self) -> None:
        """Let the answer go."""
        self._route = ""
        self._open.set()

    def _hold(self, request: Request) -> Answer:
        answer = self._answer(request)
        with self._counting:
            here = bool(self._route) and request.path.endswith(self._route)
            self._left -= here
            held = here and self._left == 0
        if held:
            self._reached.set()
            assert self._open.wait(PATIENCE_S)
        return answer
