"""Bounds on time and place: dripping answers, ids that name no file, and a rates file that is not ours."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.books import MAKE, books
from tests.hostile.crook import open_crook, open_victim, sound
from tests.hostile.readers import check_error
from tests.jobs.stage import WaitingClock
from tests.payment.till import CountingSigner
from x402_audio.cli import main
from x402_audio.client import AudioClient
from x402_audio.errors import ConfigurationError, RequestInvalid
from x402_audio.flow import (
    ANSWER_TOTAL_S,
    HEAD_TOTAL_S,
    AnswerTooSlow,
    AnswerUnreadable,
    Flow,
    chunk,
    run,
    run_async,
    send,
)
from x402_audio.jobs.download import check_writable, save_stream
from x402_audio.jobs.schedule import POLL_MAX_S, first_poll, next_poll
from x402_audio.ledger.rates import Rates
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.patience import TimedBackend, patient
from x402_audio.payment.auth import X402Auth
from x402_audio.payment.policy import PaymentPolicy
from x402_audio.settings import load_settings
from x402_audio.unpack import Unpacker

URL = "http://127.0.0.1:9/"


class Drip(httpx.SyncByteStream, httpx.AsyncByteStream):
    """One byte after the other; between two of them some time goes by."""

    def __init__(self, clock: WaitingClock, seconds: float, count: int = 1_000) -> None:
        self._clock, self._seconds, self._count = clock, seconds, count
        self.given = 0

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(self._count):
            self._clock.at += self._seconds
            self.given += 1
            yield b" "

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in iter(self):
            yield piece


@pytest.fixture(params=["sync", "async"])
def drive(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Runs a flow against one handler, on either client."""

    def on_it(
        flow: Flow[Any], handler: Callable[[httpx.Request], httpx.Response], clock: WaitingClock
    ) -> Any:
        transport = httpx.MockTransport(handler)
        if request.param == "sync":
            with httpx.Client(transport=transport) as http:
                return run(flow, http, clock.wait, clock.monotonic)

        async def go() -> Any:
            async with httpx.AsyncClient(transport=transport) as http:
                return await run_async(flow, http, clock.monotonic)

        return asyncio.run(go())

    return on_it


def _ask() -> Flow[bytes]:
    return (yield from send(httpx.Request("GET", URL))).content


def test_a_dripping_answer_ends_in_time(drive: Callable[..., Any]) -> None:
    """Each byte came within the time-out for a read; all of them took for ever."""
    clock, drip = WaitingClock(), None
    drip = Drip(clock, 10.0)
    with pytest.raises(AnswerTooSlow):
        drive(_ask(), lambda _: httpx.Response(200, stream=drip), clock)
    assert drip.given == int(ANSWER_TOTAL_S / 10) + 1


def test_a_slow_but_honest_answer_is_read(drive: Callable[..., Any]) -> None:
    clock = WaitingClock()
    assert drive(_ask(), lambda _: httpx.Response(200, stream=Drip(clock, 5.0, 10)), clock) == b" " * 10


def test_a_stream_is_handed_on_as_it_comes(drive: Callable[..., Any]) -> None:
    """Whoever reads it must be able to stop: nothing is gathered to full pieces first."""
    clock = WaitingClock()

    def flow() -> Flow[list[bytes]]:
        response = yield from send(httpx.Request("GET", URL), stream=True)
        return [(yield from chunk(response)), (yield from chunk(response))]

    drip = Drip(clock, 1.0)
    assert drive(flow(), lambda _: httpx.Response(200, stream=drip), clock) == [b" ", b" "]
    assert drip.given <= 3


@pytest.mark.parametrize("awaited", [False, True])
def test_a_dripping_402_is_not_waited_for_by_the_auth(awaited: bool, tmp_path: Path) -> None:
    clock, signer = WaitingClock(), CountingSigner()
    ledger = SqliteLedger(tmp_path / "books" / "ledger.db", clock=clock)
    auth = X402Auth(signer, ledger, PaymentPolicy(max_amount="1"), prepaid=(), clock=clock)
    drip = Drip(clock, 10.0)
    transport = httpx.MockTransport(lambda _: httpx.Response(402, stream=drip))

    async def go() -> None:
        async with httpx.AsyncClient(transport=transport, auth=auth) as http:
            await http.post(URL, content=b"x")

    def ask() -> None:
        with httpx.Client(transport=transport, auth=auth) as http:
            http.post(URL, content=b"x")

    with pytest.raises(AnswerTooSlow):
        asyncio.run(go()) if awaited else ask()
    assert drip.given == int(ANSWER_TOTAL_S / 10) + 1 and not signer.authorizations
    ledger.close()


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("gzip, gzip", b""), ("br", b"x"), ("zstd", b"x"), ("gzip", b"no gzip"), ("gzip", b"\x1f"), ("deflate", b"\xff\xff\xff"),
        ("identity, gzip, deflate", b""), ("gzip" * 50, b"x"),
    ],
)  # fmt: skip
def test_what_cannot_be_unpacked_is_no_answer(encoding: str, data: bytes, drive: Callable[..., Any]) -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-encoding": encoding}, stream=_Bytes(data))

    with pytest.raises(AnswerUnreadable):
        drive(_ask(), handler, WaitingClock())


class _Bytes(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, data: bytes) -> None:
        self._data = data

    def __iter__(self) -> Iterator[bytes]:
        yield self._data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._data


def test_packed_nothing_without_end_is_refused() -> None:
    """Empty deflate blocks say nothing for ever, so neither size nor time would ever be looked at."""
    unpacker = Unpacker("deflate")
    endless = (piece for _ in range(100_000) for piece in unpacker.pieces(b"\x00\x00\x00\xff\xff"))
    with pytest.raises(ValueError, match="nothing"):
        assert set(endless) == {b""}


def test_no_estimate_puts_the_next_look_out_of_reach() -> None:
    assert next_poll(1_000_000.0, 0.0, 1, 0.5) == POLL_MAX_S
    assert next_poll(None, None, 1, 0.5, durations=[1_000_000.0]) < POLL_MAX_S
    assert first_poll([1_000_000.0], 1) == POLL_MAX_S
    assert next_poll(40.0, 10.0, 1, 0.5) == 10.0


# --- ids and places
BAD_IDS = {
    "300 characters": "j" * 300, "empty": "", "a space": " ", "ends in a space": "a ", "a line break": "a\nb", "an escape": "a\x1b[2J", "NUL": "a\x00b",
    "half a character": "a\udcff", "overwrites": "a\u202eb",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_IDS)
def test_an_id_that_names_no_file_is_refused_before_anything(name: str, tmp_path: Path) -> None:
    with open_crook() as crook, open_victim(crook, tmp_path) as victim:
        for act in (victim.generate, victim.shopper.submit):
            with pytest.raises(RequestInvalid) as caught:
                act(job_id=BAD_IDS[name], output=None)
            check_error(caught.value)
            assert caught.value.exit_code == 2 and caught.value.field == "job_id"
        assert not crook.heard and victim.signed == 0


def test_the_longest_id_has_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_crook() as crook, open_victim(crook, tmp_path) as victim:
        monkeypatch.chdir(victim.folder)
        track = victim.generate(job_id="jingles/" + "ü" * 192, output=None)
        assert Path(track.path).parent == victim.folder and Path(track.path).read_bytes() == sound()


@pytest.mark.parametrize("job_id", ["j" * 300, "a\x1b[2Jb"])
def test_the_command_says_so_in_one_line(
    job_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_crook() as crook:
        monkeypatch.setenv("X402_AUDIO_API_URL", crook.api_url)
        monkeypatch.setenv("X402_AUDIO_PRIVATE_KEY", "0x" + "5a" * 32)
        monkeypatch.setenv("X402_AUDIO_STATE_DIR", str(tmp_path / "state"))
        words = [
            "generate",
            "warm indie folk, 120 BPM",
            "--model",
            "m",
            "--provider",
            "direct",
            "--job-id",
            job_id,
        ]
        assert main([*words, "--json"]) == 2
        told = json.loads(capsys.readouterr().out)
        assert told["error"]["code"] == "RequestInvalid" and told["error"]["moneyMoved"] == "no"
        assert not crook.heard


@pytest.mark.parametrize("name", ["n" * 300, "nul\x00.mp3", "\ud800", "half\udcff" + "x" * 260])
def test_an_output_no_file_system_takes_is_refused_before_money(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_writable(tmp_path / name, force=False)
    check_error(caught.value)


def test_a_long_name_of_wide_letters_is_saved(tmp_path: Path) -> None:
    """The part file's name is counted in bytes: a name that fits must not fail after the payment."""
    target = tmp_path / ("音" * 80 + ".wav")
    check_writable(target, force=False)

    def flow() -> Flow[Any]:
        response = yield from send(httpx.Request("GET", URL), stream=True)
        return (
            yield from save_stream(
                response, target, job_id="j", force=False, clock=WaitingClock(), alive=lambda: None
            )
        )

    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "audio/wav"}, stream=_Bytes(sound()))

    with httpx.Client(transport=httpx.MockTransport(handler)) as http:
        run(flow(), http, lambda _: None)
    assert target.read_bytes() == sound()


# --- the file beside the books
def _folder(path: Path) -> None:
    path.mkdir()
    (path / "something").write_text("of somebody")


def _foreign(path: Path) -> None:
    with books(path, MAKE) as db:
        db.execute("CREATE TABLE rate (id INTEGER, name TEXT)")
        db.execute("CREATE TABLE slot (x)")
        db.execute("CREATE VIEW failure AS SELECT 1 AS wallet, 2 AS at")


def _words_for_numbers(path: Path) -> None:
    clock = WaitingClock()
    Rates(str(path).removesuffix(".rates"), clock).slot("w", 5, 60)
    with books(path) as db:
        for wallet in ("w", "account", "open"):
            db.execute("INSERT INTO rate VALUES (?, 'queue', 'soon', 'never')", (wallet,))
        db.execute("UPDATE slot SET lease_until = 'later', owner = 7")
        db.execute("INSERT INTO slot SELECT token || 'x', 'w', x'ff', 'later' FROM slot")
        db.executemany("INSERT INTO failure VALUES ('w', ?)", [(f"at {n}",) for n in range(12)])


STRANGE: dict[str, Callable[[Path], None]] = {
    "a folder": _folder,
    "foreign tables": _foreign,
    "words for numbers": _words_for_numbers,
    "rubbish": lambda path: _write(path, b"rubbish" * 999),
    "a link to nowhere": lambda path: path.symlink_to(path.parent / "no" / "such" / "place"),
}


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_rates_file_is_mended_or_done_without(name: str, tmp_path: Path) -> None:
    told: list[str] = []
    clock = WaitingClock()
    STRANGE[name](tmp_path / "ledger.db.rates")
    rates = Rates(tmp_path / "ledger.db", clock, on_trouble=told.append)
    assert rates.take("w", "queue", 60, 1) in (0.0, 1.0)
    token = rates.slot("w", 5, 60)
    assert token
    rates.release(token)
    rates.note_error("w")
    rates.push_back("w", "queue", 5)
    assert rates.error_budget_wait("w") == 0.0
    if name == "a folder":
        assert len(told) == 1 and "\n" not in told[0]
        assert (tmp_path / "ledger.db.rates" / "something").read_text() == "of somebody"
    else:
        assert not told and rates.take("w", "queue", 60, 1) >= 5.0


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_rates_file_blocks_no_paid_job(name: str, tmp_path: Path) -> None:
    with open_crook(prepaid=True) as crook, open_victim(crook, tmp_path) as victim:
        STRANGE[name](tmp_path / "state" / "ledger.db.rates")
        began = victim.shopper.clock.now()
        track = victim.generate()
        assert Path(track.path).read_bytes() == sound()
        assert victim.shopper.clock.now() - began < 60
        victim.check_books()
        assert len([text for text in victim.shopper.told("warning") if "rates" in text]) <= 1


# --- heads that drip
def _dripping_heads() -> Iterator[bytes]:
    yield b"HTTP/1.1 402 Payment Required\r\n"
    number = 0
    while True:
        number += 1
        yield b"x-%d: y\r\n" % number if number % 2 else b"x-more: z\r\n"


def test_a_dripping_head_ends_in_time_on_our_own_client() -> None:
    """Every byte came within the time-out for a read; the head alone would have taken days."""
    moments = iter(range(0, 10**9, 10))
    with open_crook() as crook, patient(httpx.Client(trust_env=False), lambda: float(next(moments))) as http:
        crook.insists("slow", lambda _: _dripping_heads())
        with pytest.raises(httpx.ReadTimeout):
            run(_ask_for(f"{crook.api_url}/slow"), http, lambda _: None)
        assert run(_ask_for(f"{crook.api_url}/complete"), http, lambda _: None) == b'{"success": true}'


def test_a_long_body_is_not_timed_as_a_head() -> None:
    now = [0.0]
    with open_crook() as crook, patient(httpx.Client(trust_env=False), lambda: now[0]) as http:
        crook.insists("long", lambda _: [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", b"a", b"b"])

        def flow() -> Flow[bytes]:
            response = yield from send(httpx.Request("GET", f"{crook.api_url}/long"), stream=True)
            now[0] += 10 * HEAD_TOTAL_S
            body = b""
            while piece := (yield from chunk(response)):
                body += piece
            return body

        assert run(flow(), http, lambda _: None) == b"ab"


def test_an_awaited_dripping_head_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("x402_audio.flow.HEAD_TOTAL_S", 0.05)
    parked = threading.Event()

    async def go(url: str) -> None:
        async with httpx.AsyncClient(trust_env=False) as http:
            await run_async(_ask_for(url), http)

    def never_done() -> Iterator[bytes]:
        yield b"HTTP/1.1 402 Payment Required\r\nx: "
        parked.wait(30)

    with open_crook() as crook:
        crook.insists("slow", lambda _: never_done())
        with pytest.raises(AnswerTooSlow):
            asyncio.run(go(f"{crook.api_url}/slow"))
        parked.set()


def test_the_clients_own_connections_are_patient_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies' pools too; what httpx keeps private is found where this release keeps it."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    settings = load_settings(env={"X402_AUDIO_STATE_DIR": str(tmp_path)}, cwd=tmp_path)
    with AudioClient(settings) as client:
        transports = [
            client.http._transport,
            *(one for one in client.http._mounts.values() if one is not None),
        ]
        pools = [vars(transport)["_pool"] for transport in transports]
        assert len(pools) >= 2
        assert all(isinstance(vars(pool)["_network_backend"], TimedBackend) for pool in pools)


def _ask_for(url: str) -> Flow[bytes]:
    return (yield from send(httpx.Request("GET", url))).content


def test_a_demand_is_not_asked_for_in_a_form_nobody_can_bound(tmp_path: Path) -> None:
    """A client that takes brotli or zstd would be answered with it; the caller's other headers stay."""
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["accept-encoding"])
        return httpx.Response(200)

    clock = WaitingClock()
    ledger = SqliteLedger(tmp_path / "books" / "ledger.db", clock=clock)
    auth = X402Auth(CountingSigner(), ledger, PaymentPolicy(max_amount="1"), prepaid=(), clock=clock)
    with httpx.Client(transport=httpx.MockTransport(handler), auth=auth) as http:
        for wanted in ("gzip, deflate, br, zstd", "br", "identity", "gzip"):
            http.get(URL, headers={"accept-encoding": wanted})
    ledger.close()
    assert asked == ["gzip, deflate", "gzip, deflate", "identity", "gzip"]
