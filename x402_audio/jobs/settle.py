"""Reconcile: every open hold of a wallet put to its witnesses, then our books compared with the sellers'.

Signs and sends nothing that can spend. Books evidence (settled, void, refund, overcharge) and lifts what was stopped
only for lack of evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from x402_audio.errors import X402AudioError
from x402_audio.flow import Flow, call
from x402_audio.jobs.advance import LEASE_S, take_up_unknown
from x402_audio.jobs.desk import Desk
from x402_audio.jobs.unknown import decide
from x402_audio.ledger.book import Hold
from x402_audio.ledger.credit import TOLERANCE
from x402_audio.money import Usdc
from x402_audio.payment.chain import ChainReader
from x402_audio.payment.evidence import Charged, charges
from x402_audio.payment.policy import CLOCK_SKEW_MAX_S
from x402_audio.payment.prepaid import Account, read_credit, read_ledger
from x402_audio.payment.reconcile import Difference, ReconcileReport, compare_draws, compare_top_ups


def reconcile(desks: Sequence[Desk], wallet: str, chain: ChainReader | None) -> Flow[ReconcileReport]:
    """One pass over all open holds and every prepaid seller of the desks."""
    ledger = desks[0].ledger
    yield from call(ledger.sweep)
    before = yield from call(lambda: ledger.holds(wallet=wallet, states=("reserved", "signed", "presumed")))
    unread: list[str] = []
    for hold in before:
        desk = _desk_for(desks, hold)
        yield from decide(desk, hold, chain)
    moved = yield from _take_up_jobs(desks, wallet, chain)
    differences: list[Difference] = []
    for desk in desks:
        if desk.account is not None:
            try:
                differences += yield from _compare(desk, desk.account)
            except X402AudioError as error:
                unread.append(f"{desk.session.origin}: {error.message}")
        unread += desk.warnings
        desk.warnings.clear()
    after = {}
    for hold in before:
        after[hold.id] = (yield from call(partial(ledger.hold, hold.id))).state
    return ReconcileReport(
        differences=tuple(differences),
        settled=tuple(h.id for h in before if after[h.id] == "settled"),
        voided=tuple(h.id for h in before if after[h.id] == "void"),
        presumed=tuple(h.id for h in before if after[h.id] == "presumed"),
        open=tuple(h.id for h in before if after[h.id] in ("reserved", "signed")),
        jobs=tuple(moved),
        unread=tuple(unread),
    )


def _desk_for(desks: Sequence[Desk], hold: Hold) -> Desk:
    """The desk of the hold's origin; an authorization can be decided at any desk, by the chain."""
    return next((desk for desk in desks if desk.session.origin == hold.origin), desks[0])


def _take_up_jobs(desks: Sequence[Desk], wallet: str, chain: ChainReader | None) -> Flow[list[str]]:
    """Jobs that waited for an unknown outcome go on from what is known now; delivering them is `resume`'s."""
    ledger = desks[0].ledger
    jobs = yield from call(lambda: ledger.jobs(wallet=wallet, states=("parked",)))
    queued = yield from call(lambda: ledger.jobs(wallet=wallet, states=("queued",)))
    moved = [job.id for job in queued if job.attempts >= 0 and job.due <= desks[0].clock.now()]
    for job in jobs:
        if job.parked_reason != "unknown":
            continue
        desk = next((desk for desk in desks if desk.session.origin == job.origin), desks[0])
        claimed = yield from call(partial(ledger.claim, job.id, desk.owner, LEASE_S))
        if claimed is None:
            continue
        try:
            now = yield from take_up_unknown(desk, claimed, chain)
            if now.state != "parked":
                moved.append(job.id)
        except X402AudioError:
            pass
        finally:
            ledger.release(claimed.id, claimed.epoch)
    return moved


def _compare(desk: Desk, account: Account) -> Flow[list[Difference]]:
    """One prepaid seller against our books, over the life of our books there."""
    ledger = desk.ledger
    holds = yield from call(lambda: ledger.holds(wallet=account.wallet))
    ours = [hold for hold in holds if hold.origin == account.origin and hold.kind in ("credit", "topup")]
    if not ours:
        yield from read_credit(account)
        return []
    since = min(hold.created_at for hold in ours) - CLOCK_SKEW_MAX_S
    rows = yield from read_ledger(account, since=since)
    jobs = yield from call(lambda: ledger.jobs(wallet=account.wallet, limit=1_000_000))
    draws = [hold for hold in ours if hold.kind == "credit" and hold.state != "void"]
    differences, matched = compare_draws(draws, jobs, charges(rows))
    top_ups = [
        hold for hold in ours if hold.kind == "topup" and hold.state in ("settled", "presumed", "signed")
    ]
    differences += compare_top_ups(top_ups, rows)
    for difference in differences:
        yield from _book(desk, difference, matched)
    agreed_at = yield from call(lambda: _agreed_at(desk, account))
    recent = {group.request_id for group in charges(rows) if group.first_at >= agreed_at - CLOCK_SKEW_MAX_S}
    unknown = sum(
        difference.amount
        for difference in differences
        if difference.kind == "overcharge"
        or (difference.kind == "unknown charge" and difference.subject in recent)
    )
    return differences + (yield from _read_again(desk, account, differences, Usdc(unknown)))


def _book(desk: Desk, difference: Difference, matched: dict[str, Charged]) -> Flow[None]:
    group = matched.get(difference.subject)
    if group is None:
        return
    if difference.kind == "overcharge":
        yield from call(
            lambda: desk.ledger.overcharge(
                difference.subject, difference.amount, charge_id=group.request_id, why=difference.text
            )
        )
    elif difference.kind == "refund":
        hold = yield from call(lambda: desk.ledger.hold(difference.subject))
        amount = Usdc(min(difference.amount, hold.amount - hold.refunded))
        if hold.state == "settled" and amount > 0 and not hold.refunded:
            yield from call(
                lambda: desk.ledger.refund(hold.id, amount, charge_id=group.refund_id, why=difference.text)
            )


def _agreed_at(desk: Desk, account: Account) -> float:
    """When the seller's balance last agreed with our books, Unix seconds."""
    events = desk.ledger.events(wallet=account.wallet, subject=f"reading:{account.origin}")
    return max((event.at for event in events if event.to == "agreed"), default=0.0)


def _read_again(
    desk: Desk, account: Account, differences: Sequence[Difference], unknown: Usdc
) -> Flow[list[Difference]]:
    """The seller's rows were read to their end: take its balance as it is, and let go of what they explain.

    unknown: what the rows show as taken since the books last agreed; a fall beyond that is a difference of its own.
    """
    ledger = desk.ledger
    reading = yield from read_credit(account)
    gap = Usdc(reading.fallen_by - unknown)
    yield from call(lambda: ledger.accept_reading(account.wallet, account.origin))
    if not any(difference.kind == "missing top-up" for difference in differences):
        lifted = "every top-up shows at the seller"
        yield from call(lambda: ledger.lift(account.wallet, account.origin, "top-ups", lifted))
    if reading.trust != "fallen" or gap <= TOLERANCE:
        return []
    text = f"the balance is {reading.balance}, {gap} less than our books and the seller's own rows say"
    return [Difference("balance", account.origin, gap, text)]
