"""Reconcile: every open hold of a wallet put to its witnesses, then our books compared with the chain and the sellers.

Signs and sends nothing that can spend. Books evidence (settled, void, refund, overcharge) and lifts what was stopped
only for lack of evidence. Entries that neither books nor reconcile can explain stop spending.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from x402_audio.errors import ChainError, X402AudioError
from x402_audio.flow import Flow, call
from x402_audio.jobs.advance import JOB_LIFE_S, alone_with, take_up_unknown
from x402_audio.jobs.desk import Desk
from x402_audio.jobs.strangers import brake, kept_of_chain
from x402_audio.jobs.unknown import decide
from x402_audio.ledger.book import ENDED_JOBS, Hold
from x402_audio.ledger.credit import CHARGE_LAG_S, TOLERANCE
from x402_audio.money import Usdc
from x402_audio.payment.chain import ChainReader, Departure
from x402_audio.payment.departures import (
    STRANGERS,
    ChainBooks,
    chain_key,
    compare_chain,
    read_from,
    traced,
    usdc_key,
)
from x402_audio.payment.evidence import Charged, charges, known_since
from x402_audio.payment.policy import CLOCK_SKEW_MAX_S
from x402_audio.payment.prepaid import CREDIT_SHOWN_WITHIN_S, Account, read_credit, read_ledger
from x402_audio.payment.reconcile import (
    Difference,
    ReconcileReport,
    Told,
    agreement,
    compare_draws,
    compare_top_ups,
    doubled_rows,
    seller_words,
)

OVERCHARGES: Final = ("overcharge", "doubled charge")


@dataclass(slots=True)
class _Pass:
    """What one pass has found so far."""

    differences: list[Difference] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    chain: dict[str, str] = field(default_factory=dict)
    seller: dict[str, str] = field(default_factory=dict)


def reconcile(desks: Sequence[Desk], wallet: str, chain: ChainReader | None) -> Flow[ReconcileReport]:
    """One pass over all open holds, the chain, and every prepaid seller of the desks."""
    ledger = desks[0].ledger
    yield from call(ledger.sweep)
    before = yield from call(lambda: ledger.holds(wallet=wallet, states=("reserved", "signed", "presumed")))
    found = _Pass()
    for hold in before:
        desk = _desk_for(desks, hold)
        yield from decide(desk, hold, chain)
    moved = yield from _take_up_jobs(desks, wallet, chain)
    if chain is not None:
        yield from _compare_chain(desks[0], wallet, chain, found)
    for desk in desks:
        if desk.account is not None:
            try:
                yield from _compare(desk, desk.account, found)
            except X402AudioError as error:
                found.unread.append(f"{desk.session.origin}: {error.message}")
        found.unread += desk.warnings
        desk.warnings.clear()
    strangers = [one for one in found.differences if one.kind in STRANGERS]
    done, why = yield from brake(
        desks[0], wallet, strangers, whole=not found.unread, chain_read=chain is not None
    )
    after = {}
    for hold in before:
        after[hold.id] = (yield from call(partial(ledger.hold, hold.id))).state
    holds = yield from call(lambda: ledger.holds(wallet=wallet))
    told = Told(found.chain, found.seller)
    return ReconcileReport(
        differences=tuple(found.differences),
        settled=tuple(h.id for h in before if after[h.id] == "settled"),
        voided=tuple(h.id for h in before if after[h.id] == "void"),
        presumed=tuple(h.id for h in before if after[h.id] == "presumed"),
        open=tuple(h.id for h in before if after[h.id] in ("reserved", "signed")),
        jobs=tuple(moved),
        unread=tuple(found.unread),
        rows=agreement(holds, found.differences, told, desks[0].network.caip2),
        brake=done,
        frozen=why,
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
        try:
            with alone_with(desk, job) as claimed:
                now = yield from take_up_unknown(desk, claimed, chain)
        except X402AudioError:  # still unknown, or somebody else is at it
            continue
        if now.state != "parked":
            moved.append(job.id)
    return moved


def _compare_chain(desk: Desk, wallet: str, chain: ChainReader, found: _Pass) -> Flow[None]:
    """What left the wallet against our authorizations on this network; how far it was read is remembered."""
    ledger, network = desk.ledger, desk.network.caip2
    kept = yield from call(lambda: kept_of_chain(desk, wallet))
    ours = yield from call(lambda: _authorizations(desk, wallet))
    began = yield from call(lambda: _born(desk, wallet))
    first, since = read_from(kept, ours, began)
    try:
        seen = yield from call(lambda: chain.departures(wallet, first=first, since=since))
        on_chain = yield from call(lambda: chain.usdc_balance(wallet))
    except ChainError as error:
        found.unread.append(f"the chain: {error.message}")
        return
    ours = yield from call(lambda: _authorizations(desk, wallet))  # again: others may have paid meanwhile
    books, differences, words = compare_chain(ours, seen, kept)
    books, differences = yield from _confirmed(chain, ours, kept, books, differences)
    found.differences += differences
    found.chain.update(words)
    for hold, one in traced(ours, seen):
        yield from call(partial(_trace, desk, hold, one))
    if seen.through < seen.end.number:
        behind = f"read to block {seen.through} of {seen.end.number}; run reconcile again for the rest"
        found.unread.append(f"the chain to its end: {behind}")
    yield from call(lambda: ledger.remember(chain_key(network, wallet), books.to_text()))
    yield from call(lambda: ledger.remember(usdc_key(network, wallet), str(int(on_chain))))


def _trace(desk: Desk, hold: Hold, one: Departure) -> None:
    said = f"{hold.evidence}, naming {hold.transaction}" if hold.transaction else hold.evidence
    evidence = f"AuthorizationUsed and Transfer in final block {one.block} ({said})"
    desk.ledger.trace(hold.id, transaction=one.transaction, evidence=evidence)


def _authorizations(desk: Desk, wallet: str) -> list[Hold]:
    return [
        hold for hold in desk.ledger.holds(wallet=wallet)
        if hold.kind in ("direct", "topup") and hold.network == desk.network.caip2
    ]  # fmt: skip


def _born(desk: Desk, wallet: str) -> float:
    """When these books first knew of the wallet, Unix seconds."""
    jobs = desk.ledger.jobs(wallet=wallet, limit=1)
    return min([desk.ledger.now(), *(job.created_at for job in jobs)])


def _confirmed(
    chain: ChainReader, ours: Sequence[Hold], kept: ChainBooks, books: ChainBooks, found: list[Difference]
) -> Flow[tuple[ChainBooks, list[Difference]]]:
    """A payment that no log shows is asked for by itself before it is called unpaid: logs may be incomplete."""
    wrong: set[str] = set()
    for hold in [hold for hold in ours if hold.id in books.less - kept.less]:
        try:
            verdict = yield from call(
                partial(
                    chain.authorization, hold.wallet, hold.nonce, hold.valid_before, since=known_since(hold),
                    pay_to=hold.pay_to, value=hold.amount,
                )
            )  # fmt: skip
        except ChainError:
            wrong.add(hold.id)
            continue
        if verdict.state not in ("expired", "cancelled"):
            wrong.add(hold.id)
    less = frozenset(books.less - wrong)
    return replace(books, less=less), [
        one for one in found if one.kind != "chain less" or one.subject in less
    ]


def _compare(desk: Desk, account: Account, found: _Pass) -> Flow[None]:
    """One prepaid seller against our books, over the life of our books there."""
    ledger = desk.ledger
    first = yield from call(lambda: _first_there(desk, account))
    if first is None:
        yield from read_credit(account)
        return
    rows = yield from read_ledger(account, since=first - CLOCK_SKEW_MAX_S)
    # The books after the rows: what was bought while they were read is known here.
    holds = yield from call(lambda: ledger.holds(wallet=account.wallet))
    ours = [hold for hold in holds if hold.origin == account.origin and hold.kind in ("credit", "topup")]
    jobs = yield from call(lambda: ledger.jobs(wallet=account.wallet, limit=1_000_000))
    draws = [hold for hold in ours if hold.kind == "credit" and hold.state != "void"]
    groups = charges(rows)
    differences, matched = compare_draws(draws, jobs, groups)
    top_ups = [
        hold for hold in ours if hold.kind == "topup" and hold.state in ("settled", "presumed", "signed")
    ]
    more, credited = compare_top_ups(top_ups, rows)
    differences += [*more, *doubled_rows(rows)]
    differences = [replace(one, origin=account.origin) for one in differences]
    for difference in differences:
        yield from _book(desk, difference, matched)
    found.seller.update(seller_words([*draws, *top_ups], matched, credited))
    agreed_at = yield from call(lambda: _agreed_at(desk, account))
    recent = {group.request_id for group in groups if group.first_at >= agreed_at - CLOCK_SKEW_MAX_S}
    unknown = sum(
        difference.amount
        for difference in differences
        if difference.kind in OVERCHARGES
        or (difference.kind == "unknown charge" and difference.subject in recent)
    )
    found.differences += differences
    found.differences += yield from _read_again(desk, account, differences, Usdc(unknown), set(matched))


def _first_there(desk: Desk, account: Account) -> float | None:
    """When these books first had to do with this seller, Unix seconds: a hold or a job that waits."""
    holds = desk.ledger.holds(wallet=account.wallet)
    jobs = desk.ledger.jobs(wallet=account.wallet, limit=1_000_000)
    return min(
        [
            known_since(hold)
            for hold in holds
            if hold.origin == account.origin and hold.kind in ("credit", "topup")
        ]
        + [job.created_at for job in jobs if job.origin == account.origin],
        default=None,
    )


def _book(desk: Desk, difference: Difference, matched: dict[str, Charged]) -> Flow[None]:
    group = matched.get(difference.subject)
    if group is None:
        return
    if difference.kind in OVERCHARGES:
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


def _not_shown(desk: Desk, account: Account) -> list[Hold]:
    """Top-ups paid there that no balance has shown and nobody awaits any more."""
    now = desk.clock.now()
    return [
        hold
        for hold in desk.ledger.holds(wallet=account.wallet, kind="topup", states=("settled",))
        if hold.origin == account.origin and hold.delivered_at is None
        and (hold.valid_before <= now or (hold.resolved_at or now) <= now - 2 * CREDIT_SHOWN_WITHIN_S)
    ]  # fmt: skip


def _not_charged_yet(desk: Desk, account: Account, charged: Collection[str]) -> Usdc:
    """What the books have as drawn, and the seller may still charge: it stands in its balance for so long."""
    now = desk.ledger.now()
    jobs = desk.ledger.jobs(wallet=account.wallet, limit=1_000_000)
    over = {job.id: job.updated_at for job in jobs if job.state in ENDED_JOBS}

    def may_come(hold: Hold) -> bool:
        drawn = hold.resolved_at or now
        if not hold.late_charge:
            return drawn >= now - CHARGE_LAG_S
        if hold.job_id is None:  # whoever asked knows when it is done
            return drawn >= now - JOB_LIFE_S
        return over.get(hold.job_id, now) >= now - CHARGE_LAG_S

    draws = desk.ledger.holds(wallet=account.wallet, kind="credit", states=("settled",))
    return Usdc(sum(
        hold.amount for hold in draws
        if hold.origin == account.origin and hold.id not in charged and not hold.refunded and may_come(hold)
    ))  # fmt: skip


def _agreed_at(desk: Desk, account: Account) -> float:
    """When the seller's balance last agreed with our books, Unix seconds."""
    events = desk.ledger.events(wallet=account.wallet, subject=f"reading:{account.origin}")
    return max((event.at for event in events if event.to == "agreed"), default=0.0)


def _read_again(
    desk: Desk, account: Account, differences: Sequence[Difference], unknown: Usdc, charged: Collection[str]
) -> Flow[list[Difference]]:
    """The seller's rows were read to their end: take its balance as it is, and let go of what they explain.

    unknown: what the rows show as taken since the books last agreed; a fall beyond that is a difference of its own.
    charged: ids of the draws they show. What is above the books for want of other charges was not paid in.
    """
    ledger = desk.ledger
    reading = yield from read_credit(account)
    if reading.trust == "unconfirmed":
        reading = yield from read_credit(account)
    waiting = yield from call(lambda: _not_shown(desk, account))
    paid = sum(hold.amount for hold in waiting)
    owed = yield from call(lambda: _not_charged_yet(desk, account, charged))
    lacks = max(paid - max(reading.balance - reading.books - owed, 0), 0) - unknown
    lacks += reading.fallen_by if reading.trust == "fallen" else 0
    yield from call(lambda: ledger.accept_reading(account.wallet, account.origin))
    missing = {one.subject: one for one in differences if one.kind == "missing top-up"}
    named = [missing[hold.id] for hold in waiting if hold.id in missing]
    more = Usdc(lacks - sum(one.amount for one in named))
    found: list[Difference] = []
    if more > TOLERANCE:
        text = f"the balance is {reading.balance}, {more} less than our books and the seller's own rows say"
        found.append(Difference("balance", account.origin, more, text))
    if waiting and lacks > TOLERANCE:
        why = (named or found)[0].text
        yield from call(lambda: _stop_top_ups(desk, account, why))
    elif not missing:
        lifted = "every top-up shows at the seller"
        yield from call(lambda: ledger.lift(account.wallet, account.origin, "top-ups", lifted))
    return found


def _stop_top_ups(desk: Desk, account: Account, why: str) -> None:
    """What stops top-ups is named, for its owner to lift."""
    if desk.ledger.suspended(account.wallet, account.origin, "top-ups") is None:
        desk.ledger.suspend(account.wallet, account.origin, "top-ups", why)
