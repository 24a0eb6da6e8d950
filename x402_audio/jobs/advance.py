"""The walk of one job: planned → quoted → reserved → queued → ready → saved → completed, one step at a time.

`run_job` claims the job and takes steps until it ends, parks, or the caller's waiting ends. Every step may be taken
again after a crash at any line; a second process that wants the same job joins it. Steps raise typed errors; what an
error means for the job (park, fail, leave as it is) is decided in one place, `_after_error`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from x402_audio.errors import (
    AboveMaximum,
    ApprovalWanted,
    BadDownload,
    BudgetExceeded,
    ClockError,
    ContentRejected,
    Frozen,
    InsufficientBalance,
    JobExpired,
    JobFailed,
    JobParked,
    JobTakenOver,
    JobTimedOut,
    JobUndecided,
    LedgerError,
    ModelUnavailable,
    PaymentRefused,
    PaymentRejected,
    PaymentUnsettled,
    RequestInvalid,
    X402AudioError,
)
from x402_audio.flow import Flow, call, sleep
from x402_audio.jobs.buy import buy, known_durations, price_of_hold
from x402_audio.jobs.desk import Desk, JobOptions, audio_of
from x402_audio.jobs.download import Saved, is_same_file, save_stream, seconds_of
from x402_audio.jobs.gate import PAID, still_missing, watch
from x402_audio.jobs.schedule import kept, next_poll
from x402_audio.jobs.strangers import meet
from x402_audio.jobs.unknown import decide, refund_of, stop_after_losses
from x402_audio.ledger.approvals import refusal
from x402_audio.ledger.book import ENDED_JOBS, Hold, JobRecord, JobState, ParkedReason
from x402_audio.ledger.credit import is_given_back
from x402_audio.money import Usdc
from x402_audio.payment.books import knowing
from x402_audio.payment.chain import ChainReader
from x402_audio.payment.pay import RESEND_MARGIN_S
from x402_audio.payment.session import answer_of, is_audio
from x402_audio.providers.catalog import check_request
from x402_audio.providers.prices import agrees, price_of
from x402_audio.providers.provider import AudioRequest, Gone, Processing, Refused, Shortfall, Track

T = TypeVar("T")
LEASE_S: Final = 240
JOIN_EVERY_S: Final = 0.25
PARKED_EVERY_S: Final = 5.0
LEAVE_EVERY_S: Final = 1.0
COMPLETE_TRIES: Final = 3
DOWNLOAD_TRIES: Final = 4
JOB_LIFE_S: Final = 24 * 3600
ASKED_IN_TIME_S: Final = 30
QUOTE_FRESH_S: Final = 60
"""Nothing is bought at a price older than this: it is asked anew."""
FAULT_GAP_S: Final = 60
FAULT_PATIENCE_S: Final = 10 * 60
"""A retrieve that answers 5xx for this long is the job's failure."""


WAITED_FOR: Final = (InsufficientBalance, ApprovalWanted)
"""What the one who waits for a parked job waits for."""


def run_job(
    desk: Desk, job_id: str, *, until: float, chain: ChainReader | None = None, wait_parked: bool = False
) -> Flow[Track]:
    """Take a job to its end. until: monotonic seconds at which waiting (not the job) ends.

    Raises the job's typed end, or JobTimedOut. With `wait_parked` a job parked for funds is waited for.
    """
    walk = _walk(desk, job_id, until, chain, wait_parked)
    return (yield from knowing_job(desk, job_id, walk))


def knowing_job(desk: Desk, job_id: str, flow: Flow[T]) -> Flow[T]:
    """Run a flow about a stored job: when the books fail in it, the error says what they know of the job's money."""
    return (
        yield from knowing(flow, lambda: desk.ledger.holds(job_id=job_id), then=f"x402-audio resume {job_id}")
    )


def _walk(desk: Desk, job_id: str, until: float, chain: ChainReader | None, wait_parked: bool) -> Flow[Track]:
    yield from call(desk.ledger.sweep)
    while True:
        job = None
        if _here.take(desk.place, job_id):
            try:
                job = yield from call(lambda: desk.ledger.claim(job_id, desk.owner, LEASE_S))
                if job is not None:
                    return (yield from _steps(desk, job, until, chain, wait_parked))
            finally:
                if job is not None:
                    with suppress(LedgerError):  # what ended the walk is what is told; a claim ends by itself
                        desk.ledger.release(job.id, job.epoch)
                _here.give_back(desk.place, job_id)
        joined = yield from _join(desk, job_id, until)
        if joined is not None:
            return joined


class _Here:
    """Jobs this very process is working on: its threads and tasks join each other like processes do."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: set[tuple[str, str]] = set()

    def take(self, place: str, job_id: str) -> bool:
        with self._lock:
            if (place, job_id) in self._jobs:
                return False
            self._jobs.add((place, job_id))
            return True

    def give_back(self, place: str, job_id: str) -> None:
        with self._lock:
            self._jobs.discard((place, job_id))


_here: Final = _Here()


def change_options(desk: Desk, job: JobRecord, options: str) -> JobRecord:
    """Store other wishes with a job that nobody works on now; the job as it stands then."""
    try:
        with alone_with(desk, job) as claimed:
            if claimed.state in ENDED_JOBS:
                return claimed
            return desk.ledger.move(
                claimed.id, claimed.epoch, claimed.state, options=options, missing=claimed.missing
            )
    except JobTakenOver:
        return job


def cancel_unpaid(desk: Desk, job: JobRecord) -> JobRecord:
    """End a job that nobody works on now and that no payment left for; the ledger has the last word on that."""
    with alone_with(desk, job) as claimed:
        for hold in desk.ledger.holds(job_id=job.id, states=("reserved",)):
            desk.ledger.void(hold.id, evidence="cancelled before it was signed", unsigned=True)
        return desk.ledger.move(job.id, claimed.epoch, "cancelled", why="cancelled by its owner")


@contextmanager
def alone_with(desk: Desk, job: JobRecord) -> Iterator[JobRecord]:
    """The job, claimed. Raises JobTakenOver while this program or another works on it."""
    if not _here.take(desk.place, job.id):
        raise _taken_over(job)
    try:
        claimed = desk.ledger.claim(job.id, desk.owner, LEASE_S)
        if claimed is None:
            raise _taken_over(job)
        try:
            yield claimed
        finally:
            with suppress(LedgerError):  # a claim ends by itself
                desk.ledger.release(job.id, claimed.epoch)
    finally:
        _here.give_back(desk.place, job.id)


def _taken_over(job: JobRecord) -> JobTakenOver:
    return JobTakenOver(
        f"another program or thread works on {job.id} now; it may be buying it",
        job_id=job.id,
        queue_id=job.queue_id,
    )


def _join(desk: Desk, job_id: str, until: float) -> Flow[Track | None]:
    """Another process has it: wait for its end; None when the job is free again."""
    job = yield from call(lambda: desk.ledger.job(job_id))
    if job.state in ENDED_JOBS:
        return (yield from ended(desk, job))
    if desk.clock.monotonic() >= until:
        raise timed_out(job)
    yield from sleep(JOIN_EVERY_S)
    return None


def _steps(
    desk: Desk, job: JobRecord, until: float, chain: ChainReader | None, wait_parked: bool
) -> Flow[Track]:
    warnings: list[str] = []
    broken = 0
    while True:
        if job.state in ENDED_JOBS:
            return (yield from ended(desk, job, warnings))
        if job.state == "saved" and warnings and warnings[-1].startswith("not completed"):
            return (yield from track_of(desk, job, warnings))
        try:
            job = yield from _step(desk, job, until, chain, wait_parked, warnings)
        except X402AudioError as error:
            stop = yield from _booked_error(desk, job, error)
            broken += isinstance(stop, BadDownload) and stop.retry != "never"
            if isinstance(stop, BadDownload) and stop.retry != "never" and broken < DOWNLOAD_TRIES:
                desk.tell("warning", f"{stop.message}; fetching it again", job)
                pause = 0.5 * 2**broken
            elif wait_parked and isinstance(stop, WAITED_FOR) and desk.clock.monotonic() < until:
                pause = min(PARKED_EVERY_S, until - desk.clock.monotonic())
            else:
                raise stop from None
            job = yield from call(partial(desk.ledger.job, job.id))
            yield from sleep(pause)


def _step(
    desk: Desk,
    job: JobRecord,
    until: float,
    chain: ChainReader | None,
    wait_parked: bool,
    warnings: list[str],
) -> Flow[JobRecord]:
    match job.state:
        case "planned":
            return (yield from _quote(desk, job))
        case "quoted" if desk.clock.now() - job.updated_at > QUOTE_FRESH_S:
            return (yield from _move(desk, job, "planned", why="the price is asked anew: the quote is old"))
        case "quoted" | "reserved":
            yield from meet(desk, job, chain)
            return (yield from buy(desk, job))
        case "queued" | "ready":
            return (yield from _poll(desk, job, until, warnings))
        case "saved":
            return (yield from _complete(desk, job, warnings))
        case "parked":
            return (yield from _unpark(desk, job, until, chain, wait_parked))
    raise AssertionError(job.state)


def _move(desk: Desk, job: JobRecord, to: JobState, *, why: str) -> Flow[JobRecord]:
    return (yield from call(lambda: desk.ledger.move(job.id, job.epoch, to, why=why)))


# --- planned → quoted
def _quote(desk: Desk, job: JobRecord) -> Flow[JobRecord]:
    audio = audio_of(job)
    spec = (yield from desk.specs()).get(job.model)
    if spec is not None:
        check_request(audio, spec)
    local = price_of(audio, spec) if spec is not None else None
    price = local
    ask = desk.provider.ask_quote(audio, spec)
    if ask is not None:
        answer = yield from desk.session.ask(ask)
        if answer.status == 200:
            price = desk.provider.read_quote(answer)
            if local is not None and not agrees(price, local):
                desk.tell("warning", f"the quote {price} is not the listed price {local}", job)
        elif desk.provider.billing != "direct" or answer.status not in (404, 405, 501):
            raise desk.provider.error_of(answer, "quote")
    if price is None and desk.provider.billing != "direct":
        raise ModelUnavailable(f"{job.model} has no price at this seller", status=0)
    if price is not None:
        _check_price(job, price)
        desk.tell("price", f"{job.model} costs {price}", job, price_atomic=int(price), model=job.model)
    return (yield from call(lambda: desk.ledger.move(job.id, job.epoch, "quoted", price=price)))


def _check_price(job: JobRecord, price: Usdc) -> None:
    """The caller's own maximum, said before anything else is asked; every other limit is the ledger's."""
    options = JobOptions.from_json(job.options)
    if options.max_price is not None and price > (most := Usdc.parse_usd(options.max_price)):
        raise AboveMaximum(f"{price} is asked, at most {most} is allowed")


# --- queued → ready → saved
def _poll(desk: Desk, job: JobRecord, until: float, warnings: list[str]) -> Flow[JobRecord]:
    now = desk.clock.now()
    if now >= job.deadline:
        raise JobParked(
            f"{job.id} did not finish within its deadline", job_id=job.id, queue_id=job.queue_id, reason="time",
            next_step=f"x402-audio resume {job.id}",
        )  # fmt: skip
    if job.due > now and job.state == "queued":
        left = until - desk.clock.monotonic()
        if left <= 0:
            raise timed_out(job)
        pause = min(job.due - now, left, LEASE_S / 2)
        yield from sleep(pause)
        if pause >= LEASE_S / 2:
            yield from call(lambda: desk.ledger.wake(job.id, job.epoch, job.due))
        return job
    if desk.account is not None:
        yield from watch(desk, desk.account, job)
    response = yield from desk.session.open(desk.provider.ask_retrieve(job.model, job.queue_id))
    if is_audio(response):
        return (yield from _save(desk, job, response, warnings))
    progress = desk.provider.read_progress(answer_of(response))
    if isinstance(progress, Gone):
        raise (yield from _gone(desk, job, progress))
    if isinstance(progress, Shortfall):
        raise InsufficientBalance(
            f"the seller wants credit before it hands the track over: {progress.message}",
            balance=Usdc(0), needed=desk.provider.floor, missing=desk.provider.floor, suggested_top_up=Usdc(0),
            money_moved="yes", next_step="x402-audio top-up 5, then: x402-audio resume",
        )  # fmt: skip
    return (yield from _later(desk, job, progress, until))


def _later(desk: Desk, job: JobRecord, progress: Processing | Refused, until: float) -> Flow[JobRecord]:
    """Book when to ask again."""
    waiting, _ = yield from call(lambda: desk.ledger.waiting(job.wallet))
    interval = JobOptions.from_json(job.options).interval
    if isinstance(progress, Processing):
        yield from call(lambda: _forget_fault(desk, job))
        known = yield from call(lambda: known_durations(desk, job))
        elapsed = progress.elapsed_s
        if known and job.queued_at is not None:  # these were measured by our own clock
            elapsed = desk.clock.now() - job.queued_at
        pause = next_poll(progress.average_s, elapsed, waiting, desk.jitter(), interval, known)
        desk.tell(
            "progress", "working", job,
            elapsed_s=progress.elapsed_s, average_s=progress.average_s, next_poll_s=pause,
        )  # fmt: skip
    else:
        if progress.status not in (408, 425, 429) and progress.status < 500:
            raise seller_error_of(progress)
        if progress.status >= 500:
            yield from _check_fault(desk, job, progress)
        pause = max(progress.retry_after or 0.0, next_poll(None, None, waiting, desk.jitter(), interval))
        desk.tell("warning", f"the seller answered {progress.status} to a poll; asking again", job)
    due = desk.clock.now() + pause
    yield from call(lambda: desk.ledger.wake(job.id, job.epoch, due))
    if desk.clock.monotonic() >= until:
        raise timed_out(job)
    return (yield from call(lambda: desk.ledger.job(job.id)))


def _check_fault(desk: Desk, job: JobRecord, progress: Refused) -> Flow[None]:
    """A 5xx to a poll is the job's failure when its refund shows, or when it lasts. Raises JobFailed."""
    paid = yield from refund_of(desk, job)
    since = yield from call(lambda: _fault_since(desk, job))
    if (paid is not None and paid.refunded) or desk.clock.now() - since >= FAULT_PATIENCE_S:
        raise _failed(job, f"{progress.status} {progress.message}", "unknown" if paid is None else "no", paid)


def _fault_since(desk: Desk, job: JobRecord) -> float:
    """When this run of 5xx began, Unix seconds."""
    known, now = desk.ledger.recall(f"fault {job.queue_id}"), desk.clock.now()
    since, last = (float(word) for word in known[0].split()) if known is not None and known[0] else (now, now)
    if now - last > FAULT_GAP_S:  # nobody asked meanwhile: that is no run of faults
        since = now
    desk.ledger.remember(f"fault {job.queue_id}", f"{since:.0f} {now:.0f}")
    return since


def _forget_fault(desk: Desk, job: JobRecord) -> None:
    known = desk.ledger.recall(f"fault {job.queue_id}")
    if known is not None and known[0]:
        desk.ledger.remember(f"fault {job.queue_id}", "")


def _save(desk: Desk, job: JobRecord, response: object, warnings: list[str]) -> Flow[JobRecord]:
    import httpx

    assert isinstance(response, httpx.Response)
    content_type = response.headers.get("content-type", "").split(";")[0].strip().lower()
    options = JobOptions.from_json(job.options)
    target = options.target(job.id, content_type)
    ran = _ran(desk, job)
    try:
        if job.state != "ready":
            ready = partial(desk.ledger.move, job.id, job.epoch, "ready", content_type=content_type[:80])
            job = yield from call(ready)
        yield from call(lambda: desk.ledger.wake(job.id, job.epoch, desk.clock.now()))
        alive = partial(desk.ledger.wake, job.id, job.epoch, job.due)
        saved: Saved = yield from save_stream(
            response, target, job_id=job.id, force=options.force, clock=desk.clock, alive=alive
        )
    finally:
        desk.session.finish(response)
    warnings.extend(saved.warnings)
    if ran is not None:
        yield from call(lambda: _remember_duration(desk, job, ran))
    moved = yield from call(
        lambda: desk.ledger.move(
            job.id, job.epoch, "saved", path=str(saved.path), file_sha256=saved.sha256, file_bytes=saved.bytes,
            content_type=saved.content_type[:80], request=_kept_request(desk, job),
        )
    )  # fmt: skip
    desk.tell(
        "saved", f"saved {saved.path}", job, path=str(saved.path), bytes=saved.bytes, sha256=saved.sha256
    )
    return moved


def _kept_request(desk: Desk, job: JobRecord) -> str:
    """STORE_PROMPTS=no: once the track is here the request is known by its digest alone."""
    return job.request if desk.store_prompts else AudioRequest(prompt="", model=job.model).canonical()


def _ran(desk: Desk, job: JobRecord) -> float | None:
    """Seconds from the queue to the track, None where nobody asked when it was due: that says how long we were away."""
    now = desk.clock.now()
    if job.state != "queued" or job.queued_at is None or now - job.due > ASKED_IN_TIME_S:
        return None
    return max(0.0, now - job.queued_at)


def _remember_duration(desk: Desk, job: JobRecord, ran: float) -> None:
    durations = " ".join(f"{each:.1f}" for each in kept(known_durations(desk, job), ran))
    desk.ledger.remember(f"durations {job.origin} {job.model}", durations)


# --- saved → completed
def _complete(desk: Desk, job: JobRecord, warnings: list[str]) -> Flow[JobRecord]:
    options = JobOptions.from_json(job.options)
    if not (yield from call(lambda: is_same_file(Path(job.path), job.file_sha256))):
        desk.tell("warning", f"{job.path} is gone or changed; fetching the track again", job)
        return (yield from call(lambda: desk.ledger.move(job.id, job.epoch, "ready", why="the file is gone")))
    problem = ""
    if not options.keep_remote:
        problem = "the seller did not confirm"
        for attempt in range(COMPLETE_TRIES):
            try:
                answer = yield from desk.session.ask(desk.provider.ask_complete(job.model, job.queue_id))
            except X402AudioError as error:
                problem = error.message
                break
            if desk.provider.read_completed(answer):
                problem = ""
                break
            if answer.status == 402:
                problem = "the seller wants more credit first"
                break
            yield from sleep(0.5 * 2**attempt)
    if problem:
        warnings.append(f"not completed at the seller: {problem}; x402-audio resume {job.id} tries again")
        desk.tell("warning", warnings[-1], job)
        last = warnings[-1][:500]
        return (yield from call(lambda: desk.ledger.move(job.id, job.epoch, "saved", last_error=last)))
    done = yield from call(lambda: desk.ledger.move(job.id, job.epoch, "completed"))
    desk.tell("completed", "completed", done)
    return done


# --- parked
def _unpark(
    desk: Desk, job: JobRecord, until: float, chain: ChainReader | None, wait_parked: bool
) -> Flow[JobRecord]:
    back = job.resume_state or "quoted"
    match job.parked_reason:
        case "unknown":
            return (yield from take_up_unknown(desk, job, chain, resend=True))
        case "funds" if desk.account is not None and back not in PAID and wait_parked:
            while (missing := (yield from still_missing(desk, desk.account, job))) is not None:
                if desk.clock.monotonic() >= until:
                    raise missing
                yield from call(
                    lambda: desk.ledger.wake(job.id, job.epoch, desk.clock.now() + PARKED_EVERY_S)
                )
                yield from sleep(min(PARKED_EVERY_S, max(0.0, until - desk.clock.monotonic())))
        case "owner" if wait_parked:
            yield from _await_leave(desk, job, until)
        case "human":
            raise _undecided(job)
    if back == "quoted":
        back = "planned"  # its quote is as old as its waiting
    changes = {"deadline": desk.clock.now() + JOB_LIFE_S} if job.parked_reason == "time" else {}
    return (
        yield from call(lambda: desk.ledger.move(job.id, job.epoch, back, why="taken up again", **changes))
    )


def _await_leave(desk: Desk, job: JobRecord, until: float) -> Flow[None]:
    """Wait while the owner is asked for this job. Raises ApprovalWanted when the waiting ends first."""
    while asked := (yield from call(lambda: desk.ledger.approvals(job_id=job.id, states=("wanted",)))):
        if desk.clock.monotonic() >= until:
            raise refusal(asked[-1])
        yield from call(lambda: desk.ledger.wake(job.id, job.epoch, desk.clock.now() + LEAVE_EVERY_S))
        yield from sleep(min(LEAVE_EVERY_S, max(0.0, until - desk.clock.monotonic())))


def _undecided(job: JobRecord) -> JobUndecided:
    waits = f"{job.id} waits for a person: "
    return JobUndecided(
        waits + (job.last_error.removeprefix(waits) or "its outcome cannot be decided"),
        job_id=job.id, queue_id=job.queue_id, reason="human",
        next_step="run: x402-audio reconcile, then look at the seller's account",
    )  # fmt: skip


def take_up_unknown(
    desk: Desk, job: JobRecord, chain: ChainReader | None, *, resend: bool = False
) -> Flow[JobRecord]:
    """An unknown outcome: the same bytes while they may still be sent (only with `resend`), then the witnesses.

    Raises PaymentUnsettled while nobody knows, JobUndecided when only a person can, JobFailed when it was paid and
    nothing was handed over.
    """
    now = desk.clock.now()
    holds = yield from call(lambda: desk.ledger.holds(job_id=job.id, states=("signed",)))
    for hold in holds:
        if resend and hold.kind in ("direct", "topup") and now < hold.valid_before - RESEND_MARGIN_S:
            return (
                yield from call(lambda: desk.ledger.move(job.id, job.epoch, job.resume_state or "quoted"))
            )
        yield from decide(desk, hold, chain)
    job = yield from call(lambda: desk.ledger.job(job.id))
    if job.state != "parked":
        return job
    still = yield from call(lambda: desk.ledger.holds(job_id=job.id, states=("signed",)))
    if still:
        waiting = still[0]
        raise PaymentUnsettled(
            f"the outcome of {job.id} is still unknown; {waiting.amount} may have moved",
            hold_id=waiting.id, nonce=waiting.nonce if waiting.kind != "credit" else "",
            valid_before=waiting.valid_before,
        )  # fmt: skip
    if (yield from call(lambda: desk.ledger.holds(job_id=job.id, states=("presumed",)))):
        raise _undecided(job)
    settled = yield from call(lambda: desk.ledger.holds(job_id=job.id, states=("settled",)))
    direct = [hold for hold in settled if hold.kind == "direct"]
    if (
        resend
        and desk.payer is not None
        and any(desk.payer.owed(hold) for hold in direct if hold.delivered_at is None)
    ):
        why = "a witness settled it and nobody answered: the same payment is shown again"
        return (yield from _move(desk, job, job.resume_state or "quoted", why=why))
    if direct:
        raise JobFailed(
            f"{job.id} was paid (the chain says so), but no track was handed over",
            job_id=job.id, queue_id="", refunded="no", next_step="show the seller the transaction: x402-audio jobs show",
        )  # fmt: skip
    back = job.resume_state or "quoted"
    return (
        yield from call(lambda: desk.ledger.move(job.id, job.epoch, back, why="decided: nothing was bought"))
    )


# --- ends
def _gone(desk: Desk, job: JobRecord, gone: Gone) -> Flow[X402AudioError]:
    """The job ended without audio: look for the refund, and say which end it is."""
    paid = yield from refund_of(desk, job)
    said = _refunded(paid, gone.refunded)
    if gone.reason == "expired":
        return JobExpired(
            f"{job.id}: the seller no longer has the track",
            job_id=job.id,
            queue_id=job.queue_id,
            refunded=said,
        )
    if gone.reason == "rejected" and paid is not None and said == "yes":
        return ContentRejected(
            f"the seller refused the content and gave {paid.refunded} back: {gone.message}", status=422,
            suggested_prompt=gone.suggested_prompt,
            next_step=f"change the prompt, or: x402-audio resume {job.id} --use-suggestion",
        )  # fmt: skip
    return _failed(job, gone.message, said, paid, gone.suggested_prompt)


def _failed(
    job: JobRecord, words: str, claimed: str, paid: Hold | None, suggested_prompt: str = ""
) -> JobFailed:
    refunded = _refunded(paid, claimed)
    part = (
        f", but for {paid.refunded} of {paid.amount}" if paid and paid.refunded and refunded == "no" else ""
    )
    return JobFailed(
        f"{job.id} failed at the seller ({words}); refunded: {refunded}{part}",
        job_id=job.id, queue_id=job.queue_id, refunded=refunded, suggested_prompt=suggested_prompt,
        next_step=_after_loss(refunded, [paid] if paid else []),
    )  # fmt: skip


def _refunded(paid: Hold | None, otherwise: str) -> str:
    """`yes` where all of the price came back; a part of it is `no`, whatever the seller calls it."""
    if paid is None or not paid.refunded:
        return otherwise
    return "yes" if is_given_back(paid.amount, paid.refunded) else "no"


def _after_loss(refunded: str, paid: Sequence[Hold]) -> str:
    """What may be typed after a job that was paid and not delivered."""
    if refunded == "yes" or not paid:
        return "repeat with the same --job-id for a new attempt"
    if any(hold.refunded for hold in paid):
        return "ask the seller for the rest; to pay for it a second time, give it another --job-id"
    return "run: x402-audio reconcile"


PARK: Final[Mapping[type[X402AudioError], ParkedReason]] = {
    InsufficientBalance: "funds",
    BudgetExceeded: "owner",
    AboveMaximum: "owner",
    Frozen: "owner",
    PaymentUnsettled: "unknown",
    PaymentRejected: "unknown",
}


def _booked_error(desk: Desk, job: JobRecord, error: X402AudioError) -> Flow[X402AudioError]:
    """The error, booked; when the books cannot take it, whichever of the two says more of the money."""
    try:
        return (yield from _after_error(desk, job, error))
    except LedgerError as failed:
        return failed if error.money_moved == "no" else error


def _after_error(desk: Desk, job: JobRecord, error: X402AudioError) -> Flow[X402AudioError]:
    """What an error does to the job: parked for a reason, ended, or left as it is to be taken up again."""
    if isinstance(error, (JobTakenOver, JobTimedOut, BadDownload, ClockError)):
        return error
    job = yield from call(lambda: desk.ledger.job(job.id))
    if job.state in ENDED_JOBS:
        return error
    last = {"last_error": error.message[:500]}
    reason = next((PARK[kind] for kind in type(error).__mro__ if kind in PARK), None)
    if isinstance(error, JobParked):
        reason = getattr(error, "reason", "human")
    elif reason is None and isinstance(error, PaymentRefused):
        reason = "owner"
    if reason is not None:
        missing = getattr(error, "missing", None)
        if (job.parked_reason, job.missing, job.last_error) == (reason, missing, last["last_error"]):
            return error  # said and booked already
        back = job.resume_state if job.state == "parked" else job.state
        yield from call(
            lambda: desk.ledger.move(
                job.id, job.epoch, "parked", parked_reason=reason, resume_state=back, missing=missing, **last
            )
        )
        desk.tell(
            "parked", error.message, job, reason=reason, missing_atomic=int(missing) if missing else None
        )
    elif isinstance(error, (JobFailed, ContentRejected, RequestInvalid, ModelUnavailable)):
        refunded = str(getattr(error, "refunded", "yes" if isinstance(error, ContentRejected) else ""))
        yield from call(lambda: desk.ledger.move(job.id, job.epoch, "failed", refunded=refunded, **last))
        suggested = getattr(error, "suggested_prompt", "")
        if suggested:
            yield from call(lambda: desk.ledger.remember(f"suggestion {job.id}", str(suggested)[:4000]))
        yield from call(lambda: stop_after_losses(desk, job))
    elif isinstance(error, JobExpired):
        yield from call(
            lambda: desk.ledger.move(
                job.id, job.epoch, "expired", refunded=str(getattr(error, "refunded", "")), **last
            )
        )
        yield from call(lambda: stop_after_losses(desk, job))
    return error


def ended(desk: Desk, job: JobRecord, warnings: list[str] | None = None) -> Flow[Track]:
    """The file of a completed job, or the typed end of another."""
    if job.state == "completed":
        return (yield from track_of(desk, job, warnings or []))
    if job.state == "cancelled":
        raise JobFailed(
            f"{job.id} was cancelled before it was paid", job_id=job.id, queue_id="", refunded="", money_moved="no",
            owner="agent", next_step="repeat with the same --job-id to buy it after all",
        )  # fmt: skip
    holds = yield from call(lambda: desk.ledger.holds(job_id=job.id))
    paid = [hold for hold in holds if hold.kind != "topup" and hold.state != "void"]
    kind = JobExpired if job.state == "expired" else JobFailed
    refunded = _refunded(paid[-1], job.refunded or "unknown") if paid else job.refunded
    raise kind(
        f"{job.id} {job.state}: {job.last_error}", job_id=job.id, queue_id=job.queue_id,
        refunded=refunded, money_moved="yes" if paid else "no", next_step=_after_loss(refunded, paid[-1:]),
    )  # fmt: skip


def track_of(desk: Desk, job: JobRecord, warnings: list[str]) -> Flow[Track]:
    """The delivered file, checked to be there still. Raises BadDownload when it is gone."""
    path = Path(job.path)
    there = yield from call(lambda: is_same_file(path, job.file_sha256))
    if not there:
        raise BadDownload(
            f"{job.path} is gone or changed since it was saved (sha256 {job.file_sha256})", job_id=job.id,
            queue_id=job.queue_id, path=job.path, sha256=job.file_sha256, retry="never", owner="human",
            next_step="restore the file from a backup; the seller's copy was deleted",
        )  # fmt: skip
    seconds = yield from call(lambda: seconds_of(path))
    holds = yield from call(
        lambda: desk.ledger.holds(job_id=job.id, states=("settled", "presumed", "signed"))
    )
    paying = [hold for hold in holds if hold.kind != "topup"]
    cost = Usdc(sum(price_of_hold(hold) for hold in paying))
    payments = tuple(
        {
            "kind": hold.kind, "nonce": hold.nonce if hold.kind in ("direct", "topup") else None,
            "amount_atomic": str(int(hold.amount)), "amount_usd": hold.amount.usd, "transaction": hold.transaction,
            "state": hold.state, "pay_to": hold.pay_to, "origin": hold.origin,
        }
        for hold in holds
    )  # fmt: skip
    return Track(
        job_id=job.id, queue_id=job.queue_id, path=job.path, sha256=job.file_sha256, bytes=job.file_bytes,
        content_type=job.content_type, duration_seconds=seconds, model=job.model, price=job.price or cost, cost=cost,
        completed=job.state == "completed", payments=payments, warnings=tuple(warnings),
    )  # fmt: skip


def seller_error_of(refused: Refused) -> X402AudioError:
    """A refusal of a call about a job that is already paid."""
    from x402_audio.errors import SellerError, SignInRejected

    kind = SignInRejected if refused.status == 401 else SellerError
    return kind(
        f"the seller answered {refused.status}: {refused.message}", status=refused.status, money_moved="yes",
        next_step="nothing is lost; run: x402-audio resume",
    )  # fmt: skip


def timed_out(job: JobRecord) -> JobTimedOut:
    """What a caller is told whose waiting ended before the job."""
    return JobTimedOut(
        f"{job.id} is {job.state}; the waiting ended, not the job", job_id=job.id, queue_id=job.queue_id,
        next_step=f"x402-audio resume {job.id}", money_moved="yes" if job.queue_id else "no",
    )  # fmt: skip
