"""The product, broken on purpose: each mutant undoes one rule of the books, and the simulation must find it.

A mutant is a patch of the real code, activated by name. Only tests and `scripts/simulate --mutant` use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any
from unittest.mock import patch

from tests.simulation.plan import Plan, plan_of
from x402_audio.errors import BudgetExceeded, PaymentRejected
from x402_audio.flow import Flow, call
from x402_audio.jobs import advance, unknown
from x402_audio.ledger import database, holds, spending
from x402_audio.ledger.book import Reserve
from x402_audio.ledger.database import Database
from x402_audio.ledger.owner_acts import OwnerActs
from x402_audio.payment import draw, pay
from x402_audio.payment.auth import X402Auth
from x402_audio.payment.pay import Payer
from x402_audio.protocol.exact import Authorization
from x402_audio.protocol.networks import BASE


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """The product with this rule undone; an empty name is the product as it is."""
    with ExitStack() as stack:
        for target, attribute, broken in MUTANTS[name].patches() if name else ():
            stack.enter_context(patch.object(target, attribute, broken))
        yield


Patches = list[tuple[Any, str, Any]]


def new_nonce_on_retry() -> Patches:
    leave = Payer.leave

    def broken(self: Payer, hold: Any, made: Any = None) -> Flow[Any]:
        if hold.state != "signed":
            return (yield from leave(self, hold, made))
        return (yield from self.sign(hold.but(nonce="0x" + self._random(32).hex())))

    return [(Payer, "leave", broken)]


def new_purchase_on_retry() -> Patches:
    """Nothing is adopted: each try has an identity, and so a committed nonce, of its own."""
    asked = X402Auth._asked

    def broken(self: X402Auth, request: Any) -> Any:
        found = asked(self, request)
        return found._replace(identity=f"{found.identity} {self._random(4).hex()}")

    return [(X402Auth, "_asked", broken)]


def new_sign_in_while_unknown() -> Patches:
    send = draw._send

    def broken(session: Any, ask: Any, hold: Any, secret: Any, read: Any) -> Flow[Any]:
        if hold.sends > 1 and hold.kind == "credit":
            secret = session.sign_in(session.api_url + ask.path, session.token())
        return (yield from send(session, ask, hold, secret, read))

    return [(draw, "_send", broken)]


def freed_by_time() -> Patches:
    decide = unknown._decide_authorization

    def broken(desk: Any, hold: Any, chain: Any) -> Flow[Any]:
        if desk.clock.now() > hold.valid_before:
            return (yield from call(lambda: desk.ledger.void(hold.id, evidence="its time is over")))
        return (yield from decide(desk, hold, chain))

    return [(unknown, "_decide_authorization", broken)]


def _freed_when_rejected(evidence: str, told: Callable[[PaymentRejected], bool]) -> tuple[Any, str, Any]:
    send_paid = Payer.send_paid

    def broken(self: Payer, hold: Any, send: Any, **more: Any) -> Flow[Any]:
        try:
            return (yield from send_paid(self, hold, send, **more))
        except PaymentRejected as error:
            if told(error):
                hold_id = str(error.details["hold_id"])
                yield from call(lambda: self.ledger.void(hold_id, evidence=evidence))
            raise

    return Payer, "send_paid", broken


def freed_by_status() -> Patches:
    return [_freed_when_rejected("the status code", lambda error: True)]


def freed_by_the_sellers_word() -> Patches:
    """It says the settlement failed, or shows no row now: so nothing was bought."""

    def silence(desk: Any, hold: Any, groups: Any, known: Any) -> Flow[Any]:
        return (yield from call(lambda: desk.ledger.void(hold.id, evidence="the seller shows no charge")))

    return [
        _freed_when_rejected(
            "the seller says it failed", lambda error: "failed" in str(error.details["error_reason"])
        ),
        (unknown, "_silence", silence),
    ]


def limit_checked_outside_the_lock() -> Patches:
    """Looked at in one transaction, booked in the next: what nobody would notice with one process."""
    looking = [False]
    transaction, refuse = Database.transaction, spending._refuse_over

    class NotKept(Exception):
        pass

    @contextmanager
    def unkept(self: Database) -> Iterator[Any]:
        try:
            with transaction(self) as tx:
                yield tx
                if looking[0]:
                    raise NotKept
        except NotKept:
            pass

    def checked(tx: Any, limit: Any, wish: Any, spent: int, held: int) -> None:
        if looking[0]:
            refuse(tx, limit, wish, spent, held)

    def twice(function: Callable[[], Any], begin: Any = None) -> Flow[Any]:
        def look() -> None:
            looking[0] = True
            try:
                function()
            except BudgetExceeded:
                raise
            except Exception:
                return  # the second time it is said
            finally:
                looking[0] = False

        names = (function.func.__name__,) if isinstance(function, partial) else function.__code__.co_names
        if "reserve" in names:
            yield from call(look)
        return (yield from call(function, begin))

    return [
        (Database, "transaction", unkept), (spending, "_refuse_over", checked), (pay, "call", twice), (draw, "call", twice),
    ]  # fmt: skip


class _SigningFirst:
    """A ledger whose `reserve` comes after the signature."""

    def __init__(self, ledger: Any, payer: Payer) -> None:
        self._ledger = ledger
        self._payer = payer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def reserve(self, wish: Reserve, limits: Any, payee: Any = None) -> Any:
        signed = Authorization(
            from_=wish.wallet, to=wish.pay_to, value=wish.amount, valid_after=wish.valid_after,
            valid_before=wish.valid_before, nonce=bytes.fromhex(wish.nonce[2:]),
        )  # fmt: skip
        self._payer._signer.sign_authorization(BASE, signed)
        return self._ledger.reserve(wish, limits, payee)


def nonce_committed_after_signing() -> Patches:
    init = Payer.__init__

    def broken(self: Payer, signer: Any, ledger: Any, **more: Any) -> None:
        init(self, signer, ledger, **more)
        vars(self)["ledger"] = _SigningFirst(ledger, self)

    return [(Payer, "__init__", broken)]


def completed_before_saved() -> Patches:
    save = advance._save

    def broken(desk: Any, job: Any, response: Any, warnings: Any) -> Flow[Any]:
        yield from desk.session.ask(desk.provider.ask_complete(job.model, job.queue_id))
        return (yield from save(desk, job, response, warnings))

    return [(advance, "_save", broken)]


def folder_not_synced() -> Patches:
    from x402_audio.jobs import download

    return [(download, "_sync_folder", lambda folder: None)]


def second_top_up_for_one_job() -> Patches:
    return [(holds, "_TOPUP_OF_JOB", "SELECT id FROM hold WHERE job_id = ? AND 0")]


def top_ups_not_suspended() -> Patches:
    """Neither the suspension nor the look for a top-up that was paid and never shown."""
    suspend = OwnerActs.suspend

    def broken(self: OwnerActs, wallet: str, origin: str, what: Any, why: str) -> None:
        if what != "top-ups":
            suspend(self, wallet, origin, what, why)

    nowhere = f"{holds._TOPUP_NOT_SHOWN} AND 0"
    return [(OwnerActs, "suspend", broken), (holds, "_TOPUP_NOT_SHOWN", nowhere)]


def body_digest_forgotten() -> Patches:
    opened = X402Auth._opened
    same = tuple(name for name in holds._SAME if name not in ("body_digest", "amount"))

    def broken(self: X402Auth, request: Any, identity: str, digest: str) -> Flow[Any]:
        found = yield from call(lambda: self._ledger.open_hold(self._payer.wallet, identity))
        if found is None:
            return (yield from opened(self, request, identity, digest))
        return found

    return [(X402Auth, "_opened", broken), (holds, "_SAME", same)]


def commits_not_synced() -> Patches:
    unsynced = tuple(one.replace("FULL", "OFF") for one in database._SETTINGS)
    return [(database, "_SETTINGS", unsynced)]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A rule undone. `about`: worlds in which it could matter at all; `rules`: what the judge must say then."""

    patches: Callable[[], Patches]
    rules: tuple[str, ...]
    about: Callable[[Plan], bool]


def _pays(plan: Plan) -> bool:
    return plan.kind in ("direct-v1", "direct-v2") or (plan.credit and plan.funds == "top-up")


def _draws(plan: Plan) -> bool:
    return plan.credit and plan.trouble > 0.1


def _tops_up(plan: Plan) -> bool:
    return plan.kind == "credit" and plan.funds == "top-up" and plan.max_top_up != "0"


MUTANTS: Mapping[str, Mutant] = {
    "a new nonce on retry": Mutant(
        new_nonce_on_retry, ("I6", "P2"), lambda plan: _pays(plan) and plan.trouble > 0.1
    ),
    "a new purchase on retry": Mutant(
        new_purchase_on_retry, ("P2", "P3"), lambda plan: plan.stranger and plan.trouble > 0.1
    ),
    "a new sign-in header while unknown": Mutant(new_sign_in_while_unknown, ("I6", "P2"), _draws),
    "a hold freed by time": Mutant(
        freed_by_time, ("witness", "P2"),
        lambda plan: plan.kind.startswith("direct") and plan.lie in ("takes the money later", "says 402 though paid"),
    ),
    "a hold freed by a status code": Mutant(
        freed_by_status, ("witness", "P2"), lambda plan: plan.lie in ("says 402 though paid", "takes the money later")
    ),
    "a hold freed by the seller's word": Mutant(
        freed_by_the_sellers_word, ("witness", "P2"),
        lambda plan: plan.lie == "says 402 though paid",
    ),
    "a limit checked outside the lock": Mutant(
        limit_checked_outside_the_lock, ("P1", "I3"),
        lambda plan: plan.crowd and plan.stranger and plan.max_per_hour in ("0.69", "1.40"),
    ),
    "a nonce committed after signing": Mutant(nonce_committed_after_signing, ("I6",), _pays),
    "a file completed before it is saved": Mutant(
        completed_before_saved, ("I8",), lambda plan: not plan.stranger and not plan.lie
    ),
    "a folder not synced": Mutant(folder_not_synced, ("I8",), lambda plan: not plan.stranger and not plan.lie),
    "a second top-up for one job": Mutant(
        second_top_up_for_one_job, ("P2",), lambda plan: _tops_up(plan) and plan.foreign_draws
    ),
    "top-ups not suspended": Mutant(
        top_ups_not_suspended, ("top-ups",),
        lambda plan: _tops_up(plan) and plan.lie == "never credits" and plan.jobs > 1,
    ),
    "the body digest forgotten": Mutant(
        body_digest_forgotten, ("P2",), lambda plan: plan.stranger and plan.trouble > 0.1
    ),
    "a commit not synced": Mutant(commits_not_synced, ("I6", "P2", "P3", "P9"), lambda plan: plan.power_cut),
}  # fmt: skip


def seeds_about(name: str, start: int = 0) -> Iterator[int]:
    """The seeds, in order, whose worlds could tell this mutant from the product."""
    return (seed for seed in count(start) if MUTANTS[name].about(plan_of(seed)))
