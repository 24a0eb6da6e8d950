"""Buying from a seller that takes payment on the very URL that is asked (x402 v1 and v2).

First the stored payment of this purchase, if one is open; else one unpaid request, its 402, and one payment.
Knows requests and answers, not what they mean: the job room reads the body.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import httpx

from x402_audio.flow import Flow
from x402_audio.ledger.book import LIVE, Hold, Limit
from x402_audio.payment.pay import Payer, Purchase, any_answer, unsettled
from x402_audio.payment.policy import PaymentPolicy
from x402_audio.payment.session import SellerSession, body_of, unreachable
from x402_audio.providers.provider import Ask
from x402_audio.secret import Secret


@dataclass(frozen=True, slots=True)
class Bought:
    """A seller's answer and the hold that paid for it (None: it asked for nothing)."""

    response: httpx.Response
    hold: Hold | None


def buy_direct(
    payer: Payer,
    session: SellerSession,
    ask: Ask,
    policy: PaymentPolicy,
    *,
    identity: str,
    limits: tuple[Limit, ...] = (),
    job_id: str | None = None,
    epoch: int | None = None,
    model: str = "",
    label: str = "",
    size: str = "",
    reads: Callable[[httpx.Response], bool] = any_answer,
) -> Flow[Bought]:
    """Buy one answer. Raises PaymentRefused kinds before signing, PaymentRejected or PaymentUnsettled after.

    reads: whether a delivered answer is what was bought; one that is not is asked for again with the same payment.
    """
    url = session.api_url + ask.path
    purchase = Purchase(
        identity=identity, kind="direct", method=ask.method, url=url, origin=session.origin,
        body_digest=hashlib.sha256(body_of(ask) or b"").hexdigest(), job_id=job_id, epoch=epoch, model=model, label=label,
        size=size,
    )  # fmt: skip
    slot = yield from session.take_slot()
    try:
        opened = yield from payer.standing(identity)
        if opened is not None and opened.state not in LIVE and not payer.owed(opened):
            raise unsettled(opened, "it was paid and not answered, and is too old to be shown again")
        hold, made = (yield from payer.still_fit(opened)), None
        if hold is None:
            try:
                yield from session.turn(ask.route)
                response = yield from session.send_now(ask, {})
            except httpx.TransportError as error:
                raise unreachable(session.origin, error) from None
            if response.status_code != 402:
                return Bought(response, None)
            terms = payer.read_demand(response)
            yield from session.turn(ask.route)  # now, not between the commit and the sending
            hold, made = yield from payer.prepare(terms, policy, purchase, limits)

        def send_paid(secrets: Mapping[str, Secret]) -> Flow[httpx.Response]:
            return (yield from session.send_now(ask, secrets))

        turn = partial(session.turn, ask.route)
        paid, hold = yield from payer.send_paid(hold, send_paid, made=made, turn=turn, reads=reads)
        return Bought(paid, hold)
    finally:
        session.release(slot)
