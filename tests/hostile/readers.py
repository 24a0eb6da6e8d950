"""Every reader of foreign text behind one face: bytes in, and what comes out is held against the same promises.

The promises: only typed errors come out, in one bounded printable line; no float is money; a stranger's text is
bounded and cannot move a cursor; what is written back reads as the same. Used by the property tests and, with
millions of inputs, by `scripts/fuzz`.
"""

from __future__ import annotations

import base64
import json
import tempfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from decimal import Decimal
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any, Final, cast

import httpx

from tests.hostile.books_and_nodes import (
    event_seeds,
    events,
    keystore,
    keystore_seeds,
    node,
    node_seeds,
)
from x402_audio import settings
from x402_audio.errors import LedgerError, X402AudioError
from x402_audio.flow import ANSWER_BYTES_MAX, read_bounded
from x402_audio.jobs.desk import JobOptions
from x402_audio.jobs.download import decode, extension_of, file_name
from x402_audio.jsontext import read_json
from x402_audio.money import Usdc
from x402_audio.payment.inspect import inspect_document
from x402_audio.payment.policy import PaymentPolicy, check_clock, choose_requirement
from x402_audio.payment.session import is_audio
from x402_audio.protocol import base64text
from x402_audio.protocol.address import checksum_address, same_address
from x402_audio.protocol.echo import echo_json
from x402_audio.protocol.exact import Authorization
from x402_audio.protocol.networks import BASE
from x402_audio.protocol.payload import Envelope, read_settlement, settlement_fault
from x402_audio.protocol.requirements import read_payment_required
from x402_audio.protocol.siwx import sign_in_message
from x402_audio.providers.answers import content_type, form_of_402, retry_after_seconds, said, seller_error
from x402_audio.providers.catalog import ModelSpec, check_request
from x402_audio.providers.direct import DirectSeller
from x402_audio.providers.prices import agrees, price_of, read_pricing, write_pricing
from x402_audio.providers.provider import Answer, AudioRequest, Queued
from x402_audio.providers.venice import Venice

DATA: Final = Path(__file__).parents[1] / "data"
WALLET: Final = "0x52908400098527886e0f7030069857d2e4169ee7"
PAYEE: Final = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
NOW: Final = 1_790_000_000.0
LINE_MAX: Final = 4500
"""Sixteen refused ways to pay in one line is the longest; every other line is far shorter."""
TEXT_MAX: Final = 4096
TIMES: Final = frozenset({"created_at", "retry_after", "average_s", "elapsed_s", "wait"})
ECHOED: Final = frozenset({"offered", "extra", "resource", "extensions", "accepted", "accepts"})
"""What is only ever sent back to the seller as it came."""
BUILT_IN: Final = (b"", b"{}", b"[]", b"null", b"\xff\xfe", b"\x00", b'"')


class Clock:
    """Stands still."""

    def now(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return 0.0


@dataclass(frozen=True, slots=True)
class Target:
    """One reader. `says_no` are the plain exceptions its contract names; typed errors are always allowed."""

    name: str
    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    says_no: tuple[type[Exception], ...] = ()
    rooms: tuple[str, ...] = ()

    def try_out(self, data: bytes) -> object:
        """Read one input and hold what comes out against the promises; AssertionError or a foreign error is a finding."""
        try:
            result = self.read(data)
        except X402AudioError as error:
            check_error(error)
            return error
        except self.says_no:
            return None
        check_value(result, self.name)
        return result


def check_error(error: X402AudioError) -> None:
    """One printable, bounded line, and details of the same kind."""
    for text in (error.message, error.next_step, str(error)):
        assert text.isprintable(), text
        assert len(text) <= LINE_MAX, len(text)
    assert error.message
    assert error.money_moved in ("no", "yes", "unknown")
    check_value(error.details, "details")


def check_value(value: object, name: str) -> None:
    """No float but a time, no text but printable and bounded, all the way down."""
    if name in ECHOED or value is None or isinstance(value, bool | bytes):
        return
    if isinstance(value, Usdc):
        assert abs(int(value)) < 2**256, name
    elif isinstance(value, float):
        assert name in TIMES, f"{name} is a float"
        assert isfinite(value), name
    elif isinstance(value, Decimal):
        assert value.is_finite(), name
    elif isinstance(value, str):
        assert len(value) <= TEXT_MAX, name
        assert value.isprintable(), f"{name}: {value!r}"
    elif is_dataclass(value):
        for field in fields(value):
            check_value(getattr(value, field.name), field.name)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            check_value(key, name)
            check_value(item, str(key))
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            check_value(item, name)
    else:
        assert isinstance(value, int | Path), f"{name} is a {type(value).__name__}"


def message(data: bytes) -> tuple[int, dict[str, str], bytes]:
    """An HTTP answer from bytes: a line with the status, header lines, an empty line, the body."""
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.decode("latin-1").split("\n")
    status = int(first) if first.isascii() and first.isdigit() and len(first) == 3 else 200
    headers = {}
    for line in lines[:40]:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return status, headers, body


def answer(data: bytes) -> Answer:
    return Answer(*message(data))


# --- the readers
def json_text(data: bytes) -> object:
    value = read_json(data)
    assert read_json(echo_json(value), bytes_max=1 << 20) == value
    return None


def terms(data: bytes) -> object:
    """A 402, what may be paid of it, and the envelope around a payment of it."""
    _, headers, body = message(data)
    read = read_payment_required(headers, body)
    assert len(read.requirements) + len(read.rejections) <= 16
    policy = PaymentPolicy(max_amount=Usdc(1_000_000))
    chosen = choose_requirement(read, policy, payer=WALLET)
    assert chosen.scheme == "exact" and chosen.network in ("base", "eip155:8453")
    assert same_address(chosen.asset, BASE.usdc) and not same_address(chosen.pay_to, WALLET)
    assert type(chosen.amount) is Usdc and 0 < chosen.amount <= 1_000_000
    assert int(chosen.pay_to, 16) != 0 and chosen.max_timeout_seconds >= 20
    envelope = Envelope.of(read, chosen, payment_identifier="x402a-" + "0" * 32)
    assert Envelope.from_json(envelope.to_json()) == envelope
    payment = Authorization(WALLET, chosen.pay_to, chosen.amount, 0, 1, bytes(32))
    name, value = envelope.header(payment, bytes(65))
    assert name in ("X-PAYMENT", "PAYMENT-SIGNATURE") and len(value) <= 16 * 1024
    sent = cast(dict[str, Any], read_json(base64text.decode(value)))
    assert sent["x402Version"] == read.version
    assert sent["payload"]["authorization"]["value"] == str(int(chosen.amount))
    if read.version == 2:
        assert sent["accepted"] == chosen.offered
    return read.error, read.rejections, chosen.amount


def settlement(data: bytes) -> object:
    _, headers, _ = message(data)
    return read_settlement(headers), settlement_fault(headers)


def challenge(data: bytes) -> object:
    """A sign-in whose domain, URI and nonce a seller would like to choose: never two fields in one."""
    domain, _, rest = data.decode("latin-1").partition("\n")
    uri, _, nonce = rest.partition("\n")
    text = sign_in_message(
        domain=domain, address=checksum_address(WALLET), uri=uri, nonce=nonce, issued_at=NOW
    )
    lines = text.split("\n")
    assert len(lines) == 11 and text.isascii()
    assert lines[0] == f"{domain} wants you to sign in with your Ethereum account:"
    assert lines[3] == "Sign in to Venice AI" and lines[6:9] == [
        "Version: 1",
        "Chain ID: 8453",
        f"Nonce: {nonce}",
    ]
    return None


def refusal(data: bytes) -> object:
    """Any answer as an error: words, code, which 402, the typed error."""
    given = answer(data)
    words = said(given)
    forms = [
        form_of_402(given, top_up=top_up, account=key) for top_up in (False, True) for key in (False, True)
    ]
    error = seller_error(given, "quote", now=NOW)
    check_error(error)
    return words, forms


def address(data: bytes) -> object:
    text = data.decode("utf-8", "surrogateescape")
    spelled = checksum_address(text)
    assert same_address(spelled, text) and checksum_address(spelled) == spelled
    return spelled


def amount(data: bytes) -> object:
    """Both grammars: atomic digits as text, dollars as a JSON number."""
    text = data.decode("utf-8", "surrogateescape")
    found: list[Usdc] = []
    with suppress(ValueError):
        found.append(Usdc.from_atomic(text))
        assert str(int(found[0])) == text and 0 < found[0] < 2**256
    with suppress(ValueError):
        found.append(Usdc.parse_usd(text))
        assert Usdc.parse_usd(found[-1].usd) == found[-1]
    with suppress(ValueError):
        number = read_json(text)
        usd = Decimal(number) if isinstance(number, int | Decimal) and not isinstance(number, bool) else None
        if usd is not None:
            up, down = Usdc.charge(usd), Usdc.credit(usd)
            assert down <= up <= down + 1
            assert _over(up, usd) >= 0 >= _over(down, usd)
            found += [up, down]
    return found


def _over(amount: Usdc, usd: Decimal) -> int:
    """The sign of amount less usd, exactly: with integers, whatever the digits."""
    sign, digits, exponent = usd.as_tuple()
    assert isinstance(exponent, int)
    coefficient = int("".join(map(str, digits))) * (-1 if sign else 1)
    shift = exponent + 6
    if shift < -400:
        return (
            (int(amount) > 0 or coefficient <= 0) - (int(amount) < 0 or coefficient > 0) if coefficient else 0
        )
    left, right = (
        (int(amount), coefficient * 10**shift) if shift >= 0 else (int(amount) * 10**-shift, coefficient)
    )
    return (left > right) - (left < right)


def quote(data: bytes) -> object:
    price = Venice(clock=Clock()).read_quote(answer(data))
    assert type(price) is Usdc and 0 < price <= 10**11
    return price


def prices(data: bytes) -> object:
    pricing = read_pricing(read_json(data))
    if pricing is None:
        return None
    assert read_pricing(write_pricing(pricing)) == pricing
    spec = ModelSpec("a-model", pricing=pricing)
    for seconds in (1, 60, 61, 600):
        local = price_of(AudioRequest("a prompt of some length", "a-model", duration_seconds=seconds), spec)
        assert local is None or type(local) is Usdc
        assert agrees(Usdc(690_000), local) in (True, False)
    return pricing


def models(data: bytes) -> object:
    specs = Venice(clock=Clock()).read_models(answer(data))
    wish = AudioRequest(
        "a prompt of some length", "m", 60, "la la la la la", True, "Rachel", "en", "1.1", True
    )
    for spec in specs[:20]:
        assert ModelSpec.from_json(spec.to_json()) == spec
        with suppress(X402AudioError):
            check_request(wish, spec)
        price_of(wish, spec)
    return specs


def balance(data: bytes) -> object:
    read = Venice(clock=Clock()).read_balance(answer(data), WALLET)
    assert type(read.credit) is Usdc and 0 <= read.credit <= 10**12
    return read


def transactions(data: bytes) -> object:
    page = Venice(clock=Clock()).read_transactions(answer(data), WALLET)
    for row in page.rows:
        assert type(row.amount) is Usdc and (row.type != "CHARGE" or row.amount <= 0)
    return page


def account_balance(data: bytes) -> object:
    read = Venice(billing="account", clock=Clock()).read_account_balance(answer(data))
    assert read.largest >= 0
    return read


def queue(data: bytes) -> object:
    given = answer(data)
    outcomes = [
        Venice(clock=Clock()).read_queued(given), Venice(billing="account", clock=Clock()).read_queued(given),
        DirectSeller(clock=Clock()).read_queued(given),
    ]  # fmt: skip
    for outcome in outcomes:
        if isinstance(outcome, Queued):
            assert 200 <= given.status < 300 and 0 < len(outcome.queue_id) <= 256
            assert not any(letter.isspace() for letter in outcome.queue_id)
    return outcomes


def retrieve(data: bytes) -> object:
    given = answer(data)
    return Venice(clock=Clock()).read_progress(given), DirectSeller(clock=Clock()).read_progress(given)


def complete(data: bytes) -> object:
    given = answer(data)
    assert Venice().read_completed(given) in (True, False)
    assert DirectSeller().read_completed(given) in (True, False)
    return None


def waits(data: bytes) -> object:
    _, headers, _ = message(data)
    seconds = retry_after_seconds(headers, NOW)
    assert seconds is None or 0 <= seconds <= 3600
    check_clock(headers.get("date"), NOW)
    return None


def types(data: bytes) -> object:
    """Content types: what is audio, and what the file is called."""
    status, headers, _ = message(data)
    kind = content_type(Answer(status, headers, b""))
    name = file_name(headers.get("x-job", ""), kind)
    assert "/" not in name and name.isascii() and name[0] != "." and name.endswith("." + extension_of(kind))
    raw = [(b"content-type", headers.get("content-type", "").encode("latin-1"))]
    is_audio(httpx.Response(status, headers=raw))
    return None


def stored(data: bytes) -> object:
    """Rows of a ledger somebody else wrote: the texts in them."""
    text = data.decode("utf-8", "surrogateescape")
    found: list[object] = []
    with suppress(ValueError):
        envelope = Envelope.from_json(text)
        assert Envelope.from_json(envelope.to_json()).to_json() == envelope.to_json()
    with suppress(ValueError):
        spec = ModelSpec.from_json(text)
        assert ModelSpec.from_json(spec.to_json()) == spec
        found.append(spec)
    with suppress(LedgerError):
        options = JobOptions.from_json(text)
        assert JobOptions.from_json(options.to_json()) == options
    return found


def listing(data: bytes) -> object:
    return inspect_document(data, PaymentPolicy())


def environment(data: bytes) -> object:
    lines = (line.partition("=") for line in data.decode("utf-8", "surrogateescape").split("\n"))
    env = {name: value for name, _, value in lines if name}
    return _settings(env=env)


def dotenv(data: bytes) -> object:
    return _settings({".env": data})


def toml(data: bytes) -> object:
    return _settings({settings.TOML_NAME: data})


def _settings(files: Mapping[str, bytes] | None = None, env: Mapping[str, str] | None = None) -> object:
    folder = _folder()
    for name, content in (files or {}).items():
        (folder / name).write_bytes(content)
    try:
        read = settings.load_settings(env={"X402_AUDIO_STATE_DIR": str(folder), **(env or {})}, cwd=folder)
    finally:
        for name in files or {}:
            (folder / name).unlink()
    for limit in read.limits:
        assert type(limit.amount) is Usdc and limit.amount >= 0
    assert read.api_url.startswith(("https://", "http://127.", "http://[::1]"))
    if files and not read.private_key and not read.venice_api_key:
        assert read.api_url == settings.VENICE_API_URL and not read.payees
    assert len(read.warnings) <= 2 * settings.WARNINGS_MAX
    check_value(read.warnings, "warnings")
    return None


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="x402-audio-read-"))


def body(data: bytes) -> object:
    """An answer as it comes from the line, in whatever encoding it says."""
    status, headers, content = message(data)
    packed = headers.get("content-encoding", "gzip").encode("latin-1")
    response = httpx.Response(status, headers=[(b"content-encoding", packed)], stream=_Line(content))
    try:
        read_bounded(response)
    except httpx.TransportError:
        return None
    assert len(response.content) <= ANSWER_BYTES_MAX
    return None


class _Line(httpx.SyncByteStream):
    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Any:
        for start in range(0, len(self._content), 1024):
            yield self._content[start : start + 1024]


def track(data: bytes) -> object:
    """A file that says it is audio, decoded to its end."""
    path = _folder() / "track"
    path.write_bytes(data)
    seconds, warnings = decode(path, "a-job")
    assert isfinite(seconds) and seconds >= 0
    return warnings


# --- seeds
def _facts() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((DATA / "venice-answers.json").read_text("utf-8"))
    return read


def _wire(status: int, body: object, headers: Mapping[str, str] | None = None) -> bytes:
    said = {"content-type": "application/json", **(headers or {})}
    head = "\n".join([str(status), *(f"{name}: {value}" for name, value in said.items())])
    text = body if isinstance(body, str) else json.dumps(body)
    return f"{head}\n\n{text}".encode()


def _b64(value: object) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def offer(version: int = 2, **changes: object) -> dict[str, object]:
    """One good entry of `accepts`."""
    network, name = ("base", "maxAmountRequired") if version == 1 else ("eip155:8453", "amount")
    return {
        "scheme": "exact", "network": network, name: "690000", "asset": BASE.usdc, "payTo": PAYEE,
        "maxTimeoutSeconds": 300, "extra": {"name": "USD Coin", "version": "2"}, **changes,
    }  # fmt: skip


def demand(*entries: object, version: int = 2, **more: object) -> dict[str, object]:
    """The terms of a 402."""
    return {"x402Version": version, "accepts": list(entries or (offer(version),)), **more}


def _term_seeds() -> tuple[bytes, ...]:
    v1, v2 = demand(version=1, error="pay me"), demand(resource={"url": "https://seller.example/a"})
    named = demand(extensions={"payment-identifier": {"info": {"required": True}, "schema": {}}})
    many = demand(offer(scheme="upto"), offer(network="solana"), offer(amount="1"), offer(payTo=WALLET))
    return (
        _wire(402, v1), _wire(402, v2), _wire(402, many), _wire(402, named),
        _wire(402, "", {"payment-required": _b64(v2)}), _wire(402, v1, {"payment-required": _b64(v2)}),
        _wire(402, "<html>", {"x-payment-required": _b64(named)}),
    )  # fmt: skip


def _answers(*keys: str) -> tuple[bytes, ...]:
    """The recorded answers under these names, whatever their nesting."""
    found: list[bytes] = []

    def walk(value: object) -> None:
        if isinstance(value, dict) and "status" in value and "body" in value and "headers" in value:
            found.append(_wire(value["status"], value["body"], value["headers"]))
        elif isinstance(value, dict):
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    facts = _facts()
    for key in keys:
        walk(facts[key])
    return tuple(found)


def _settlement_seeds() -> tuple[bytes, ...]:
    good = {"success": True, "transaction": "0x" + "ab" * 32, "network": "base", "payer": WALLET}
    bad = {"success": False, "transaction": "", "network": "base", "errorReason": "settlement_pending"}
    return tuple(
        _wire(200, "", {name: _b64(value)})
        for name in ("payment-response", "x-payment-response")
        for value in (good, bad)
    )


def _queue_seeds() -> tuple[bytes, ...]:
    queued = {
        "model": "elevenlabs-music",
        "queue_id": "3b0c1e9e-8a3b-4a0e-9a53-0123456789ab",
        "status": "QUEUED",
    }
    return (
        _wire(200, queued), _wire(202, {"id": "abc"}), _wire(200, {}), _wire(401, {"error": "x", "code": "X402_SIGN_IN_NONCE_REUSED"}),
        _wire(422, {"error": "no", "suggested_prompt": "Something calm"}), _wire(500, "oops", {"content-type": "text/plain"}),
        *_answers("forms_of_402"),
    )  # fmt: skip


def _retrieve_seeds() -> tuple[bytes, ...]:
    return (
        _wire(200, {"status": "PROCESSING", "average_execution_time": 20000, "execution_duration": 1200}),
        _wire(200, {"status": "FAILED"}), _wire(400, {"error": "Request ID is invalid."}), _wire(404, {"error": "gone"}),
        _wire(422, {"error": "no", "suggested_prompt": "Something calm"}), _wire(200, "<html>", {"content-type": "text/html"}),
        _wire(429, {"error": "Rate limit exceeded"}, {"retry-after": "7"}), *_answers("forms_of_402"),
    )  # fmt: skip


def _wait_seeds() -> tuple[bytes, ...]:
    date = "Mon, 21 Sep 2026 13:33:20 GMT"
    return tuple(
        _wire(429, "", headers)
        for headers in (
            {"retry-after": "30"}, {"retry-after": date, "date": date}, {"x-ratelimit-reset-requests": "1790000005000"},
            {"retry-after": "Thu, 01 Jan 1970 00:00:00 -0000", "date": "1 Jan 1 0:0 +9999"}, {"retry-after": "1e9"},
        )
    )  # fmt: skip


def _listed() -> bytes:
    keys = ("scheme", "network", "pay_to", "asset", "max_amount_required_atomic", "max_timeout_seconds")
    entry = dict(zip(keys, ("exact", "base", PAYEE, BASE.usdc, "10000000", 300), strict=True))
    return json.dumps({
        "url": "https://seller.example/audio/queue", "generated_at": "2026-04-24T15:01:35.625676+00:00",
        "trust_tier": "indexed_external", "risk_notes": [], "accepts": [{**entry, "verified": False}],
        "pricing_sanity": {"flag": "expensive_outlier", "ratio": 125, "median_category_atomic": 80000},
    }).encode()  # fmt: skip


def _env_seeds(form: str) -> tuple[bytes, ...]:
    lines = (
        ("MAX_PER_DAY", "2.50"), ("API_URL", "https://seller.example/v1"), ("PAYEES", PAYEE), ("PROVIDER", "direct"),
        ("PRIVATE_KEY", "0x" + "5a" * 32), ("LABEL", "bots/one"), ("MAX_TOP_UP", "5"), ("STORE_PROMPTS", "no"),
    )  # fmt: skip
    written = [form.format(name=name, value=value) for name, value in lines]
    return (*(line.encode() for line in written), "\n".join(written).encode())


def _model_seeds() -> tuple[bytes, ...]:
    listed = _facts()["models"]
    one = {**listed, "data": listed["data"][:1]}
    return _wire(200, listed), _wire(200, one), _wire(200, {"data": []})


def _price_seeds() -> tuple[bytes, ...]:
    tiers = {
        "60": {"min_seconds": 3, "max_seconds": 60, "usd": 0.69},
        "120": {"min_seconds": 61, "max_seconds": 120, "usd": 1.38},
    }
    shapes: tuple[object, ...] = (
        {"durations": tiers}, {"generation": {"usd": 0.19}}, {"per_second": {"usd": 0.0023000000000000004}},
        {"per_thousand_characters": {"usd": 0.11500000000000002}},
    )  # fmt: skip
    return tuple(json.dumps(shape).encode() for shape in shapes)


def _body_seeds() -> tuple[bytes, ...]:
    text = json.dumps(demand()).encode()
    raw = zlib.compressobj(wbits=-15)
    once = zlib.compress(text, wbits=31)
    return (
        b"200\ncontent-encoding: gzip\n\n" + once, b"200\ncontent-encoding: deflate\n\n" + zlib.compress(text),
        b"200\ncontent-encoding: deflate\n\n" + raw.compress(text) + raw.flush(), b"200\ncontent-encoding: identity\n\n" + text,
        b"200\ncontent-encoding: gzip, gzip\n\n" + zlib.compress(once, wbits=31), b"200\ncontent-encoding: br\n\n" + text,
    )  # fmt: skip


def _track_seeds() -> tuple[bytes, ...]:
    from x402_audio.sandbox.audio import make_audio

    return tuple(make_audio(kind, 1, "a-job") for kind in ("mp3", "wav", "flac"))


TARGETS: Final[Mapping[str, Target]] = {
    target.name: target
    for target in (
        Target("json", json_text, (b'{"a":[1,-2.5e-7,"\\u0041",true,null]}', b"[[[[]]]]", b"1e400"), (ValueError,), ("jsontext", "protocol/echo")),
        Target("terms", terms, _term_seeds(), (), ("protocol/requirements", "payment/policy", "protocol/payload", "protocol/base64text")),
        Target("settlement", settlement, _settlement_seeds(), (), ("protocol/payload", "protocol/base64text")),
        Target("challenge", challenge, (b"api.venice.ai\nhttps://api.venice.ai/x402/balance\n0123456789abcdef",), (ValueError,), ("protocol/siwx",)),
        Target("refusal", refusal, (*_answers("errors", "forms_of_402"), *_wait_seeds()), (), ("providers/answers",)),
        Target("address", address, (PAYEE.encode(), WALLET.encode(), PAYEE.upper().encode()), (ValueError,), ("protocol/address",)),
        Target("amount", amount, (b"690000", b"0.69", b"-0.0000066", b"1e-7", b"115792089237316195423570985008687907853269984665640564039457584007913129639935"), (), ("money", "jsontext")),
        Target("quote", quote, (_wire(200, {"quote": 0.69}), _wire(200, {"quote": 6.6e-7}), _wire(400, {"error": "no"})), (), ("providers/venice", "providers/answers", "money")),
        Target("prices", prices, _price_seeds(), (ValueError,), ("providers/prices",)),
        Target("models", models, _model_seeds(), (), ("providers/catalog", "providers/prices")),
        Target("balance", balance, (_wire(200, _facts()["balance"]), _wire(402, {})), (), ("providers/venice",)),
        Target("transactions", transactions, (_wire(200, _facts()["transactions"]),), (), ("providers/venice",)),
        Target("account", account_balance, (_wire(200, _facts()["account_limits"]), _wire(200, _facts()["account_balance"])), (), ("providers/venice",)),
        Target("queue", queue, _queue_seeds(), (), ("providers/venice", "providers/direct", "providers/answers")),
        Target("retrieve", retrieve, _retrieve_seeds(), (), ("providers/venice", "providers/direct", "providers/answers")),
        Target("complete", complete, (_wire(200, {"success": True}), _wire(400, {"error": "Request ID is invalid."})), (), ("providers/venice",)),
        Target("waits", waits, _wait_seeds(), (), ("providers/answers", "payment/policy")),
        Target("types", types, (b"200\ncontent-type: audio/mpeg; charset=x\nx-job: jingles/one", b"200\nx-job: ../../etc/passwd\ncontent-type: text/html"), (), ("jobs/download", "providers/answers")),
        Target("stored", stored, (b'{"version":2,"accepted":{"network":"base","amount":"1"}}', b'{"output":"/x","max_price":"1"}', b'{"id":"m","model_spec":{}}'), (), ("protocol/payload", "providers/catalog", "jobs/desk")),
        Target("listing", listing, (json.dumps(demand(version=1)).encode(), json.dumps(demand()).encode(), _listed()), (), ("payment/inspect", "protocol/requirements")),
        Target("environment", environment, _env_seeds("X402_AUDIO_{name}={value}"), (), ("settings",)),
        Target("dotenv", dotenv, _env_seeds('X402_AUDIO_{name}="{value}"'), (), ("settings",)),
        Target("toml", toml, (*_env_seeds('{name} = "{value}"')[:3], b'[origin."https://a.example"]\nmax_per_day = "1.00"\n[label.bots]\nMAX_PER_HOUR="0.5"'), (), ("settings",)),
        Target("body", body, _body_seeds(), (), ("flow", "unpack")),
        Target("track", track, _track_seeds(), (), ("jobs/download",)),
        Target("events", events, event_seeds(), (), ("ledger/replay",)),
        Target("keystore", keystore, keystore_seeds(), (ValueError,), ("protocol/keystore",)),
        Target("node", node, node_seeds(), (), ("payment/rpc", "payment/chain")),
    )
}  # fmt: skip
"""By name. `rooms`: the files whose lines a run of the fuzzer reports."""
GROUPS: Final[Mapping[str, tuple[Target, ...]]] = {
    group: tuple(TARGETS[name] for name in names.split())
    for group, names in {
        "offers": "terms listing settlement json amount address prices",
        "sign-in": "challenge refusal waits",
        "seller": "quote models balance transactions account",
        "jobs": "queue retrieve complete types",
        "tracks": "body track",
        "settings": "environment dotenv toml",
        "records": "stored events keystore",
        "nodes": "node",
    }.items()
}
"""Readers that share one fuzzer; the first byte of its input says which of them reads the rest."""
