"""Every error of the package, and nothing else.

    X402AudioError            .money_moved "no|yes|unknown"  .owner "agent|time|human|reconcile"
    │                         .retry "never|same_id|later"   .next_step  what to type or do now
    ├ ConfigurationError      a key, path or setting is missing or wrong
    │ └ ClockError            the local clock is too far from the seller's or the chain's
    ├ RequestInvalid          the model cannot do what was asked (.field .value .allowed)
    ├ SignerError             no key, no answer from the signer, or it refused
    ├ ProtocolError           the seller's words cannot be read
    ├ PaymentRefused          we declined; nothing was signed
    │ ├ NoAcceptableRequirement (.rejections)
    │ ├ AboveMaximum
    │ ├ PayeeRefused
    │ ├ ForeignOrigin
    │ ├ Frozen
    │ ├ ApprovalWanted        the owner is asked first (.approval_id)
    │ ├ OpenJobExists         an equal open job younger than one hour (.job_id)
    │ ├ BudgetExceeded        (.limit .amount .spent .held .needed)
    │ └ InsufficientBalance   (.balance .needed .missing .suggested_top_up)
    ├ PaymentRejected         the seller declined what we signed; money_moved "unknown" (.error_reason)
    ├ PaymentUnsettled        signed and handed over, outcome unknown (.hold_id .nonce .valid_before)
    ├ SellerError             (.status .code)
    │ ├ SellerUnreachable, RateLimited, SignInRejected, ContentRejected (.suggested_prompt), ModelUnavailable
    ├ JobError                (.job_id .queue_id)
    │ ├ JobFailed (.refunded), JobTimedOut, JobExpired, BadDownload, JobTakenOver, JobParked, JobUndecided
    ├ LedgerError             the books cannot be read or written safely
    │ ├ AlreadyResolved, UnknownHold, UnknownJob, UnknownApproval, JobConflict, LedgerBusy
    └ ChainError              the chain could not be read; frees nothing

The mapping to exit codes is `exit_code`; a text never holds a key, a header or a token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

MoneyMoved = Literal["no", "yes", "unknown"]
Owner = Literal["agent", "time", "human", "reconcile"]
Retry = Literal["never", "same_id", "later"]


class X402AudioError(Exception):
    """The root: says whether money moved, whose turn it is, whether to try again and what to do next.

    Never raised itself. `details` are the error's own plain values (text, integers), safe to print.
    """

    money_moved: MoneyMoved = "no"
    owner: Owner = "agent"
    retry: Retry = "never"
    next_step: str = ""
    exit_code: ClassVar[int] = 2

    def __init__(
        self,
        message: str,
        *,
        next_step: str | None = None,
        money_moved: MoneyMoved | None = None,
        owner: Owner | None = None,
        retry: Retry | None = None,
        **details: object,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, object] = details
        if next_step is not None:
            self.next_step = next_step
        if money_moved is not None:
            self.money_moved = money_moved
        if owner is not None:
            self.owner = owner
        if retry is not None:
            self.retry = retry
        for name, value in details.items():
            setattr(self, name, value)

    @property
    def code(self) -> str:
        """The class name, the stable word scripts branch on."""
        return type(self).__name__

    def __str__(self) -> str:
        return self.message


class ConfigurationError(X402AudioError):
    owner: Owner = "human"
    next_step = "run: x402-audio doctor"


class ClockError(ConfigurationError):
    """The local clock is more than 120 s from the seller's answer or the last block; nothing is signed."""

    next_step = "set this machine's clock (NTP), then repeat the same command"


class RequestInvalid(X402AudioError):
    field: str
    value: object
    allowed: str
    next_step = "correct the request; see: x402-audio models"


class SignerError(X402AudioError):
    owner: Owner = "human"
    exit_code: ClassVar[int] = 6
    next_step = "run: x402-audio wallet address"


class ProtocolError(X402AudioError):
    owner: Owner = "human"
    exit_code: ClassVar[int] = 7
    next_step = "the seller's answer cannot be read; check --api-url and --provider"


class PaymentRefused(X402AudioError):
    owner: Owner = "human"
    exit_code: ClassVar[int] = 3
    next_step = "nothing was signed; see: x402-audio budget"


class NoAcceptableRequirement(PaymentRefused):
    rejections: Sequence[object]
    exit_code: ClassVar[int] = 5
    next_step = "nothing offered can be paid; see: x402-audio inspect URL"


class AboveMaximum(PaymentRefused):
    next_step = "raise --max-price if that price is right, then repeat"


class PayeeRefused(PaymentRefused):
    next_step = "if the new payee is right, on a terminal: x402-audio payees pin ORIGIN ADDRESS"


class ForeignOrigin(PaymentRefused):
    next_step = "the demand came from another origin than was asked; do not pay it"


class Frozen(PaymentRefused):
    next_step = "on a terminal, the owner may: x402-audio unfreeze"


class ApprovalWanted(PaymentRefused):
    """This payment waits for its owner's leave; nothing was signed. The same purchase goes on once it is given."""

    approval_id: str
    retry: Retry = "same_id"
    next_step = "on a terminal, the owner may: x402-audio approve ID"


class OpenJobExists(PaymentRefused):
    job_id: str
    owner: Owner = "agent"
    retry: Retry = "same_id"


class BudgetExceeded(PaymentRefused):
    limit: str
    amount: int
    spent: int
    held: int
    needed: int


class InsufficientBalance(PaymentRefused):
    balance: int
    needed: int
    missing: int
    suggested_top_up: int
    retry: Retry = "later"
    exit_code: ClassVar[int] = 4
    next_step = "add credit: x402-audio top-up USD"


class PaymentRejected(X402AudioError):
    money_moved: MoneyMoved = "unknown"
    owner: Owner = "reconcile"
    retry: Retry = "same_id"
    error_reason: str
    exit_code: ClassVar[int] = 8
    next_step = "money may have moved: start no other purchase; run: x402-audio reconcile"


class PaymentUnsettled(X402AudioError):
    money_moved: MoneyMoved = "unknown"
    owner: Owner = "reconcile"
    retry: Retry = "same_id"
    hold_id: str
    nonce: str
    valid_before: int
    exit_code: ClassVar[int] = 8
    next_step = "money may have moved: repeat only with the same key, or run: x402-audio reconcile"


class SellerError(X402AudioError):
    status: int
    code_word: str
    owner: Owner = "time"
    retry: Retry = "later"
    exit_code: ClassVar[int] = 7
    next_step = "nothing was bought; repeat the same command later"


class SellerUnreachable(SellerError):
    next_step = "nothing was bought; check the network and --api-url, then repeat the same command"


class RateLimited(SellerError):
    retry_after: int


class SignInRejected(SellerError):
    owner: Owner = "human"
    retry: Retry = "never"
    next_step = "check the wallet, NETWORK and API_URL: x402-audio doctor"


class ContentRejected(SellerError):
    suggested_prompt: str
    owner: Owner = "agent"
    retry: Retry = "never"
    next_step = "change the prompt"


class ModelUnavailable(SellerError):
    owner: Owner = "agent"
    retry: Retry = "never"
    next_step = "choose another model: x402-audio models"


class JobError(X402AudioError):
    job_id: str
    queue_id: str
    money_moved: MoneyMoved = "yes"
    owner: Owner = "time"
    retry: Retry = "same_id"
    exit_code: ClassVar[int] = 9


class JobFailed(JobError):
    refunded: str
    owner: Owner = "human"
    retry: Retry = "never"


class JobExpired(JobError):
    next_step = "the seller keeps no copy any more; ask it for the money, and run: x402-audio reconcile"
    owner: Owner = "human"
    retry: Retry = "never"


class BadDownload(JobError):
    next_step = "the track is still at the seller; run: x402-audio resume ID"


class JobTimedOut(JobError):
    """Our waiting ended, not the job."""

    exit_code: ClassVar[int] = 10


class JobTakenOver(JobError):
    """Another process advances this job now."""

    money_moved: MoneyMoved = "unknown"
    next_step = (
        "wait for the other program, then: x402-audio resume ID; under another key it would be bought twice"
    )
    exit_code: ClassVar[int] = 10


class JobParked(JobError):
    """The job waits for an owner, time, a witness or a person (`reason`)."""

    reason: str
    exit_code: ClassVar[int] = 10


class JobUndecided(JobParked):
    """Whether the job was bought cannot be decided by any witness; a person must look."""

    money_moved: MoneyMoved = "unknown"
    owner: Owner = "human"
    exit_code: ClassVar[int] = 8


class LedgerError(X402AudioError):
    owner: Owner = "human"
    next_step = "no payment is made without sound books; run: x402-audio ledger verify"


class AlreadyResolved(LedgerError):
    pass


class UnknownHold(LedgerError):
    pass


class UnknownJob(LedgerError):
    owner: Owner = "agent"
    next_step = "see: x402-audio jobs"


class UnknownApproval(LedgerError):
    owner: Owner = "agent"
    next_step = "see: x402-audio budget"


class JobConflict(LedgerError):
    """The same job id with another request; nothing was sent."""

    owner: Owner = "agent"
    next_step = "use another --job-id for another request"


class LedgerBusy(LedgerError):
    owner: Owner = "time"
    retry: Retry = "later"
    exit_code: ClassVar[int] = 7
    next_step = "other processes hold the ledger; repeat the same command"


class ChainError(X402AudioError):
    """Could not read the chain: an RPC failed, is on another chain, or disagrees. Nothing is freed by it."""

    owner: Owner = "time"
    retry: Retry = "later"
    exit_code: ClassVar[int] = 7
    next_step = "check RPC_URL, then run: x402-audio reconcile"
