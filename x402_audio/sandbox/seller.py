"""What the seller knows and decides: who has credit, what was paid, which jobs run; one lock, one clock.

Knows no HTTP: `venice_routes.py` and `direct_routes.py` speak it. No header and no key is ever kept.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from typing import Final

from x402_audio.clock import Clock, Random, SystemClock, system_random
from x402_audio.jsontext import Json
from x402_audio.money import ZERO, Usdc
from x402_audio.sandbox.books import (
    Account,
    Job,
    Limits,
    Payment,
    RateMemory,
    fate_of,
    iso,
    job_json,
    payment_json,
)
from x402_audio.sandbox.catalog import Catalog, Order
from x402_audio.sandbox.chain import Chain
from x402_audio.sandbox.faults import FaultPlan
from x402_audio.sandbox.rpc import ChainRpc
from x402_audio.sandbox.signin import SignIn
from x402_audio.sandbox.verify import (
    NETWORKS,
    Authorization,
    PaymentFault,
    check_authorization,
    unowned_address,
)

PAY_TO: Final = unowned_address("x402-audio sandbox: an address that nobody owns")
"""Where sandbox payments go: the last 20 bytes of keccak256 of that text, so nobody has its key."""
MODES: Final = ("venice", "direct-v1", "direct-v2")
NONCE_MEMORY_SECONDS: Final = 330
_THOUSAND_USDC: Final = Usdc(1_000_000_000)
_FIVE_USD: Final = Usdc(5_000_000)
_TEN_CENTS: Final = Usdc(100_000)


class SandboxSeller:
    """The seller's state and books. Thread-safe; amounts are `Usdc`, times Unix seconds of the given clock."""

    def __init__(
        self,
        *,
        mode: str = "venice",
        network: str = "base",
        clock: Clock | None = None,
        random: Random = system_random,
        job_seconds: float = 2.0,
        wallet_usdc: Usdc = _THOUSAND_USDC,
        starting_credit: Usdc = ZERO,
        minimum_top_up: Usdc = _FIVE_USD,
        limits: Limits | None = None,
        charge_when: str = "queue",
        floor: Usdc = _TEN_CENTS,
        faults: FaultPlan | None = None,
    ) -> None:
        if mode not in MODES or network not in NETWORKS or charge_when not in ("queue", "end"):
            raise ValueError("no such mode, network or time of charging")
        self.mode = mode
        self.network = NETWORKS[network]
        self.clock = clock or SystemClock()
        self.job_seconds = job_seconds
        self.starting_credit = starting_credit
        self.minimum_top_up = minimum_top_up
        self.limits = limits or Limits()
        self.charge_when = charge_when
        self.floor = floor
        self.faults = faults or FaultPlan()
        self.raised_amount_in_v2 = True
        """Whether a v2 top-up may state a higher `accepted.amount` than was offered (not documented)."""
        self.pay_to = PAY_TO
        self.catalog = Catalog()
        self.lock = threading.RLock()
        self.release_stream = threading.Event()
        self.rates = RateMemory()
        self.chain = Chain(self.network, self.clock, wallet_usdc=wallet_usdc, pay_to=self.pay_to)
        self.rpc = ChainRpc(self.chain, self.lock)
        self.jobs: dict[str, Job] = {}
        self._running: dict[str, Job] = {}
        self.payments: dict[tuple[str, str], Payment] = {}
        self._random = random
        self._accounts: dict[str, Account] = {}
        self._keys: dict[bytes, Account] = {}
        self._sign_ins: dict[tuple[str, str], float] = {}
        self._job_of_sign_in: dict[tuple[str, str], Job] = {}
        self._settling: set[tuple[str, str]] = set()
        self._requests: list[dict[str, object]] = []

    def now(self) -> float:
        return self.clock.now()

    def new_id(self) -> str:
        raw = self._random(16).hex()
        return "-".join((raw[:8], raw[8:12], raw[12:16], raw[16:20], raw[20:]))

    # Accounts

    def account(self, wallet: str) -> Account:
        """The account of a wallet; an unseen one starts with the starting credit."""
        with self.lock:
            name = wallet.lower()
            if name not in self._accounts:
                self._accounts[name] = Account(name)
                if self.starting_credit:
                    self._accounts[name].enter("TOP_UP", self.starting_credit, self.now(), None, None)
            return self._accounts[name]

    def add_key(
        self, key: str, credit: Usdc, *, spend_limit: Usdc | None = None, kind: str = "INFERENCE"
    ) -> Account:
        """Give out a Bearer key with its own balance. Only a digest of it is kept."""
        with self.lock:
            account = Account(f"key-{len(self._keys) + 1}", credit, key_kind=kind, spend_limit=spend_limit)
            self._keys[_digest(key)] = account
            return account

    def account_of_key(self, key: str) -> Account | None:
        with self.lock:
            return self._keys.get(_digest(key))

    def credit(self, wallet: str, amount: Usdc, *, model: str = "elevenlabs-music") -> None:
        """Enter what another program did with this wallet: a TOP_UP, or a CHARGE when negative."""
        with self.lock:
            kind = "TOP_UP" if amount >= 0 else "CHARGE"
            request_id, model_id = (None, None) if amount >= 0 else (self.new_id(), model)
            self.account(wallet).enter(kind, amount, self.now(), request_id, model_id)

    def spend_nonce(self, signed: SignIn) -> bool:
        """Remember a sign-in nonce; False when the wallet used it before."""
        with self.lock:
            now, key = self.now(), (signed.wallet, signed.nonce)
            for old in [k for k, at in self._sign_ins.items() if at < now - NONCE_MEMORY_SECONDS]:
                del self._sign_ins[old]
            if key in self._sign_ins:
                if key in self._job_of_sign_in:
                    self._job_of_sign_in[key].sends += 1
                return False
            self._sign_ins[key] = now
            return True

    # Payments

    def verify(self, authorization: Authorization) -> None:
        """Everything about a payment but its history. Raises PaymentFault."""
        check_authorization(self.network, authorization, pay_to=self.pay_to, now=self.now())

    def payment(self, authorization: Authorization) -> Payment | None:
        """The settled payment with this payer and nonce."""
        return self.payments.get((authorization.payer, authorization.nonce))

    def begin_settlement(self, authorization: Authorization) -> bool:
        """Claim the nonce; False when another request settles it now. Raises PaymentFault: used, or no funds."""
        with self.lock:
            key = (authorization.payer, authorization.nonce)
            if key in self._settling:
                return False
            if self.chain.nonce_used(*key, self.chain.height()):
                raise PaymentFault("invalid_exact_evm_nonce_already_used")
            if self.chain.balance(authorization.payer, self.chain.height()) < authorization.value:
                raise PaymentFault("insufficient_funds")
            self._settling.add(key)
            return True

    def settle(self, authorization: Authorization, route: str) -> Payment:
        """Move the money of a claimed authorization and write it down."""
        with self.lock:
            key = (authorization.payer, authorization.nonce)
            self._settling.discard(key)
            moved = self.chain.transfer(
                authorization.payer, self.pay_to, authorization.value, authorization.nonce
            )
            payment = Payment(
                payer=authorization.payer,
                payee=self.pay_to,
                value=Usdc(authorization.value),
                nonce=authorization.nonce,
                route=route,
                at=self.now(),
                transaction=moved.transaction,
            )
            self.payments[key] = payment
            return payment

    def abandon_settlement(self, authorization: Authorization) -> None:
        with self.lock:
            self._settling.discard((authorization.payer, authorization.nonce))

    # Jobs

    def open_job(
        self,
        order: Order,
        account: Account | None,
        *,
        faults: Mapping[str, Json] | None = None,
        signed: SignIn | None = None,
        payer: str = "",
        charged: Usdc = ZERO,
    ) -> Job:
        """Start a job, charged to the account now or at its end, or already paid directly (`charged`)."""
        with self.lock:
            now = self.now()
            at_end = account is not None and (order.at_end or self.charge_when == "end")
            job = Job(
                queue_id=self.new_id(),
                order=order,
                owner=account.name if account else "",
                opened_at=now,
                ready_at=now + self.job_seconds,
                charge="end" if at_end else "queue",
                fate=fate_of(dict(faults or {})),
                charged=charged,
                payer=payer,
                extra=_extra(order, faults),
                suggestion=_suggestion((faults or {}).get("refuse_content")),
            )
            self.jobs[job.queue_id] = self._running[job.queue_id] = job
            if signed is not None:
                self._job_of_sign_in[signed.wallet, signed.nonce] = job
            if account is not None and at_end:
                account.reserved = account.reserved + order.price
            elif account is not None:
                self._charge(account, job, order.price + job.extra)
            return job

    def _charge(self, account: Account, job: Job, price: Usdc) -> None:
        if account.diem >= price:
            account.diem = account.diem - price
            job.paid_by_diem, job.charged = True, price
            return
        job.charged = -account.enter("CHARGE", -price, self.now(), job.queue_id, job.order.model)
        account.spent = account.spent + job.charged

    def advance(self) -> None:
        """Let time do its work on the running jobs. Called before any job or balance is looked at."""
        with self.lock:
            for job in [job for job in self._running.values() if self.now() >= job.ready_at]:
                self._finish(job)

    def _finish(self, job: Job) -> None:
        del self._running[job.queue_id]
        account = self._owner(job)
        if account is not None and job.charge == "end":
            account.reserved = account.reserved - job.order.price
            if job.fate in ("deliver", "expire", "fail_unrefunded"):
                self._charge(account, job, job.order.final + job.extra)
        job.state = {
            "deliver": "ready", "expire": "expired", "fail": "failed",
            "fail_unrefunded": "failed", "refuse": "refused",
        }[job.fate]  # fmt: skip
        if job.fate in ("fail", "refuse"):
            self._refund(job)

    def end_job(self, job: Job, fate: str, suggestion: str = "") -> None:
        """End a job at once, whatever was planned for it."""
        with self.lock:
            job.fate, job.suggestion = fate, suggestion
            if job.state == "processing":
                self._finish(job)
            elif fate in ("fail", "refuse"):
                job.state = "failed" if fate == "fail" else "refused"
                self._refund(job)
            else:
                job.state = "expired"

    def _refund(self, job: Job) -> None:
        owed = job.charged - job.refunded
        account = self._owner(job)
        if owed <= 0:
            return
        job.refunded = job.charged
        if account is None:
            self.chain.transfer(self.pay_to, job.payer, owed)
        elif job.paid_by_diem:
            account.diem = account.diem + owed
        else:
            account.enter("REFUND", owed, self.now(), job.queue_id, job.order.model)
            account.spent = account.spent - owed

    def _owner(self, job: Job) -> Account | None:
        keys = {account.name: account for account in self._keys.values()}
        return self._accounts.get(job.owner) or keys.get(job.owner)

    # Books

    def note_request(self, method: str, path: str, status: int, wallet: str, code: str) -> None:
        """Remember that a request was answered; 0 when it was left without an answer."""
        with self.lock:
            entry = {"n": len(self._requests) + 1, "at": iso(self.now()), "method": method, "path": path}
            self._requests.append({**entry, "status": status, "wallet": wallet, "code": code})

    def books(self) -> dict[str, object]:
        """Everything the seller wrote down, as plain JSON values; no header and no key is among it."""
        with self.lock:
            self.advance()
            payments = [payment_json(payment) for payment in self.payments.values()]
            accounts = [*self._accounts.values(), *self._keys.values()]
            return {
                "payments": payments,
                "top_ups": [
                    payment for payment in payments if str(payment["route"]).endswith("/x402/top-up")
                ],
                "jobs": [job_json(job) for job in self.jobs.values()],
                "credit": {account.name: int(account.credit) for account in accounts},
                "requests": list(self._requests),
            }


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _extra(order: Order, faults: Mapping[str, Json] | None) -> Usdc:
    """What an overcharge adds: the dollars ordered, else the price once more."""
    if not faults or "overcharge" not in faults:
        return ZERO
    value = faults["overcharge"]
    return Usdc.parse_usd(str(value)) if value is not None else order.price


def _suggestion(value: Json) -> str:
    return value if isinstance(value, str) else "A calm instrumental piece"
