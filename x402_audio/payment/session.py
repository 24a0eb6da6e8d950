"""Speaking to one seller: credentials for one hop, rate tickets, slots, and repeats of calls that cost nothing.

A call that can spend goes through `send_once`: exactly one request, never repeated here. Everything else goes through
`ask`, which may repeat with a new sign-in header each time. Knows nothing of prices, holds or jobs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Final, Protocol

import httpx

from x402_audio import __version__
from x402_audio.clock import Clock, Random
from x402_audio.errors import LedgerBusy, SellerUnreachable
from x402_audio.flow import ANSWER_BYTES_MAX, AnswerTooLong, Flow, call, chunk, close, send, sleep
from x402_audio.payment.onehop import attach
from x402_audio.payment.origin import is_loopback, origin_of
from x402_audio.protocol.signer import Signer
from x402_audio.protocol.siwx import CURRENT_HEADERS, HeaderProfile, sign_in_header
from x402_audio.providers.answers import retry_after_seconds, sign_in_code
from x402_audio.providers.provider import Answer, Ask
from x402_audio.secret import Secret

VENICE_HOST: Final = "api.venice.ai"
PER_MINUTE: Final[Mapping[str, tuple[float, int]]] = {
    "queue": (36, 4), "retrieve": (108, 4), "balance": (24, 3), "transactions": (16, 2), "top-up": (8, 2),
}  # fmt: skip
"""Calls a minute and how many may come at once, per wallet over all processes: with the burst never above 90 % of the
published figure (balance 27, transactions 18; queue and retrieve at their rate). Other routes are not counted."""
IN_FLIGHT_MAX: Final = 5
SLOT_LEASE_S: Final = 180.0
"""Longer than any request's timeouts; a dead process's places are free at once."""
REPEATS_MAX: Final = 3
SIGN_IN_LIFETIME_S: Final = 240
OFFSET_LIFE_S: Final = 600
OFFSET_MAX_S: Final = 86_400
_OF_THE_LINE: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})
TRANSIENT: Final = frozenset({500, 502, 503, 504})
CLOCK_CODES: Final = frozenset({"EXPIRED", "FUTURE_TIMESTAMP", "NOT_BEFORE"})

PAID_TIMEOUT: Final = httpx.Timeout(90.0, connect=10.0)
QUICK_TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)
DOWNLOAD_TIMEOUT: Final = httpx.Timeout(60.0, connect=10.0)


class RateKeeper(Protocol):
    """Tickets and slots per wallet, shared by every process of the wallet (`ledger/rates.py`)."""

    def take(self, wallet: str, route: str, per_minute: float, burst: int, /) -> float: ...
    def push_back(self, wallet: str, route: str, seconds: float, /) -> None: ...
    def slot(self, wallet: str, limit: int, lease_s: float, /) -> str | None: ...
    def release(self, token: str, /) -> None: ...
    def note_error(self, wallet: str, /) -> None: ...
    def error_budget_wait(self, wallet: str, /) -> float: ...


@dataclass(frozen=True, slots=True)
class SignInToken:
    """What a sign-in will say, before it is signed; the nonce is the send-once token of a queue call. Unix seconds."""

    nonce: str
    issued_at: int
    expires_at: int


class SellerSession:
    """One seller, one set of credentials. `signer` signs in; `bearer` is an account key; neither: an open seller."""

    def __init__(
        self,
        api_url: str,
        *,
        clock: Clock,
        random: Random,
        rates: RateKeeper | None = None,
        signer: Signer | None = None,
        bearer: Secret | None = None,
        profile: HeaderProfile = CURRENT_HEADERS,
    ) -> None:
        self.api_url = api_url.rstrip("/")
        self.url = httpx.URL(self.api_url)
        self.origin = origin_of(self.url)
        self.loopback = is_loopback(self.url.host)
        self.wallet = signer.address if signer else "account" if bearer else "open"
        self.profile = profile
        self._signer = signer
        self._bearer = bearer
        self._clock = clock
        self._random = random
        self._rates = rates
        self._offset_s = 0.0
        self._offset_until = 0.0

    # --- building
    def request(self, ask: Ask, secrets: Mapping[str, Secret], timeout: httpx.Timeout) -> httpx.Request:
        """The request for an ask; secrets are attached for one hop."""
        headers = {
            "accept": "application/json, audio/*", "accept-encoding": "identity",
            "user-agent": f"x402_audio/{__version__}",
        }  # fmt: skip
        body = body_of(ask)
        if ask.body is not None:
            headers["content-type"] = "application/json"
        request = httpx.Request(
            ask.method,
            self.api_url + ask.path,
            headers=headers,
            content=body,
            extensions={"timeout": timeout.as_dict()},
        )
        attach(request, dict(secrets))
        return request

    @property
    def offset_s(self) -> float:
        """How far the seller's clock is ahead of this machine's, as its refusals of sign-ins showed; 0 when it agreed."""
        return self._offset_s if self._clock.now() < self._offset_until else 0.0

    def token(self) -> SignInToken:
        """A fresh token, by the seller's clock where it was learned; it serves one request."""
        issued_at = int(self._clock.now() + self.offset_s)
        return SignInToken(self._random(16).hex(), issued_at, issued_at + SIGN_IN_LIFETIME_S)

    def sign_in(self, uri: str, token: SignInToken) -> Secret:
        """The sign-in header of a token, for the host we talk to."""
        if self._signer is None:
            raise ValueError("no wallet signs in here")
        return Secret(
            sign_in_header(
                self._signer,
                domain=self.sign_in_domain,
                uri=uri,
                nonce=token.nonce,
                issued_at=token.issued_at,
                lifetime_s=SIGN_IN_LIFETIME_S,
            )
        )

    @property
    def sign_in_domain(self) -> str:
        """`api.venice.ai` on Venice, else the host and port we talk to."""
        return self.url.netloc.decode("ascii")

    def credentials(self, ask: Ask) -> dict[str, Secret]:
        """The secret headers an ask needs: none, an account key, or a fresh sign-in."""
        if not ask.signed:
            return {}
        if self._bearer:
            return {"Authorization": Secret(f"Bearer {self._bearer.reveal()}")}
        if self._signer is None:
            return {}
        return {self.profile.sign_in: self.sign_in(self.api_url + ask.path, self.token())}

    # --- sending
    def send_once(
        self,
        ask: Ask,
        secrets: Mapping[str, Secret],
        *,
        stream: bool = False,
        timeout: httpx.Timeout = PAID_TIMEOUT,
    ) -> Flow[httpx.Response]:
        """One request under a rate ticket and a slot, never repeated. Raises httpx.TransportError.

        With `stream` the slot is kept until `finish` is called with the response.
        """
        token = yield from self.take_slot()
        kept = False
        try:
            yield from self.turn(ask.route)
            response = yield from self.send_now(ask, secrets, stream=stream, timeout=timeout)
            if stream:
                response.extensions["x402_audio_slot"] = token
                kept = True
            return response
        finally:
            if not kept:
                self.release(token)

    def send_now(
        self,
        ask: Ask,
        secrets: Mapping[str, Secret],
        *,
        stream: bool = False,
        timeout: httpx.Timeout = PAID_TIMEOUT,
    ) -> Flow[httpx.Response]:
        """One request, in a slot and at a turn the caller already has. Raises httpx.TransportError."""
        try:
            return (yield from send(self.request(ask, secrets, timeout), stream=stream))
        except httpx.DecodingError as error:
            raise httpx.ReadError(
                str(error)
            ) from None  # as good as no answer: it arrived, and cannot be read

    def finish(self, response: httpx.Response) -> None:
        """Give the slot of a streamed answer back."""
        self.release(response.extensions.pop("x402_audio_slot", None))

    def ask(
        self, ask: Ask, *, timeout: httpx.Timeout = QUICK_TIMEOUT, repeats: int = REPEATS_MAX
    ) -> Flow[Answer]:
        """A call that costs nothing: repeated on transport trouble, 429 and 5xx, each time with new credentials."""
        return answer_of((yield from self._ask(ask, timeout, repeats, stream=False)))

    def open(self, ask: Ask, *, timeout: httpx.Timeout = DOWNLOAD_TIMEOUT) -> Flow[httpx.Response]:
        """As `ask`, but an answer that is audio stays a stream: the caller reads, closes and calls `finish`."""
        return (yield from self._ask(ask, timeout, REPEATS_MAX, stream=True))

    def _read(self, response: httpx.Response) -> Flow[httpx.Response]:
        """A streamed answer that turned out not to be audio, read within bounds of size and time."""
        parts: list[bytes] = []
        size, end = 0, self._clock.monotonic() + 120.0
        try:
            while part := (yield from chunk(response)):
                size += len(part)
                if size > ANSWER_BYTES_MAX or self._clock.monotonic() > end:
                    raise AnswerTooLong("an answer longer than any honest one")
                parts.append(part)
        except (httpx.TransportError, httpx.DecodingError) as error:
            yield from close(response)
            raise error if isinstance(error, httpx.TransportError) else httpx.ReadError(str(error)) from None
        yield from close(response)
        headers = [pair for pair in response.headers.multi_items() if pair[0].lower() not in _OF_THE_LINE]
        return httpx.Response(
            response.status_code, headers=headers, content=b"".join(parts), request=response.request
        )

    def _ask(self, ask: Ask, timeout: httpx.Timeout, repeats: int, *, stream: bool) -> Flow[httpx.Response]:
        attempt = 0
        sign_in_repeats = 0
        while True:
            response = None
            try:
                response = yield from self.send_once(
                    ask, self.credentials(ask), stream=stream, timeout=timeout
                )
                if stream and is_audio(response):
                    return response
                if stream:
                    streamed, response = response, (yield from self._read(response))
                    self.finish(streamed)
            except httpx.TransportError as error:
                if response is not None:
                    self.finish(response)
                if attempt >= repeats:
                    raise unreachable(self.origin, error) from None
                attempt += 1
                yield from sleep(self._backoff(attempt))
                continue
            if response.status_code == 401 and sign_in_repeats == 0 and self._signer and not self._bearer:
                code = sign_in_code(answer_of(response))
                if code == "NONCE_REUSED" or (code in CLOCK_CODES and self._learn_offset(response)):
                    sign_in_repeats += 1
                    continue
            if 400 <= response.status_code < 500:
                self._note_error(response.status_code)
            wait = self._wait_after(ask, response, attempt + 1)
            if wait is None or attempt >= repeats:
                return response
            attempt += 1
            yield from sleep(wait)

    def _wait_after(self, ask: Ask, response: httpx.Response, attempt: int) -> float | None:
        """Seconds to wait before a repeat, None when the answer stands."""
        if response.status_code == 429:
            named = retry_after_seconds(response.headers, self._clock.now())
            wait = min(named if named is not None else 5.0 * 2 ** (attempt - 1), 60.0)
            if self._rates is not None:
                self._rates.push_back(self.wallet, ask.route, wait)
            return wait + self._jitter()
        return self._backoff(attempt) if response.status_code in TRANSIENT else None

    # --- tickets and slots
    def turn(self, route: str) -> Flow[None]:
        """Wait for this wallet's turn on a route (waits, never refuses): before anything is committed to leave."""
        if self._rates is None:
            return
        rates = self._rates
        wait = yield from call(lambda: rates.error_budget_wait(self.wallet))
        yield from sleep(wait)
        pace = PER_MINUTE.get(route)
        if pace is not None:
            wait = yield from call(lambda: rates.take(self.wallet, route, *pace))
            yield from sleep(wait)

    def take_slot(self) -> Flow[str | None]:
        """One of the wallet's five places for requests in flight; give it back with `release`."""
        if self._rates is None:
            return None
        rates = self._rates
        waited = 0.0
        while waited < 180.0:
            token = yield from call(lambda: rates.slot(self.wallet, IN_FLIGHT_MAX, SLOT_LEASE_S))
            if token is not None:
                return token
            pause = 0.05 + self._jitter() / 5
            waited += pause
            yield from sleep(pause)
        raise LedgerBusy("all five places for requests in flight stay taken by this wallet's other programs")

    def turn_to_read(self) -> str | None:
        """The wallet's one place for reading this seller's balance; give it back with `release`."""
        if self._rates is None:
            return ""
        return self._rates.slot(f"{self.wallet} reads {self.origin}", 1, SLOT_LEASE_S)

    def release(self, token: str | None) -> None:
        if token is not None and self._rates is not None:
            self._rates.release(token)

    def _note_error(self, status: int) -> None:
        if self._rates is not None and status != 429:
            self._rates.note_error(self.wallet)

    def _backoff(self, attempt: int) -> float:
        return float(min(0.5 * 2 ** (attempt - 1), 30.0) + self._jitter() / 4)

    def _jitter(self) -> float:
        """0 to 1, from the injected source."""
        return int.from_bytes(self._random(2), "big") / 65536

    def _learn_offset(self, response: httpx.Response) -> bool:
        """Take the seller's clock for sign-ins only, for at most ten minutes."""
        try:
            theirs = parsedate_to_datetime(response.headers.get("date", "")).timestamp()
        except (ValueError, TypeError, OverflowError):
            return False
        now = self._clock.now()
        if abs(theirs - now) > OFFSET_MAX_S:
            return False
        self._offset_s, self._offset_until = theirs - now, now + OFFSET_LIFE_S
        return True


def unreachable(origin: str, error: httpx.TransportError) -> SellerUnreachable:
    """One line for a transport failure, without the transport's own objects."""
    return SellerUnreachable(f"{origin} did not answer ({type(error).__name__})", status=0)


def is_audio(response: httpx.Response) -> bool:
    """A 200 whose type is neither JSON nor text is the audio itself."""
    kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
    return (
        response.status_code == 200
        and bool(kind)
        and not kind.endswith("json")
        and not kind.startswith("text/")
    )


def answer_of(response: httpx.Response) -> Answer:
    """A response as plain values; the body of one that stays a stream is empty here."""
    body: bytes = getattr(response, "_content", b"")
    return Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, body)


def body_of(ask: Ask) -> bytes | None:
    """The exact bytes of an ask's body; decimals are written with their own digits."""
    return None if ask.body is None else json.dumps(ask.body, default=_number, separators=(",", ":")).encode()


def _number(value: object) -> float:
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
