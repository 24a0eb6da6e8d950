"""Ending what nobody knew: a queue call or payment without an answer, by the witnesses the recovery rules name.

The seller's ledger can prove a draw; only its long silence under strict conditions voids one. An authorization is
decided by the chain alone. Nothing here signs or sends anything that can spend.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from x402_audio.errors import ChainError, X402AudioError
from x402_audio.flow import Flow, call
from x402_audio.jobs.buy import known_durations, known_requests
from x402_audio.jobs.desk import Desk
from x402_audio.jobs.schedule import p80
from x402_audio.ledger.book import Hold, JobRecord
from x402_audio.ledger.credit import TOLERANCE
from x402_audio.money import Usdc
from x402_audio.payment.chain import ChainReader
from x402_audio.payment.evidence import Charged, candidates, charges, known_since, top_up_row
from x402_audio.payment.policy import CLOCK_SKEW_MAX_S
from x402_audio.payment.prepaid import other_top_ups, read_credit, read_ledger

SILENCE_MIN_S: Final = 30 * 60
SILENCE_RUNS: Final = 10
READS_APART_S: Final = 60
PRESUME_AFTER_S: Final = 30 * 60
RIVAL_YOUNG_S: Final = 5 * 60
"""Longer than a sign-in header lives: an older unanswered draw is not merely on its way."""
LOSSES_MAX: Final = 3


def decide(desk: Desk, hold: Hold, chain: ChainReader | None) -> Flow[Hold]:
    """The hold after asking every witness it may be decided by; unchanged while undecided."""
    if hold.state not in ("signed", "presumed"):
        return hold
    if hold.network != desk.network.caip2:
        desk.warnings.append(
            f"{hold.id}: it belongs to {hold.network}; set NETWORK to it and reconcile again"
        )
        return hold  # another chain's silence proves nothing
    if hold.kind == "credit" and hold.origin != desk.session.origin:
        desk.warnings.append(f"{hold.id}: it belongs to {hold.origin}; reconcile with that --api-url")
        return hold  # another seller's silence proves nothing
    if hold.kind in ("direct", "topup"):
        return (yield from _decide_authorization(desk, hold, chain))
    if hold.kind == "credit":
        return (yield from _decide_draw(desk, hold))
    if hold.state == "signed" and desk.clock.now() > (hold.sent_at or hold.created_at) + PRESUME_AFTER_S:
        return (
            yield from call(lambda: desk.ledger.presume(hold.id, why="an account draw without an answer"))
        )
    return hold


# --- authorizations: the chain
def _decide_authorization(desk: Desk, hold: Hold, chain: ChainReader | None) -> Flow[Hold]:
    if chain is not None:
        try:
            verdict = yield from call(
                lambda: chain.authorization(
                    hold.wallet, hold.nonce, hold.valid_before, since=known_since(hold), pay_to=hold.pay_to,
                    value=hold.amount,
                )
            )  # fmt: skip
        except ChainError as error:
            desk.warnings.append(f"{hold.id}: {error.message}")
            return hold
        if verdict.state == "used":
            return (
                yield from call(
                    lambda: desk.ledger.settle(
                        hold.id, evidence=verdict.evidence, transaction=verdict.transaction, delivered=False
                    )
                )
            )
        if verdict.state in ("cancelled", "expired"):
            return (yield from call(lambda: desk.ledger.void(hold.id, evidence=verdict.evidence)))
        return hold
    if hold.kind == "topup" and desk.account is not None and hold.origin == desk.session.origin:
        paid = yield from _top_up_shown(desk, hold)
        if paid is not None:
            return paid
    if hold.state == "signed" and desk.clock.now() > hold.valid_before + PRESUME_AFTER_S:
        return (
            yield from call(lambda: desk.ledger.presume(hold.id, why="no RPC is set to read the chain with"))
        )
    return hold


def _top_up_shown(desk: Desk, hold: Hold) -> Flow[Hold | None]:
    assert desk.account is not None
    try:
        rows = yield from read_ledger(desk.account, since=known_since(hold))
    except X402AudioError as error:
        desk.warnings.append(f"{hold.id}: {error.message}")
        return None
    others = yield from call(lambda: other_top_ups(desk.ledger, hold))
    row = top_up_row(hold, rows, others)
    if row is None:
        return None
    row_id = row.id
    return (
        yield from call(
            lambda: desk.ledger.settle(hold.id, evidence="TOP_UP row at the seller", charge_id=row_id)
        )
    )


# --- draws on credit: the seller's ledger
def _decide_draw(desk: Desk, hold: Hold) -> Flow[Hold]:
    if desk.account is None:
        return hold
    try:
        rows = yield from read_ledger(desk.account, since=known_since(hold))
    except X402AudioError as error:
        desk.warnings.append(f"{hold.id}: {error.message}")
        return hold
    known = yield from call(lambda: known_requests(desk, hold))
    groups = charges(rows)
    found = candidates(hold, groups, known)
    rival = yield from _rival(desk, hold, groups, known)
    if found and rival is not None:
        return rival
    if len(found) == 1:
        return (yield from _settle_draw(desk, hold, found[0]))
    if len(found) > 1:
        if hold.state == "signed":
            why = f"{len(found)} charges at the seller could each be this job's"
            return (yield from call(lambda: desk.ledger.presume(hold.id, why=why)))
        return hold
    return (yield from _silence(desk, hold, groups, known))


def _rival(desk: Desk, hold: Hold, groups: list[Charged], known: frozenset[str]) -> Flow[Hold | None]:
    """Another undecided draw could have made the same charge: wait for a young one, else a person must say whose it is."""
    open_draws = yield from call(
        lambda: desk.ledger.holds(wallet=hold.wallet, kind="credit", states=("signed", "presumed"))
    )
    others = [
        other
        for other in open_draws
        if other.id != hold.id and other.origin == hold.origin and candidates(other, groups, known)
    ]
    if not others:
        return None
    now = desk.clock.now()
    if hold.state == "presumed" or any(now - (other.sent_at or now) < RIVAL_YOUNG_S for other in others):
        return hold
    why = "a charge at the seller could be this job's or another unknown one's"
    return (yield from call(lambda: desk.ledger.presume(hold.id, why=why)))


def _settle_draw(desk: Desk, hold: Hold, charged: Charged) -> Flow[Hold]:
    """Exactly one charge: it is ours; its requestId is tried as queue_id."""
    evidence = "one CHARGE of this model at the seller since the sending"
    if hold.job_id is None:
        return (
            yield from call(
                lambda: desk.ledger.settle(
                    hold.id, evidence=evidence, charge_id=charged.request_id, delivered=False
                )
            )
        )
    job_id = hold.job_id
    yield from call(
        lambda: desk.ledger.queued(
            job_id, None, hold.id, queue_id=charged.request_id, due=desk.clock.now(), evidence=evidence,
            charge_id=charged.request_id,
        )
    )  # fmt: skip
    return (yield from call(lambda: desk.ledger.hold(hold.id)))


def _silence(desk: Desk, hold: Hold, groups: list[Charged], known: frozenset[str]) -> Flow[Hold]:
    """No charge anywhere: void only under every condition of the recovery rules."""
    account, now = desk.account, desk.clock.now()
    assert account is not None
    sent = hold.sent_at or hold.created_at
    long_run = (yield from call(lambda: _duration_of(desk, hold))) or 0.0
    if abs(desk.session.offset_s) > CLOCK_SKEW_MAX_S:
        return hold  # by a clock that is off nobody can say how long it was silent
    if (
        hold.late_charge
        or now < hold.valid_before
        or now < sent + max(SILENCE_MIN_S, SILENCE_RUNS * long_run)
    ):
        return hold
    if any(group.request_id not in known for group in groups):
        return hold  # another program draws on this wallet in between: silence proves nothing
    try:
        reading = yield from read_credit(account)
    except X402AudioError:
        return hold
    if reading.diem is not None or reading.trust != "agreed" or reading.balance < reading.books - TOLERANCE:
        return hold
    key = f"silence {hold.id}"
    first = yield from call(lambda: desk.ledger.recall(key))
    if first is None:
        yield from call(lambda: desk.ledger.remember(key, str(int(now))))
        return hold
    if now - int(first[0]) < READS_APART_S:
        return hold
    why = "no charge at the seller in two readings, the header dead, the balance as our books say"
    return (yield from call(lambda: desk.ledger.void(hold.id, evidence=why)))


def _duration_of(desk: Desk, hold: Hold) -> float | None:
    return p80(known_durations(desk, desk.ledger.job(hold.job_id))) if hold.job_id else None


def refund_of(desk: Desk, job: JobRecord) -> Flow[Hold | None]:
    """Book the refund of a failed job when the seller's ledger shows one.

    The job's payment with what was given back of it; None where no ledger of the seller could be read.
    """
    paid = yield from call(lambda: desk.ledger.holds(job_id=job.id, states=("settled",), kind="credit"))
    if desk.account is None or not paid:
        return None
    hold = paid[-1]
    if hold.refunded:
        return hold
    try:
        rows = yield from read_ledger(desk.account, since=known_since(hold))
    except X402AudioError:
        return None
    for group in charges(rows):
        if group.request_id in (job.queue_id, hold.charge_id) and group.refunded > 0:
            amount = Usdc(min(group.refunded, hold.amount))
            refund = partial(
                desk.ledger.refund, hold.id, amount, charge_id=group.refund_id, why="REFUND row at the seller"
            )
            return (yield from call(refund))
    return hold


def stop_after_losses(desk: Desk, job: JobRecord) -> None:
    """Three jobs in a row that this seller was paid for and did not deliver stop it, until its owner lifts that."""
    last = desk.ledger.last_ended(job.wallet, job.origin, LOSSES_MAX)[::-1]
    if len(last) == LOSSES_MAX and all(
        other.state != "completed" and other.refunded != "yes" for other in last
    ):
        names = ", ".join(other.id for other in last)
        why = f"{LOSSES_MAX} jobs in a row were charged and not delivered ({names})"
        desk.ledger.suspend(job.wallet, job.origin, "seller", why)
        desk.tell("warning", f"{job.origin} is stopped: {why}", job)
