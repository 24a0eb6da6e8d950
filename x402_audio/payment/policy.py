"""Which of the offered requirements may be paid, and why the others may not. Pure: no ledger, no network.

Checks come before the signature, and the object checked is the object signed (product contract 3.1, 3.3). Limits
over time are the ledger's; here stand the rules one demand can be judged by alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from x402_audio.errors import AboveMaximum, ClockError, ForeignOrigin, NoAcceptableRequirement, PaymentRefused
from x402_audio.ledger.book import PayeeRule
from x402_audio.money import CENT, Usdc
from x402_audio.payment.origin import is_loopback, origin_of
from x402_audio.protocol.address import same_address
from x402_audio.protocol.networks import BASE, Network
from x402_audio.protocol.requirements import PaymentRequired, PaymentRequirements, Rejection, supported

TIMEOUT_SECONDS_MIN: Final = 20
VALIDITY_SECONDS: Final = 300
VALIDITY_SECONDS_MAX: Final = 3600
BACKDATE_SECONDS: Final = 600
CLOCK_SKEW_MAX_S: Final = 120
QUOTE_TOLERANCE: Final = CENT


@dataclass(frozen=True, slots=True)
class PaymentPolicy:
    """A spender's rules for one demand.

    max_amount: most for one payment, an amount or USD text like "0.50" (None: only the ledger's limits). quoted: the price that was shown;
    terms more than one cent above it are refused. validity_s: longest life of a signature, seconds (at most 3600).
    only_payee: narrows whoever may be paid to this one address. approve_above: what is more is paid only with the owner's
    approval (`x402-audio approve`).
    """

    network: Network = BASE
    max_amount: Usdc | str | None = None
    quoted: Usdc | None = None
    validity_s: int = VALIDITY_SECONDS
    allowed_payees: frozenset[str] = frozenset()
    expected_payees: Mapping[str, str] = field(default_factory=dict)
    accept_upfront: bool = False
    only_payee: str | None = None
    approve_above: Usdc | str | None = None

    def __post_init__(self) -> None:
        if not TIMEOUT_SECONDS_MIN <= self.validity_s <= VALIDITY_SECONDS_MAX:
            raise ValueError(f"validity_s is {TIMEOUT_SECONDS_MIN} to {VALIDITY_SECONDS_MAX} seconds")
        for name in ("max_amount", "approve_above"):
            if isinstance(amount := getattr(self, name), str):
                object.__setattr__(self, name, Usdc.parse_usd(amount))

    @property
    def most(self) -> Usdc | None:
        """`max_amount` in atomic units."""
        return None if self.max_amount is None or isinstance(self.max_amount, str) else self.max_amount

    @property
    def unasked(self) -> Usdc | None:
        """`approve_above` in atomic units."""
        above = self.approve_above
        return None if above is None or isinstance(above, str) else above

    def payee_rule(self, origin: str) -> PayeeRule:
        """What the ledger must hold a payee of this origin against, in the reserving transaction."""
        allowed = frozenset(address.lower() for address in self.allowed_payees)
        return PayeeRule(allowed, self.expected_payees.get(origin), self.only_payee)


def choose_requirement(terms: PaymentRequired, policy: PaymentPolicy, *, payer: str) -> PaymentRequirements:
    """The cheapest requirement that may be paid.

    Raises AboveMaximum when only the price is in the way, NoAcceptableRequirement listing every one with its reason.
    """
    rejections = list(terms.rejections)
    good: list[PaymentRequirements] = []
    dear: list[Rejection] = []
    for requirement in terms.requirements:
        rejection = _protocol_rejection(requirement, policy, payer)
        if rejection:
            rejections.append(rejection)
            continue
        rejection = _price_rejection(requirement, policy)
        if rejection:
            dear.append(rejection)
        else:
            good.append(requirement)
    if good:
        return min(good, key=lambda requirement: requirement.amount)
    if dear:
        raise AboveMaximum(dear[0].detail, rejections=tuple(rejections + dear))
    listed = "; ".join(f"#{r.index} {r.reason}: {r.detail}" for r in rejections) or "the offer is empty"
    raise NoAcceptableRequirement(f"nothing offered can be paid ({listed})", rejections=tuple(rejections))


def why_not(requirement: PaymentRequirements, policy: PaymentPolicy, *, payer: str) -> Rejection | None:
    """Why this one requirement is not paid, whatever stands beside it; None when it could be."""
    return _protocol_rejection(requirement, policy, payer) or _price_rejection(requirement, policy)


def _protocol_rejection(
    requirement: PaymentRequirements, policy: PaymentPolicy, payer: str
) -> Rejection | None:
    foreign = supported(requirement, policy.network)
    if foreign:
        return foreign
    if same_address(requirement.pay_to, payer):
        return Rejection(requirement.index, "own_address", "payTo is the paying wallet itself")
    if requirement.max_timeout_seconds < TIMEOUT_SECONDS_MIN:
        seconds = requirement.max_timeout_seconds
        return Rejection(
            requirement.index, "timeout", f"{seconds} s are too short, {TIMEOUT_SECONDS_MIN} s needed"
        )
    if requirement.extra.get("paymentFlow") == "upfront" and not policy.accept_upfront:
        return Rejection(requirement.index, "upfront", "payment before work needs the owner's consent")
    return None


def _price_rejection(requirement: PaymentRequirements, policy: PaymentPolicy) -> Rejection | None:
    amount = requirement.amount
    if policy.most is not None and amount > policy.most:
        return Rejection(requirement.index, "amount", f"{amount} is asked, at most {policy.most} is allowed")
    if policy.quoted is not None and amount > policy.quoted + QUOTE_TOLERANCE:
        return Rejection(requirement.index, "amount", f"{amount} is asked, but {policy.quoted} was quoted")
    return None


def validity(requirement: PaymentRequirements, policy: PaymentPolicy, now: float) -> tuple[int, int]:
    """(validAfter, validBefore) in Unix seconds: from ten minutes ago to the shorter of offer and policy."""
    start = int(now)
    return start - BACKDATE_SECONDS, start + min(requirement.max_timeout_seconds, policy.validity_s)


def check_channel(url: httpx.URL) -> None:
    """Refuse to pay over plain http, except to literal loopback."""
    if url.userinfo:
        raise PaymentRefused("the URL carries a user name or password; nothing is paid there")
    if url.scheme == "https" or (url.scheme == "http" and is_loopback(url.host)):
        return
    raise PaymentRefused(f"{origin_of(url)} is not https; nothing is paid over an open line")


def check_same_origin(asked: httpx.URL, answered: httpx.URL) -> None:
    """A 402 that came from another origin than was asked is never paid."""
    if origin_of(asked) != origin_of(answered):
        raise ForeignOrigin(f"{origin_of(asked)} was asked, but {origin_of(answered)} demands payment")


def check_clock(date_header: str | None, now: float) -> None:
    """Refuse to sign a payment when the answer's `Date` is more than 120 s from our clock."""
    if not date_header:
        return
    try:
        theirs = parsedate_to_datetime(date_header).timestamp()
    except (ValueError, TypeError, OverflowError):
        return
    if abs(theirs - now) > CLOCK_SKEW_MAX_S:
        seconds = int(abs(theirs - now))
        raise ClockError(
            f"this machine's clock is {seconds} s from the seller's; a payment would carry wrong times"
        )
