"""The ledger's contract: what is written, in which states it may be, and what each verb promises.

Every verb is one short transaction that is durable when it returns (I9: no I/O of another kind inside). Fields of a
hold are plain values; this room knows no wire types, no HTTP and no keys. Stores: `sqlite.py`.

Hold: `reserved → signed → settled | void | presumed`; `presumed` may still settle or void when a witness speaks.
Job:  `planned → quoted → reserved → queued → ready → saved → completed`, with `parked`, `failed`, `cancelled`, `expired`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from x402_audio.money import Usdc
from x402_audio.secret import Secret

T = TypeVar("T")
HoldKind = Literal["direct", "topup", "credit", "account"]
HoldState = Literal["reserved", "signed", "settled", "void", "presumed"]
JobState = Literal[
    "planned", "quoted", "reserved", "queued", "ready", "saved", "completed",
    "parked", "failed", "cancelled", "expired",
]  # fmt: skip
ParkedReason = Literal["funds", "owner", "time", "unknown", "human"]
Purse = Literal["jobs", "top-ups", "wallet", "credit", "account"]
Window = Literal["payment", "job", "hour", "day", "month", "ever", "unasked"]
"""`unasked` is no limit but a threshold: a payment above it wants the owner's approval."""
ApprovalState = Literal["wanted", "granted", "spent", "dropped"]
LimitSource = Literal["default", "ledger", "file", "environment", "flag"]

LIVE: frozenset[str] = frozenset({"reserved", "signed"})
ENDED_JOBS: frozenset[str] = frozenset({"completed", "failed", "cancelled", "expired"})

PURSES: Mapping[HoldKind, tuple[Purse, ...]] = {
    "direct": ("jobs", "wallet"),
    "topup": ("top-ups", "wallet"),
    "credit": ("jobs", "credit"),
    "account": ("jobs", "account"),
}
"""Which limits count a hold. Jobs are counted once (direct, credit or account); what leaves the wallet once."""


class Limit(NamedTuple):
    """At most `amount` for a purse within a window. `scope` is `all` or `origin:…`, `payee:…`, `model:…`, `label:…`."""

    purse: Purse
    window: Window
    amount: Usdc
    scope: str = "all"
    source: LimitSource = "default"


@dataclass(frozen=True, slots=True)
class PayeeRule:
    """Who may be paid at an origin: an allowed set (settings), an expected address, else the pin.

    With neither, the first payment writes the pin (trust on first use). `only` narrows whatever else is allowed to
    one address and widens nothing. Addresses compare without case.
    """

    allowed: frozenset[str] = frozenset()
    expected: str | None = None
    only: str | None = None


class Reserve(NamedTuple):
    """Everything that is committed before anything is signed (all that will be signed, nonce included).

    amount: atomic units. valid_after/valid_before: Unix seconds; for `credit` the sign-in header's life; 0 for
    `account`. nonce: `0x` + 64 hex for authorizations, the sign-in nonce for `credit`, empty for `account`.
    purchase: the purchase's identity; an open hold with the same one is adopted instead of made anew.
    envelope: plain JSON that, with the fields, gives the exact header again.
    floor: for `credit`, what must stay at the seller after the draw. late_charge: the seller charges at the job's end.
    lease_s: how long an unsigned hold may stand before it is freed; None where the signer is remote.
    leaves: commit it as `signed`, its first sending counted, for a signer in this process whose signature follows from
    the fields: nothing else is committed before it is sent, and no header is stored (direct payments only).
    size: what the price depends on (`60 s`, `1200 characters`), in one spelling per seller; '' compares no prices.
    read_at: for `topup`, when the balance that lacks it was booked, Unix seconds; None asks for one come what may.
    """

    kind: HoldKind
    wallet: str
    network: str
    asset: str
    environment: str
    origin: str
    pay_to: str
    amount: Usdc
    nonce: str
    valid_after: int
    valid_before: int
    method: str
    resource: str
    body_digest: str
    purchase: str
    envelope: str = ""
    job_id: str | None = None
    epoch: int | None = None
    model: str = ""
    label: str = ""
    floor: Usdc = Usdc(0)
    late_charge: bool = False
    lease_s: int | None = 120
    leaves: bool = False
    size: str = ""
    read_at: float | None = None


class Hold(NamedTuple):
    """A hold as the books have it. Fields that were signed never change."""

    id: str
    kind: HoldKind
    state: HoldState
    wallet: str
    network: str
    asset: str
    environment: str
    origin: str
    pay_to: str
    amount: Usdc
    nonce: str
    valid_after: int
    valid_before: int
    method: str
    resource: str
    body_digest: str
    purchase: str
    envelope: str
    job_id: str | None
    model: str
    label: str
    sends: int
    created_at: float
    sent_at: float | None
    delivered_at: float | None
    resolved_at: float | None
    transaction: str
    charge_id: str
    evidence: str
    refunded: Usdc
    overcharged: Usdc
    late_charge: bool = False
    counted_at: float | None = None
    """Since when the windows count it as spent: the moment it was settled or presumed, whichever came first."""
    adopted: bool = False
    """Whether `reserve` found it instead of making it: no column."""

    def but(self, **changed: Any) -> Hold:
        """The same hold with other values."""
        return self._replace(**changed)


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be stored. `request` is canonical JSON of the audio request; `digest` its idempotency digest."""

    id: str
    digest: str
    wallet: str
    network: str
    environment: str
    label: str
    provider: str
    api_url: str
    origin: str
    model: str
    request: str
    options: str
    deadline: float


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as the books have it. `options` is JSON of limits and output wishes; `path` the file's final place."""

    id: str
    digest: str
    wallet: str
    network: str
    environment: str
    label: str
    provider: str
    api_url: str
    origin: str
    model: str
    request: str
    options: str
    state: JobState
    parked_reason: ParkedReason | None
    resume_state: JobState | None
    queue_id: str
    price: Usdc | None
    missing: Usdc | None
    due: float
    deadline: float
    epoch: int
    attempts: int
    last_error: str
    content_type: str
    file_sha256: str
    file_bytes: int
    path: str
    refunded: str
    created_at: float
    updated_at: float
    queued_at: float | None


@dataclass(frozen=True, slots=True)
class Reading:
    """A seller's balance as read. `books`: what it should be by our own books.

    trust: `agreed` opens the gate; `unconfirmed` wants a second equal reading; `fallen` fell by more than our draws
    explain (`fallen_by`) and stops new spending until it rises again or reconcile explains it.
    """

    wallet: str
    origin: str
    balance: Usdc
    diem: Usdc | None
    books: Usdc
    trust: Literal["agreed", "unconfirmed", "fallen"]
    fallen_by: Usdc
    read_at: float
    minimum_top_up: Usdc
    available: Usdc
    """balance less everything that may still draw; what a new job may count on (before the floor)."""


@dataclass(frozen=True, slots=True)
class Payee:
    """Who is paid at an origin on a network, and how that came about."""

    origin: str
    network: str
    address: str
    state: Literal["provisional", "pinned", "allowed", "any"]
    how: str


@dataclass(frozen=True, slots=True)
class Allowance:
    """One limit and how it stands: atomic units; `held` is signed or reserved and undecided."""

    limit: Limit
    spent: Usdc
    held: Usdc
    left: Usdc
    returns_at: float | None
    """When the oldest part of a rolling window comes back, Unix seconds."""


@dataclass(frozen=True, slots=True)
class Approval:
    """The owner's leave for one payment, once: bound to all it names, for at most `amount`, until `expires_at`.

    purchase: `job:…`, or what else the payment is known by. purse: what it leaves. expires_at: Unix seconds, None
    while it is only wanted. hold_id: the payment that spent it.
    """

    id: str
    state: ApprovalState
    purchase: str
    job_id: str | None
    kind: HoldKind
    purse: Purse
    wallet: str
    network: str
    environment: str
    origin: str
    pay_to: str
    request_digest: str
    model: str
    amount: Usdc
    why: str
    wanted_at: float
    expires_at: float | None
    hold_id: str | None


@dataclass(frozen=True, slots=True)
class Mark:
    """A limit that was found used to four fifths, and when (Unix seconds); said once a window."""

    purse: Purse
    scope: str
    window: Window
    amount: Usdc
    at: float


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the books, chained to the line before it. at: Unix seconds; amount: atomic units."""

    seq: int
    at: float
    wallet: str
    subject: str
    from_: str
    to: str
    amount: Usdc
    why: str
    data: str
    previous_hash: str
    hash: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing `verify` found wrong: which invariant, about what, in words."""

    invariant: str
    subject: str
    text: str


class Ledger(Protocol):
    """The contract every store keeps. Raises LedgerError kinds, PaymentRefused kinds where a rule refuses."""

    def begin(self, verb: Callable[[], T]) -> tuple[bool, Callable[[], T]]:
        """Do a verb of one transaction at once but for what waits for the disk; for an event loop, which must not wait.

        Gives whether there is a commit to wait for, and what ends the verb: it must be called, in any thread, and gives or
        raises what the verb does. Raises LedgerBusy, with nothing done, while anybody else is writing.
        """

    # --- payments
    def reserve(self, wish: Reserve, limits: Sequence[Limit], payee: PayeeRule | None = None) -> Hold:
        """Check everything and commit the hold, or adopt the open one of the same purchase (`adopted=True`).

        In one transaction, in this order: a hold of the same purchase that is live and not delivered is adopted
        as it stands, if its amount, payee, wallet, network and body are those asked for (else PaymentUnsettled);
        frozen (Frozen); seller stopped (PaymentRefused); epoch of the job (JobTakenOver); at most one live
        job-paying hold per job and no new one while the job has a settled, presumed or unresolved one that was not
        voided or refunded (PaymentUnsettled); for `topup`: none suspended here (PaymentRefused), no live one of the
        wallet and none here whose credit has not shown, or has shown since `read_at` (PaymentUnsettled naming it), at most one per job ever not void (PaymentRefused); payee rule (PayeeRefused),
        writing a provisional pin; label rule; every effective limit (BudgetExceeded); for `credit`: a trusted reading
        no older than 60 s whose `available` covers amount + floor, or whose DIEM covers it (InsufficientBalance);
        above an `unasked` threshold, or 20 % above the lowest price of 30 days for the same origin, model and size:
        a granted approval that names exactly this payment, which is spent here (else ApprovalWanted, and it is
        booked as wanted). A limit that is used to 80 % by it is marked, once a window.
        """

    def depart(self, hold_id: str, header: bytes) -> Hold:
        """reserved → signed: the header is stored and may leave now. Checks freeze again (Frozen, hold voided).

        A signed hold takes the same header again as another sending; another header is a LedgerError.
        """

    def still_leaving(self, hold_id: str) -> None:
        """Looked at between the signature of a hold committed as leaving and its first sending. Raises Frozen.

        The hold is void then, unless somebody else has sent it meanwhile (money_moved `unknown`).
        """

    def resend(self, hold_id: str) -> Hold:
        """Count another sending of the same bytes, before it leaves. The hold must be signed.

        Raises Frozen (money_moved `unknown`) while frozen; the hold stays signed.
        """

    def rewrap(self, hold_id: str, envelope: str, header: bytes) -> Hold:
        """Record another envelope around the same signed authorization, before it leaves."""

    def header_of(self, hold_id: str) -> bytes | None:
        """The stored secret of a live hold."""

    def deliver(self, hold_id: str, why: str) -> Hold:
        """The answer arrived without proof of settlement: the purchase is served, the hold stays signed."""

    def take_back(self, hold_id: str, why: str) -> Hold:
        """The answer that was noted never reached its asker: the purchase is not served. Nothing where none was noted."""

    def settle(
        self,
        hold_id: str,
        *,
        evidence: str,
        transaction: str = "",
        charge_id: str = "",
        delivered: bool = True,
    ) -> Hold:
        """The money moved (never fenced). Pin becomes firm; secret row removed.

        From signed or presumed, and from reserved too: evidence is booked whatever we believed. A top-up is delivered
        when a balance shows its credit, or by `deliver`: no answer and no row alone. Raises AlreadyResolved.
        """

    def trace(self, hold_id: str, *, transaction: str, evidence: str) -> Hold:
        """Where the chain shows that a settled payment moved: in place of what the seller said, or did not say.

        No amount and no state changes; the same transaction again changes nothing. Raises LedgerError unless settled.
        """

    def void(self, hold_id: str, *, evidence: str, unsigned: bool = False, sends: int | None = None) -> Hold:
        """It can never move. With `unsigned` only one still reserved (else LedgerError: it may have left meanwhile).

        With `sends` only one that was sent exactly so often (else LedgerError: somebody sent it again meanwhile).

        From reserved, signed or presumed; provisional pin dropped; secret row removed."""

    def presume(self, hold_id: str, *, why: str) -> Hold:
        """Undecidable for now: counts as spent, blocks nothing; the job (if any) is parked(human)."""

    def refund(self, hold_id: str, amount: Usdc, *, charge_id: str, why: str) -> Hold:
        """The seller gave back: lowers the total use (`ever`) once, at most the charge; never a window.

        Only a refund of the whole amount, but for what is lost in rounding, lets the job be paid anew.
        """

    def overcharge(self, hold_id: str, amount: Usdc, *, charge_id: str, why: str) -> Hold:
        """The seller took more than the hold: an entry of its own that counts in every limit and stops the seller."""

    def sweep(self) -> int:
        """Void reserved holds whose lease ended; returns how many."""

    def hold(self, hold_id: str) -> Hold: ...

    def open_hold(self, wallet: str, purchase: str) -> Hold | None:
        """The purchase's live hold that was not delivered yet."""

    def unanswered(self, wallet: str, purchase: str) -> Hold | None:
        """The purchase's hold that was not answered: live, or moved without an answer; of a name (`named:…`) any.

        While it is live and unanswered `reserve` adopts it; it buys nothing beside what moved.
        """

    def holds(
        self,
        *,
        wallet: str | None = None,
        job_id: str | None = None,
        states: Sequence[str] = (),
        kind: str | None = None,
        made_after: float | None = None,
    ) -> list[Hold]:
        """Oldest first. made_after: only those made at that ledger time or later; no older one is looked at.

        Without it, a job or only undecided states this reads all that ever was.
        """

    def recent_holds(self, wallet: str, origin: str, kind: HoldKind, *, since: float) -> list[Hold]:
        """Those of one kind at one seller that are undecided, or were settled at that ledger time or later."""

    def holds_of(self, wallet: str, network: str, asset: str, nonces: Iterable[str]) -> list[Hold]:
        """The authorizations of these nonces, as far as the books know them."""

    # --- jobs
    def add_job(self, job: NewJob, *, similar_within_s: float | None = None) -> tuple[JobRecord, bool]:
        """Store a job or return the one of the same id (second value: is it new). Another digest: JobConflict.

        An ended one that cost nothing or was refunded is started anew (state planned, attempts + 1). With
        `similar_within_s` an equal open job younger than that is returned instead (same digest, another id).
        """

    def job(self, job_id: str) -> JobRecord: ...

    def jobs(
        self,
        *,
        wallet: str | None = None,
        states: Sequence[str] = (),
        unfinished: bool = False,
        due_by: float | None = None,
        limit: int = 1000,
    ) -> list[JobRecord]:
        """Oldest first. With `due_by` those are left out that are queued and asked for later than that, Unix seconds."""

    def last_ended(self, wallet: str, origin: str, count: int) -> list[JobRecord]:
        """The last jobs there that were bought and are over, but for cancelled ones; the last to end first."""

    def waiting(self, wallet: str, *, due_after: float = 0.0) -> tuple[int, float | None]:
        """How many queued jobs of the wallet are due after that, and when the first of them is. No job is read."""

    def similar_open_job(self, digest: str, wallet: str, younger_than_s: float) -> JobRecord | None: ...

    def claim(self, job_id: str, owner: str, lease_s: float) -> JobRecord | None:
        """Take the job for this owner (epoch + 1); None while another live owner has it.

        An owner names `boot:namespace:pid:start`; one that is this machine's and dead holds nothing. The same owner
        may claim again (its epoch is renewed without change).
        """

    def release(self, job_id: str, epoch: int) -> None: ...

    def move(self, job_id: str, epoch: int, to: JobState, *, why: str = "", **changes: object) -> JobRecord:
        """One allowed transition, fenced by the epoch (JobTakenOver). `changes` are columns of the job.

        `parked` stores `resume_state` (where it goes on) and wants `parked_reason`.
        """

    def queued(
        self, job_id: str, epoch: int | None, hold_id: str, *, queue_id: str, due: float, evidence: str,
        transaction: str = "", charge_id: str = "",
    ) -> JobRecord:  # fmt: skip
        """I7: hold → settled and job → queued with its queue_id, in one transaction; evidence is never fenced."""

    def wake(self, job_id: str, epoch: int, due: float) -> None:
        """Move only `due` (and renew the lease)."""

    # --- what limits and gates read
    def effective_limits(self, limits: Sequence[Limit]) -> list[Limit]:
        """Merge with the ledger's own: the smallest explicit one per (purse, scope, window), else the default."""

    def set_limit(self, limit: Limit) -> None: ...

    def drop_limit(self, purse: Purse, scope: str, window: Window) -> None: ...

    def allowances(self, limits: Sequence[Limit]) -> list[Allowance]: ...

    def record_reading(
        self, wallet: str, origin: str, balance: Usdc, *, diem: Usdc | None, minimum_top_up: Usdc
    ) -> Reading: ...

    def distrust_reading(self, wallet: str, origin: str, why: str) -> None:
        """An unreadable or absurd balance: the newest reading no longer opens the gate."""

    def reading(self, wallet: str, origin: str) -> Reading | None: ...

    def accept_reading(self, wallet: str, origin: str) -> None:
        """Reconcile explained a fall: books := balance less what is charged later, trust agreed."""

    def marks(self) -> list[Mark]:
        """Limits that were found used to 80 % or more."""

    # --- the owner
    def approvals(self, *, job_id: str | None = None, states: Sequence[str] = ()) -> list[Approval]:
        """Oldest first."""

    def approval(self, approval_id: str) -> Approval:
        """Raises UnknownApproval."""

    def grant(self, approval_id: str) -> Approval:
        """The owner's leave, for 15 minutes from now. Raises PaymentRefused when it is spent or dropped already."""

    def has_passphrase(self) -> bool: ...

    def check_passphrase(self, typed: Secret) -> None:
        """Raises PaymentRefused when it is wrong (counted), or while too many wrong ones make it wait."""

    def set_passphrase(self, new: Secret, old: Secret | None = None) -> None:
        """Raises PaymentRefused when one is set and `old` is not it, or the new one is too short."""

    # --- brakes and pins
    def freeze(self, why: str) -> None: ...

    def unfreeze(self, why: str) -> None: ...

    def frozen(self) -> str | None:
        """Why everything that spends is stopped, or None."""

    def suspend(self, wallet: str, origin: str, what: Literal["top-ups", "seller"], why: str) -> None: ...

    def lift(self, wallet: str, origin: str, what: Literal["top-ups", "seller"], why: str) -> None: ...

    def suspended(self, wallet: str, origin: str, what: Literal["top-ups", "seller"]) -> str | None: ...

    def suspensions(self) -> list[tuple[str, str, str, str]]:
        """(wallet, origin, what, why) of all."""

    def payees(self) -> list[Payee]: ...

    def set_payee(self, payee: Payee) -> None: ...

    def drop_payee(self, origin: str, network: str, address: str) -> None: ...

    # --- facts kept
    def seller_kind(self, origin: str) -> str | None: ...

    def remember_seller(self, origin: str, kind: str) -> None: ...

    def remember(self, key: str, value: str) -> None:
        """A cached fact (model list, durations); plain text, never a secret."""

    def recall(self, key: str) -> tuple[str, float] | None:
        """(value, stored at)."""

    # --- proof
    def now(self) -> float:
        """Ledger time, Unix seconds: never runs back (I12)."""

    def events(self, *, wallet: str | None = None, subject: str | None = None) -> list[Event]: ...

    def listen(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Tell every event of this object's own transactions, after it is durable; what is returned ends that.

        Told in the thread that committed, an event loop's own where one task is alone on it: never wait for the loop there.
        """

    def verify(self) -> list[Finding]:
        """Replay the events against I1-I12 and the tables; an empty list is clean."""

    def heads(self) -> dict[str, str]:
        """Per wallet the newest event's hash."""

    def backup(self, path: str) -> None: ...

    def close(self) -> None:
        """Close the file; any later call opens it again. What the same thread was interrupted at is undone.

        Raises LedgerBusy when another thread does not let go of it.
        """
