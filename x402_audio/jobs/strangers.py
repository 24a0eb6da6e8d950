"""Entries at the seller or on chain that these books did not make: met before an old job is bought, and by reconcile.

Whoever restores an old copy of the books would buy again what was bought since. So such an entry stops all spending
until reconcile has named it; and where it may be what a waiting job wants, until that job or the owner gives way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal

from x402_audio.errors import ChainError, X402AudioError
from x402_audio.flow import Flow, call
from x402_audio.jobs.buy import draws_charged_since
from x402_audio.jobs.desk import Desk
from x402_audio.ledger.book import JobRecord
from x402_audio.payment.chain import ChainReader
from x402_audio.payment.departures import (
    BRAKE,
    STRANGERS,
    ChainBooks,
    brake_text,
    chain_key,
    compare_chain,
    could_be,
)
from x402_audio.payment.evidence import charges
from x402_audio.payment.policy import CLOCK_SKEW_MAX_S
from x402_audio.payment.prepaid import read_ledger
from x402_audio.payment.reconcile import Difference, compare_draws

FRESH_S: Final = 60
CALLS_MAX: Final = 30
NAMED_MAX: Final = 1_000
Done = Literal["", "frozen", "kept", "lifted"]


def meet(desk: Desk, job: JobRecord, chain: ChainReader | None) -> Flow[None]:
    """Before a job that was stored a while ago is bought for the first time: freeze when it may be bought already.

    The freeze itself is what refuses, in the reserving transaction. What cannot be read stops nothing here.
    """
    ledger, wallet = desk.ledger, job.wallet
    now = yield from call(ledger.now)
    if now - job.created_at < FRESH_S or (yield from call(lambda: _may_be_paid(desk, job))):
        return
    key = f"met since {job.origin} {wallet.lower()}"
    kept = yield from call(lambda: ledger.recall(key))
    if kept is not None and now - kept[1] < FRESH_S and float(kept[0]) <= job.created_at:
        return
    strangers = yield from _at_the_seller(desk, job)
    if chain is not None:
        strangers += yield from _on_chain(desk, job, chain)
    named = yield from call(lambda: _named(desk, wallet))
    payees = yield from call(ledger.payees)
    unnamed = [one for one in strangers if one.subject not in named]
    new = [one for one in unnamed if could_be(job, one, payees)]
    if not unnamed:
        yield from call(lambda: ledger.remember(key, str(job.created_at)))
    elif new and (yield from call(ledger.frozen)) is None:
        yield from call(lambda: ledger.freeze(brake_text(new, [job])))


def _may_be_paid(desk: Desk, job: JobRecord) -> bool:
    """These books hold a payment of the job, and go on with that one."""
    return any(hold.kind != "topup" and hold.state != "void" for hold in desk.ledger.holds(job_id=job.id))


def _at_the_seller(desk: Desk, job: JobRecord) -> Flow[list[Difference]]:
    account = desk.account
    if account is None:
        return []
    try:
        rows = yield from read_ledger(account, since=job.created_at - CLOCK_SKEW_MAX_S)
    except X402AudioError:
        return []
    ours, jobs = yield from call(
        lambda: draws_charged_since(desk.ledger, account.wallet, account.origin, job.created_at)
    )
    found, _ = compare_draws([hold for hold in ours if hold.state != "void"], jobs, charges(rows))
    return [replace(one, origin=account.origin) for one in found if one.kind in STRANGERS]


def _on_chain(desk: Desk, job: JobRecord, chain: ChainReader) -> Flow[list[Difference]]:
    since = job.created_at
    try:
        seen = yield from call(lambda: chain.departures(job.wallet, since=since, calls_max=CALLS_MAX))
    except ChainError:
        return []
    nonces = {one.nonce for one in seen.rows if one.nonce}
    ours = yield from call(
        lambda: desk.ledger.holds_of(job.wallet, desk.network.caip2, desk.network.usdc, nonces)
    )
    _, found, _ = compare_chain(ours, seen, ChainBooks())
    return [one for one in found if one.kind in STRANGERS]


def brake(
    desk: Desk, wallet: str, strangers: Sequence[Difference], *, whole: bool, chain_read: bool
) -> Flow[tuple[Done, str | None]]:
    """Freeze for what is new and grave, or lift our own freeze once all was read and no waiting job can have made it.

    Grave is what left the wallet unknown to us, and whatever a waiting job may have bought before. whole: everything
    that was asked could be read.
    """
    ledger = desk.ledger
    frozen = yield from call(ledger.frozen)
    named = yield from call(lambda: _named(desk, wallet))
    waiting = yield from call(lambda: _waiting(desk, wallet, strangers))
    new = [one for one in strangers if one.subject not in named]
    yield from call(lambda: _name(desk, wallet, [*named, *(one.subject for one in new)]))
    if frozen is None:
        if (waiting and new) or any(one.kind == "chain more" for one in new):
            why = brake_text(new, waiting)
            yield from call(lambda: ledger.freeze(why))
            return "frozen", why
        return "", None
    if not frozen.startswith(BRAKE):
        return "", frozen
    if whole and not waiting and (chain_read or "chain more" not in frozen):
        yield from call(
            lambda: ledger.unfreeze("reconcile named every entry, and no waiting job can have made one")
        )
        return "lifted", None
    why = brake_text(strangers, waiting) if strangers else frozen
    if why != frozen:
        yield from call(lambda: ledger.freeze(why))
    return "kept", why


def _waiting(desk: Desk, wallet: str, strangers: Sequence[Difference]) -> list[JobRecord]:
    """Jobs of ours that are not bought, and may be what one of these entries bought."""
    if not strangers:
        return []
    jobs = desk.ledger.jobs(wallet=wallet, unfinished=True, limit=1_000_000)
    payees = desk.ledger.payees()
    return [
        job
        for job in jobs
        if not job.queue_id
        and not _may_be_paid(desk, job)
        and any(could_be(job, one, payees) for one in strangers)
    ]


def kept_of_chain(desk: Desk, wallet: str) -> ChainBooks:
    """How far the chain was read; from the beginning again when that cannot be told."""
    kept = desk.ledger.recall(chain_key(desk.network.caip2, wallet))
    if kept is None:
        return ChainBooks()
    try:
        return ChainBooks.from_text(kept[0])
    except ValueError:
        return ChainBooks()


def _named(desk: Desk, wallet: str) -> list[str]:
    kept = desk.ledger.recall(f"named {wallet.lower()}")
    return kept[0].split() if kept is not None else []


def _name(desk: Desk, wallet: str, subjects: Sequence[str]) -> None:
    text = " ".join(dict.fromkeys(subjects))
    kept = desk.ledger.recall(f"named {wallet.lower()}")
    if kept is None or kept[0] != text:
        desk.ledger.remember(f"named {wallet.lower()}", " ".join(text.split()[-NAMED_MAX:]))
