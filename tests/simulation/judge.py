"""The independent judge of one world: composes the rules of the wire, of the books and of the end, and hears programs out.

Knows no rule of its own but what a program may say when it ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.book_rules import BookRules
from tests.simulation.case import LIVE, Case
from tests.simulation.driver import Process
from tests.simulation.end_rules import EndRules
from tests.simulation.wire_rules import WireRules
from x402_audio.errors import X402AudioError
from x402_audio.payment.reconcile import ReconcileReport
from x402_audio.protocol.signer import LocalSigner

if TYPE_CHECKING:
    from tests.simulation.world import World


class Judge:
    """Collects violations, the first of which ends the world."""

    def __init__(self, world: World, key: str) -> None:
        self.wallet = LocalSigner.from_hex(key).address
        self.case = Case(world, self.wallet)
        self.case.secrets.add(key.removeprefix("0x"))
        self.wire = WireRules(self.case)
        self.books = BookRules(self.case)
        self._reports: list[ReconcileReport] = []

    def after_step(self, process: Process) -> None:
        """A process did a step: no transaction may be open, and the books must be sound."""
        self.wire.outside_transaction("a step ended", process)
        self.books.after_step()

    def watch(self, process: Process) -> None:
        """Hear how it ends."""
        inner = process.ended

        def ended(process: Process) -> None:
            self._ended(process)
            inner(process)

        process.ended = ended

    def _ended(self, process: Process) -> None:
        error, report = process.error, process.result
        if isinstance(error, X402AudioError):
            text = str(error)
            self.hear(f"{text} {vars(error)}")
            self.case.unshown = self.case.unshown or "its credit did not show" in text
            self.case.demand(
                "P7", text.strip() and "\n" not in text, f"an error that is not one line: {text!r}"
            )
            self.case.demand("P7", error.next_step, f"an error that does not say what to do: {text!r}")
        if report is not None:
            self.hear(repr(report))
        if isinstance(report, ReconcileReport):
            self._reports.append(report)
            if not any(one.kind == "missing top-up" for one in report.differences):
                self.case.unshown = False

    def hear(self, text: str) -> None:
        """Something was told to people."""
        self.case.demand("P5", not any(secret in text for secret in self.case.secrets), "a secret was told")

    def at_end(self) -> None:
        self.books.after_step()
        EndRules(self.case).at_end(self._reports)

    # --- what the world asks of the books
    def job_states(self) -> dict[str, str]:
        return dict(self.case.all("SELECT id, state FROM job"))

    def ends(self) -> list[str]:
        """How each job stands, a parked one with its reason."""
        rows = self.case.all("SELECT state, parked_reason FROM job")
        return [f"parked({reason})" if reason else str(state) for state, reason in rows]

    def state_of_books(self) -> str:
        """Job and holds in a few words."""
        holds = " ".join(f"{row['kind']} {row['state']}" for row in self.case.rows())
        return "; ".join(filter(None, [" ".join(f"job {state}" for state in self.ends()), holds])) or "empty"

    def open_holds(self) -> bool:
        return any(row["state"] in LIVE for row in self.case.rows())

    def close(self) -> None:
        self.case.books.close()
