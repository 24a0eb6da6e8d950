"""One signed payment, from a 402 to its answer: choose → reserve → sign what was reserved → store → send → settle.

The order is the promise: every field is committed before the signer sees it, that it leaves is committed before it
leaves, and whatever comes back, the same authorization is sent again and never a second one made. A signature that
follows from its fields is made anew when it is needed; any other is stored with that commit. What frees a hold is not
decided here (`reconcile.py`). Used by direct sellers, by top-ups and by `X402Auth`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, Protocol, TypeVar

import httpx

from x402_audio.clock import Clock, Random
from x402_audio.errors import (
    AlreadyResolved,
    ClockError,
    InsufficientBalance,
    LedgerError,
    PaymentRejected,
    PaymentUnsettled,
    ProtocolError,
    SignerError,
)
from x402_audio.flow import Flow, at_once, call, sleep
from x402_audio.ledger.book import Hold, HoldState, Ledger, Limit, Reserve
from x402_audio.money import Usdc
from x402_audio.notices import Notice, OnNotice, ignore
from x402_audio.payment.departures import BRAKE, unexplained_fall, usdc_key
from x402_audio.payment.policy import (
    CLOCK_SKEW_MAX_S,
    VALIDITY_SECONDS_MAX,
    PaymentPolicy,
    check_channel,
    check_clock,
    choose_requirement,
    validity,
)
from x402_audio.protocol.address import checksum_address
from x402_audio.protocol.exact import Authorization
from x402_audio.protocol.networks import network_named
from x402_audio.protocol.payload import Envelope, read_settlement
from x402_audio.protocol.requirements import PaymentRequired, read_payment_required
from x402_audio.protocol.signer import Signer
from x402_audio.providers.answers import retry_after_seconds
from x402_audio.secret import Secret

T = TypeVar("T")
SENDS_MAX: Final = 4
"""How often one flow sends the same authorization before it reports the outcome as unknown."""
RESEND_MARGIN_S: Final = 10
"""Nothing is sent again closer than this to validBefore (recovery rules)."""
RESEND_AT: Final = frozenset({408, 425, 429})


class ChainBalance(Protocol):
    """What the payer asks of a chain reader."""

    def usdc_balance(self, address: str, /) -> Usdc: ...
    def latest_time(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Purchase:
    """What is bought: the identity that a repeat is recognised by, and the request that will carry the payment.

    amount: for a top-up the value to sign (at least what is offered); None signs exactly what is offered.
    read_at: for a top-up, when the balance that lacks it was booked; see `Reserve`.
    """

    identity: str
    kind: Literal["direct", "topup"]
    method: str
    url: str
    origin: str
    body_digest: str
    amount: Usdc | None = None
    job_id: str | None = None
    epoch: int | None = None
    model: str = ""
    label: str = ""
    size: str = ""
    read_at: float | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was paid. state `settled`: the seller proved it; `signed`: delivered, not yet proven (see reconcile)."""

    hold_id: str
    kind: str
    state: str
    amount: Usdc
    pay_to: str
    network: str
    origin: str
    nonce: str
    transaction: str
    sends: int


def receipt_for(hold: Hold) -> Receipt:
    return Receipt(
        hold.id, hold.kind, hold.state, hold.amount, hold.pay_to, hold.network, hold.origin, hold.nonce,
        hold.transaction, hold.sends,
    )  # fmt: skip


Header = tuple[str, Secret]
"""A payment header: its name and what it holds."""
SendPaid = Callable[[Mapping[str, Secret]], Flow[httpx.Response]]
"""Sends the purchase's request once with these secret headers."""


def no_turn() -> Flow[None]:
    """No turn to wait for."""
    yield from ()


def any_answer(response: httpx.Response) -> bool:
    """Whatever is delivered is what was bought: its reader is somebody else."""
    del response
    return True


class Payer:
    """One wallet that pays within limits. Holds no money rules of its own: policy and ledger decide."""

    def __init__(
        self,
        signer: Signer,
        ledger: Ledger,
        *,
        limits: Sequence[Limit],
        clock: Clock,
        random: Random,
        environment: str = "live",
        chain: ChainBalance | None = None,
        on_notice: OnNotice = ignore,
    ) -> None:
        self.wallet = signer.address
        self.ledger = ledger
        self.limits = tuple(limits)
        self.environment = environment
        self._signer = signer
        self._clock = clock
        self._random = random
        self._chain = chain
        self._notice = on_notice
        self._in_memory = getattr(ledger, "in_memory", False)
        self._made: tuple[str, Envelope | None] = ("", None)

    def books(self, verb: Callable[[], T]) -> Flow[T]:
        """A verb of the books, each one transaction: at once where they never wait, else committed in a thread."""
        return at_once(verb) if self._in_memory else call(verb, self.ledger.begin)

    # --- before
    def read_demand(self, response: httpx.Response) -> PaymentRequired:
        """The terms of a 402 over a channel and at a time that may be paid. Raises before anything is reserved."""
        check_channel(response.request.url)
        terms = read_payment_required(response.headers, response.content)
        check_clock(response.headers.get("date"), self._clock.now())
        return terms

    def commit(
        self, terms: PaymentRequired, policy: PaymentPolicy, purchase: Purchase, limits: Sequence[Limit] = ()
    ) -> Flow[Hold]:
        """Choose a requirement and commit every field that will be signed. Raises PaymentRefused kinds."""
        requirement = choose_requirement(terms, policy, payer=self.wallet)
        amount = purchase.amount if purchase.amount is not None else requirement.amount
        if amount < requirement.amount:
            raise ValueError("never sign less than is offered")
        yield from self._check_chain_balance(amount, policy.network.caip2)
        valid_after, valid_before = validity(requirement, policy, self._clock.now())
        identifier = f"x402a-{self._random(16).hex()}"
        envelope = Envelope.of(
            terms,
            requirement,
            payment_identifier=identifier,
            accepted_amount=None if purchase.amount is None else amount,
        )
        wish = Reserve(
            kind=purchase.kind,
            wallet=self.wallet,
            network=policy.network.caip2,
            asset=policy.network.usdc,
            environment=self.environment,
            origin=purchase.origin,
            pay_to=checksum_address(requirement.pay_to.lower()),
            amount=amount,
            nonce="0x" + self._random(32).hex(),
            valid_after=valid_after,
            valid_before=valid_before,
            method=purchase.method,
            resource=purchase.url,
            body_digest=purchase.body_digest,
            purchase=purchase.identity,
            envelope=envelope.to_json(),
            job_id=purchase.job_id,
            epoch=purchase.epoch,
            model=purchase.model,
            label=purchase.label,
            size=purchase.size,
            read_at=purchase.read_at,
            lease_s=None if getattr(self._signer, "remote", False) else 120,
            leaves=purchase.kind == "direct" and getattr(self._signer, "in_process", False),
        )
        rule = policy.payee_rule(purchase.origin)
        self._made = wish.envelope, envelope
        return (yield from self.books(partial(self.ledger.reserve, wish, (*self.limits, *limits), rule)))

    def prepare(
        self, terms: PaymentRequired, policy: PaymentPolicy, purchase: Purchase, limits: Sequence[Limit] = ()
    ) -> Flow[tuple[Hold, Header | None]]:
        """`commit`, and the header where that was committed as leaving; the brake is looked at last."""
        hold = yield from self.commit(terms, policy, purchase, limits)
        if hold.state != "signed" or hold.adopted:
            return hold, None
        header = yield from self._first_signature(hold)
        yield from self.books(partial(self.ledger.still_leaving, hold.id))
        return hold, header

    def _check_chain_balance(self, amount: Usdc, network: str) -> Flow[None]:
        """With a chain at hand: the wallet's USDC less live holds must cover the amount, and none left unknown to us."""
        if self._chain is None:
            return
        chain = self._chain
        block_time = yield from call(chain.latest_time)
        if abs(block_time - self._clock.now()) > CLOCK_SKEW_MAX_S:
            seconds = abs(int(block_time - self._clock.now()))
            raise ClockError(
                f"this machine's clock is {seconds} s from the chain's last block; nothing was signed"
            )
        on_chain = yield from call(lambda: chain.usdc_balance(self.wallet))
        # What ended before that block either moved by then, or never will.
        live = yield from call(lambda: self._alive_at(block_time, states=("reserved", "signed")))
        held = sum(hold.amount for hold in live if hold.kind in ("direct", "topup"))
        yield from call(lambda: self._notice_fall(on_chain, network))
        if on_chain - held < amount:
            free = Usdc(max(on_chain - held, 0))
            raise InsufficientBalance(
                f"the wallet has {free} USDC free on chain and {amount} is needed",
                balance=free, needed=amount, missing=Usdc(amount - free), suggested_top_up=Usdc(0),
                next_step=f"send USDC on the configured network to {self.wallet}, then repeat",
            )  # fmt: skip

    def _notice_fall(self, on_chain: Usdc, network: str) -> None:
        """Freeze when more left the wallet since the last look than these books know of; the reservation refuses."""
        ledger, key = self.ledger, usdc_key(network, self.wallet)
        before = ledger.recall(key)
        if before is not None and int(before[0]) > on_chain:
            ours = self._alive_at(before[1])
            gone = unexplained_fall(Usdc(int(before[0])), before[1], on_chain, ours)
            if gone > 0:
                if ledger.frozen() is None:
                    ledger.freeze(f"{BRAKE}: chain more {gone}. Run: x402-audio reconcile")
                return
        ledger.remember(key, str(int(on_chain)))

    def _alive_at(self, at: float, *, states: Sequence[HoldState] = ()) -> list[Hold]:
        """Authorizations that could be used then (Unix seconds) or later: only the last hours' holds are looked at."""
        since = at - VALIDITY_SECONDS_MAX - 2 * CLOCK_SKEW_MAX_S
        made = self.ledger.holds(wallet=self.wallet, states=states, made_after=since)
        return [hold for hold in made if hold.valid_before >= at - CLOCK_SKEW_MAX_S]

    # --- leaving
    def standing(self, identity: str) -> Flow[Hold | None]:
        """The hold in a purchase's way."""
        return self.books(partial(self.ledger.unanswered, self.wallet, identity))

    def still_fit(self, hold: Hold | None) -> Flow[Hold | None]:
        """An open hold that may go on; one that was never signed and is too old to send is freed, and None returned."""
        if (
            hold is None
            or hold.state != "reserved"
            or self._clock.now() < hold.valid_before - RESEND_MARGIN_S
        ):
            return hold
        yield from call(
            lambda: self.ledger.void(hold.id, evidence="never signed, too old to be sent", unsigned=True)
        )
        return None

    def owed(self, hold: Hold) -> bool:
        """Whether a direct payment that moved, or was answered before, may still be shown to its seller."""
        fits = self._clock.now() < hold.valid_before - RESEND_MARGIN_S
        return hold.kind == "direct" and hold.state in ("signed", "settled") and fits

    def leave(self, hold: Hold, made: Header | None = None) -> Flow[Header]:
        """The header of this hold, stored and counted before it may leave. Raises PaymentUnsettled when too late.

        made: what this flow signed already; a signature that follows from the fields was not stored.
        """
        if hold.state in ("signed", "settled"):
            if self._clock.now() >= hold.valid_before - RESEND_MARGIN_S:
                raise unsettled(hold, "the signed payment is too close to its end to be sent again")
            try:
                yield from call(lambda: self.ledger.resend(hold.id))
            except AlreadyResolved as error:
                if error.money_moved == "no" and hold.kind == "direct" and hold.job_id is None:
                    error.retry, error.owner = "same_id", "agent"
                    error.next_step = "its payment ended before it moved; send the same request again"
                raise
            if made is not None:
                return made
            stored = yield from call(lambda: self.ledger.header_of(hold.id))
            if stored is not None:
                return Envelope.from_json(hold.envelope).header_name, Secret(stored.decode("ascii"))
        name, secret = yield from self.sign(hold)
        if hold.state == "reserved":
            # Not a partial: its repr would show the header to a report with locals.
            yield from self._unless_settled(
                hold,
                lambda: self.ledger.depart(hold.id, secret.reveal().encode("ascii")),
                partial(self.ledger.resend, hold.id),
            )
        return name, secret

    def sign(self, hold: Hold) -> Flow[Header]:
        """Sign exactly what the ledger holds."""
        network = network_named(hold.network)
        if network is None or network.usdc != hold.asset or hold.wallet != self.wallet:
            raise ProtocolError(
                "the ledger's hold does not belong to this wallet and network; nothing was signed"
            )
        authorization = Authorization(
            from_=hold.wallet,
            to=hold.pay_to,
            value=hold.amount,
            valid_after=hold.valid_after,
            valid_before=hold.valid_before,
            nonce=bytes.fromhex(hold.nonce[2:]),
        )
        ask = at_once if getattr(self._signer, "in_process", False) else call
        try:
            signature = yield from ask(partial(self._signer.sign_authorization, network, authorization))
        except SignerError as error:
            if hold.sends:
                error.money_moved = "yes" if hold.state == "settled" else "unknown"
            raise
        made, envelope = self._made
        if envelope is None or made != hold.envelope:
            envelope = Envelope.from_json(hold.envelope)
        name, value = envelope.header(authorization, signature)
        return name, Secret(value)

    def _first_signature(self, hold: Hold) -> Flow[Header]:
        """Sign what was committed as leaving; where the signer fails nothing leaves, unless somebody else sent it."""
        try:
            return (yield from self.sign(hold))
        except SignerError as error:
            with suppress(LedgerError):
                evidence = "its signer failed before anything left"
                yield from self.books(partial(self.ledger.void, hold.id, evidence=evidence, sends=1))
                error.money_moved = "no"
            raise

    def send_paid(
        self,
        hold: Hold,
        send: SendPaid,
        *,
        made: Header | None = None,
        turn: Callable[[], Flow[None]] = no_turn,
        reads: Callable[[httpx.Response], bool] = any_answer,
    ) -> Flow[tuple[httpx.Response, Hold]]:
        """Send the payment, the same bytes again while the outcome is open. Returns the 2xx, not yet booked.

        The caller books it together with what was bought (`conclude`, or `Ledger.queued` for a job). turn: waits before
        each sending is committed; made: the first one was, with the hold (`prepare`). reads: a 2xx it does not take is no
        outcome. Raises PaymentRejected when the seller declines (the hold stays), PaymentUnsettled when nobody knows.
        """
        problem, committed = "nothing was sent", made is not None
        for attempt in range(1, SENDS_MAX + 1):
            if not (committed and attempt == 1):
                yield from turn()
                made = yield from self.leave(hold, made)
                state: HoldState = "settled" if hold.state == "settled" else "signed"
                hold = hold.but(state=state, sends=hold.sends + 1)
            self._tell(hold)
            try:
                assert made is not None
                response = yield from send(dict([made]))
            except httpx.TransportError as error:
                problem, wait = f"no answer ({type(error).__name__})", None
            else:
                delivered = 200 <= response.status_code < 300
                if delivered and reads(response):
                    return response, hold
                problem, wait = f"the seller answered {response.status_code}", None
                if delivered:
                    problem = f"the seller answered {response.status_code} with nothing that was bought"
                elif response.status_code < 500 and response.status_code not in RESEND_AT:
                    raise rejected(hold, response)
                wait = retry_after_seconds(response.headers, self._clock.now())
            pause = min(wait if wait is not None else 0.5 * 2 ** (attempt - 1), 60.0)
            if attempt == SENDS_MAX or self._clock.now() + pause >= hold.valid_before - RESEND_MARGIN_S:
                break
            yield from sleep(pause)
        raise unsettled(hold, f"{problem} after the payment was handed over")

    # --- after
    def conclude(self, hold: Hold, response: httpx.Response, *, came: bool = False) -> Flow[Hold]:
        """Book what an answer's head proves; and that it was delivered, when its body `came` (else see `came`)."""
        moved = proof_in(hold, response)
        if hold.state == "settled" or moved is None:
            return hold
        settle = partial(self.ledger.settle, hold.id, transaction=moved, delivered=came)
        settled = partial(settle, evidence="seller's settlement response")
        hold = yield from self._unless_settled(hold, settled, partial(self.ledger.hold, hold.id))
        if self._notice is not ignore:
            data = {"kind": hold.kind, "amount_atomic": int(hold.amount), "transaction": moved}
            self._notice(Notice("settled", f"paid {hold.amount}", hold.job_id or "", data))
        return hold

    def _unless_settled(
        self, hold: Hold, book: Callable[[], Hold], otherwise: Callable[[], Hold]
    ) -> Flow[Hold]:
        """Book it; where a thread or program that sends the same payment was faster and it is settled, the other."""
        try:
            return (yield from self.books(book))
        except AlreadyResolved:
            known = yield from self.books(partial(self.ledger.hold, hold.id))
            if known.state != "settled":
                raise
            return (yield from self.books(otherwise))

    def came(self, hold: Hold) -> Hold:
        """Book that the answer came whole."""
        proven = hold.state == "settled"
        why = "its answer came" if proven else "answered 2xx without proof of settlement"
        return self.ledger.deliver(hold.id, why)

    def _tell(self, hold: Hold) -> None:
        if self._notice is ignore:
            return
        short = f"{hold.pay_to[:6]}…{hold.pay_to[-4:]}"
        again = hold.sends > 1
        text = f"{'sending the same payment again' if again else 'paying'} {hold.amount} to {short}"
        data = {
            "kind": hold.kind, "amount_atomic": int(hold.amount), "pay_to": hold.pay_to, "nonce": hold.nonce,
            "resend": again,
        }  # fmt: skip
        self._notice(Notice("payment", text, hold.job_id or "", data))


def proof_in(hold: Hold, response: httpx.Response) -> str | None:
    """The transaction a settlement response names, "" when it names none; None unless it speaks of this very payment."""
    said = read_settlement(response.headers)
    if said is None or not said.success:
        return None
    network = network_named(said.network)
    if said.network and (network is None or network.caip2 != hold.network):
        return None
    if said.payer and said.payer.lower() != hold.wallet.lower():
        return None
    return said.transaction[:80]


def unsettled(hold: Hold, why: str) -> PaymentUnsettled:
    """The typed end of a payment whose outcome nobody knows."""
    return PaymentUnsettled(
        f"{why}; {hold.amount} to {hold.pay_to} {'moved' if hold.state == 'settled' else 'may have moved'}",
        money_moved="yes" if hold.state == "settled" else "unknown",
        hold_id=hold.id,
        nonce=hold.nonce,
        valid_before=hold.valid_before,
    )


def rejected(hold: Hold, response: httpx.Response) -> PaymentRejected:
    """The seller declined what was signed; its word frees nothing."""
    reason = _said_why(response) or f"HTTP {response.status_code}"
    printable = "".join(c for c in reason if c.isprintable())[:80]
    return PaymentRejected(
        f"the seller declined the payment of {hold.amount} ({printable}); "
        + ("it moved already" if hold.state == "settled" else "the signature stays usable until it expires"),
        money_moved="yes" if hold.state == "settled" else "unknown",
        error_reason=printable,
        hold_id=hold.id,
        nonce=hold.nonce,
        valid_before=hold.valid_before,
        status=response.status_code,
    )


def _said_why(response: httpx.Response) -> str | None:
    """Why the seller declined: from its result header, else from the terms that a 402 carries again."""
    settlement = read_settlement(response.headers)
    if settlement is not None and settlement.error_reason:
        return settlement.error_reason
    if response.status_code != 402:
        return None
    try:
        return read_payment_required(response.headers, response.content).error
    except ProtocolError:
        return None
