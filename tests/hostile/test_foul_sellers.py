"""Sellers who play foul, end to end: no second signature, money within limits, one typed line, the paid job recoverable."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.hostile.crook import (
    PRICE,
    Crook,
    Heard,
    Script,
    Victim,
    balance,
    endless,
    open_crook,
    open_victim,
    reply,
    sound,
)
from tests.hostile.readers import check_error, demand, offer
from tests.jobs.stage import CountingSigner, WaitingClock
from tests.payment.stranger import open_stranger
from x402_audio.errors import (
    BadDownload,
    JobExpired,
    JobFailed,
    JobTimedOut,
    PaymentRejected,
    PaymentUnsettled,
    X402AudioError,
)
from x402_audio.flow import ANSWER_BYTES_MAX
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.payment.auth import X402Auth
from x402_audio.payment.policy import PaymentPolicy
from x402_audio.protocol import base64text

Made = Callable[..., tuple[Crook, Victim]]
NOISE = "\x1b[2J\x1b[31mPAID\r\nerror: nothing to pay\u202e"


@pytest.fixture
def meet(tmp_path: Path) -> Iterator[Made]:
    """A crook and a victim; afterwards the books must be sound and hold no more than one price."""
    with ExitStack() as stack:

        def open_both(settings: dict[str, str] | None = None, **how: Any) -> tuple[Crook, Victim]:
            crook = stack.enter_context(open_crook(**how))
            victim = stack.enter_context(open_victim(crook, tmp_path, **(settings or {})))
            stack.callback(victim.check_books)
            return crook, victim

        yield open_both


def fails(act: Callable[[], object]) -> X402AudioError:
    """The typed, bounded, printable error this ends with."""
    with pytest.raises(X402AudioError) as caught:
        act()
    check_error(caught.value)
    assert caught.value.exit_code in (2, 3, 4, 5, 7, 8, 9, 10)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1_500
    return caught.value


def recovers(crook: Crook, victim: Victim, job_id: str = "the-job") -> None:
    """The seller behaves again: the very job ends with its file, and the wallet signs nothing more."""
    signed, sent = victim.signed, set(crook.payments)
    crook.repents()
    track = victim.shopper.resume(job_id)
    assert Path(track.path).read_bytes() == sound()
    assert victim.signed == max(signed, 1) and len(crook.nonces) == 1
    assert not sent or set(crook.payments) == sent
    assert victim.files() == ["track.wav"]


@cache
def bomb(layers: int = 1, size: int = 32 << 20) -> bytes:
    """Zeros, packed so often; the first layer is made without ever holding the zeros."""
    packer = zlib.compressobj(9, wbits=31)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()
    for _ in range(layers - 1):
        packed = gzip.compress(packed)
    return packed


def header(value: object) -> dict[str, str]:
    return {"payment-required": base64text.encode(json.dumps(value))}


# --- demands that are never signed
DEAR = {"maxAmountRequired": "999999999"}
DEMANDS: dict[str, Script] = {
    "gzip bomb": reply(402, bomb(), {"content-encoding": "gzip"}),
    "bomb in a bomb": reply(402, bomb(2), {"content-encoding": "gzip, gzip"}),
    "three layers": reply(402, bomb(3), {"content-encoding": "gzip, gzip, gzip"}),
    "packed in what nobody reads": reply(402, demand(), {"content-encoding": "br"}),
    "says gzip and is not": reply(402, demand(), {"content-encoding": "gzip"}),
    "deep": reply(402, '{"accepts":' + "[" * 30_000),
    "wide": reply(402, demand(*[offer() for _ in range(17)])),
    "longer than we read": reply(402, b" " * (ANSWER_BYTES_MAX + 1)),
    "long for terms": reply(402, json.dumps(demand(error="x" * 70_000))),
    "a header of 200 kB": reply(402, demand(), {"x-filler": "y" * 200_000}),
    "terms header of 17 kB": reply(402, "", header(demand(error="x" * 14_000))),
    "claims more than it sends": reply(402, demand(), length=100_000),
    "claims less than it sends": reply(402, demand(), length=40),
    "claims nonsense": reply(402, demand(), {"content-length": "-5"}),
    "claims twice": b"HTTP/1.1 402 X\r\nconnection: close\r\ncontent-length: 5\r\ncontent-length: 9\r\n\r\n{}",
    "no HTTP at all": b"\x00\xff\x16\x03\x01 hello",
    "a line without end": b"HTTP/1.1 402 " + b"x" * 300_000,
    "chunks that lie": b"HTTP/1.1 402 X\r\ntransfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFFFFFF\r\n{}",
    "key twice": reply(402, json.dumps(demand()).replace('"payTo"', '"payTo":"0x' + "1" * 40 + '","payTo"')),
    "header against body": reply(402, demand(offer(amount="1")), header(demand())),
    "payee of the header against the body's": reply(402, demand(offer(payTo="0x" + "1" * 40)), header(demand())),
    "not UTF-8": reply(402, b'{"x402Version":2,"accepts":[{"scheme":"\xff\xfe"}]}'),
    "half a character": reply(402, json.dumps(demand(resource={"url": "x"})).replace("url", "\\ud800")),
    "a number for the amount": reply(402, demand(offer(amount=690_000))),
    "a float for the amount": reply(402, demand(offer(amount=0.69))),
    "digits of another script": reply(402, demand(offer(amount="٦٩"))),
    "version 3": reply(402, demand(version=3)),
    "no entries": reply(402, {"x402Version": 2, "accepts": []}),
    "an extension that must be echoed is too long": reply(402, "", header(demand(extensions={"big": "z" * 11_400}))),
    "noise everywhere": reply(402, demand(offer(scheme=NOISE), offer(asset=NOISE), offer(payTo=NOISE), error=NOISE)),
    "above the limit": reply(402, demand(offer(1, **DEAR), version=1)),
    "HTML": reply(402, "<html>pay</html>", {"content-type": "text/html"}),
    "nothing": reply(402),
    "hangs up": b"",
}  # fmt: skip


@pytest.mark.parametrize("name", DEMANDS)
def test_a_foul_demand_is_never_signed(name: str, meet: Made) -> None:
    crook, victim = meet()
    crook.insists("queue", lambda _: DEMANDS[name])
    error = fails(victim.generate)
    assert error.money_moved == "no" and error.exit_code in (2, 3, 5, 7)
    assert victim.signed == 0 and not crook.payments and not victim.shopper.holds()
    assert not victim.files()


@pytest.mark.parametrize("name", DEMANDS)
def test_a_foul_demand_is_never_signed_by_the_auth_either(name: str, tmp_path: Path) -> None:
    """On a stranger's own httpx client; what its transport cannot read is its transport's error."""
    clock, signer = WaitingClock(), CountingSigner()
    ledger = SqliteLedger(tmp_path / "books" / "ledger.db", clock=clock)
    auth = X402Auth(signer, ledger, PaymentPolicy(max_amount="1"), prepaid=(), clock=clock)
    with open_crook() as crook, httpx.Client(auth=auth, trust_env=False, follow_redirects=True) as http:
        crook.insists("queue", lambda _: DEMANDS[name])
        with pytest.raises((X402AudioError, httpx.TransportError)) as caught:
            http.post(f"{crook.api_url}/audio/queue", json={"model": "m"})
        assert not crook.payments
    if isinstance(caught.value, X402AudioError):
        check_error(caught.value)
    assert not signer.authorizations and not ledger.holds() and ledger.verify() == []
    ledger.close()


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    """A few kilobytes that say two layers of gzip were a quarter of a gigabyte in one step."""
    packed = bomb(2, 256 << 20)
    assert len(packed) < 20_000
    tracemalloc.start()
    try:
        from x402_audio.flow import AnswerUnreadable, read_bounded

        response = httpx.Response(402, headers={"content-encoding": "gzip, gzip"}, stream=_Once(packed))
        with pytest.raises(AnswerUnreadable):
            read_bounded(response)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 8 << 20


class _Once(httpx.SyncByteStream):
    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        yield self._content


def test_an_endless_demand_is_left(meet: Made) -> None:
    head = b"HTTP/1.1 402 X\r\ncontent-type: application/json\r\n\r\n"
    crook, victim = meet()
    crook.insists("queue", lambda _: endless(head, b" " * 65_536))
    assert fails(victim.generate).exit_code == 7
    assert victim.signed == 0


# --- redirects
REDIRECTS = (300, 301, 302, 303, 305, 307, 308)


@pytest.mark.parametrize("status", REDIRECTS)
def test_no_redirect_is_followed_before_payment(status: int, meet: Made) -> None:
    crook, victim = meet()
    with open_stranger() as stranger:
        stranger.say = lambda _: (402, {}, json.dumps(demand()).encode())
        crook.insists(
            "queue", lambda _: reply(status, demand(), {"location": f"{stranger.origin}/audio/queue"})
        )
        error = fails(victim.generate)
        assert not stranger.heard
    assert victim.signed == 0 and error.money_moved == "no"


@pytest.mark.parametrize(
    ("status", "where"),
    [*((status, "elsewhere") for status in REDIRECTS), (307, "the same place"), (308, "another scheme")],
)
def test_a_redirect_after_payment_takes_nothing_along(status: int, where: str, meet: Made) -> None:
    crook, victim = meet()
    with open_stranger() as stranger:
        places = {
            "elsewhere": f"{stranger.origin}/x", "the same place": "/api/v1/audio/queue", "another scheme": "file:///etc/passwd",
        }  # fmt: skip
        crook.insists("paid", lambda _: reply(status, "", {"location": places[where]}))
        error = fails(victim.generate)
        assert not stranger.heard
    assert isinstance(error, PaymentRejected) and error.exit_code == 8
    assert victim.signed == 1 and len(crook.payments) == 1
    recovers(crook, victim)


# --- answers to a payment
PAID: dict[str, Script] = {
    "500": reply(500, {"error": NOISE}),
    "503, come back in a year": reply(503, "", {"retry-after": "31536000"}),
    "402 again, dearer": reply(402, demand(offer(amount="5000000"))),
    "402, failed, says the seller": reply(402, demand(), {"payment-response": base64text.encode('{"success":false,"errorReason":"no"}')}),
    "400": reply(400, {"error": "bad payment"}),
    "403": reply(403, {"error": "banned"}),
    "418": reply(418, "teapot"),
    "999": reply(999, "what"),
    "hangs up": b"",
    "half a head": b"HTTP/1.1 200 O",
    "cut off": reply(200, {"queue_id": "x"}, length=500),
    "a bomb": reply(200, bomb(2), {"content-encoding": "gzip, gzip"}),
    "a head of 200 kB": reply(200, "{}", {"x-filler": "y" * 200_000}),
    "endless": endless(b"HTTP/1.1 200 X\r\n\r\n", b" " * 65_536),
}  # fmt: skip


@pytest.mark.parametrize("name", PAID)
def test_a_foul_answer_to_a_payment_makes_no_second_one(name: str, meet: Made) -> None:
    crook, victim = meet()
    crook.insists("paid", lambda _: PAID[name])
    error = fails(victim.generate)
    assert isinstance(error, PaymentRejected | PaymentUnsettled) and error.exit_code == 8
    assert error.money_moved == "unknown" and "key" in error.next_step + "key, reconcile"
    assert victim.signed == 1 and len(set(crook.payments)) == 1
    recovers(crook, victim)


NAMELESS: dict[str, object] = {
    "no id": {}, "empty": {"queue_id": ""}, "a number": {"queue_id": 7}, "a list": {"queue_id": ["a"]}, "300 characters": {"queue_id": "q" * 300},
    "a line break": {"queue_id": "a\nb"}, "an escape": {"queue_id": "a\x1b[2Jb"}, "spaces": {"queue_id": "a b"}, "a text": '"id"', "HTML": "<html>",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMELESS)
def test_a_paid_answer_without_a_usable_id_buys_nothing_twice(name: str, meet: Made) -> None:
    crook, victim = meet()
    crook.insists("paid", lambda _: reply(200, NAMELESS[name]))
    error = fails(victim.generate)
    assert error.exit_code in (8, 9) and error.money_moved in ("yes", "unknown")
    assert victim.signed == 1
    again = fails(victim.generate)
    assert victim.signed == 1 and len(crook.nonces) == 1
    assert again.exit_code in (8, 9)


@pytest.mark.parametrize(
    "queue_id",
    ["../../../etc/passwd", "/etc/passwd", "a/../../b", "CON", "..", "%2e%2e%2f", "q" * 256, "id;rm", "{}"],
)
def test_an_id_with_path_characters_is_only_ever_sent_back(queue_id: str, meet: Made) -> None:
    crook, victim = meet()
    crook.says("paid", reply(200, {"queue_id": queue_id, "model": queue_id}))
    track = victim.generate(output=None)
    assert Path(track.path).name == "the-job.wav" and Path(track.path).parent == Path.cwd()
    Path(track.path).unlink()
    assert json.loads(crook.asked("retrieve")[0].body)["queue_id"] == queue_id


# --- job states
POLLS: dict[str, tuple[Script, ...]] = {
    "words nobody knows": tuple(reply(200, {"status": word}) for word in ("DANCING", "", NOISE, "COMPLETED")),
    "status is no text": tuple(reply(200, f'{{"status": {word}}}') for word in ("7", "null", "[]", '{"a": 1}', "true")),
    "backwards": tuple(
        reply(200, {"status": "PROCESSING", "average_execution_time": 20_000 + n, "execution_duration": 9_000 - 3_000 * n}) for n in range(4)
    ),
    "times that are none": tuple(
        reply(200, f'{{"status":"PROCESSING","average_execution_time":{value},"execution_duration":{value}}}')
        for value in ("1e308", "-5", '"x"', "NaN", "1e999999", "9" * 90)
    ),
    "unreadable": (reply(200, "{"), reply(200, b"\xff"), reply(200, "[]"), reply(200, "[" * 5_000), reply(200, b"")),
    "a 200 that is HTML": (reply(200, "<html>", {"content-type": "text/html"}),),
    "events": (reply(200, 'data: {"status":"COMPLETED"}\n\n' * 9, {"content-type": "text/event-stream"}),),
    "a redirect": (reply(307, "", {"location": "http://127.0.0.1:9/x"}), ),
    "5xx": (reply(500, "x"), reply(502, b"\xff"), reply(503, "", {"retry-after": "-9"}), reply(504)),
    "429 for ever, it says": (reply(429, "", {"retry-after": "99999999"}), reply(429, "", {"x-ratelimit-reset-requests": "9" * 15})),
    "hangs up": (b"", b"HTTP/1.1 200", reply(200, {"status": "PROCESSING"}, length=99)),
    "two layers": (reply(200, bomb(2), {"content-encoding": "gzip, gzip"}),),
    "audio of a strange kind": (reply(200, b"x" * 99, {"content-type": "audio/\xff\x9b31m"}),),
}  # fmt: skip


@pytest.mark.parametrize("name", POLLS)
def test_strange_words_about_a_running_job_lose_nothing(name: str, meet: Made) -> None:
    crook, victim = meet()
    crook.says("retrieve", *POLLS[name])
    ended: list[X402AudioError] = []
    try:
        victim.generate()
    except X402AudioError as error:
        ended.append(error)
    for told in ended:
        check_error(told)
        assert told.money_moved == "yes" and told.exit_code in (7, 9, 10)
    recovers(crook, victim)


def test_a_job_that_never_ends_is_waited_for_no_longer_than_was_said(meet: Made) -> None:
    crook, victim = meet()
    crook.insists(
        "retrieve",
        lambda _: reply(
            200, {"status": "PROCESSING", "average_execution_time": 10**9, "execution_duration": 0}
        ),
    )
    began = victim.shopper.clock.now()
    error = fails(
        lambda: victim.shopper.generate(job_id="the-job", timeout=120.0, output=victim.folder / "track.wav")
    )
    assert isinstance(error, JobTimedOut) and error.exit_code == 10
    assert victim.shopper.clock.now() - began <= 130
    recovers(crook, victim)


ENDS: dict[str, tuple[Script, type[X402AudioError]]] = {
    "400": (reply(400, {"error": NOISE}), JobFailed),
    "404": (reply(404, {"error": "x" * 9_000}), JobExpired),
    "410": (reply(410), JobExpired),
    "422 with a wish": (reply(422, {"error": "no", "suggested_prompt": NOISE * 900}), JobFailed),
    "FAILED": (reply(200, {"status": "failed", "error": NOISE}), JobFailed),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_job_the_seller_ends_is_told_as_money_gone(name: str, meet: Made) -> None:
    script, kind = ENDS[name]
    crook, victim = meet()
    crook.insists("retrieve", lambda _: script)
    error = fails(victim.generate)
    assert isinstance(error, kind) and error.exit_code == 9 and error.money_moved == "yes"
    assert victim.signed == 1
    fails(lambda: victim.shopper.resume("the-job"))
    assert victim.signed == 1


# --- downloads
WAV = {"content-type": "audio/wav"}
DOWNLOADS: dict[str, Script] = {
    "HTML named mp3": reply(200, b"<html><body>sorry</body></html>" * 20, {"content-type": "audio/mpeg"}),
    "JSON named wav": reply(200, b'{"status":"PROCESSING"}', WAV),
    "zip": reply(200, b"PK\x03\x04" + bytes(500), {"content-type": "audio/mpeg"}),
    "a program": reply(200, b"\x7fELF" + bytes(500), {"content-type": "application/octet-stream"}),
    "empty": reply(200, b"", WAV),
    "cut off": reply(200, sound()[:9_000], WAV, length=len(sound())),
    "cut off, and the length agrees": reply(200, sound()[:9_000], WAV),
    "only a head": reply(200, sound()[:44], WAV),
    "more than it claims": reply(200, sound() + bytes(9_000), WAV, length=len(sound()) - 5),
    "silence of no length": reply(200, sound()[:40] + bytes(4), WAV),
    "a bomb": reply(200, bomb(2), {**WAV, "content-encoding": "gzip, gzip"}),
    "zeros, packed": reply(200, bomb(), {**WAV, "content-encoding": "gzip"}),
    "noise": reply(200, bytes(range(256)) * 100, {"content-type": "audio/flac"}),
}  # fmt: skip


@pytest.mark.parametrize("name", DOWNLOADS)
def test_what_is_no_whole_track_is_never_kept_and_never_completed(name: str, meet: Made) -> None:
    crook, victim = meet()
    crook.insists("retrieve", lambda _: DOWNLOADS[name])
    error = fails(victim.generate)
    assert error.exit_code in (7, 9) and error.money_moved == "yes"
    assert victim.files() == [] and not crook.asked("complete")
    recovers(crook, victim)
    assert len(crook.asked("complete")) == 1


def test_an_endless_download_ends(meet: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("x402_audio.jobs.download.FILE_BYTES_MAX", 1 << 20)
    head = b"HTTP/1.1 200 X\r\ncontent-type: audio/wav\r\n\r\n"
    crook, victim = meet()
    crook.insists("retrieve", lambda _: endless(head, bytes(65_536)))
    assert isinstance(fails(victim.generate), BadDownload)
    assert victim.files() == []
    recovers(crook, victim)


def test_a_dripping_download_ends_within_its_hour(meet: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes were gathered to full pieces first, so that a drip was never looked at."""
    crook, victim = meet()
    monkeypatch.setattr("x402_audio.jobs.advance.DOWNLOAD_TRIES", 1)
    head = b"HTTP/1.1 200 X\r\ncontent-type: audio/wav\r\n\r\n"
    crook.insists("retrieve", lambda _: endless(head, b"RIFF"))
    with monkeypatch.context() as patched:
        patched.setattr(type(victim.shopper.clock), "monotonic", _a_minute_each_look)
        error = fails(lambda: victim.generate(timeout=10**9))
    assert isinstance(error, BadDownload) and "hour" in str(error)
    assert victim.files() == []
    recovers(crook, victim)


def _a_minute_each_look(clock: WaitingClock) -> float:
    clock.at += 60.0
    return clock.at


def test_a_name_in_the_headers_chooses_no_place(meet: Made) -> None:
    crook, victim = meet()
    names = {"content-disposition": 'attachment; filename="../../.bashrc"', "content-location": "/etc/passwd"}
    crook.says("retrieve", reply(200, sound(), {**WAV, **names}))
    track = victim.generate()
    assert track.path == str(victim.folder / "track.wav") and victim.files() == ["track.wav"]


# --- balances
def _told(figure: str, **more: object) -> Callable[[Heard], Script]:
    return lambda heard: balance(heard.path.rpartition("/")[2], figure, **more)


BALANCES: dict[str, Callable[[Heard], Script]] = {
    "NaN": _told("NaN"), "Infinity": _told("Infinity"), "negative": _told("-5"), "text": _told('"5.00"'), "10^12": _told("1000000000000"),
    "null": _told("null"), "true": _told("true"), "twice": _told('1,"balanceUsd":99'), "another wallet": _told("5", walletAddress="0x" + "1" * 40),
    "cannot consume": _told("5", canConsume=False), "list": lambda _: reply(200, "[5]"), "deep": lambda _: reply(200, "[" * 9_000),
    "html": lambda _: reply(200, "<html>"), "no success": lambda _: reply(200, {"success": False, "data": {"balanceUsd": 9}}),
    "402 with an offer": lambda _: reply(402, demand()), "redirect": lambda _: reply(302, "", {"location": "/api/v1/x402/balance/0x1"}),
    "403": lambda _: reply(403, {"error": NOISE}), "bomb": lambda _: reply(200, bomb(2), {"content-encoding": "gzip, gzip"}),
}  # fmt: skip


@pytest.mark.parametrize("name", BALANCES)
def test_a_balance_that_cannot_be_trusted_opens_no_gate(name: str, meet: Made) -> None:
    crook, victim = meet(prepaid=True)
    crook.insists("balance", BALANCES[name])
    error = fails(victim.generate)
    assert error.money_moved == "no" and error.exit_code in (2, 4, 7)
    assert not crook.asked("queue") and not crook.asked("top-up") and not crook.payments
    crook.repents()
    assert Path(victim.shopper.resume("the-job").path).read_bytes() == sound()
    assert victim.signed == 0 and len(crook.asked("queue")) == 1


def test_a_balance_that_flaps_opens_no_gate(meet: Made) -> None:
    crook, victim = meet(prepaid=True, settings={"MAX_TOP_UP": "10"})
    told: list[int] = []

    def flap(heard: Heard) -> Script:
        told.append(1)
        return balance(heard.path.rpartition("/")[2], "50" if len(told) % 2 else "0.01")

    crook.insists("balance", flap)
    assert fails(victim.generate).exit_code == 4
    assert not crook.asked("queue") and victim.signed == 0


# --- sign-ins
CHALLENGE = {
    "domain": "evil.example", "uri": "https://evil.example/login", "version": "1", "nonce": "ATTACKERSNONCE01", "chainId": "eip155:1",
    "issuedAt": "2020-01-01T00:00:00Z", "expirationTime": "2099-01-01T00:00:00Z", "statement": "I hereby transfer everything",
    "resources": ["https://evil.example/all"],
}  # fmt: skip
CHALLENGES: dict[str, Script] = {
    "402 with a challenge": reply(402, {"x402Version": 2, "accepts": [], "extensions": {"sign-in-with-x": {"info": CHALLENGE}}}),
    "401 with a challenge": reply(401, {"error": "sign this", "code": "X402_SIGN_IN_EXPIRED", "siwxChallenge": CHALLENGE}),
    "401 reused": reply(401, {"error": "x", "code": "X402_SIGN_IN_NONCE_REUSED", "siwxChallenge": CHALLENGE}),
    "401 and another time": reply(401, {"code": "X402_SIGN_IN_EXPIRED"}, {"date": "Fri, 31 Dec 2999 00:00:00 GMT"}),
    "a header to sign": reply(401, "", {"sign-in-with-x": base64text.encode(json.dumps(CHALLENGE)), "www-authenticate": "SIWX domain=evil"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CHALLENGES)
@pytest.mark.parametrize("route", ["balance", "queue", "retrieve"])
def test_only_our_own_words_are_ever_signed(
    name: str, route: str, meet: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    crook, victim = meet(prepaid=True)
    texts: list[str] = []
    sign = victim.signer.sign_message

    def note(text: str) -> bytes:
        texts.append(text)
        return sign(text)

    monkeypatch.setattr(victim.signer, "sign_message", note)
    crook.insists(route, lambda _: CHALLENGES[name])
    fails(lambda: victim.shopper.generate(job_id="the-job", timeout=60.0, output=victim.folder / "track.wav"))
    host = crook.origin.removeprefix("http://")
    assert texts and len(texts) == len({_line(text, "Nonce: ") for text in texts})
    for text in texts:
        assert text.startswith(f"{host} wants you to sign in") and "\n\nSign in to Venice AI\n\n" in text
        assert _line(text, "URI: ").startswith(crook.origin) and _line(text, "Chain ID: ") == "8453"
        assert (
            "evil" not in text and "ATTACKER" not in text and "2999-" not in text
        )  # a port or a nonce may hold the digits
    assert victim.signed == 0


def _line(text: str, begins: str) -> str:
    return next(line.removeprefix(begins) for line in text.split("\n") if line.startswith(begins))


def test_what_was_spent_is_one_price(meet: Made) -> None:
    """The whole table at once: a seller who plays every trick in turn gets one payment for one job."""
    crook, victim = meet()
    crook.says(
        "paid", *(script for name, script in PAID.items() if isinstance(script, bytes) and name != "a bomb")
    )
    for _ in range(len(PAID)):
        try:
            victim.generate()
        except X402AudioError as error:
            check_error(error)
        else:
            break
    assert victim.signed == 1 and len(crook.nonces) == 1
    held = victim.shopper.holds("the-job")
    assert [hold.amount for hold in held] == [PRICE]
