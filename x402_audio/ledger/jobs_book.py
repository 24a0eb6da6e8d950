"""The life of a job in the books: stored, claimed, moved, queued, woken. Knows no seller and no file.

A job is fenced by its epoch; evidence of payment is not. An owner that is provably dead holds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from typing import Final

from x402_audio.errors import AlreadyResolved, JobConflict, JobTakenOver, LedgerError, UnknownJob
from x402_audio.ledger.book import ENDED_JOBS, JobRecord, JobState, NewJob
from x402_audio.ledger.chain_of_events import digest, plain
from x402_audio.ledger.database import Database, Transaction
from x402_audio.ledger.holds import blocking_hold, deliver_in, hold_in, settle_in
from x402_audio.ledger.owner import owner_is_dead
from x402_audio.ledger.rows import JOB_COLUMNS, SELECT_JOB, insert_into, job_from, update_by_id

_STOPS: Final[frozenset[JobState]] = frozenset({"parked", "failed", "cancelled", "expired"})
_PAID_STOPS: Final[frozenset[JobState]] = _STOPS - {"cancelled"}
"""What is paid cannot be cancelled, however the two race."""
TRANSITIONS: Final[Mapping[str, frozenset[JobState]]] = {
    "planned": _STOPS | {"quoted", "reserved"},
    "quoted": _STOPS | {"planned", "reserved"},
    "reserved": _STOPS | {"planned", "quoted"},
    "queued": _PAID_STOPS | {"ready", "saved"},
    "ready": _PAID_STOPS | {"queued", "saved"},
    "saved": _PAID_STOPS | {"ready", "completed"},
    "parked": _STOPS,
    "completed": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
    "expired": frozenset(),
}
"""Where `move` may go besides staying; a parked job also goes back to its `resume_state`, or to `planned` to be priced
anew. Only `queued` queues."""
UNBOUGHT: Final[frozenset[JobState]] = frozenset({"planned", "quoted"})
PAID_STATES: Final[frozenset[JobState]] = frozenset({"queued", "ready", "saved", "completed"})
CHANGEABLE: Final = frozenset({
    "parked_reason", "resume_state", "queue_id", "price", "missing", "due", "deadline", "last_error", "content_type",
    "file_sha256", "file_bytes", "path", "refunded", "options", "request",
})  # fmt: skip
HASHED: Final = frozenset({"request", "options", "last_error"})
"""Columns that may hold a prompt or a seller's words: an event holds only their sha256."""
UNEVENTED: Final = frozenset({"due", "epoch", "updated_at"})
_FRESH: Final[Mapping[str, object]] = {
    "state": "planned", "parked_reason": None, "resume_state": None, "queue_id": "", "price": None, "missing": None,
    "last_error": "", "content_type": "", "file_sha256": "", "file_bytes": 0, "path": "", "refunded": "",
    "queued_at": None,
}  # fmt: skip

_NEW: Final = tuple(field.name for field in fields(NewJob))
_INSERT: Final = insert_into("job", (*_NEW, "due", "created_at", "updated_at"))
_BY_ID: Final = f"{SELECT_JOB} WHERE id = ?"
_RENEW: Final = "UPDATE job SET lease_until = ? + lease_s WHERE id = ? AND owner <> ''"
_SIMILAR: Final = (
    f"{SELECT_JOB} WHERE digest = ? AND wallet = ? AND created_at > ?"
    " AND state NOT IN ('completed', 'failed', 'cancelled', 'expired') ORDER BY created_at DESC LIMIT 1"
)
_OWNER: Final = "SELECT owner, lease_until FROM job WHERE id = ?"
_CLAIM: Final = "UPDATE job SET owner = ?, lease_s = ?, lease_until = ?, epoch = ? WHERE id = ?"
_RELEASE: Final = "UPDATE job SET owner = '', lease_until = 0 WHERE id = ? AND epoch = ?"
_WAKE: Final = "UPDATE job SET due = ?, lease_until = ? + lease_s WHERE id = ? AND epoch = ?"
_UNFINISHED: Final = "state NOT IN ('completed', 'failed', 'cancelled', 'expired')"
_ENDED: Final = (
    f"{SELECT_JOB} WHERE wallet = ? AND origin = ? AND state IN ('completed', 'failed', 'expired')"
    " AND queued_at IS NOT NULL ORDER BY updated_at DESC LIMIT ?"
)
_WAITING: Final = "SELECT count(*), min(due) FROM job WHERE state = 'queued' AND wallet = ? AND due > ?"
_PAID: Final = "SELECT 1 FROM hold WHERE job_id = ? AND kind <> 'topup' AND +state = 'settled' LIMIT 1"


class JobVerbs:
    """The part of the ledger that keeps jobs."""

    _database: Database

    def add_job(self, job: NewJob, *, similar_within_s: float | None = None) -> tuple[JobRecord, bool]:
        """See `Ledger.add_job`."""
        with self._database.transaction() as tx:
            row = tx.one(_BY_ID, (job.id,))
            if row is None and similar_within_s is not None:
                alike = tx.one(_SIMILAR, (job.digest, job.wallet, tx.now - similar_within_s))
                if alike is not None:
                    return job_from(alike), False
            if row is None:
                tx.run(_INSERT, (*astuple(job), tx.now, tx.now, tx.now))
                added = job_in(tx, job.id)
                _event(tx, added, "", "", {name: getattr(added, name) for name in JOB_COLUMNS})
                return added, True
            old = job_from(row)
            if old.digest != job.digest:
                raise JobConflict(f"the job {job.id} exists with another request; nothing was sent")
            if (
                old.state not in ENDED_JOBS
                or old.state == "completed"
                or blocking_hold(tx, job.id) is not None
            ):
                return old, False
            anew = {**_FRESH, "attempts": old.attempts + 1, "options": job.options, "request": job.request,
                    "deadline": job.deadline, "due": tx.now}  # fmt: skip
            return _write(tx, old, anew, why="a new attempt: the last one cost nothing"), True

    def job(self, job_id: str) -> JobRecord:
        """See `Ledger.job`. Raises UnknownJob."""
        with self._database.reading() as view:
            row = view.one(_BY_ID, (job_id,))
        if row is None:
            raise UnknownJob(f"there is no job {job_id}")
        return job_from(row)

    def jobs(
        self,
        *,
        wallet: str | None = None,
        states: Sequence[str] = (),
        unfinished: bool = False,
        due_by: float | None = None,
        limit: int = 1000,
    ) -> list[JobRecord]:
        """See `Ledger.jobs`."""
        words, values = ["1"], list[object]()
        if wallet is not None:
            words.append("+wallet = ?")
            values.append(wallet)
        if states:
            words.append(f"+state IN ({', '.join('?' * len(states))})")
            values.extend(states)
        few = unfinished or (bool(states) and ENDED_JOBS.isdisjoint(states))
        if few:
            words.append(_UNFINISHED)
        if due_by is not None:
            words.append("NOT (state = 'queued' AND due > ?)")
            values.append(due_by)
        with self._database.reading() as view:
            rows = view.all(
                f"{SELECT_JOB} WHERE {' AND '.join(words)} ORDER BY {'created_at' if few else 'rowid'} LIMIT ?",
                (*values, limit),
            )
        return [job_from(row) for row in rows]

    def last_ended(self, wallet: str, origin: str, count: int) -> list[JobRecord]:
        """See `Ledger.last_ended`."""
        with self._database.reading() as view:
            return [job_from(row) for row in view.all(_ENDED, (wallet, origin, count))]

    def waiting(self, wallet: str, *, due_after: float = 0.0) -> tuple[int, float | None]:
        """See `Ledger.waiting`."""
        with self._database.reading() as view:
            row = view.one(_WAITING, (wallet, due_after))
        assert row is not None
        return row[0], row[1]

    def similar_open_job(self, digest: str, wallet: str, younger_than_s: float) -> JobRecord | None:
        """See `Ledger.similar_open_job`: the newest such job."""
        since = self._database.now() - younger_than_s
        with self._database.reading() as view:
            row = view.one(_SIMILAR, (digest, wallet, since))
        return job_from(row) if row else None

    def claim(self, job_id: str, owner: str, lease_s: float) -> JobRecord | None:
        """See `Ledger.claim`."""
        with self._database.transaction() as tx:
            job = job_in(tx, job_id)
            row = tx.one(_OWNER, (job_id,))
            holder, until = row or ("", 0.0)
            if holder not in ("", owner) and until > tx.now and not owner_is_dead(holder):
                return None
            epoch = job.epoch if holder == owner else job.epoch + 1
            tx.run(_CLAIM, (owner, lease_s, tx.now + lease_s, epoch, job_id))
            return job_in(tx, job_id)

    def release(self, job_id: str, epoch: int) -> None:
        """See `Ledger.release`. Nothing happens when another owner has it by now."""
        with self._database.transaction() as tx:
            tx.run(_RELEASE, (job_id, epoch))

    def move(self, job_id: str, epoch: int, to: JobState, *, why: str = "", **changes: object) -> JobRecord:
        """See `Ledger.move`. Raises LedgerError for a transition or a column that is not allowed."""
        with self._database.transaction() as tx:
            job = _fenced(tx, job_id, epoch)
            unknown = changes.keys() - CHANGEABLE
            if unknown:
                raise LedgerError(f"a move cannot change {', '.join(sorted(unknown))}")
            _check_transition(tx, job, to, changes)
            values = dict(changes)
            if to == "parked":
                if values.get("parked_reason", job.parked_reason) is None:
                    raise LedgerError(f"the job {job_id} cannot be parked without a reason")
                values.setdefault("resume_state", job.resume_state if job.state == "parked" else job.state)
            else:
                values |= {"parked_reason": None, "resume_state": None, "missing": None}
            return _write(tx, job, {"state": to, **values}, why=why)

    def queued(
        self, job_id: str, epoch: int | None, hold_id: str, *, queue_id: str, due: float, evidence: str,
        transaction: str = "", charge_id: str = "",
    ) -> JobRecord:  # fmt: skip
        """See `Ledger.queued`. Never fenced; the same again changes nothing, another queue_id is AlreadyResolved."""
        with self._database.transaction() as tx:
            job, hold = job_in(tx, job_id), hold_in(tx, hold_id)
            if hold.job_id != job_id or hold.kind == "topup" or not queue_id:
                raise LedgerError(f"the hold {hold_id} does not pay the job {job_id}")
            if job.queue_id and job.state in PAID_STATES:
                if job.queue_id == queue_id and hold.state == "settled":
                    return job
                raise AlreadyResolved(f"the job {job_id} is {job.state} already", money_moved="yes")
            if hold.state != "settled":
                settle_in(
                    tx, hold, evidence=evidence, transaction=transaction, charge_id=charge_id, delivered=True
                )
            else:
                deliver_in(tx, hold, evidence)
            by_whom = "" if epoch in (None, job.epoch) else " (brought by an earlier owner)"
            return _write(tx, job, {
                "state": "queued", "queue_id": queue_id, "due": due, "queued_at": tx.now, "parked_reason": None,
                "resume_state": None, "missing": None,
            }, why=evidence + by_whom)  # fmt: skip

    def wake(self, job_id: str, epoch: int, due: float) -> None:
        """See `Ledger.wake`. Raises JobTakenOver."""
        with self._database.transaction() as tx:
            if not tx.run(_WAKE, (due, tx.now, job_id, epoch)):
                _fenced(tx, job_id, epoch)


def job_in(tx: Transaction, job_id: str) -> JobRecord:
    """The job as this transaction sees it. Raises UnknownJob."""
    row = tx.one(_BY_ID, (job_id,))
    if row is None:
        raise UnknownJob(f"there is no job {job_id}")
    return job_from(row)


def evented(columns: Mapping[str, object]) -> dict[str, object]:
    """What an event says of a job's columns: no prompt, no words of a seller, nothing that moves without an event."""
    return {
        name: digest(str(value)) if name in HASHED else value
        for name, value in columns.items()
        if name not in UNEVENTED
    }


def _fenced(tx: Transaction, job_id: str, epoch: int) -> JobRecord:
    job = job_in(tx, job_id)
    if job.epoch != epoch:
        raise JobTakenOver(
            f"another process works on the job {job_id} now", job_id=job_id, queue_id=job.queue_id
        )
    return job


def may_go(state: str, resume_state: str | None, to: str) -> bool:
    """Whether a job may be moved so: staying, as TRANSITIONS says, or out of the parking place."""
    if state == "parked" and (to == resume_state or (to == "planned" and resume_state in UNBOUGHT)):
        return True
    return to == state or to in TRANSITIONS[state]


def _check_transition(tx: Transaction, job: JobRecord, to: JobState, changes: Mapping[str, object]) -> None:
    if to == "cancelled":
        paying = blocking_hold(tx, job.id)
        if paying is not None and paying.state != "reserved":
            raise LedgerError(
                f"the job {job.id} has a payment and cannot be cancelled",
                money_moved="yes" if paying.state == "settled" else "unknown",
                next_step=f"x402-audio resume {job.id}",
            )
    if not may_go(job.state, job.resume_state, to):
        raise LedgerError(f"the job {job.id} cannot go from {job.state} to {to}")
    resume = changes.get("resume_state")
    for state in (to, resume):
        if state in PAID_STATES and job.state not in PAID_STATES and not tx.one(_PAID, (job.id,)):
            raise LedgerError(f"the job {job.id} cannot be {state}: no payment of it is settled")


def _write(tx: Transaction, job: JobRecord, changes: Mapping[str, object], *, why: str) -> JobRecord:
    values = {name: getattr(job, name) for name in JOB_COLUMNS} | dict(changes) | {"updated_at": tx.now}
    values["last_error"] = plain(str(values["last_error"]))
    after = job_from(tuple(values[name] for name in JOB_COLUMNS))
    changed = {name: values[name] for name in JOB_COLUMNS if values[name] != getattr(job, name)}
    tx.run(update_by_id("job", tuple(changed)), (*changed.values(), job.id))
    tx.run(_RENEW, (tx.now, job.id))
    _event(tx, after, job.state, why, changed)
    return after


def _event(tx: Transaction, job: JobRecord, from_: str, why: str, changed: Mapping[str, object]) -> None:
    tx.event(
        job.wallet, f"job:{job.id}", from_, job.state, amount=job.price or 0, why=why, set=evented(changed)
    )
