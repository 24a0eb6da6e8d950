"""Reading answers of a seller: content type, error words, waits, sign-in codes, and which of its 402s this is.

Everything a seller says is bounded before it is shown or kept. Knows no route's meaning and decides nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal

from x402_audio.errors import ContentRejected, ModelUnavailable, RateLimited, SellerError, SignInRejected
from x402_audio.jsontext import BODY_BYTES_MAX, Json, read_json_object

if TYPE_CHECKING:
    from x402_audio.providers.provider import Answer

QUOTED_MAX: Final = 160
WAIT_MAX_S: Final = 3600.0
MILLISECONDS_ABOVE: Final = 10**11
UNIX_ABOVE: Final = 10**9
_DETAILS_MAX: Final = 3
_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{1,63}", re.ASCII)
_CODE_WORD: Final = re.compile(r"[A-Z][A-Z0-9_]{2,63}", re.ASCII)
_TOKEN: Final = re.compile(
    r"(?<![A-Za-z0-9+/=_-])(?!(?:[a-z]{1,20}[0-9]{0,4}_)+[a-z]{1,20}[0-9]{0,4}(?![A-Za-z0-9+/=_-]))[A-Za-z0-9+/=_-]{44,}",
    re.ASCII,
)
"""A run as long as a key; an error word of the standard, small words joined by `_`, may be longer."""
_NUMBER: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?", re.ASCII)

Form402 = Literal[
    "offer", "settlement-failed", "no-credentials", "no-sign-in", "below-floor", "below-price", "account-empty",
    "key-cap", "other",
]  # fmt: skip
"""In the order of the wire page's a to h; `other` is none of them."""


@dataclass(frozen=True, slots=True)
class Said:
    """An error body: code word (without `X402_`, empty when there is none) and one bounded line, perhaps empty."""

    code: str
    text: str
    suggested_prompt: str = ""

    @property
    def line(self) -> str:
        """The text, else the code word, else a plain remark; never empty."""
        return self.text or self.code or "no reason given"


def quoted(text: str, limit: int = QUOTED_MAX) -> str:
    """A stranger's text as one printable line of at most `limit` characters.

    Runs as long as a signature, key or token are masked: a seller may echo what we sent it.
    """
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text[: 8 * limit]).split())
    line = _TOKEN.sub("[...]", line)
    return line if len(line) <= limit else line[: limit - 3].rstrip() + "..."


def content_type(answer: Answer) -> str:
    """The media type, lower case, without parameters."""
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower()


def json_object(answer: Answer, *, bytes_max: int = BODY_BYTES_MAX) -> dict[str, Json] | None:
    """The body as a JSON object, None when it is not one."""
    try:
        return read_json_object(answer.body, bytes_max=bytes_max)
    except (ValueError, ArithmeticError):  # an exponent beyond Decimal's own bounds is an ArithmeticError
        return None


def said(answer: Answer) -> Said:
    """Any documented error body: a string, with code, with details or issues, or `error` as an object."""
    body = json_object(answer)
    if body is None:
        plain = content_type(answer) == "text/plain"
        return Said("", quoted(answer.body[: 4 * QUOTED_MAX].decode("utf-8", "replace")) if plain else "")
    error, code, text = body.get("error"), body.get("code"), body.get("message")
    if isinstance(error, dict):
        code, text = error.get("code") or code or error.get("type"), error.get("message") or text
    elif isinstance(error, str) and _CODE_WORD.fullmatch(error):
        code = code or error
        text = text or error
    else:
        text = error or text
    parts = [text] if isinstance(text, str) else []
    # No more than are shown are made: a long name above thousands of leaves would be written out for each of them.
    parts += islice(
        (piece for key in ("details", "issues") for piece in _pieces(body.get(key))), _DETAILS_MAX
    )
    suggestion = body.get("suggested_prompt")
    return Said(
        code=code.removeprefix("X402_") if isinstance(code, str) and _CODE.fullmatch(code) else "",
        text=quoted("; ".join(parts)),
        suggested_prompt=quoted(suggestion, 4096) if isinstance(suggestion, str) else "",
    )


def sign_in_code(answer: Answer) -> str:
    """The word after `X402_SIGN_IN_` of a 401 (`EXPIRED`, `NONCE_REUSED`, ...); empty when there is none."""
    code = said(answer).code if answer.status == 401 else ""
    return code.removeprefix("SIGN_IN_") if code.startswith("SIGN_IN_") else ""


def retry_after_seconds(headers: Mapping[str, str], now: float | None) -> float | None:
    """Seconds to wait as the seller says, 0 to 3600, or None: Retry-After, else its reset header.

    now: Unix seconds; without it only a Retry-After in seconds can be read.
    """
    wish = headers.get("retry-after", "").strip()
    if _NUMBER.fullmatch(wish):
        return _bounded(float(wish))
    if now is None:
        return None
    try:
        return _bounded(parsedate_to_datetime(wish).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        pass
    reset = headers.get("x-ratelimit-reset-requests", "").strip()
    if not _NUMBER.fullmatch(reset):
        return None
    moment = float(reset)
    if moment > MILLISECONDS_ABOVE:
        moment /= 1000
    return _bounded(moment - now if moment > UNIX_ABOVE else moment)


def form_of_402(answer: Answer, *, top_up: bool, account: bool) -> Form402:
    """Which 402 this is: by route (`top_up`), then body, then header; `account`: a key was sent, not a sign-in."""
    body, words = json_object(answer) or {}, said(answer)
    if top_up:
        if words.code == "SETTLEMENT_FAILED":
            return "settlement-failed"
        return "offer" if _has_terms(body, answer) else "other"
    if words.code == "PAYMENT_REQUIRED" or body.get("reason") == "insufficient_balance":
        return "account-empty" if account else "below-floor"
    lower = words.text.lower()
    if lower.startswith("api key ") and "spend limit" in lower:
        return "key-cap"
    if "x402Version" in body:
        return "no-sign-in" if body.get("accepts") == [] else "no-credentials"
    if words.code == "INSUFFICIENT_BALANCE" or lower.startswith("insufficient "):
        return "account-empty" if account else "below-price"
    return "other"


def seller_error(answer: Answer, what: str, *, now: float | None = None) -> SellerError:
    """The typed error for an answer nothing was bought by. what: `quote`, `models`, ...; now: Unix seconds."""
    words = said(answer)
    status, code = answer.status, sign_in_code(answer) or words.code
    line = f"{what}: the seller answered {status} ({words.line})"
    lower = words.text.lower()
    if status == 429:
        wait = math.ceil(retry_after_seconds(answer.headers, now) or 5)
        return RateLimited(
            line, status=status, code_word=code, retry_after=wait,
            next_step=f"nothing was bought; repeat the same command in {wait} s",
        )  # fmt: skip
    if status == 422:
        return ContentRejected(
            line, status=status, code_word="content", suggested_prompt=words.suggested_prompt
        )
    if (status == 401 and "pro users" in lower) or (
        status in (400, 404) and _names_no_model(lower, status, what)
    ):
        return ModelUnavailable(line, status=status, code_word=code)
    if status in (401, 403):
        return SignInRejected(line, status=status, code_word=code)
    if status == 402:
        return SellerError(
            line, status=status, code_word=code, owner="human", retry="never",
            next_step="nothing was paid; a demand on this route is never paid; check --api-url and --provider",
        )  # fmt: skip
    if 400 <= status < 500:
        return SellerError(
            line, status=status, code_word=code, owner="agent", retry="never",
            next_step="nothing was bought; correct the request; see: x402-audio models",
        )  # fmt: skip
    if status < 500:
        return SellerError(
            line, status=status, code_word=code, owner="human", retry="never",
            next_step="nothing was bought; check --api-url and --provider",
        )  # fmt: skip
    return SellerError(line, status=status, code_word=code)


def _names_no_model(lower: str, status: int, what: str) -> bool:
    if status == 404 and what in ("quote", "queue"):
        return True
    return "model" in lower and any(word in lower for word in ("not found", "unknown", "does not exist"))


def _has_terms(body: Mapping[str, Json], answer: Answer) -> bool:
    return ("x402Version" in body and "accepts" in body) or bool(answer.headers.get("payment-required"))


def _pieces(value: Json, path: str = "") -> Iterator[str]:
    """The messages of a `details` tree or an `issues` list, each with the field it is about."""
    if isinstance(value, str):
        yield f"{path}: {value}" if path else value
    elif isinstance(value, list):
        for item in value:
            yield from _pieces(item, path)
    elif isinstance(value, dict):
        message = value.get("message")
        if isinstance(message, str):
            where = value.get("path")
            names = (
                [str(name) for name in where if isinstance(name, str | int)]
                if isinstance(where, list)
                else []
            )
            yield from _pieces(message, ".".join(names) or path)
            return
        for name, inner in value.items():
            yield from _pieces(inner, path if name == "_errors" else f"{path}.{name}" if path else name)


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), WAIT_MAX_S) if math.isfinite(seconds) else WAIT_MAX_S
