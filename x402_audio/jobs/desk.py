"""What one job's steps work with: the seller, the books, the wallet, and the wishes stored with the job.

Wired by `client.py`; holds no rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from x402_audio.clock import Clock, Random
from x402_audio.errors import LedgerError
from x402_audio.flow import Flow
from x402_audio.jsontext import read_json_object, write_json
from x402_audio.ledger.book import JobRecord, Ledger, Limit
from x402_audio.money import Usdc
from x402_audio.notices import Notice, NoticeKind, OnNotice
from x402_audio.payment.session import SellerSession
from x402_audio.protocol.networks import Network
from x402_audio.providers.provider import AudioRequest, Provider, request_from

if TYPE_CHECKING:
    from x402_audio.payment.pay import Payer
    from x402_audio.payment.policy import PaymentPolicy
    from x402_audio.payment.prepaid import Account
    from x402_audio.providers.catalog import ModelSpec


@dataclass(frozen=True, slots=True)
class JobOptions:
    """The caller's wishes for one job, stored with it so that `resume` needs only the id. Money as USD text."""

    output: str | None = None
    folder: str = "."
    force: bool = False
    keep_remote: bool = False
    max_price: str | None = None
    max_top_up: str | None = None
    max_total: str | None = None
    payee: str | None = None
    poll_interval: str | None = None

    def to_json(self) -> str:
        return write_json({name: value for name, value in asdict(self).items() if value not in (None, False)})

    @classmethod
    def from_json(cls, text: str) -> JobOptions:
        """The wishes `to_json` wrote. Raises LedgerError for anything else."""
        known: dict[str, Any] = {}
        try:
            stored = read_json_object(text)
        except ValueError:
            raise LedgerError("the stored wishes of a job cannot be read") from None
        for item in fields(cls):
            value = stored.get(item.name)
            if value is not None and type(value) is not (bool if isinstance(item.default, bool) else str):
                raise LedgerError(f"the stored wishes of a job cannot be read: {item.name}")
            if value is not None:
                known[item.name] = value
        return cls(**known)

    def changed(self, given: Mapping[str, object]) -> JobOptions:
        """These with the given ones instead."""
        return JobOptions.from_json(write_json({**asdict(self), **given}))

    def limits(self) -> tuple[Limit, ...]:
        """The flags as limits; a flag may raise only a built-in default (the ledger merges)."""
        found: list[Limit] = []
        if self.max_price is not None:
            price = Usdc.parse_usd(self.max_price)
            found += [
                Limit("jobs", "payment", price, source="flag"),
                Limit("jobs", "job", price, source="flag"),
            ]
        if self.max_top_up is not None:
            found.append(Limit("top-ups", "payment", Usdc.parse_usd(self.max_top_up), source="flag"))
        if self.max_total is not None:
            found.append(Limit("wallet", "ever", Usdc.parse_usd(self.max_total), source="flag"))
        return tuple(found)

    @property
    def interval(self) -> float | None:
        return float(self.poll_interval) if self.poll_interval is not None else None

    def target(self, job_id: str, content_type: str) -> Path:
        """Where the file goes once its type is known."""
        from x402_audio.jobs.download import file_name

        return Path(self.output) if self.output else Path(self.folder) / file_name(job_id, content_type)


@dataclass(frozen=True, slots=True)
class Desk:
    """One seller's desk. `account` stands for prepaid wallets, `payer` for wallets that sign, neither for keys."""

    ledger: Ledger
    provider: Provider
    session: SellerSession
    account: Account | None
    payer: Payer | None
    limits: tuple[Limit, ...]
    network: Network
    environment: str
    policy: Callable[[JobOptions, Usdc | None], PaymentPolicy]
    specs: Callable[[], Flow[Mapping[str, ModelSpec]]]
    account_funds: Callable[[Usdc], Flow[None]]
    top_ups_allowed: bool
    clock: Clock
    random: Random
    owner: str
    place: str
    on_notice: OnNotice
    store_prompts: bool = True
    warnings: list[str] = field(default_factory=list)

    def tell(self, what: NoticeKind, text: str, job: JobRecord, **data: str | float | bool | None) -> None:
        self.on_notice(Notice(what, text, job.id, data))

    def jitter(self) -> float:
        return int.from_bytes(self.random(2), "big") / 65536


def audio_of(job: JobRecord) -> AudioRequest:
    """The request as it was stored."""
    return request_from(read_json_object(job.request, bytes_max=1 << 20))
