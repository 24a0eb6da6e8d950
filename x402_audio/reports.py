"""What the client's questions are answered with: plain values, amounts in atomic units, nothing secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from x402_audio.errors import X402AudioError
from x402_audio.money import Usdc
from x402_audio.providers.provider import Track


@dataclass(frozen=True, slots=True)
class QuoteReport:
    """A price and whether it could be paid now. source: quote | local | terms (an unpaid 402 would name it).

    needed: price and the seller's floor. credit: what a new job may count on, None where there is no prepaid credit.
    """

    model: str
    price: Usdc | None
    local: Usdc | None
    source: str
    needed: Usdc | None
    credit: Usdc | None
    would_top_up: Usdc | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BalanceReport:
    """Credit at the seller and USDC on chain; None for what does not exist or cannot be read here."""

    seller: str
    origin: str
    wallet: str
    credit: Usdc | None
    available: Usdc | None
    diem: Usdc | None
    trust: str | None
    read_at: float | None
    minimum_top_up: Usdc | None
    usdc_on_chain: Usdc | None
    account: Mapping[str, object] | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InspectedRequirement:
    """One offered requirement: would it be paid, and if not, why not. amount None where it cannot be read."""

    index: int
    scheme: str
    network: str
    asset: str
    pay_to: str
    amount: Usdc | None
    payable: bool
    reason: str


@dataclass(frozen=True, slots=True)
class InspectReport:
    """What a 402 or a file with one would lead to. Nothing was signed."""

    url: str
    status: int
    version: int | None
    requirements: tuple[InspectedRequirement, ...]
    chosen: int | None
    note: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one job of many stands: its track, or why not."""

    job_id: str
    track: Track | None
    error: X402AudioError | None
