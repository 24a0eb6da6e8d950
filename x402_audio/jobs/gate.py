"""The balance gate: may this job draw on prepaid credit now; if not, top up once or say what is missing.

Two doors: before a job is queued, and while it polls. A reading that cannot be trusted never opens it. The last word
is the ledger's, in the reserving transaction; here the seller is asked and the owner's top-up limits are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from x402_audio.errors import InsufficientBalance, PaymentUnsettled, ProtocolError, X402AudioError
from x402_audio.flow import Flow, call, sleep
from x402_audio.jobs.desk import Desk, JobOptions
from x402_audio.ledger.book import LIVE, Hold, JobRecord, Limit, Reading
from x402_audio.money import ZERO, Usdc
from x402_audio.payment.pay import Payer
from x402_audio.payment.prepaid import (
    Account,
    TopUp,
    await_credit,
    explain_rise,
    finish_top_up,
    read_in_turn,
    top_up,
    trusted_credit,
)

WATCH_EVERY_S: Final = 10.0
NEIGHBOURS_WAIT_S: Final = 20.0
NEIGHBOURS_TOP_UP_S: Final = 90.0
TOP_UP_SOURCES: Final = ("top-ups", "payment")
PAID: Final = ("queued", "ready", "saved")
"""A job that goes on from here wants the floor at most."""


def ensure_credit(desk: Desk, account: Account, job: JobRecord, price: Usdc) -> Flow[None]:
    """Return when credit covers price and floor. Raises InsufficientBalance with the amount missing."""
    needed = price + desk.provider.floor
    started = yield from call(desk.ledger.now)
    reading = yield from _reading(desk, account, job, needed)
    if reading.read_at < started and not _covers(reading, price, needed):
        reading = yield from _reading(
            desk, account, job, needed, fresh_s=0.0
        )  # nothing is decided on an old no
    reading = yield from _after_neighbours(desk, account, job, needed, reading)
    if _covers(reading, price, needed):
        return
    missing = needed - reading.available
    if reading.trust != "agreed":
        raise _untrusted(reading, needed)
    if reading.diem is not None:
        raise _short(
            f"this wallet draws DIEM first and {Usdc(reading.diem)} is left; a top-up would not be used",
            reading, needed, missing, next_step="wait for the DIEM epoch (UTC midnight) or stake more",
        )  # fmt: skip
    options = JobOptions.from_json(job.options)
    limits = (*desk.limits, *options.limits())
    if desk.payer is None or not top_ups_on(desk, limits):
        raise _short(f"credit lacks {missing}; automatic top-ups are off", reading, needed, missing)
    reading = yield from _top_up(desk, account, desk.payer, job, needed, reading)
    if not _covers(reading, price, needed):
        raise _short("the top-up did not cover the job", reading, needed, needed - reading.available)


def _top_up(
    desk: Desk, account: Account, payer: Payer, job: JobRecord, needed: Usdc, reading: Reading
) -> Flow[Reading]:
    """Top up, or wait for a neighbour's top-up (one at a time per wallet) and use what it brings."""
    options = JobOptions.from_json(job.options)
    policy, limits = desk.policy(options, None), (*desk.limits, *options.limits())
    end = desk.clock.monotonic() + NEIGHBOURS_TOP_UP_S
    while True:
        missing = needed - reading.available
        wish = TopUp(
            missing=missing, amount=None, limits=limits, allowed=desk.top_ups_allowed, read_at=reading.read_at,
            job_id=job.id, epoch=job.epoch, label=job.label,
        )  # fmt: skip
        try:
            yield from top_up(account, payer, policy, wish)
        except PaymentUnsettled as error:
            hold_id = error.hold_id
            while (other := (yield from call(partial(desk.ledger.hold, hold_id)))).state in LIVE:
                if other.job_id == job.id:
                    raise
                if desk.clock.monotonic() >= end:
                    raise _neighbour_unknown(other, needed, missing) from None
                yield from sleep(1.0 + desk.jitter())
            if other.state == "settled" and other.delivered_at is None:
                yield from await_credit(account, other)
        else:
            return (yield from _reading(desk, account, job, needed))
        reading = yield from _reading(desk, account, job, needed, fresh_s=0.0)
        if reading.trust != "agreed" or reading.available >= needed:
            return reading


def _neighbour_unknown(other: Hold, needed: Usdc, missing: Usdc) -> InsufficientBalance:
    return InsufficientBalance(
        f"another top-up of this wallet, {other.amount}, is not decided yet; there is one at a time",
        balance=ZERO, needed=needed, missing=missing, suggested_top_up=ZERO, next_step="run: x402-audio reconcile",
    )  # fmt: skip


def _after_neighbours(
    desk: Desk, account: Account, job: JobRecord, needed: Usdc, reading: Reading
) -> Flow[Reading]:
    """Queue calls that are on their way count twice for a moment (held and perhaps already charged): wait for them."""
    end = desk.clock.monotonic() + NEIGHBOURS_WAIT_S
    while reading.trust == "agreed" and reading.available < needed and desk.clock.monotonic() < end:
        live = yield from call(
            lambda: desk.ledger.holds(wallet=account.wallet, states=("reserved", "signed"), kind="credit")
        )
        now = yield from call(desk.ledger.now)
        young = sum(
            hold.amount
            for hold in live
            if hold.job_id != job.id and now - hold.created_at < NEIGHBOURS_WAIT_S
        )
        if not young or reading.available + young < needed:
            break
        yield from sleep(0.2 + desk.jitter() / 5)
        reading = yield from _reading(desk, account, job, needed)
    return reading


def finish_open_top_up(desk: Desk, account: Account, job: JobRecord) -> Flow[None]:
    """Take up the job's own top-up that a killed process left open."""
    holds = yield from call(
        lambda: desk.ledger.holds(job_id=job.id, states=("reserved", "signed"), kind="topup")
    )
    for hold in holds:
        if desk.payer is not None and (yield from desk.payer.still_fit(hold)) is not None:
            yield from finish_top_up(account, desk.payer, hold)


def watch(desk: Desk, account: Account, job: JobRecord) -> Flow[None]:
    """The second door: keep reading while jobs poll; a fall is booked and told by the reading itself."""
    known = yield from call(lambda: desk.ledger.reading(account.wallet, account.origin))
    now = yield from call(desk.ledger.now)
    if known is not None and now - known.read_at < WATCH_EVERY_S:
        return
    try:
        yield from read_in_turn(account)
    except X402AudioError as error:
        desk.tell("warning", f"the balance could not be read: {error.message}", job)


def still_missing(desk: Desk, account: Account, job: JobRecord) -> Flow[InsufficientBalance | None]:
    """For a job parked for funds: None when credit covers it and every older job that waits for the same credit."""
    price = job.price or ZERO
    needed = price + desk.provider.floor
    needed = needed + (yield from call(lambda: _ahead(desk, job)))
    try:
        reading = yield from _credit(account, needed)
    except X402AudioError as error:
        text = f"{job.id} waits for funds, and the balance could not be read: {error.message}"
        return InsufficientBalance(text, balance=ZERO, needed=needed, missing=needed, suggested_top_up=ZERO)
    if _covers(reading, price, needed):
        return None
    if reading.trust != "agreed":
        return _untrusted(reading, needed)
    missing = needed - reading.available
    return _short(f"{job.id} still waits for funds: {missing} are missing", reading, needed, missing)


def _ahead(desk: Desk, job: JobRecord) -> Usdc:
    """What older jobs want of the same credit: those parked for funds, and those just taken up that hold nothing yet."""
    now = desk.ledger.now()
    older = [
        other for other in desk.ledger.jobs(wallet=job.wallet, states=("parked", "quoted", "planned"))
        if other.origin == job.origin and other.created_at < job.created_at
    ]  # fmt: skip
    return Usdc(sum(
        other.price or ZERO for other in older
        if (other.parked_reason == "funds" and other.resume_state not in PAID)
        or (other.state in ("quoted", "planned") and now - other.updated_at < NEIGHBOURS_WAIT_S)
    ))  # fmt: skip


def top_ups_on(desk: Desk, limits: Sequence[Limit]) -> bool:
    """The owner allows automatic top-ups of some size."""
    effective = desk.ledger.effective_limits(limits)
    return any((limit.purse, limit.window) == TOP_UP_SOURCES and limit.amount > 0 for limit in effective)


def _credit(account: Account, needed: Usdc, *, fresh_s: float = 2.0) -> Flow[Reading]:
    """A reading; one that would cover what is needed but for our own caution is looked into."""
    reading = yield from trusted_credit(account, fresh_s=fresh_s)
    if reading.available < needed <= reading.balance:
        return (yield from explain_rise(account, reading))
    return reading


def _reading(
    desk: Desk, account: Account, job: JobRecord, needed: Usdc, *, fresh_s: float = 2.0
) -> Flow[Reading]:
    try:
        reading = yield from _credit(account, needed, fresh_s=fresh_s)
    except ProtocolError as error:
        raise InsufficientBalance(
            f"the seller's balance cannot be trusted ({error.message}); nothing is bought on it",
            balance=ZERO, needed=needed, missing=needed, suggested_top_up=ZERO, next_step="run: x402-audio balance",
        ) from None  # fmt: skip
    desk.tell(
        "credit", f"credit {reading.balance}", job,
        balance_atomic=int(reading.balance), available_atomic=int(reading.available), needed_atomic=int(needed),
    )  # fmt: skip
    return reading


def _covers(reading: Reading, price: Usdc, needed: Usdc) -> bool:
    if reading.trust != "agreed":
        return False
    return reading.available >= needed or (reading.diem is not None and reading.diem >= price)


def _untrusted(reading: Reading, needed: Usdc) -> InsufficientBalance:
    if reading.trust == "fallen":
        text = (
            f"credit fell by {reading.fallen_by} more than our own jobs explain; nothing new is bought on it"
        )
        step = "find the other spender, then run: x402-audio reconcile"
    else:
        text = "the seller's balance changes from one reading to the next; nothing is bought on it"
        step = "repeat later, or run: x402-audio balance"
    return _short(text, reading, needed, Usdc(max(needed - reading.available, 0)), next_step=step)


def _short(
    text: str, reading: Reading, needed: Usdc, missing: Usdc, next_step: str | None = None
) -> InsufficientBalance:
    suggested = Usdc(max(missing.ceil_to_cent(), reading.minimum_top_up))
    step = next_step or f"x402-audio top-up {suggested.usd}, or repeat with --max-top-up {suggested.usd}"
    return InsufficientBalance(
        text,
        balance=reading.balance,
        needed=needed,
        missing=missing,
        suggested_top_up=suggested,
        next_step=step,
    )
