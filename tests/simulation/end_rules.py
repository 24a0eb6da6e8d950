"""The judge's verdict when everything was healed and hours have passed: each purchase and each cent has its place."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from tests.simulation.case import Case, Row
from x402_audio.ledger.book import ENDED_JOBS
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.payment.reconcile import ReconcileReport
from x402_audio.sandbox.audio import find_queue_id

DUST = 100
"""Below a hundredth of a cent a difference is rounding."""
_JOBS = "SELECT id, state, parked_reason, last_error, queue_id, path, file_sha256 FROM job"
LAST_LOOK_S = 0.5
"""What the seller does this shortly before the end may be later than the last reading of its rows."""


@dataclass
class EndRules:
    """Asked once."""

    case: Case

    def at_end(self, reports: list[ReconcileReport]) -> None:
        holds = {row["nonce"].lower(): row for row in self.case.rows() if row["nonce"]}
        self._own_verdict()
        self._every_cent(holds)
        self._every_job(holds)
        self._every_difference(holds, reports)

    def _own_verdict(self) -> None:
        """The product's own `ledger verify` agrees."""
        ledger = SqliteLedger(self.case.world.ledger_path, clock=self.case.world.timeline)
        for finding in ledger.verify():
            self.case.demand("I1", False, f"{finding.invariant} {finding.subject} {finding.text}")
        ledger.close()

    def _every_cent(self, holds: dict[str, Row]) -> None:
        case = self.case
        for nonce in case.draws:
            state = holds.get(nonce.lower(), {}).get("state")
            if case.truth.stands(nonce):
                case.demand(
                    "P9", state in ("settled", "presumed", "signed"), f"a charge stands, its hold is {state}"
                )
        if case.world.plan.chain != "none":
            for nonce, left in case.left.items():
                state = holds[nonce]["state"]
                case.demand(
                    "P3",
                    state not in ("signed", "presumed"),
                    f"a {left.kind} is still {state} though the chain can tell",
                )

    def _every_job(self, holds: dict[str, Row]) -> None:
        case, plan, world = self.case, self.case.world.plan, self.case.world
        for job_id, state, parked, last_error, queue_id, path, sha256 in case.all(_JOBS):
            world.trace.say(world.timeline.at, job_id, f"is {state} {parked or ''} {last_error}")
            if state == "completed":
                there = world.disk.safe(Path(path).name)
                whole = there is not None and hashlib.sha256(there).hexdigest() == sha256
                case.demand("P3", whole, f"{job_id} is completed and its file is not there")
                case.demand(
                    "P6", there and find_queue_id(there) == queue_id, f"{job_id} has another job's file"
                )
                continue
            broke = plan.credit and world.door.seller.account(case.wallet).credit < world.door.seller.floor
            over = state in (*ENDED_JOBS, "parked") or (state == "saved" and broke)  # it cannot be told there
            case.demand("P3", over, f"{job_id} is still {state} after all was healed")
            why = state == "cancelled" or last_error or parked
            case.demand("P7", why, f"{job_id} is {state} and nobody says why")
            mine = [row for row in holds.values() if row["job_id"] == job_id and row["kind"] != "topup"]
            if not any(case.truth.stands(row["nonce"]) for row in mine):
                continue
            lost = plan.honest and plan.kind == "credit" and state in ENDED_JOBS
            case.demand("P3", not lost, f"{job_id} is paid, {state}, and was not delivered: {last_error}")
            waits = (
                state != "parked" or parked in ("human", "time", "unknown") or (broke and parked == "funds")
            )
            case.demand("P3", waits, f"{job_id} is paid and parked for {parked}: {last_error}")

    def _every_difference(self, holds: dict[str, Row], reports: list[ReconcileReport]) -> None:
        """What the seller did beyond the agreement stands in our books or in a report."""
        case, world = self.case, self.case.world
        last = reports[-1].differences if reports else ()
        named = {(one.kind, one.subject) for report in reports for one in report.differences}
        for nonce, hold in holds.items():
            job = case.truth.job_of(hold["nonce"])
            if job is None or hold["state"] != "settled" or hold["kind"] != "credit":
                continue
            over = max(0, job.charged - hold["amount"])
            booked = over <= DUST or hold["overcharged"] == over
            case.demand(
                "P9", booked, f"an overcharge of {over} is booked as {hold['overcharged']} ({nonce[:8]})"
            )
            rows = world.door.seller.account(case.wallet).rows
            given = [row.at for row in rows if row.type == "REFUND" and row.request_id == job.queue_id]
            read = bool(given) and max(given) < world.timeline.at - LAST_LOOK_S
            case.demand("P9", hold["refunded"] or not read, f"a refund of {job.refunded} is not booked")
        unshown = [
            payment.value
            for (_, nonce), payment in case.world.door.seller.payments.items()
            if not payment.credited and holds.get(nonce, {}).get("state") == "settled"
        ]
        missing = [one.amount for one in last if one.kind == "missing top-up"]
        case.demand(
            "P9",
            sorted(unshown) == sorted(missing),
            f"top-ups never credited: {unshown}, the last report names {missing}",
        )
        if case.world.plan.credit and not case.world.plan.stranger and case.draws:
            foreign = case.truth.foreign_charges(
                min(row["created_at"] for row in holds.values()),
                frozenset(row["charge_id"] for row in holds.values()),
            )
            told = any(kind in ("unknown charge", "balance") for kind, _ in named)
            case.demand(
                "P9", foreign <= DUST or told, f"another program's charges of {foreign} are in no report"
            )
