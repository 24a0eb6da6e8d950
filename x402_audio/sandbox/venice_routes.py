"""The prepaid seller: signed-in calls that draw credit, and one route that sells it.

Each request is signed in, counted and only then looked at; a payment header anywhere but on the top-up route
is refused. Knows no socket.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from x402_audio.jsontext import read_json_object
from x402_audio.money import Usdc
from x402_audio.sandbox.answers import BODY_BYTES_MAX, Answer, RawToken, Refusal, Request, json_answer
from x402_audio.sandbox.audio_routes import AudioRoutes, queue_answer, read_body, refused_content
from x402_audio.sandbox.books import Account, Row, iso
from x402_audio.sandbox.catalog import Order
from x402_audio.sandbox.seller import SandboxSeller
from x402_audio.sandbox.signin import SignIn, SignInFault, read_sign_in
from x402_audio.sandbox.terms import (
    auth_options,
    demand,
    demand_v2,
    entry_v2,
    sign_in_challenge,
    solana_entry,
)
from x402_audio.sandbox.top_up import TopUp
from x402_audio.sandbox.verify import is_address

PAYMENT_HEADERS: Final = ("payment-signature", "x-payment", "x-402-payment")
SIGN_IN_HEADERS: Final = ("sign-in-with-x", "x-sign-in-with-x")
_SUGGESTED: Final = Usdc(10_000_000)
_WALLET_PATH: Final = re.compile(r"/api/v1/x402/(balance|transactions)/([^/]+)")
_SOLANA_ADDRESS: Final = re.compile(r"[1-9A-HJ-NP-Za-km-z]{32,44}", re.ASCII)
_SLOW_DOWN: Final = "Rate limit exceeded. Please try again later."
_SHORT: Final = "Insufficient USD or Diem balance to complete request. Visit https://venice.ai/settings/api to add credits."

Handler = Callable[[Request], Answer]


class VeniceRoutes:
    """Every route of the prepaid seller."""

    def __init__(self, seller: SandboxSeller) -> None:
        self._seller = seller
        self._audio = AudioRoutes(seller)
        self._top_up = TopUp(seller)
        self._routes: dict[tuple[str, str], Handler] = {
            ("GET", "/api/v1/models"): self._audio.models,
            ("POST", "/api/v1/audio/quote"): self._audio.quote,
            ("POST", "/api/v1/audio/queue"): lambda r: self._inference(
                r, "queue", lambda account, signed: self._queue(r, account, signed)
            ),
            ("POST", "/api/v1/audio/retrieve"): lambda r: self._inference(
                r, "retrieve", lambda account, _: self._audio.retrieve(r, account)
            ),
            ("POST", "/api/v1/audio/complete"): lambda r: self._inference(
                r, "complete", lambda account, _: self._audio.complete(r, account)
            ),
            ("POST", "/api/v1/x402/top-up"): self._buy_credit,
            ("GET", "/api/v1/billing/balance"): self._billing_balance,
            ("GET", "/api/v1/api_keys/rate_limits"): self._key_limits,
        }

    def answer(self, request: Request) -> Answer:
        """Answer one request. Never raises for what the caller did."""
        try:
            return self._dispatch(request)
        except Refusal as refusal:
            return refusal.answer

    def _dispatch(self, request: Request) -> Answer:
        top_up = request.path == "/api/v1/x402/top-up"
        if not top_up and request.header(*PAYMENT_HEADERS):
            text = "Payment headers are only accepted on POST /api/v1/x402/top-up"
            return json_answer(400, {"error": text, "code": "PAYMENT_HEADER_NOT_ACCEPTED"})
        found = _WALLET_PATH.fullmatch(request.path)
        if found and request.method == "GET":
            return self._wallet_route(request, found[1], found[2])
        handler = self._routes.get((request.method, request.path))
        if handler is None:
            known = found or any(path == request.path for _, path in self._routes)
            return json_answer(
                405 if known else 404, {"error": "Method not allowed" if known else "Not found"}
            )
        return handler(request)

    # Who is it

    def _signed_in(self, request: Request) -> SignIn:
        """Check the sign-in and spend its nonce. Raises SignInFault."""
        authority = request.origin.partition("://")[2]
        signed = read_sign_in(
            request.header(*SIGN_IN_HEADERS),
            domains=frozenset({authority}),
            chains=frozenset({self._seller.network.chain_id}),
            now=self._seller.now(),
        )
        request.wallet = signed.wallet
        if not self._seller.spend_nonce(signed):
            raise SignInFault("NONCE_REUSED")
        return signed

    def _caller(self, request: Request) -> tuple[Account, SignIn | None]:
        """The account an inference route draws on. Raises Refusal: 401, 402 c, 429."""
        if request.header(*SIGN_IN_HEADERS):
            try:
                signed = self._signed_in(request)
            except SignInFault as fault:
                body = {"error": "Sign-in-with-x authentication failed", "code": f"X402_SIGN_IN_{fault.word}"}
                raise Refusal(json_answer(401, body)) from fault
            account = self._seller.account(signed.wallet)
            self._hold_slot(request, account)
            return account, signed
        return self._key_account(request), None

    def _key_account(self, request: Request) -> Account:
        scheme, _, key = request.header("authorization").partition(" ")
        if not key:
            raise Refusal(self._no_credentials(request))
        account = self._seller.account_of_key(key.strip()) if scheme.lower() == "bearer" else None
        if account is None:
            raise Refusal(json_answer(401, {"error": "Authentication failed"}))
        request.wallet = account.name
        return account

    def _hold_slot(self, request: Request, account: Account) -> None:
        """One of the wallet's requests in flight, until the answer is out."""
        most = self._seller.limits.in_flight
        with self._seller.lock:
            if most is not None and account.in_flight >= most:
                body = {
                    "error": "Too many concurrent requests for this wallet",
                    "code": "X402_CONCURRENCY_LIMIT",
                }
                raise Refusal(json_answer(429, body))
            account.in_flight += 1

        def leave() -> None:
            with self._seller.lock:
                account.in_flight -= 1

        request.on_end.append(leave)

    def _no_credentials(self, request: Request, *, payable: bool = True) -> Answer:
        """402 forms c and d: looks like an offer for this URL and is not one."""
        seller = self._seller
        entries = self._ten_dollars() if payable else []
        challenge = sign_in_challenge(
            request, seller.network.chain_id, seller.new_id().replace("-", ""), seller.now()
        )
        terms = demand_v2(request.url, entries, {"sign-in-with-x": challenge}, "Payment required")
        body = {**terms, "authOptions": auth_options()}
        return demand(terms, faults=request.faults, in_header=True, body=body)

    def _ten_dollars(self) -> list[dict[str, object]]:
        base = entry_v2(self._seller.network, self._seller.pay_to, _SUGGESTED, lower_case=True)
        return [base, solana_entry(_SUGGESTED, "solana")]

    # How often

    def _within(self, what: str, who: str, most: int | None, refusal: Callable[[], Answer]) -> None:
        seller = self._seller
        with seller.lock:
            if most is not None and seller.rates.count(what, who, seller.clock.monotonic(), 60) >= most:
                raise Refusal(refusal())
            seller.rates.add(what, who, seller.clock.monotonic())

    def _too_often(self, what: str, who: str) -> Answer:
        seller = self._seller
        wait = 60 - (seller.clock.monotonic() - seller.rates.oldest(what, who))
        reset = str(int((seller.now() + wait) * 1000))
        return json_answer(429, {"error": "Rate limit exceeded"}, ("x-ratelimit-reset-requests", reset))

    # Calls that draw credit

    def _inference(
        self, request: Request, what: str, act: Callable[[Account, SignIn | None], Answer]
    ) -> Answer:
        self._check_error_budget(request)
        try:
            account, signed = self._caller(request)
            most = {"queue": self._seller.limits.queue, "retrieve": self._seller.limits.retrieve}.get(what)
            self._within(what, account.name, most, lambda: self._too_often(what, account.name))
            self._seller.advance()
            self._check_floor(request, account)
            answer = act(account, signed)
        except Refusal as refusal:
            answer = refusal.answer
        if 400 <= answer.status < 500 and answer.status != 429:
            with self._seller.lock:
                self._seller.rates.add("errors", _budget(request), self._seller.clock.monotonic())
        return answer

    def _check_error_budget(self, request: Request) -> None:
        seller, most = self._seller, self._seller.limits.errors
        with seller.lock:
            failed = seller.rates.count("errors", _budget(request), seller.clock.monotonic(), 30)
        if most is not None and failed > most:
            raise Refusal(
                json_answer(429, {"error": "Too many failed requests. Please try again in 30 seconds."})
            )

    def _check_floor(self, request: Request, account: Account) -> None:
        """402 form e: less than the floor of credit, on any inference route."""
        if not account.is_wallet or account.credit >= self._seller.floor or account.diem > 0:
            return
        seller = self._seller
        challenge = sign_in_challenge(
            request, seller.network.chain_id, seller.new_id().replace("-", ""), seller.now()
        )
        terms = demand_v2(request.url, self._ten_dollars(), {"sign-in-with-x": challenge}, "Payment required")
        body: dict[str, object] = {
            "error": "Payment required",
            "code": "PAYMENT_REQUIRED",
            "reason": "insufficient_balance",
            "currentBalanceUsd": account.credit,
            "minimumBalanceUsd": seller.floor,
            "suggestedTopUpUsd": _SUGGESTED,
            "minimumTopUpUsd": seller.minimum_top_up,
            "topUpInstructions": {
                "step1": "POST /api/v1/x402/top-up",
                "header": "X-402-Payment",
                "network": "base",
            },
            "siwxChallenge": challenge,
        }
        raise Refusal(demand(terms, faults=request.faults, in_header=True, body=body))

    def _queue(self, request: Request, account: Account, signed: SignIn | None) -> Answer:
        order = self._audio.order(read_body(request))
        with self._seller.lock:
            self._check_covered(account, order)
            job = self._seller.open_job(order, account, faults=request.faults, signed=signed)
            if job.fate == "refuse":
                self._seller.end_job(job, "refuse", job.suggestion)
                return refused_content(job)
        return json_answer(200, queue_answer(job))

    def _check_covered(self, account: Account, order: Order) -> None:
        """402 forms f, g and h."""
        if account.spend_limit is not None and account.spent + order.price > account.spend_limit:
            text = "API key USD spend limit exceeded. Raise the limit of this key or use another."
            raise Refusal(json_answer(402, {"error": text}, code="KEY_LIMIT"))
        if account.spendable < order.price and account.diem < order.price:
            raise Refusal(json_answer(402, {"error": _SHORT}, code="INSUFFICIENT_BALANCE"))

    # Credit

    def _buy_credit(self, request: Request) -> Answer:
        self._within(
            "top_up",
            request.peer,
            self._seller.limits.top_up,
            lambda: json_answer(429, {"error": _SLOW_DOWN}),
        )
        return self._top_up.answer(request, request.header(*PAYMENT_HEADERS))

    def _wallet_route(self, request: Request, what: str, wallet: str) -> Answer:
        if not request.header(*SIGN_IN_HEADERS):
            return self._no_credentials(request, payable=False)
        if not is_address(wallet) and not _SOLANA_ADDRESS.fullmatch(wallet):
            return json_answer(
                400, {"error": "Invalid request parameters", "details": {"_errors": ["Invalid wallet"]}}
            )
        try:
            signed = self._signed_in(request)
        except SignInFault as fault:
            return json_answer(
                401, {"error": "Invalid Sign-in-with-x signature"}, code=f"X402_SIGN_IN_{fault.word}"
            )
        if signed.wallet != wallet.lower():
            return json_answer(403, {"error": "Wallet address does not match the authenticated wallet"})
        account = self._seller.account(wallet)
        self._hold_slot(request, account)
        most = self._seller.limits.balance if what == "balance" else self._seller.limits.transactions
        self._within(what, account.name, most, lambda: json_answer(429, {"error": _SLOW_DOWN}))
        self._seller.advance()
        with self._seller.lock:
            return (
                self._balance(request, account) if what == "balance" else self._transactions(request, account)
            )

    def _balance(self, request: Request, account: Account) -> Answer:
        raw = request.faults.get("raw_balance")
        data: dict[str, object] = {
            "walletAddress": account.name,
            "balanceUsd": account.credit if raw is None else RawToken(str(raw)),
            "canConsume": account.credit >= self._seller.floor or account.diem > 0,
            "minimumTopUpUsd": self._seller.minimum_top_up,
            "suggestedTopUpUsd": _SUGGESTED,
        }
        if account.diem > 0:
            data["diemBalanceUsd"] = account.diem
        return json_answer(200, {"success": True, "data": data})

    def _transactions(self, request: Request, account: Account) -> Answer:
        limit, offset = _whole(request.query.get("limit", "50")), _whole(request.query.get("offset", "0"))
        if limit is None or offset is None or not 1 <= limit <= 100:
            return json_answer(
                400, {"error": "Invalid request parameters", "details": {"_errors": ["limit, offset"]}}
            )
        rows = account.rows[::-1]
        return json_answer(200, {"success": True, "data": {
            "walletAddress": account.name,
            "currentBalance": account.credit,
            "transactions": [_row(row) for row in rows[offset : offset + limit]],
            "pagination": {"limit": limit, "offset": offset, "hasMore": offset + limit < len(rows)},
        }})  # fmt: skip

    # Keys

    def _bearer_only(self, request: Request) -> Account:
        if request.header(*SIGN_IN_HEADERS) and not request.header("authorization"):
            raise Refusal(json_answer(401, {"error": "Authentication failed"}))
        return self._key_account(request)

    def _billing_balance(self, request: Request) -> Answer:
        account = self._bearer_only(request)
        if account.key_kind != "ADMIN":
            return json_answer(401, {"error": "Authentication failed"})
        usd = account.credit if account.credit > 0 else None
        return json_answer(200, {
            "canConsume": usd is not None,
            "consumptionCurrency": "USD" if usd else None,
            "balances": {"diem": account.diem or None, "usd": usd, "bundledCredits": None, "earnedCredits": None},
            "diemEpochAllocation": account.diem,
        })  # fmt: skip

    def _key_limits(self, request: Request) -> Answer:
        account = self._bearer_only(request)
        usd = account.credit
        if account.spend_limit is not None:
            usd = min(usd, account.spend_limit - account.spent)
        data = {"accessPermitted": usd > 0, "balances": {"USD": usd, "DIEM": account.diem}, "rateLimits": []}
        return json_answer(200, {"data": data})


def _budget(request: Request) -> str:
    """Whose error budget a call draws on: the address and the model it names."""
    try:
        model = read_json_object(request.body, bytes_max=BODY_BYTES_MAX).get("model")
    except ValueError:
        model = None
    return f"{request.peer} {model}"


def _row(row: Row) -> dict[str, object]:
    return {
        "id": row.id,
        "amount": row.amount,
        "balanceAfter": row.balance_after,
        "type": row.type,
        "createdAt": iso(row.at),
        "requestId": row.request_id,
        "modelId": row.model_id,
    }


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
