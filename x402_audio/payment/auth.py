"""`X402Auth`: the payment flow inside anybody's plain `httpx.Client` or `httpx.AsyncClient`.

A purchase is (wallet, method, URL, body digest), or the name the caller gives it. While its hold is open the same
request sends the stored payment again; after a delivered 2xx an equal request is a new purchase; what was paid and
never answered is bought no second time, and a name is bought once, answered or not. The client's own transport,
proxy, TLS and limits stay as they are; a streamed answer stays streamed; secrets travel one hop. On a prepaid origin
requests are signed in, and a call that can draw credit is a payment like any other.

httpx closes the auth flow when its transport fails, so everything that must be true then was committed before.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar, cast

import httpx

from x402_audio.clock import Clock, Random, SystemClock, system_random
from x402_audio.errors import (
    AboveMaximum,
    ForeignOrigin,
    Frozen,
    InsufficientBalance,
    LedgerError,
    PaymentRefused,
    PaymentRejected,
    PaymentUnsettled,
    ProtocolError,
    X402AudioError,
)
from x402_audio.flow import (
    Call,
    Flow,
    Send,
    Sleep,
    begun,
    call,
    forget_locals,
    in_thread,
    read_bounded,
    read_bounded_async,
    send,
    take_in,
    take_in_async,
)
from x402_audio.ledger.book import LIVE, Hold, Ledger, Limit, Reading
from x402_audio.ledger.holds import paid_already
from x402_audio.ledger.limits import DEFAULTS
from x402_audio.money import ZERO, Usdc
from x402_audio.payment.books import knowing
from x402_audio.payment.delivery import has_come, is_short, watch
from x402_audio.payment.draw import Draw, Drawn, draw_credit, not_bought
from x402_audio.payment.onehop import attach, detach
from x402_audio.payment.origin import origin_of
from x402_audio.payment.pay import ChainBalance, Payer, Purchase, Receipt, receipt_for, unsettled
from x402_audio.payment.policy import PaymentPolicy, check_channel, check_same_origin
from x402_audio.payment.prepaid import Account, TopUp, await_credit, top_up, trusted_credit
from x402_audio.payment.session import SellerSession
from x402_audio.protocol.signer import Signer
from x402_audio.providers.provider import Answer, Ask, Queued, Refused, Shortfall, Unclear
from x402_audio.providers.venice import VENICE_ORIGIN, VENICE_PAYEE, Venice
from x402_audio.secret import Secret

T = TypeVar("T")
EXTENSION: Final = "x402_audio"
RECEIPT: Final = "x402_audio_receipt"
SENDINGS_MAX: Final = 20
"""Requests of one purchase: as many as httpx allows redirects unless told otherwise."""
_FREE_PATHS: Final = ("/audio/retrieve", "/audio/complete")
_OPEN_PATHS: Final = ("/models", "/audio/quote")


class TooManySendings(httpx.TransportError):
    """Not sent: httpx counts our requests as redirects and would end the flow without letting it speak."""


def receipt_of(response: httpx.Response) -> Receipt:
    """What was paid for this response. Raises LookupError when nothing was."""
    receipt = response.extensions.get(RECEIPT)
    if not isinstance(receipt, Receipt):
        raise LookupError("nothing was paid for this response")
    return receipt


@dataclass(frozen=True, slots=True)
class Prepaid:
    """An origin with prepaid credit: its API base, and whether one top-up per purchase may be made there."""

    api_url: str
    top_ups_allowed: bool = False


class X402Auth(httpx.Auth):
    """Pays 402 answers within policy and ledger limits. One instance may serve many clients and threads.

    limits: as if written on a command line: with `policy.max_amount` they may raise the built-in defaults, never what
    the ledger or its other programs hold. prepaid: API bases with prepaid credit; Venice's own is known. Raises the
    package's typed errors from `client.send`; a failing transport raises httpx's error and the next equal request
    sends the same payment again.
    """

    def __init__(
        self,
        signer: Signer,
        ledger: Ledger,
        policy: PaymentPolicy,
        *,
        limits: Sequence[Limit] = (),
        prepaid: Sequence[Prepaid] = (Prepaid(f"{VENICE_ORIGIN}/api/v1", top_ups_allowed=True),),
        chain: ChainBalance | None = None,
        environment: str = "live",
        label: str = "",
        clock: Clock | None = None,
        random: Random = system_random,
    ) -> None:
        self._clock = clock or SystemClock()
        self._random = random
        self._signer = signer
        known = {VENICE_ORIGIN: VENICE_PAYEE, **policy.expected_payees}
        self._policy = replace(policy, expected_payees=known)
        self._ledger = ledger
        self._limits = _standing(limits, policy)
        self._label = label
        self._environment = environment
        self._payer = Payer(
            signer,
            ledger,
            limits=self._limits,
            clock=self._clock,
            random=random,
            environment=environment,
            chain=chain,
        )
        self._accounts = {origin_of(httpx.URL(entry.api_url)): self._account(entry) for entry in prepaid}

    def __repr__(self) -> str:
        return f"X402Auth(wallet={self._payer.wallet})"

    # --- the two drivers
    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        flow, sent, before = self._flow(request), [request], sys.exception()
        result: object = None
        try:
            step = next(flow)
            while True:
                try:
                    match step:
                        case Send(outgoing, stream, whole):
                            _note(outgoing, sent)
                            response = yield outgoing
                            paid = detach(outgoing)
                            if not (stream and _stays_open(response, paid=paid)):
                                read_bounded(response, monotonic=self._clock.monotonic)
                            elif whole and is_short(response):
                                take_in(response, monotonic=self._clock.monotonic)
                            result = response
                        case Call(function, _):
                            result = function()
                        case Sleep(seconds):
                            time.sleep(seconds)
                            result = None
                        case _:
                            raise AssertionError(step)
                except Exception as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(result)
        except StopIteration:
            return
        except GeneratorExit:
            pass  # httpx closes us when its transport failed; what failed is being handled outside
        except BaseException as error:
            forget_locals(error, before)
            raise
        finally:
            flow.close()
            result = None  # it may be a stored header
            for each in sent:
                detach(each)
        if (failed := sys.exception()) is not None:
            forget_locals(failed, before)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        flow, sent, before = self._flow(request), [request], sys.exception()
        result: object = None
        try:
            step = next(flow)
            while True:
                try:
                    match step:
                        case Send(outgoing, stream, whole):
                            _note(outgoing, sent)
                            response = yield outgoing
                            paid = detach(outgoing)
                            if not (stream and _stays_open(response, paid=paid)):
                                await read_bounded_async(response, monotonic=self._clock.monotonic)
                            elif whole and is_short(response):
                                await take_in_async(response, monotonic=self._clock.monotonic)
                            result = response
                        case Call(function, begin):
                            result = await (in_thread(function) if begin is None else begun(function, begin))
                        case Sleep(seconds):
                            await asyncio.sleep(seconds)
                            result = None
                        case _:
                            raise AssertionError(step)
                except Exception as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(result)
        except StopIteration:
            return
        except GeneratorExit:
            pass  # httpx closes us when its transport failed; what failed is being handled outside
        except BaseException as error:
            forget_locals(error, before)
            raise
        finally:
            flow.close()
            result = None  # it may be a stored header
            for each in sent:
                detach(each)
        if (failed := sys.exception()) is not None:
            forget_locals(failed, before)

    # --- the one body
    def _flow(self, request: httpx.Request) -> Flow[None]:
        if {"br", "zstd"} & set(request.headers.get("accept-encoding", "").replace(" ", "").split(",")):
            # A demand is ours to read, and nothing bounds what a few of those bytes unpack to.
            request.headers["accept-encoding"] = "gzip, deflate"
        origin = origin_of(request.url)
        account = self._accounts.get(origin)
        paid = self._prepaid(request, account) if account is not None else self._direct(request, origin)
        known = knowing(paid, lambda: self._open_holds(request), then="send the same request again")
        yield from self._as_it_stands(known, request)

    def _as_it_stands(self, flow: Flow[None], request: httpx.Request) -> Flow[None]:
        """Run a flow; who asks beside others, and came late, is told what became of the one payment meanwhile."""
        try:
            yield from flow
        except (PaymentRefused, PaymentRejected, PaymentUnsettled) as error:
            with suppress(LedgerError):
                yield from call(partial(self._tell_late, error, request))
            raise

    def _tell_late(self, error: X402AudioError, request: httpx.Request) -> None:
        identity, url, digest = self._asked(request)
        moved = error.money_moved
        named = identity.startswith("named:")
        if (hold_id := error.details.get("hold_id")) is not None:
            hold: Hold | None = self._ledger.hold(str(hold_id))
        else:
            hold = self._ledger.unanswered(self._payer.wallet, identity)
        if hold is None or hold.state != "settled" or isinstance(error, Frozen):
            return
        if moved == "no" or (moved == "yes" and not isinstance(error, PaymentRefused)):
            return  # of something else, or it knew that this had moved
        if (hold.method, hold.resource, hold.body_digest) != (request.method, url, digest):
            return
        error.money_moved = "yes"
        if hold.delivered_at is not None and not named:
            error.retry, error.owner = "never", "agent"
            error.next_step = (
                "another asker has its answer; the same again is a new purchase, unless they share a name"
            )
        elif self._payer.owed(hold):
            error.retry, error.owner = "same_id", "agent"
            error.next_step = "send the same request again: it is answered for the same payment"

    def _open_holds(self, request: httpx.Request) -> list[Hold]:
        """What this purchase, or a top-up for it, has on its way."""
        identity = self._asked(request).identity
        wallet = self._payer.wallet
        opened = self._ledger.open_hold(wallet, identity)
        top_ups = self._ledger.holds(wallet=wallet, kind="topup", states=("signed",))
        return [*top_ups, *([] if opened is None else [opened])]

    def _direct(self, request: httpx.Request, origin: str) -> Flow[None]:
        identity, url, digest = self._asked(request)
        hold, made = None, None
        if digest is not None:
            opened = yield from self._opened(request, identity, digest)
            hold = yield from self._payer.still_fit(opened)
        if hold is None:
            response = yield from send(request, stream=True)
            if response.status_code != 402:
                return
            answered = response.request.url
            if answered is not request.url and answered != request.url:
                check_same_origin(request.url, answered)
                raise ForeignOrigin(
                    "the request was redirected before payment was asked; ask that URL itself"
                )
            if digest is None:
                raise PaymentRefused(
                    "a streamed request body cannot be sent twice, so it is not paid for",
                    next_step="send the body as bytes (content=..., json=...)",
                )
            terms = self._payer.read_demand(response)
            purchase = Purchase(
                identity=identity, kind="direct", method=request.method, url=url, origin=origin, body_digest=digest,
                label=self._label, size=_size_of(request.method, url, digest),
            )  # fmt: skip
            limits = self._stated_limits(request)
            hold, made = yield from self._payer.prepare(terms, self._policy, purchase, limits)
        paid, hold = yield from self._payer.send_paid(
            hold, lambda secrets: self._send(request, secrets), made=made
        )
        if any(earlier.has_redirect_location for earlier in paid.history):
            raise unsettled(hold, "the paid request was redirected, and the payment did not follow")
        yield from self._served(hold, self._concluded(hold, paid))

    def _concluded(self, hold: Hold, paid: httpx.Response) -> Flow[None]:
        hold = yield from self._payer.conclude(hold, paid, came=has_come(paid))
        yield from self._hand_over(hold, paid)

    def _served(self, hold: Hold, flow: Flow[None]) -> Flow[None]:
        """Run a purchase's last steps; who is cancelled meanwhile has no answer, and may ask for it again unpaid."""
        try:
            yield from flow
        except GeneratorExit:
            with suppress(LedgerError):
                self._ledger.take_back(hold.id, "its asker was gone when the answer came")
            raise

    def _hand_over(self, hold: Hold, paid: httpx.Response) -> Flow[None]:
        """The answer with its receipt; delivered once its body has come."""
        paid.extensions[RECEIPT] = receipt_for(hold)
        if hold.delivered_at is not None:
            return
        if has_come(paid):
            yield from self._payer.books(partial(self._payer.came, hold))
        else:
            watch(paid, partial(self._payer.came, hold))

    def _send(self, request: httpx.Request, secrets: Mapping[str, Secret]) -> Flow[httpx.Response]:
        attach(request, dict(secrets))
        return (yield from send(request, stream=True, whole=True))

    def _asked(self, request: httpx.Request) -> _Asked:
        url = str(request.url)
        try:
            body = request.content
        except httpx.RequestNotRead:
            return _Asked("", url, None)
        digest = hashlib.sha256(body).hexdigest()
        named = self._stated(request).get("purchase")
        key = named or f"{request.method} {url} {digest}"
        name = hashlib.sha256(str(key).encode()).hexdigest()
        return _Asked(f"{'named' if named else 'auth'}:{name}", url, digest)

    def _opened(self, request: httpx.Request, identity: str, digest: str) -> Flow[Hold | None]:
        """The purchase's open hold. Raises PaymentUnsettled when its name comes with another request."""
        opened = yield from self._payer.standing(identity)
        if opened is None:
            return None
        answered = opened.delivered_at is not None
        if (opened.state not in LIVE or answered) and not self._payer.owed(opened):
            raise paid_already(opened)
        then, now = httpx.URL(opened.resource), request.url
        same = (opened.method, opened.body_digest, opened.origin) == (request.method, digest, origin_of(now))
        if not same or then.path != now.path or (opened.kind == "direct" and then != now):
            raise unsettled(
                opened, "an open purchase of this name is for another request; name this one otherwise"
            )
        return opened

    def _stated(self, request: httpx.Request) -> Mapping[str, Any]:
        stated = request.extensions.get(EXTENSION)
        return cast(Mapping[str, Any], stated) if isinstance(stated, Mapping) else {}

    def _stated_limits(self, request: httpx.Request) -> tuple[Limit, ...]:
        most = self._stated_price(request)
        return () if most is None else _at_most(most)

    def _stated_price(self, request: httpx.Request) -> Usdc | None:
        text = self._stated(request).get("max_price")
        return None if text is None else Usdc.parse_usd(str(text))

    # --- prepaid origins
    def _account(self, entry: Prepaid) -> tuple[Account, Prepaid]:
        session = SellerSession(entry.api_url, clock=self._clock, random=self._random, signer=self._signer)
        seller = Venice(billing="credit")
        return Account(session, seller, self._ledger, self._clock), entry

    def _prepaid(self, request: httpx.Request, known: tuple[Account, Prepaid]) -> Flow[None]:
        account, entry = known
        check_channel(request.url)
        base = account.session.url.path.rstrip("/") + "/"
        path = "/" + request.url.path.removeprefix(base)
        if path in _OPEN_PATHS or (request.method == "GET" and not request.url.path.startswith(base)):
            yield from send(request, stream=True)
            return
        if path in _FREE_PATHS or request.method == "GET":
            token = account.session.token()
            attach(
                request, {account.session.profile.sign_in: account.session.sign_in(str(request.url), token)}
            )
            yield from send(request, stream=True)
            return
        if path == "/x402/top-up":
            raise PaymentRefused("top-ups are made by the client or the command, not by a request of yours")
        if request.method != "POST" or not request.url.path.startswith(base):
            raise PaymentRefused(
                f"{request.method} {request.url.path} is no call of this seller's that may be paid"
            )
        yield from self._draw(request, account, entry, path)

    def _draw(self, request: httpx.Request, account: Account, entry: Prepaid, path: str) -> Flow[None]:
        """A call that can draw credit: priced, gated, reserved, then sent once under its token."""
        identity, url, digest = self._asked(request)
        if digest is None:
            raise PaymentRefused("a streamed request body cannot be sent twice, so it is not paid for")
        price = self._stated_price(request)
        if path == "/audio/queue":
            quoted = yield from self._quote(request, account)
            if price is not None and quoted > price:
                raise AboveMaximum(f"{quoted} is quoted, at most {price} is allowed")
            price = quoted
        if price is None:
            raise PaymentRefused(
                f"{request.method} {path} can draw credit and its price is not known",
                next_step='state it: extensions={"x402_audio": {"max_price": "0.30"}}',
            )
        if self._policy.most is not None and price > self._policy.most:
            raise AboveMaximum(f"{price} is asked, at most {self._policy.most} is allowed")
        seller = cast(Venice, account.seller)
        model = _model_of(request)
        opened = yield from self._opened(request, identity, digest)
        if opened is None:
            yield from self._ensure(account, entry, price, seller.floor)
        ask = Ask("POST", path, body=None, signed=True, route="queue")
        held = _Held(account.session, request, ask)
        draw = Draw(
            ask=ask, price=price, identity=identity, kind="credit", floor=seller.floor, model=model, label=self._label,
            late_charge=seller.charges_late(model), body_digest=digest,
            size=_size_of(request.method, url, digest),
        )  # fmt: skip
        drawn: Drawn = yield from draw_credit(
            self._ledger, held, draw, (*self._limits, *self._stated_limits(request)),
            network=self._policy.network.caip2, asset=self._policy.network.usdc, environment=self._environment,
            now=self._clock.now, read=seller.read_queued if path == "/audio/queue" else _read_any,
        )  # fmt: skip
        yield from self._book(drawn)

    def _book(self, drawn: Drawn) -> Flow[None]:
        hold, outcome = drawn.hold, drawn.outcome
        if isinstance(outcome, Unclear) or (isinstance(outcome, Refused) and outcome.status == 422):
            text = (
                outcome.message
                if isinstance(outcome, Unclear)
                else "the content was refused; a charge may stand"
            )
            raise PaymentUnsettled(
                f"{text}; {hold.amount} may have been drawn",
                hold_id=hold.id,
                nonce="",
                valid_before=hold.valid_before,
            )
        assert drawn.response is not None
        if isinstance(outcome, Queued):
            yield from self._served(hold, self._drawn(hold, outcome, drawn.response))
            return
        yield from not_bought(self._ledger, hold, evidence="the first sending was answered: not bought")
        if isinstance(outcome, Shortfall):
            raise InsufficientBalance(
                f"the seller wants more credit: {outcome.message}", balance=ZERO, needed=hold.amount,
                missing=hold.amount, suggested_top_up=ZERO,
            )  # fmt: skip

    def _drawn(self, hold: Hold, outcome: Queued, response: httpx.Response) -> Flow[None]:
        came = has_come(response)
        settle = partial(self._ledger.settle, hold.id, charge_id=outcome.queue_id, delivered=came)
        booked = yield from call(partial(settle, evidence="queue_id given"))
        yield from self._hand_over(booked, response)

    def _quote(self, request: httpx.Request, account: Account) -> Flow[Usdc]:
        from x402_audio.jsontext import read_json_object

        try:
            body = read_json_object(request.content, bytes_max=1 << 20)
        except ValueError:
            raise ProtocolError("the body of a queue call is a JSON object") from None
        wish: dict[str, object] = {"model": body.get("model")}
        if "duration_seconds" in body:
            wish["duration_seconds"] = body["duration_seconds"]
        prompt = body.get("prompt")
        ask = Ask("POST", "/audio/quote", body=wish)
        answer = yield from account.session.ask(ask)
        if answer.status == 400 and isinstance(prompt, str):
            ask = Ask("POST", "/audio/quote", body={**wish, "character_count": len(prompt.strip())})
            answer = yield from account.session.ask(ask)
        return cast(Venice, account.seller).read_quote(answer)

    def _ensure(
        self, account: Account, entry: Prepaid, price: Usdc, floor: Usdc, fresh_s: float = 2.0
    ) -> Flow[None]:
        reading: Reading = yield from trusted_credit(account, fresh_s=fresh_s)
        needed = price + floor
        if reading.trust == "agreed" and reading.available >= needed:
            return
        missing = Usdc(max(needed - reading.available, 0))
        if reading.trust != "agreed" or not entry.top_ups_allowed or reading.diem is not None:
            raise InsufficientBalance(
                f"credit lacks {missing}",
                balance=reading.balance,
                needed=needed,
                missing=missing,
                suggested_top_up=missing,
            )
        # What one top-up may be is the owner's limit in the ledger (none: off); `max_amount` is about a purchase.
        policy = replace(self._policy, max_amount=None, quoted=None)
        wish = TopUp(
            missing=missing, amount=None, limits=self._limits, allowed=True, label=self._label, read_at=reading.read_at
        )  # fmt: skip
        try:
            yield from top_up(account, self._payer, policy, wish)
        except PaymentUnsettled as error:
            hold_id = error.hold_id
            neighbour = yield from call(lambda: account.ledger.hold(hold_id))
            if neighbour.state != "settled":
                raise
            if neighbour.delivered_at is None:
                yield from await_credit(account, neighbour)
            yield from self._ensure(account, entry, price, floor, fresh_s=0.0)


class _Asked(NamedTuple):
    """What a request asks for: the purchase it is, its URL, and its body's digest, None for one that cannot be sent twice."""

    identity: str
    url: str
    digest: str | None


class _Held(SellerSession):
    """A session that sends the caller's own request object instead of building one."""

    def __init__(self, session: SellerSession, request: httpx.Request, ask: Ask) -> None:
        self.__dict__.update(session.__dict__)
        self._request = request
        self._ask_of_request = ask

    def send_now(
        self,
        ask: Ask,
        secrets: Mapping[str, Secret],
        *,
        stream: bool = False,
        timeout: httpx.Timeout | None = None,
    ) -> Flow[httpx.Response]:
        del stream, timeout  # the caller's request says how long to wait; only an answer we must read is read
        attach(self._request, dict(secrets))
        return (yield from send(self._request, stream=ask.path != "/audio/queue"))


def _standing(limits: Sequence[Limit], policy: PaymentPolicy) -> tuple[Limit, ...]:
    """The caller's limits as flags, above the built-in ones: without any, what a fresh command would allow."""
    given = [limit._replace(source="flag") if limit.source == "default" else limit for limit in limits]
    if policy.most is not None:
        given += _at_most(policy.most)
    if policy.unasked is not None:
        given.append(Limit("jobs", "unasked", policy.unasked, source="flag"))
    return (*given, *DEFAULTS)


def _at_most(amount: Usdc) -> tuple[Limit, ...]:
    """A caller's maximum for one purchase, which is one payment and one job."""
    return (
        Limit("jobs", "payment", amount, source="flag"),
        Limit("jobs", "job", amount, source="flag"),
    )


def _note(request: httpx.Request, sent: list[httpx.Request]) -> None:
    """Keep what leaves, to take its secrets off again, and stop before httpx does."""
    if len(sent) > SENDINGS_MAX:
        raise TooManySendings(f"one purchase may take {SENDINGS_MAX} requests")
    sent.append(request)


def _stays_open(response: httpx.Response, *, paid: bool) -> bool:
    """A delivered answer is the caller's to read; a 402, or a refusal of what was paid, is ours."""
    return 200 <= response.status_code < 300 or (response.status_code != 402 and not paid)


def _read_any(answer: Answer) -> Queued | Shortfall | Refused | Unclear:
    """The outcome of another drawing call: 2xx is bought, the documented refusals are not, the rest is unknown."""
    if 200 <= answer.status < 300:
        return Queued("", "")
    if answer.status in (400, 402, 403, 404, 413, 415, 429):
        return Refused(answer.status, "", f"HTTP {answer.status}")
    return Unclear(f"the seller answered {answer.status}")


def _size_of(method: str, url: str, digest: str) -> str:
    """What the price of somebody's own request depends on: nobody knows, so only the very same request compares."""
    return "request " + hashlib.sha256(f"{method} {url} {digest}".encode()).hexdigest()[:16]


def _model_of(request: httpx.Request) -> str:
    from x402_audio.jsontext import read_json_object

    try:
        model = read_json_object(request.content, bytes_max=1 << 20).get("model")
    except ValueError:
        return ""
    return model if isinstance(model, str) else ""


__all__ = ["Prepaid", "Receipt", "X402Auth", "receipt_of"]
