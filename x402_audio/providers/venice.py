"""Venice's audio API: which calls to make and what its answers mean, for a wallet's credit or for an account key.

What each answer to a queue call says about money follows the recovery rules; what the seller means by its words stops
at this file. Decides nothing, sends nothing, knows no ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal

from x402_audio.clock import Clock, SystemClock
from x402_audio.errors import ProtocolError, RequestInvalid, SellerError, X402AudioError
from x402_audio.flow import ANSWER_BYTES_MAX
from x402_audio.jsontext import Json
from x402_audio.money import ZERO, Usdc
from x402_audio.providers.answers import (
    Said,
    form_of_402,
    json_object,
    quoted,
    retry_after_seconds,
    said,
    seller_error,
    sign_in_code,
)
from x402_audio.providers.provider import (
    Answer,
    Ask,
    AudioRequest,
    Balance,
    Gone,
    Processing,
    Queued,
    Refused,
    Shortfall,
    Transaction,
    TransactionPage,
    Unclear,
)

if TYPE_CHECKING:
    from x402_audio.providers.catalog import ModelSpec

VENICE_ORIGIN: Final = "https://api.venice.ai"
VENICE_PAYEE: Final = "0x2670B922ef37C7Df47158725C0CC407b5382293F"
"""The published address of its top-ups on Base."""
FLOOR: Final = Usdc(100_000)
"""Credit a wallet must keep to be admitted at all, retrieving included."""
CHARGED_WHEN_QUEUED: Final = frozenset({
    "ace-step-15", "elevenlabs-music", "elevenlabs-sound-effects-v2", "elevenlabs-tts-multilingual-v2",
    "elevenlabs-tts-v3", "lyria-3-pro", "minimax-music-v2", "minimax-music-v25", "minimax-music-v26",
    "mmaudio-v2-text-to-audio", "sonilo-v1-1-music", "sonilo-v1-1-sound-effects", "stable-audio-25",
})  # fmt: skip
"""Published models whose charge shows soon after queueing; of any other the ledger's silence proves nothing."""
BALANCE_MAX: Final = Decimal(1_000_000)
QUOTE_MAX: Final = Decimal(100_000)
PAGE_FULL: Final = 100
_NOT_BOUGHT: Final = frozenset({400, 401, 403, 404, 413, 415, 429})
_UNKNOWN_ID: Final = "request id is invalid"
_ENDED: Final = frozenset({"FAILED", "ERROR", "CANCELLED", "CANCELED"})
_ID_MAX: Final = 256
_NOISE: Final = Decimal("1e-12")


class Venice:
    """Keeps `Provider` and `PrepaidSeller`. billing `credit`: a wallet signs in; `account`: a Bearer key."""

    name = "venice"

    def __init__(
        self, *, billing: Literal["credit", "account"] = "credit", clock: Clock | None = None
    ) -> None:
        self.billing: Literal["credit", "account", "direct"] = billing
        self.floor = FLOOR if billing == "credit" else ZERO
        self._clock: Clock = clock or SystemClock()

    # --- asking
    def ask_models(self) -> Ask:
        return ask_models()

    def ask_quote(self, audio: AudioRequest, spec: ModelSpec | None) -> Ask | None:
        return ask_quote(audio, spec)

    def ask_queue(self, audio: AudioRequest, spec: ModelSpec | None) -> Ask:
        """The body holds only what was asked. Raises RequestInvalid for a speed that is no decimal."""
        del spec  # a stored call is sent again byte for byte, whatever the list says by then
        return Ask("POST", "/audio/queue", queue_body(audio), signed=True, route="queue")

    def ask_retrieve(self, model: str, queue_id: str) -> Ask:
        """Never with `delete_media_on_completion`: a download cut half way would be lost."""
        return Ask(
            "POST", "/audio/retrieve", {"model": model, "queue_id": queue_id}, signed=True, route="retrieve"
        )

    def ask_complete(self, model: str, queue_id: str) -> Ask:
        return Ask("POST", "/audio/complete", {"model": model, "queue_id": queue_id}, signed=True)

    def ask_balance(self, wallet: str) -> Ask:
        return Ask("GET", f"/x402/balance/{wallet}", signed=True, route="balance")

    def ask_transactions(self, wallet: str, *, limit: int, offset: int) -> Ask:
        path = f"/x402/transactions/{wallet}?limit={limit}&offset={offset}"
        return Ask("GET", path, signed=True, route="transactions")

    def ask_top_up(self) -> Ask:
        """Without a payment header this is the discovery of terms."""
        return Ask("POST", "/x402/top-up", route="top-up")

    def ask_billing_balance(self) -> Ask:
        """Account balances; an inference key gets 401 here."""
        return Ask("GET", "/billing/balance", signed=True)

    def ask_key_limits(self) -> Ask:
        """What this key may spend, any kind of key."""
        return Ask("GET", "/api_keys/rate_limits", signed=True)

    # --- reading
    def read_models(self, answer: Answer) -> tuple[ModelSpec, ...]:
        return read_models(answer, self._clock.now())

    def read_quote(self, answer: Answer) -> Usdc:
        return read_quote(answer, self._clock.now())

    def read_queued(self, answer: Answer) -> Queued | Shortfall | Refused | Unclear:
        """What the answer to a first sending proves. `Queued.model` is empty when the seller leaves it out."""
        words = said(answer)
        if answer.status == 200:
            queued = read_queue_id(answer)
            return queued or Unclear("200 without a readable queue_id")
        if answer.status == 402:
            return self._shortfall(answer)
        if answer.status == 422:
            return Refused(422, "content", words.line, words.suggested_prompt)
        if sign_in_code(answer) == "NONCE_REUSED":
            return Unclear("the sign-in was already used", nonce_reused=True)
        if answer.status in _NOT_BOUGHT:
            return self._refused(answer, words)
        return Unclear(f"{answer.status} {words.line}")

    def read_progress(self, answer: Answer) -> Processing | Gone | Shortfall | Refused:
        if answer.status == 402:
            return self._shortfall(answer)
        return read_progress(answer, self._clock.now())

    def read_completed(self, answer: Answer) -> bool:
        return read_completed(answer)

    def charges_late(self, model: str) -> bool:
        return model not in CHARGED_WHEN_QUEUED

    def read_topped_up(self, answer: Answer, wallet: str) -> bool:
        """A page of a network on the way (a login, a proxy) is no word of the seller's."""
        try:
            self._wallet_data(answer, wallet, "top-up")
        except X402AudioError:
            return False
        return True

    def read_balance(self, answer: Answer, wallet: str) -> Balance:
        """Raises ProtocolError for anything but a sane figure of this wallet, SellerError kinds for other statuses."""
        data = self._wallet_data(answer, wallet, "balance")
        credit = _figure(data, "balanceUsd")
        if data.get("canConsume") is False and credit >= self.floor:
            raise _unreadable("balance", f"balanceUsd is {credit.usd} and canConsume is false")
        diem = _figure(data, "diemBalanceUsd") if data.get("diemBalanceUsd") is not None else ZERO
        return Balance(
            credit=credit,
            diem=diem if diem > 0 else None,
            minimum_top_up=_amount(data.get("minimumTopUpUsd"), up=True),
            suggested_top_up=_amount(data.get("suggestedTopUpUsd"), up=True),
        )

    def read_transactions(self, answer: Answer, wallet: str) -> TransactionPage:
        """Unknown types are kept. A row that cannot be read refuses the page: a charge must not be overlooked."""
        data = self._wallet_data(answer, wallet, "transactions")
        rows, pages = data.get("transactions"), data.get("pagination")
        if not isinstance(rows, list):
            raise _unreadable("transactions", "no list of transactions")
        more = pages.get("hasMore") if isinstance(pages, dict) else None
        return TransactionPage(
            balance=_amount(data.get("currentBalance"), up=False),
            rows=tuple(_row(row) for row in rows),
            has_more=more if isinstance(more, bool) else len(rows) >= PAGE_FULL,
        )

    def read_account_balance(self, answer: Answer) -> AccountBalance:
        """Either account route. Raises ProtocolError, SellerError kinds."""
        body = _body(answer, "account balance", self._clock.now())
        inner = body.get("data")
        data = inner if isinstance(inner, dict) else body
        permitted = data.get("accessPermitted", data.get("canConsume"))
        balances = data.get("balances")
        if not isinstance(permitted, bool) or not isinstance(balances, dict):
            raise _unreadable("account balance", "accessPermitted or canConsume, and balances, are missing")
        usd, diem = (balances.get("USD", balances.get("usd")), balances.get("DIEM", balances.get("diem")))
        return AccountBalance(
            permitted=permitted,
            usd=_purse(usd, "usd"),
            diem=_purse(diem, "diem"),
            bundled=_purse(balances.get("bundledCredits"), "bundledCredits"),
            earned=_purse(balances.get("earnedCredits"), "earnedCredits"),
        )

    def error_of(self, answer: Answer, what: str) -> SellerError:
        return seller_error(answer, what, now=self._clock.now())

    # --- inside
    def _shortfall(self, answer: Answer) -> Shortfall:
        account = self.billing == "account"
        form, words, body = (
            form_of_402(answer, top_up=False, account=account), said(answer), json_object(answer) or {},
        )  # fmt: skip
        cure: Literal["top-up", "human", "sign-in"] = "human"
        if form in ("no-credentials", "no-sign-in"):
            cure = "sign-in"
        elif form in ("below-floor", "below-price"):
            cure = "top-up"
        return Shortfall(
            cure=cure,
            message=words.line,
            balance=_amount(body.get("currentBalanceUsd"), up=False),
            minimum=_amount(body.get("minimumTopUpUsd"), up=True),
        )

    def _refused(self, answer: Answer, words: Said) -> Refused:
        return refused(answer, words, self._clock.now())

    def _wallet_data(self, answer: Answer, wallet: str, what: str) -> Mapping[str, Json]:
        body = _body(answer, what, self._clock.now())
        data = body.get("data")
        if body.get("success") is False or not isinstance(data, dict):
            raise _unreadable(what, "no data")
        named = data.get("walletAddress")
        if not isinstance(named, str) or named.lower() != wallet.lower():
            raise _unreadable(what, "it speaks of another wallet")
        return data


@dataclass(frozen=True, slots=True)
class AccountBalance:
    """What a key's account holds, atomic units rounded down; None: nothing there or not said."""

    permitted: bool
    usd: Usdc | None
    diem: Usdc | None
    bundled: Usdc | None
    earned: Usdc | None

    @property
    def largest(self) -> Usdc:
        """The most one job may cost: a job is charged whole to one currency."""
        return max((self.usd or ZERO, self.diem or ZERO, self.bundled or ZERO, self.earned or ZERO))


# --- the audio routes, which sellers without credit share


def ask_models() -> Ask:
    return Ask("GET", "/models?type=music")


def ask_quote(audio: AudioRequest, spec: ModelSpec | None) -> Ask:
    """Length only when asked for, characters (code points) only for models priced by them: the body is closed."""
    from x402_audio.providers.prices import PerThousandCharacters

    body: dict[str, object] = {"model": audio.model}
    if audio.duration_seconds is not None:
        body["duration_seconds"] = audio.duration_seconds
    if spec is not None and isinstance(spec.pricing, PerThousandCharacters):
        body["character_count"] = len(audio.prompt.strip())
    return Ask("POST", "/audio/quote", body)


def queue_body(audio: AudioRequest) -> dict[str, object]:
    """The JSON body of a queue call; speed is an int or a Decimal, which the sender's writer writes as a number."""
    fields: dict[str, object] = {
        "model": audio.model,
        "prompt": audio.prompt.strip(),
        "lyrics_prompt": audio.lyrics,
        "duration_seconds": audio.duration_seconds,
        "force_instrumental": audio.instrumental,
        "lyrics_optimizer": audio.lyrics_optimizer,
        "loop": audio.loop,
        "speed": None if audio.speed is None else _speed(audio.speed),
        "language_code": audio.language,
        "voice": audio.voice,
    }
    return {name: value for name, value in fields.items() if value is not None}


def read_models(answer: Answer, now: float | None = None) -> tuple[ModelSpec, ...]:
    """Raises ProtocolError, SellerError kinds. now: Unix seconds, to read the time of a rate limit."""
    body = _body(answer, "models", now)
    if not isinstance(body.get("data"), list):
        raise _unreadable("models", "no list of models")
    from x402_audio.providers.catalog import read_model_specs

    return read_model_specs(body)


def read_quote(answer: Answer, now: float | None = None) -> Usdc:
    """Rounded up, after the noise of a binary number is off. Raises ProtocolError, SellerError kinds."""
    usd = _number(_body(answer, "quote", now).get("quote"))
    if usd is None or not 0 < usd <= QUOTE_MAX:
        raise _unreadable("quote", "quote is not a sane number of dollars")
    return Usdc.charge(max(usd.quantize(_NOISE), _NOISE))


def read_queue_id(answer: Answer, *names: str) -> Queued | None:
    """The job of a 2xx, its id under `queue_id` or one of `names`; printable without spaces, at most 256 characters."""
    body = json_object(answer) or {}
    for name in ("queue_id", *names):
        queue_id = body.get(name)
        if isinstance(queue_id, str) and _is_id(queue_id):
            model = body.get("model")
            return Queued(queue_id, model if isinstance(model, str) and _is_id(model) else "")
    return None


def read_progress(answer: Answer, now: float | None = None) -> Processing | Gone | Refused:
    """A retrieve answer that is not audio and not a 402."""
    words = said(answer)
    match answer.status:
        case 200:
            return _read_status(answer)
        case 400 if _UNKNOWN_ID in words.text.lower():
            return Gone("unknown_id", words.line, "unknown")
        case 400:
            return Gone("failed", words.line, "claimed")
        case 404 | 410:
            return Gone("expired", words.line, "unknown")
        case 422:
            return Gone("rejected", words.line, "claimed", words.suggested_prompt)
    return refused(answer, words, now)


def read_completed(answer: Answer) -> bool:
    """True for done, gone, or an id the seller does not know (any more)."""
    if answer.status == 200:
        return (json_object(answer) or {}).get("success") is True
    if answer.status == 400:
        return _UNKNOWN_ID in said(answer).text.lower()
    return answer.status in (404, 410)


def refused(answer: Answer, words: Said, now: float | None) -> Refused:
    """Status, word, line and wait of an answer that is a plain no."""
    code = sign_in_code(answer) or words.code
    wait = retry_after_seconds(answer.headers, now)
    return Refused(answer.status, code, words.line, words.suggested_prompt, wait)


def _read_status(answer: Answer) -> Processing | Gone | Refused:
    body = json_object(answer)
    if body is None:
        # As good as a bad gateway: asking again may help, and the job is paid.
        return Refused(502, "unreadable", "a 200 that is neither audio nor readable JSON")
    status = body.get("status")
    if isinstance(status, str) and status.upper() in _ENDED:
        return Gone("failed", f"the seller calls the job {quoted(status, 20)}", "unknown")
    return Processing(_seconds(body.get("average_execution_time")), _seconds(body.get("execution_duration")))


def _seconds(milliseconds: Json) -> float | None:
    number = _number(milliseconds)
    return float(number) / 1000 if number is not None and 0 <= number <= 10**9 else None


def _speed(text: str) -> int | Decimal:
    from x402_audio.providers.catalog import SPEED

    if not SPEED.fullmatch(text):
        raise RequestInvalid(
            f"speed {quoted(text, 20)} is not a number",
            field="speed",
            value=text,
            allowed="decimal text like 1.1",
        )
    number = Decimal(text)
    return int(number) if number == int(number) else number


def _is_id(text: str) -> bool:
    return 0 < len(text) <= _ID_MAX and text.isprintable() and not any(letter.isspace() for letter in text)


def _body(answer: Answer, what: str, now: float | None) -> dict[str, Json]:
    if answer.status != 200:
        raise seller_error(answer, what, now=now)
    body = json_object(answer, bytes_max=ANSWER_BYTES_MAX)
    if body is None:
        raise _unreadable(what, "not a JSON object")
    return body


def _unreadable(what: str, why: str) -> ProtocolError:
    return ProtocolError(f"{what}: the seller's answer cannot be read: {why}")


def _number(value: Json) -> Decimal | None:
    """A finite JSON number; text and booleans are none."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    number = Decimal(value)
    return number if number.is_finite() else None


def _figure(data: Mapping[str, Json], name: str) -> Usdc:
    """Money the seller says is there, rounded down. Raises ProtocolError unless a number from 0 to a million."""
    usd = _number(data.get(name))
    if usd is None or not 0 <= usd <= BALANCE_MAX:
        raise _unreadable("balance", f"{name} is not a sane number of dollars")
    return Usdc.credit(usd)


def _amount(value: Json, *, up: bool) -> Usdc | None:
    """A figure nothing depends on alone: None when it is odd."""
    usd = _number(value)
    if usd is None or not 0 <= usd <= BALANCE_MAX:
        return None
    return Usdc.charge(usd) if up else Usdc.credit(usd)


def _purse(value: Json, name: str) -> Usdc | None:
    """A balance of an account: null and what is not positive are nothing. Raises ProtocolError for anything odd."""
    if value is None:
        return None
    usd = _number(value)
    if usd is None or not -BALANCE_MAX <= usd <= BALANCE_MAX:
        raise _unreadable("account balance", f"{name} is not a sane number of dollars")
    return Usdc.credit(usd) if usd > 0 else None


def _row(row: Json) -> Transaction:
    """One row of the seller's ledger, its amount floored: charges away from zero, credits down."""
    if not isinstance(row, dict):
        raise _unreadable("transactions", "a row is not an object")
    row_id, kind, usd = row.get("id"), row.get("type"), _number(row.get("amount"))
    if not isinstance(row_id, str) or not _is_id(row_id) or not isinstance(kind, str) or not _is_id(kind):
        raise _unreadable("transactions", "a row has no id or no type")
    if usd is None or not -BALANCE_MAX <= usd <= BALANCE_MAX:
        raise _unreadable("transactions", "the amount of a row is not a sane number of dollars")
    if kind == "CHARGE":
        usd = min(usd, usd.copy_negate())  # taken is taken, whichever sign the row wears
    return Transaction(
        id=row_id,
        type=kind,
        amount=Usdc.credit(usd),
        created_at=_moment(row.get("createdAt")),
        request_id=_optional_id(row.get("requestId")),
        model=_optional_id(row.get("modelId")),
    )


def _optional_id(value: Json) -> str:
    if value is None or value == "":
        return ""
    if not isinstance(value, str) or not _is_id(value):
        raise _unreadable("transactions", "an id in a row is odd")
    return value


def _moment(value: Json) -> float:
    """ISO 8601 (UTC unless it says) or Unix time in s or ms, as Unix seconds."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            raise _unreadable("transactions", "createdAt is not a time") from None
    number = _number(value)
    if number is None or not 0 <= number <= 10**14:
        raise _unreadable("transactions", "createdAt is not a time")
    return float(number / 1000 if number > 10**11 else number)
