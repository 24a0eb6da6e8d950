"""The prepaid wallet routes: reading credit, reading the seller's ledger, and topping up exactly once.

A payment header is accepted on the top-up route only. A reading that cannot be trusted never opens the gate, and a
credit that does not show after a top-up stops top-ups for everybody. Knows no jobs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import Final

import httpx

from x402_audio.clock import Clock
from x402_audio.errors import (
    ConfigurationError,
    InsufficientBalance,
    LedgerBusy,
    LedgerError,
    PaymentRefused,
    ProtocolError,
    X402AudioError,
)
from x402_audio.flow import Flow, call, sleep
from x402_audio.ledger.book import LIVE, Hold, Ledger, Limit, Reading
from x402_audio.ledger.credit import CHARGE_LAG_S, TOLERANCE
from x402_audio.money import ZERO, Usdc
from x402_audio.notices import Notice, OnNotice, ignore
from x402_audio.payment.evidence import charges, known_since, top_up_row
from x402_audio.payment.pay import RESEND_MARGIN_S, Payer, Purchase, proof_in, rejected, unsettled
from x402_audio.payment.policy import CLOCK_SKEW_MAX_S, PaymentPolicy, choose_requirement
from x402_audio.payment.session import SellerSession, answer_of, unreachable
from x402_audio.protocol.payload import Envelope, read_settlement
from x402_audio.providers.answers import retry_after_seconds
from x402_audio.providers.provider import PrepaidSeller, Transaction

CREDIT_SHOWN_WITHIN_S: Final = 60
TOP_UP_MAX: Final = Usdc(10_000_000_000)
SENDS_MAX: Final = 4
PAGES_MAX: Final = 20
READINGS_MAX: Final = 3
TURN_WAIT_S: Final = 60.0
OTHERS_BEFORE_S: Final = 86_400
"""A row is booked when it was seen, so that of an older top-up only by clocks that differ this much."""


@dataclass(frozen=True, slots=True)
class Account:
    """What the prepaid flows need of the seller and the wallet."""

    session: SellerSession
    seller: PrepaidSeller
    ledger: Ledger
    clock: Clock
    on_notice: OnNotice = ignore

    @property
    def wallet(self) -> str:
        return self.session.wallet

    @property
    def origin(self) -> str:
        return self.session.origin


def read_credit(account: Account) -> Flow[Reading]:
    """One balance reading, booked. Raises ProtocolError (and distrusts the books' reading) when it is not sane."""
    answer = yield from account.session.ask(account.seller.ask_balance(account.wallet))
    ledger = account.ledger
    try:
        balance = account.seller.read_balance(answer, account.wallet)
    except ProtocolError as error:
        why = error.message
        yield from call(lambda: ledger.distrust_reading(account.wallet, account.origin, why))
        raise
    minimum = balance.minimum_top_up or ZERO
    reading = yield from call(
        lambda: ledger.record_reading(
            account.wallet, account.origin, balance.credit, diem=balance.diem, minimum_top_up=minimum
        )
    )
    if reading.trust == "fallen":
        text = f"credit fell by {reading.fallen_by} more than our own jobs explain; nothing new is bought"
        account.on_notice(Notice("warning", text))
    return reading


def trusted_credit(account: Account, *, fresh_s: float = 2.0) -> Flow[Reading]:
    """A reading that agrees with our books or with a second one right after it; else the untrusted one."""
    since = (yield from call(account.ledger.now)) - fresh_s
    known = yield from call(lambda: account.ledger.reading(account.wallet, account.origin))
    if known is not None and known.read_at >= since and known.trust != "unconfirmed":
        return known
    reading = yield from read_in_turn(account)
    for _ in range(READINGS_MAX - 1):
        if reading.trust != "unconfirmed":
            break
        reading = yield from read_in_turn(account)
    return reading


def read_in_turn(account: Account) -> Flow[Reading]:
    """A new reading. One program of the wallet reads at a time and the others use what it read: so few are allowed."""
    before = yield from call(lambda: account.ledger.reading(account.wallet, account.origin))
    end = account.clock.monotonic() + TURN_WAIT_S
    while (
        token := (yield from call(account.session.turn_to_read))
    ) is None and account.clock.monotonic() < end:
        yield from sleep(0.1)
    try:
        known = yield from call(lambda: account.ledger.reading(account.wallet, account.origin))
        if known is not None and (before is None or known.read_at > before.read_at):
            return known
        return (yield from read_credit(account))
    finally:
        account.session.release(token)


def explain_rise(account: Account, reading: Reading) -> Flow[Reading]:
    """Take credit above our books as it is once every recent draw of ours shows as a charge in the seller's rows.

    Without that a rise soon after a draw may be a charge that is late, and is not spent for a minute.
    """
    if reading.trust != "agreed" or reading.balance <= reading.books + TOLERANCE:
        return reading
    ledger, began = account.ledger, (yield from call(account.ledger.now))
    held = yield from call(lambda: _draws(account, began - 2 * CHARGE_LAG_S))
    draws = [hold for hold in held if (hold.resolved_at or began) >= began - 2 * CHARGE_LAG_S]
    jobs = yield from call(
        lambda: {hold.id: ledger.job(hold.job_id).queue_id for hold in draws if hold.job_id}
    )
    if any(hold.state in LIVE for hold in draws):
        return reading
    rows = yield from read_ledger(account, since=began - 2 * CHARGE_LAG_S - CLOCK_SKEW_MAX_S)
    shown = {group.request_id for group in charges(rows)}
    if not all(hold.charge_id in shown or jobs.get(hold.id) in shown for hold in draws):
        return reading
    again = yield from read_in_turn(account)
    newest = yield from call(lambda: _draws(account, began - 2 * CHARGE_LAG_S))
    if again.trust != "agreed" or {hold.id for hold in newest} != {hold.id for hold in held}:
        return again
    yield from call(lambda: ledger.accept_reading(account.wallet, account.origin))
    return (yield from call(lambda: ledger.reading(account.wallet, account.origin))) or again


def _draws(account: Account, since: float) -> list[Hold]:
    return account.ledger.recent_holds(account.wallet, account.origin, "credit", since=since)


def read_ledger(account: Account, *, since: float) -> Flow[tuple[Transaction, ...]]:
    """The seller's rows back to a time (Unix seconds), newest first; bounded pages."""
    rows: list[Transaction] = []
    for page_number in range(PAGES_MAX):
        ask = account.seller.ask_transactions(account.wallet, limit=100, offset=page_number * 100)
        page = account.seller.read_transactions((yield from account.session.ask(ask)), account.wallet)
        rows.extend(page.rows)
        if not page.has_more or not page.rows or page.rows[-1].created_at < since:
            return tuple(row for row in rows if row.created_at >= since)
    raise ProtocolError(
        "the seller's ledger is longer than 2,000 rows since that time; it was not read to its end"
    )


@dataclass(frozen=True, slots=True)
class TopUp:
    """Why a top-up is wanted: `missing` is what credit lacks, atomic units. `amount` fixes it instead (a command).

    read_at: when the reading that lacks it was booked; a top-up of this wallet that shows since then is used first.
    """

    missing: Usdc
    amount: Usdc | None
    limits: tuple[Limit, ...]
    allowed: bool
    read_at: float | None = None
    job_id: str | None = None
    epoch: int | None = None
    label: str = ""


def top_up(account: Account, payer: Payer, policy: PaymentPolicy, wish: TopUp) -> Flow[Hold]:
    """Buy credit once: discovery, policy, reserve, sign, send; then wait until it shows.

    Raises InsufficientBalance when top-ups are off or too small, PaymentRefused kinds, PaymentUnsettled.
    """
    if not wish.allowed:
        raise ConfigurationError(
            f"no top-up is paid at {account.origin}",
            next_step="name the seller in API_URL, or give --api-url together with --max-top-up",
        )
    why = yield from call(lambda: account.ledger.suspended(account.wallet, account.origin, "top-ups"))
    if why is not None:
        raise PaymentRefused(
            f"top-ups are stopped at {account.origin}: {why}", next_step="run: x402-audio reconcile"
        )
    slot = yield from account.session.take_slot()
    try:
        hold = yield from _commit_top_up(account, payer, policy, wish)
        hold = yield from _send_top_up(account, payer, hold)
    finally:
        account.session.release(slot)
    yield from await_credit(account, hold)
    return hold


def finish_top_up(account: Account, payer: Payer, hold: Hold) -> Flow[Hold]:
    """Take up a top-up that an earlier process left open: the same bytes again, then its evidence."""
    slot = yield from account.session.take_slot()
    try:
        hold = yield from _send_top_up(account, payer, hold)
    finally:
        account.session.release(slot)
    yield from await_credit(account, hold)
    return hold


def _commit_top_up(account: Account, payer: Payer, policy: PaymentPolicy, wish: TopUp) -> Flow[Hold]:
    ask = account.seller.ask_top_up()
    try:
        yield from account.session.turn(ask.route)
        response = yield from account.session.send_now(ask, {})
    except httpx.TransportError as error:
        raise unreachable(account.origin, error) from None
    if response.status_code != 402:
        raise ProtocolError(f"{account.origin} answered {response.status_code} instead of its top-up terms")
    terms = payer.read_demand(response)
    offered = choose_requirement(terms, policy, payer=payer.wallet).amount
    amount = Usdc(max(offered, wish.amount if wish.amount is not None else wish.missing.ceil_to_cent()))
    if amount > TOP_UP_MAX:
        raise PaymentRefused(f"a top-up of {amount} is above the seller's largest, {TOP_UP_MAX}")
    _check_max_top_up(account, wish, amount)
    identity = f"topup:{account.origin}:{wish.job_id or payer_time(account)}"
    purchase = Purchase(
        identity=identity, kind="topup", method="POST", url=account.session.api_url + ask.path, origin=account.origin,
        body_digest=hashlib.sha256(b"").hexdigest(), amount=amount, job_id=wish.job_id, epoch=wish.epoch, label=wish.label,
        read_at=wish.read_at,
    )  # fmt: skip
    return (yield from payer.commit(terms, policy, purchase, wish.limits))


def payer_time(account: Account) -> str:
    """An identity for a top-up that no job asked for."""
    return f"owner-{int(account.clock.now() * 1000)}"


def _check_max_top_up(account: Account, wish: TopUp, amount: Usdc) -> None:
    """The one-top-up limit, told as missing funds: the owner decides by raising it."""
    limits = account.ledger.effective_limits(wish.limits)
    most = min(
        (limit.amount for limit in limits if (limit.purse, limit.window) == ("top-ups", "payment")),
        default=ZERO,
    )
    if amount > most:
        state = "automatic top-ups are off" if most == 0 else f"one top-up may be at most {most}"
        raise InsufficientBalance(
            f"credit lacks {wish.missing}; a top-up of {amount} would cover it, but {state}",
            balance=ZERO, needed=amount, missing=wish.missing, suggested_top_up=amount,
            next_step=f"x402-audio top-up {amount.usd}, or repeat with --max-top-up {amount.usd}",
        )  # fmt: skip


def _send_top_up(account: Account, payer: Payer, hold: Hold) -> Flow[Hold]:
    """Send the payment header to the top-up route, the same authorization again while nobody knows."""
    ask = account.seller.ask_top_up()
    problem = "the stored top-up was not sent again"
    response: httpx.Response | None = None
    for attempt in range(1, SENDS_MAX + 1):
        if hold.state == "signed" and account.clock.now() >= hold.valid_before - RESEND_MARGIN_S:
            break
        yield from account.session.turn(ask.route)
        name, secret = yield from payer.leave(hold)
        hold = yield from call(partial(account.ledger.hold, hold.id))
        _tell(account, hold)
        pause = 0.5 * 2 ** (attempt - 1)
        try:
            response = yield from account.session.send_now(ask, {_payment_name(account, name): secret})
        except httpx.TransportError as error:
            problem = f"no answer to the top-up ({type(error).__name__})"
        else:
            moved = _credited(account, hold, response)
            if moved is not None:
                return (yield from _settle_by_answer(account, hold, moved))
            problem = f"the seller answered the top-up with {response.status_code}"
            if response.status_code == 400 and (yield from _may_rewrap(account, hold)):
                hold = yield from _rewrap(account, payer, hold)
                continue
            if response.status_code in (400, 401, 403, 404):
                break
            if response.status_code == 409:
                found = yield from _await_row(account, hold)
                if found is None:
                    raise unsettled(hold, problem)
                return found
            named = retry_after_seconds(response.headers, account.clock.now())
            pause = min(named, 60.0) if named is not None else max(pause, 1.0)
        found = yield from _shown_in_ledger(account, hold)
        if found is not None:
            return found
        if attempt < SENDS_MAX:
            yield from sleep(pause)
    found = yield from _shown_in_ledger(account, hold)
    if found is not None:
        return found
    if response is not None and 400 <= response.status_code < 500 and response.status_code != 429:
        raise rejected(hold, response)
    raise unsettled(hold, problem)


def _await_row(account: Account, hold: Hold) -> Flow[Hold | None]:
    """The seller is still settling, or did before: nothing more is sent, its ledger is read until it shows."""
    end = account.clock.monotonic() + CREDIT_SHOWN_WITHIN_S
    while True:
        found = yield from _shown_in_ledger(account, hold)
        if found is not None or account.clock.monotonic() >= end:
            return found
        yield from sleep(2.0)


def _payment_name(account: Account, name: str) -> str:
    return account.session.profile.payment if name == "PAYMENT-SIGNATURE" else name


def _credited(account: Account, hold: Hold, response: httpx.Response) -> str | None:
    """The transaction (or "") of a 200 that speaks of this wallet's credit; None for any other page on the way."""
    if response.status_code != 200:
        return None
    if read_settlement(response.headers) is not None:
        return proof_in(hold, response)
    return "" if account.seller.read_topped_up(answer_of(response), account.wallet) else None


def _settle_by_answer(account: Account, hold: Hold, moved: str) -> Flow[Hold]:
    hold = yield from call(
        lambda: account.ledger.settle(hold.id, evidence="the seller credited the top-up", transaction=moved)
    )
    data: dict[str, str | int | float | bool | None] = {
        "kind": "topup", "amount_atomic": int(hold.amount), "transaction": moved,
    }  # fmt: skip
    account.on_notice(Notice("settled", f"topped up {hold.amount}", hold.job_id or "", data))
    return hold


def _may_rewrap(account: Account, hold: Hold) -> Flow[bool]:
    """Once; and not when it slept past its validity, or somebody ended it meanwhile."""
    known = yield from call(lambda: account.ledger.hold(hold.id))
    fits = account.clock.now() < hold.valid_before - RESEND_MARGIN_S
    return known.state == "signed" and fits and not Envelope.from_json(known.envelope).wrapped_again


def _rewrap(account: Account, payer: Payer, hold: Hold) -> Flow[Hold]:
    """The other envelope around the same authorization; there is no second signature of other fields."""
    other = Envelope.from_json(hold.envelope).rewrapped()
    changed = other.to_json()
    _, secret = yield from payer.sign(hold.but(envelope=changed))
    header = secret.reveal().encode("ascii")
    return (yield from call(lambda: account.ledger.rewrap(hold.id, changed, header)))


def _shown_in_ledger(account: Account, hold: Hold) -> Flow[Hold | None]:
    """The seller's own ledger can prove a top-up paid (never unpaid)."""
    row = yield from _row_of(account, hold)
    if row is None:
        return None
    charge_id = row.id
    return (
        yield from call(
            lambda: account.ledger.settle(hold.id, evidence="TOP_UP row at the seller", charge_id=charge_id)
        )
    )


def _row_of(account: Account, hold: Hold) -> Flow[Transaction | None]:
    try:
        rows = yield from read_ledger(account, since=known_since(hold))
    except X402AudioError:
        return None
    others = yield from call(lambda: other_top_ups(account.ledger, hold))
    return top_up_row(hold, rows, others)


def other_top_ups(ledger: Ledger, hold: Hold) -> list[Hold]:
    """Top-ups that may have a row beside this one's: none that was settled long before it was sent."""
    since = known_since(hold) - OTHERS_BEFORE_S
    return ledger.recent_holds(hold.wallet, hold.origin, "topup", since=since)


def await_credit(account: Account, hold: Hold) -> Flow[None]:
    """Wait until the credit of a settled top-up shows; else stop top-ups at this seller for every job and process.

    The seller's row proves that it was paid, its balance alone that it may be spent.
    """
    end = account.clock.monotonic() + CREDIT_SHOWN_WITHIN_S
    before = yield from call(lambda: account.ledger.reading(account.wallet, account.origin))
    expected = (before.balance if before is not None else ZERO) + hold.amount - TOLERANCE
    while True:
        try:
            reading = yield from trusted_credit(account, fresh_s=0.0)
        except LedgerBusy:
            reading = None
        except LedgerError:
            raise  # waiting does not mend the books
        except X402AudioError:
            reading = None
        agreed = reading is not None and reading.trust == "agreed"
        shown = (yield from call(lambda: account.ledger.hold(hold.id))).delivered_at is not None
        enough = reading is not None and reading.balance >= expected
        if agreed and (shown or enough):
            yield from call(lambda: account.ledger.deliver(hold.id, "its credit shows"))
            return
        if account.clock.monotonic() >= end:
            break
        yield from sleep(2.0)
    why = f"a top-up of {hold.amount} was paid and its credit did not show within {CREDIT_SHOWN_WITHIN_S} s"
    yield from call(lambda: account.ledger.suspend(account.wallet, account.origin, "top-ups", why))
    raise PaymentRefused(why, money_moved="yes", next_step="run: x402-audio reconcile")


def _tell(account: Account, hold: Hold) -> None:
    short = f"{hold.pay_to[:6]}…{hold.pay_to[-4:]}"
    data: dict[str, str | int | float | bool | None] = {
        "kind": "topup", "amount_atomic": int(hold.amount), "pay_to": hold.pay_to, "nonce": hold.nonce,
        "resend": hold.sends > 1,
    }  # fmt: skip
    text = f"{'sending the same top-up again' if hold.sends > 1 else 'topping up'} {hold.amount} to {short}"
    account.on_notice(Notice("payment", text, hold.job_id or "", data))
