"""What any seller of audio must do, and the plain types the job room shares with it.

A provider builds calls and reads answers; it never decides whether money may be spent and never sends by itself.
A new seller is one file that keeps `Provider`, plus its tests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from x402_audio.errors import SellerError
from x402_audio.jsontext import Json, write_json
from x402_audio.money import Usdc

if TYPE_CHECKING:
    from x402_audio.providers.catalog import ModelSpec


@dataclass(frozen=True, slots=True)
class AudioRequest:
    """What a caller wants. None means: not asked, not sent. Durations in whole seconds, speed as decimal text."""

    prompt: str
    model: str
    duration_seconds: int | None = None
    lyrics: str | None = None
    instrumental: bool | None = None
    voice: str | None = None
    language: str | None = None
    speed: str | None = None
    loop: bool | None = None
    lyrics_optimizer: bool | None = None

    def canonical(self) -> str:
        """The one spelling that is stored and digested: only what was asked, keys sorted."""
        asked = {name: value for name, value in asdict(self).items() if value is not None}
        return write_json(dict(sorted(asked.items())))

    def digest(self, *, seller: str, wallet: str) -> str:
        """Hex SHA-256 over seller, wallet and every field: the job's identity besides its id."""
        return hashlib.sha256(
            write_json([seller, wallet, self.canonical()]).encode("utf-8", "surrogatepass")
        ).hexdigest()


def request_from(asked: Mapping[str, Any]) -> AudioRequest:
    """A request from its named fields. Raises TypeError for a field it does not have."""
    return AudioRequest(**asked)


@dataclass(frozen=True, slots=True)
class Ask:
    """One call to the seller: path below the API base, JSON body, and which credentials it needs.

    route: the name rate limits are kept under (`queue`, `retrieve`, `balance`, `transactions`, `top-up`, `free`).
    """

    method: Literal["GET", "POST"]
    path: str
    body: Mapping[str, object] | None = None
    signed: bool = False
    route: str = "free"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as plain values: status, lower-case headers, body bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Queued:
    """The seller took the job."""

    queue_id: str
    model: str


@dataclass(frozen=True, slots=True)
class Processing:
    """Not ready. Both in seconds, None when not said: the seller's P80 estimate and the time since enqueue."""

    average_s: float | None
    elapsed_s: float | None


@dataclass(frozen=True, slots=True)
class Gone:
    """The job ended without audio. reason: failed | rejected | expired | unknown_id. refunded: what the seller says."""

    reason: Literal["failed", "rejected", "expired", "unknown_id"]
    message: str
    refunded: Literal["claimed", "no", "unknown"]
    suggested_prompt: str = ""


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A 402 that speaks of credit: what the seller says is there and wanted (None when it does not say).

    cure: `top-up` may help; `human` (key account, key cap) it cannot; `sign-in` credentials were missing.
    """

    cure: Literal["top-up", "human", "sign-in"]
    message: str
    balance: Usdc | None = None
    minimum: Usdc | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The queue call bought nothing, for sure or (`charged` unknown) unless the transactions say otherwise."""

    status: int
    code: str
    message: str
    suggested_prompt: str = ""
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Unclear:
    """The answer proves neither that the job was bought nor that it was not."""

    message: str
    nonce_reused: bool = False


@dataclass(frozen=True, slots=True)
class Balance:
    """Prepaid credit as the seller states it: atomic units, rounded down."""

    credit: Usdc
    diem: Usdc | None
    minimum_top_up: Usdc | None
    suggested_top_up: Usdc | None


@dataclass(frozen=True, slots=True)
class Transaction:
    """A row of the seller's ledger. amount: atomic units, signed, rounded against us."""

    id: str
    type: str
    amount: Usdc
    created_at: float
    request_id: str
    model: str


@dataclass(frozen=True, slots=True)
class TransactionPage:
    """One page of the seller's ledger, newest first; the balance in atomic units, None when it is not said."""

    balance: Usdc | None
    rows: tuple[Transaction, ...]
    has_more: bool


class Provider(Protocol):
    """A seller. `billing` says which purse a job draws: `credit`, `account`, or `direct` for pay-per-call."""

    name: str
    billing: Literal["credit", "account", "direct"]
    floor: Usdc
    """What must stay at the seller after a draw, so that the result can still be fetched."""

    # asking
    def ask_models(self) -> Ask: ...
    def ask_quote(self, audio: AudioRequest, spec: ModelSpec | None) -> Ask | None:
        """None when the seller has no quote for it; then the offered terms are the price."""

    def ask_queue(self, audio: AudioRequest, spec: ModelSpec | None) -> Ask: ...
    def ask_retrieve(self, model: str, queue_id: str) -> Ask: ...
    def ask_complete(self, model: str, queue_id: str) -> Ask: ...

    # reading
    def read_models(self, answer: Answer) -> tuple[ModelSpec, ...]: ...
    def read_quote(self, answer: Answer) -> Usdc: ...
    def read_queued(self, answer: Answer) -> Queued | Shortfall | Refused | Unclear: ...
    def read_progress(self, answer: Answer) -> Processing | Gone | Shortfall | Refused:
        """For every answer to retrieve but audio. Refused: transient or credential trouble, by its status."""

    def read_completed(self, answer: Answer) -> bool:
        """True when the seller's copy is deleted or already gone."""

    def error_of(self, answer: Answer, what: str) -> SellerError:
        """The typed error for an answer nothing was bought by. what: `quote`, `queue`, `models`, …"""

    def charges_late(self, model: str) -> bool:
        """The seller charges at the end of the job (its silence about a charge proves nothing)."""


class PrepaidSeller(Protocol):
    """The wallet routes of a seller with prepaid credit (`/x402/...`)."""

    def ask_balance(self, wallet: str) -> Ask: ...
    def ask_transactions(self, wallet: str, *, limit: int, offset: int) -> Ask: ...
    def ask_top_up(self) -> Ask: ...
    def read_topped_up(self, answer: Answer, wallet: str) -> bool:
        """Whether a 200 to a top-up says that this wallet was credited."""

    def read_balance(self, answer: Answer, wallet: str) -> Balance: ...
    def read_transactions(self, answer: Answer, wallet: str) -> TransactionPage: ...


@dataclass(frozen=True, slots=True)
class Track:
    """A delivered file. cost: atomic units charged less refunds; sha256 hex; duration in seconds as decoded."""

    job_id: str
    queue_id: str
    path: str
    sha256: str
    bytes: int
    content_type: str
    duration_seconds: float
    model: str
    price: Usdc
    cost: Usdc
    completed: bool
    payments: tuple[Mapping[str, Json], ...] = field(default=())
    warnings: tuple[str, ...] = ()
