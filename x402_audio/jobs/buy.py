"""Buying one job: the queue call, on prepaid credit, on an account, or paid on the spot; and what its answer means.

Every way ends in one of four: queued (booked together with its payment), not bought (hold freed, typed reason),
parked for funds, or unknown. Knows `Provider`, never a seller.
"""

from __future__ import annotations

from typing import Final

from x402_audio.errors import (
    ContentRejected,
    InsufficientBalance,
    JobFailed,
    PaymentRefused,
    PaymentRejected,
    PaymentUnsettled,
    ProtocolError,
    SellerError,
    X402AudioError,
)
from x402_audio.flow import Flow, call, sleep
from x402_audio.jobs.desk import Desk, JobOptions, audio_of
from x402_audio.jobs.gate import ensure_credit, finish_open_top_up
from x402_audio.jobs.schedule import first_poll
from x402_audio.ledger.book import Hold, JobRecord, Ledger
from x402_audio.money import ZERO, Usdc
from x402_audio.payment.direct import buy_direct
from x402_audio.payment.draw import Draw, Drawn, draw_credit, not_bought
from x402_audio.payment.evidence import charges, known_since
from x402_audio.payment.pay import proof_in, unsettled
from x402_audio.payment.prepaid import read_ledger
from x402_audio.payment.session import answer_of
from x402_audio.providers.prices import size_of
from x402_audio.providers.provider import Queued, Refused, Shortfall, Unclear

RATE_REPEATS_MAX: Final = 5
CHARGED_WITHIN_S: Final = 2 * 86_400
"""A finished job was charged so soon after it was queued: twice the life that a job has."""


def buy(desk: Desk, job: JobRecord) -> Flow[JobRecord]:
    """From quoted or reserved to queued. Raises what `advance` parks or ends the job with."""
    if desk.provider.billing == "direct":
        return (yield from _buy_direct(desk, job))
    return (yield from _buy_on_credit(desk, job))


def identity(job: JobRecord) -> str:
    """The purchase's identity: one per attempt of a job."""
    return f"job:{job.id}:{job.attempts}"


# --- paid on the spot
def _buy_direct(desk: Desk, job: JobRecord) -> Flow[JobRecord]:
    if desk.payer is None:
        raise PaymentRefused(
            "a direct seller is paid by a wallet, and none is set", next_step="set a wallet key"
        )
    options = JobOptions.from_json(job.options)
    specs = yield from desk.specs()
    audio, spec = audio_of(job), specs.get(job.model)
    ask = desk.provider.ask_queue(audio, spec)
    try:
        bought = yield from buy_direct(
            desk.payer, desk.session, ask, desk.policy(options, job.price), identity=identity(job),
            limits=(*desk.limits, *options.limits()), job_id=job.id, epoch=job.epoch, model=job.model, label=job.label,
            size=size_of(audio, spec), reads=lambda response: isinstance(desk.provider.read_queued(answer_of(response)), Queued),
        )  # fmt: skip
    except PaymentRejected as declined:
        if declined.money_moved != "yes":
            raise
        raise JobFailed(
            f"{job.id} was paid (a witness says so), and its seller hands over no track: {declined.message}",
            job_id=job.id, queue_id="", refunded="no", next_step="show the seller the transaction: x402-audio jobs show",
        ) from None  # fmt: skip
    answer = answer_of(bought.response)
    if bought.hold is None:
        if answer.status < 400:
            raise ProtocolError(
                "the seller answered without asking for payment; it does not look like an x402 seller"
            )
        raise desk.provider.error_of(answer, "queue")
    outcome = desk.provider.read_queued(answer)
    assert isinstance(outcome, Queued), "a paid answer that names no job is asked for again"
    moved = proof_in(bought.hold, bought.response) or ""
    evidence = "settlement response and queue_id" if moved else "queue_id given"
    return (yield from _book_queued(desk, job, bought.hold, outcome, evidence, moved))


# --- on credit
def _buy_on_credit(desk: Desk, job: JobRecord) -> Flow[JobRecord]:
    if desk.account is not None:
        yield from finish_open_top_up(desk, desk.account, job)
    shortfalls = 0
    for turn in range(RATE_REPEATS_MAX):
        live = yield from call(lambda: desk.ledger.open_hold(desk.session.wallet, identity(job)))
        if live is None or live.state == "reserved":
            yield from _open_gate(desk, job)
            yield from call(lambda: desk.ledger.wake(job.id, job.epoch, job.due))  # the gate may wait long
        drawn = yield from _draw(desk, job)
        outcome = drawn.outcome
        if isinstance(outcome, Queued):
            return (yield from _book_queued(desk, job, drawn.hold, outcome, "queue_id given", ""))
        if isinstance(outcome, Unclear):
            raise unsettled_draw(drawn.hold, outcome.message)
        if isinstance(outcome, Refused) and outcome.status == 422:
            raise (yield from _refused_content(desk, drawn, outcome))
        yield from not_bought(desk.ledger, drawn.hold, evidence=_not_bought(drawn))
        if isinstance(outcome, Shortfall):
            shortfalls += 1
            yield from _after_shortfall(desk, job, outcome, shortfalls)
        elif outcome.status == 429 and turn + 1 < RATE_REPEATS_MAX:
            yield from sleep(min(outcome.retry_after or 5.0, 60.0) + desk.jitter())
        else:
            assert drawn.response is not None
            raise desk.provider.error_of(answer_of(drawn.response), "queue")
    raise SellerError("the seller kept refusing the job as too many requests", status=429)


def _open_gate(desk: Desk, job: JobRecord) -> Flow[None]:
    price = job.price or ZERO
    if desk.account is not None:
        yield from ensure_credit(desk, desk.account, job, price)
    else:
        yield from desk.account_funds(price)


def _draw(desk: Desk, job: JobRecord) -> Flow[Drawn]:
    specs = yield from desk.specs()
    options = JobOptions.from_json(job.options)
    audio, spec = audio_of(job), specs.get(job.model)
    draw = Draw(
        ask=desk.provider.ask_queue(audio, spec),
        price=job.price or ZERO,
        identity=identity(job),
        kind="credit" if desk.account is not None else "account",
        floor=desk.provider.floor,
        job_id=job.id,
        epoch=job.epoch,
        model=job.model,
        label=job.label,
        late_charge=desk.provider.charges_late(job.model),
        size=size_of(audio, spec),
    )
    return (
        yield from draw_credit(
            desk.ledger, desk.session, draw, (*desk.limits, *options.limits()), network=desk.network.caip2,
            asset=desk.network.usdc, environment=desk.environment, now=desk.clock.now, read=desk.provider.read_queued,
        )
    )  # fmt: skip


def _after_shortfall(desk: Desk, job: JobRecord, outcome: Shortfall, count: int) -> Flow[None]:
    """A 402 at the queue call although the gate was open: read again once, then stop and say so."""
    needed = (job.price or ZERO) + desk.provider.floor
    if outcome.cure != "top-up" or desk.account is None:
        raise InsufficientBalance(
            f"the seller wants more funds: {outcome.message}",
            balance=outcome.balance or ZERO, needed=needed, missing=needed, suggested_top_up=ZERO,
            next_step="add funds at the seller, then: x402-audio resume",
        )  # fmt: skip
    account = desk.account
    why = "the seller answered 402 although its balance covered the job"
    yield from call(lambda: desk.ledger.distrust_reading(account.wallet, account.origin, why))
    topped = yield from call(lambda: desk.ledger.holds(job_id=job.id, kind="topup", states=("settled",)))
    if topped:
        yield from call(lambda: desk.ledger.suspend(account.wallet, account.origin, "top-ups", why))
    if count > 1 or topped:
        raise InsufficientBalance(
            why, balance=outcome.balance or ZERO, needed=needed, missing=needed, suggested_top_up=ZERO,
            next_step="run: x402-audio reconcile",
        )  # fmt: skip


def _refused_content(desk: Desk, drawn: Drawn, outcome: Refused) -> Flow[X402AudioError]:
    """422: not bought only when the seller's ledger shows no charge, or a charge and its refund."""
    if desk.account is None:
        yield from not_bought(desk.ledger, drawn.hold, evidence="422 before any job")
        return _content_error(outcome)
    try:
        rows = yield from read_ledger(desk.account, since=known_since(drawn.hold))
    except X402AudioError:
        return unsettled_draw(drawn.hold, "the seller refused the content and its ledger could not be read")
    known = yield from call(lambda: known_requests(desk, drawn.hold))
    open_charges = [
        group for group in charges(rows)
        if group.request_id not in known and group.model in ("", drawn.hold.model) and group.refunded < group.charged
    ]  # fmt: skip
    if open_charges:
        return unsettled_draw(drawn.hold, "the seller refused the content, but its ledger shows a charge")
    yield from not_bought(desk.ledger, drawn.hold, evidence="422, and no charge stands at the seller")
    return _content_error(outcome)


def _content_error(outcome: Refused) -> ContentRejected:
    hint = (
        "; x402-audio resume ID --use-suggestion takes the seller's wording"
        if outcome.suggested_prompt
        else ""
    )
    return ContentRejected(
        f"the seller refused the content: {outcome.message}", status=outcome.status,
        suggested_prompt=outcome.suggested_prompt, next_step=f"change the prompt{hint}",
    )  # fmt: skip


def known_requests(desk: Desk, hold: Hold) -> frozenset[str]:
    """Requests of the seller's ledger since the hold was sent that other jobs of this wallet hold."""
    draws, jobs = draws_charged_since(desk.ledger, hold.wallet, hold.origin, known_since(hold))
    ours = {job.queue_id for job in jobs if job.queue_id and job.id != hold.job_id}
    return frozenset(ours | {other.charge_id for other in draws if other.charge_id and other.id != hold.id})


def draws_charged_since(
    ledger: Ledger, wallet: str, origin: str, since: float
) -> tuple[list[Hold], list[JobRecord]]:
    """Draws at a seller that it may have charged since (Unix seconds), and their jobs: no more of the past is read.

    A charge follows its draw at once, or when its job is done; what is not done yet may be charged at any time.
    """
    draws = {
        hold.id: hold
        for hold in ledger.recent_holds(wallet, origin, "credit", since=since - CHARGED_WITHIN_S)
    }
    unfinished = ledger.jobs(wallet=wallet, unfinished=True, limit=1_000_000)
    jobs = {job.id: job for job in unfinished if job.origin == origin}
    for job in [job for job in jobs.values() if job.queue_id]:
        draws |= {hold.id: hold for hold in ledger.holds(job_id=job.id) if hold.kind == "credit"}
    for hold in draws.values():
        if hold.job_id and hold.job_id not in jobs:
            jobs[hold.job_id] = ledger.job(hold.job_id)
    return [*draws.values()], [*jobs.values()]


def _not_bought(drawn: Drawn) -> str:
    status = drawn.response.status_code if drawn.response is not None else 0
    return f"the first sending was answered {status}: not bought"


def unsettled_draw(hold: Hold, why: str) -> PaymentUnsettled:
    """An unknown queue call, said in one line."""
    error = unsettled(hold, why)
    error.message = f"{why}; {hold.amount} may have been drawn from the credit"
    error.nonce = ""
    error.args = (error.message,)
    return error


def _book_queued(
    desk: Desk, job: JobRecord, hold: Hold, outcome: Queued, evidence: str, transaction: str
) -> Flow[JobRecord]:
    """Hold settled and job queued with its queue_id, in one transaction (I7)."""
    options = JobOptions.from_json(job.options)
    waiting, _ = yield from call(lambda: desk.ledger.waiting(job.wallet))
    known = yield from call(lambda: known_durations(desk, job))
    due = desk.clock.now() + first_poll(known, waiting + 1, options.interval)
    queued = yield from call(
        lambda: desk.ledger.queued(
            job.id,
            job.epoch,
            hold.id,
            queue_id=outcome.queue_id,
            due=due,
            evidence=evidence,
            transaction=transaction,
        )
    )
    if hold.kind == "direct":
        desk.tell(
            "settled",
            f"paid {hold.amount}",
            job,
            kind="direct",
            amount_atomic=int(hold.amount),
            transaction=transaction,
        )
    desk.tell("queued", f"queued as {outcome.queue_id}", job, queue_id=outcome.queue_id)
    return queued


def known_durations(desk: Desk, job: JobRecord) -> list[float]:
    """How long this model's last jobs ran at this seller, seconds, oldest first."""
    kept = desk.ledger.recall(f"durations {job.origin} {job.model}")
    return [float(text) for text in kept[0].split()] if kept else []


def price_of_hold(hold: Hold) -> Usdc:
    """What the hold cost in the end."""
    return hold.amount + hold.overcharged - hold.refunded
