"""A call that draws prepaid credit: the sign-in nonce is its send-once token (recovery rules, "queue call").

The hold and the header are stored before sending. While the outcome is unknown the same header and body are sent
again, at most three times and until 30 s before the header expires; a new header is never made. Which answers mean
bought, not bought or unknown is read by the caller's `read`; what ends an unknown is in `evidence.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import httpx

from x402_audio.errors import LedgerError
from x402_audio.flow import Flow, call, sleep
from x402_audio.jsontext import read_json_object, write_json
from x402_audio.ledger.book import Hold, Ledger, Limit, Reserve
from x402_audio.money import Usdc
from x402_audio.payment.pay import unsettled
from x402_audio.payment.session import SellerSession, answer_of, body_of
from x402_audio.providers.provider import Answer, Ask, Queued, Refused, Shortfall, Unclear
from x402_audio.secret import Secret

RESENDS_MAX: Final = 3
EXPIRY_MARGIN_S: Final = 30

Outcome = Queued | Shortfall | Refused | Unclear


@dataclass(frozen=True, slots=True)
class Draw:
    """What is drawn for: the ask, its price, and whose job it is. kind `account` has no token and is never resent."""

    ask: Ask
    price: Usdc
    identity: str
    kind: Literal["credit", "account"]
    floor: Usdc
    job_id: str | None = None
    epoch: int | None = None
    model: str = ""
    label: str = ""
    late_charge: bool = False
    body_digest: str | None = None
    size: str = ""


@dataclass(frozen=True, slots=True)
class Drawn:
    """The last outcome, the hold, and whether it came from the first sending (only that can prove "not bought")."""

    outcome: Outcome
    hold: Hold
    first: bool
    response: httpx.Response | None


def draw_credit(
    ledger: Ledger,
    session: SellerSession,
    draw: Draw,
    limits: Sequence[Limit],
    *,
    network: str,
    asset: str,
    environment: str,
    now: Callable[[], float],
    read: Callable[[Answer], Outcome],
) -> Flow[Drawn]:
    """Reserve, sign in, send; then repeat the same bytes while nobody knows. Raises PaymentRefused kinds."""
    slot = yield from session.take_slot()
    try:
        yield from session.turn(draw.ask.route)
        hold = yield from call(lambda: ledger.open_hold(session.wallet, draw.identity))
        secret: Secret | None = None
        if hold is None or hold.state == "reserved":
            secret, hold = yield from _commit(
                ledger, session, draw, limits, hold, network, asset, environment
            )
        else:
            hold, secret = yield from _stored(ledger, hold, now)
        while True:
            if secret is None:
                return Drawn(
                    Unclear("the stored sign-in is no longer fit to be sent"),
                    hold,
                    first=False,
                    response=None,
                )
            outcome, response = yield from _send(session, draw.ask, hold, secret, read)
            first = hold.sends == 1
            if not first and not isinstance(outcome, Queued):
                stop = isinstance(outcome, Unclear) and outcome.nonce_reused
                outcome = Unclear(_words(outcome), nonce_reused=stop)
            if not isinstance(outcome, Unclear) or outcome.nonce_reused or draw.kind == "account":
                return Drawn(outcome, hold, first, response)
            if hold.sends > RESENDS_MAX:
                return Drawn(outcome, hold, first, response)
            yield from sleep(float(2 ** (hold.sends - 1)))
            yield from session.turn(draw.ask.route)
            hold, secret = yield from _stored(ledger, hold, now)
    finally:
        session.release(slot)


def _commit(
    ledger: Ledger,
    session: SellerSession,
    draw: Draw,
    limits: Sequence[Limit],
    hold: Hold | None,
    network: str,
    asset: str,
    environment: str,
) -> Flow[tuple[Secret, Hold]]:
    """Commit the hold with its token, then the header, both before anything leaves."""
    if hold is not None:  # reserved and never sent: its token was never shown to anybody
        try:
            yield from call(lambda: ledger.void(hold.id, evidence="never signed, never sent", unsigned=True))
        except LedgerError:  # another program signed and sent it between our look and now
            raise unsettled(hold, "another program sends this very purchase now") from None
    url = session.api_url + draw.ask.path
    token = session.token()
    on_credit = draw.kind == "credit"
    wish = Reserve(
        kind=draw.kind, wallet=session.wallet, network=network, asset=asset, environment=environment,
        origin=session.origin, pay_to="", amount=draw.price, nonce=token.nonce if on_credit else "",
        valid_after=token.issued_at if on_credit else 0, valid_before=token.expires_at if on_credit else 0,
        method=draw.ask.method, resource=url, body_digest=draw.body_digest or hashlib.sha256(body_of(draw.ask) or b"").hexdigest(),
        purchase=draw.identity, envelope=write_json({"header": session.profile.sign_in}), job_id=draw.job_id,
        epoch=draw.epoch, model=draw.model, label=draw.label, floor=draw.floor, late_charge=draw.late_charge, size=draw.size,
    )  # fmt: skip
    made = yield from call(lambda: ledger.reserve(wish, limits, None))
    secret = session.sign_in(url, token) if on_credit else session.credentials(draw.ask)["Authorization"]
    kept = secret.reveal().encode("ascii") if on_credit else b""
    return secret, (yield from call(lambda: ledger.depart(made.id, kept)))


def not_bought(ledger: Ledger, hold: Hold, *, evidence: str) -> Flow[None]:
    """Free a hold whose first sending was refused. Raises PaymentUnsettled when it was sent again by somebody meanwhile."""
    try:
        yield from call(lambda: ledger.void(hold.id, evidence=evidence, sends=1))
    except LedgerError:
        raise unsettled(hold, "another program sent this very purchase again meanwhile") from None


def _stored(ledger: Ledger, hold: Hold, now: Callable[[], float]) -> Flow[tuple[Hold, Secret | None]]:
    """Count another sending of the stored header, if it may still be sent."""
    if hold.kind != "credit" or hold.sends > RESENDS_MAX or now() >= hold.valid_before - EXPIRY_MARGIN_S:
        return hold, None
    stored = yield from call(lambda: ledger.header_of(hold.id))
    if stored is None:
        return hold, None
    counted = yield from call(lambda: ledger.resend(hold.id))
    return counted, Secret(stored.decode("ascii"))


def _send(
    session: SellerSession, ask: Ask, hold: Hold, secret: Secret, read: Callable[[Answer], Outcome]
) -> Flow[tuple[Outcome, httpx.Response | None]]:
    name = str(read_json_object(hold.envelope)["header"]) if hold.kind == "credit" else "Authorization"
    try:
        response = yield from session.send_now(ask, {name: secret})
    except httpx.TransportError as error:
        return Unclear(f"no answer ({type(error).__name__})"), None
    return read(answer_of(response)), response


def _words(outcome: Outcome) -> str:
    if isinstance(outcome, Queued):
        return "queued"
    status = f"{outcome.status} " if isinstance(outcome, Refused) else ""
    return f"{status}{outcome.message}".strip()
