"""Seeded secrets are looked for everywhere they could come out: nowhere but in the one secret table may one be found.

Keys, a keystore's password, an account key, and every payment and sign-in header the seller was sent (caught at its
door), in what a program prints, logs, warns of, raises (with the locals of every frame), exports and writes.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from traceback import TracebackException
from typing import Any, Self

import httpcore
import httpx
import pytest

from tests.books import asked
from tests.company import run_beside_another
from tests.payment.till import MUSIC, TOP_UP_LIMITS, Buyer, Porter, Till, WaitingClock, WaitingLoop
from x402_audio.client import AudioClient
from x402_audio.clock import system_random
from x402_audio.errors import LedgerBusy, X402AudioError
from x402_audio.flow import call, forget_locals, run, run_async
from x402_audio.ledger.export import export_json
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc
from x402_audio.payment.auth import X402Auth
from x402_audio.payment.direct import buy_direct
from x402_audio.payment.pay import Payer
from x402_audio.payment.policy import PaymentPolicy
from x402_audio.payment.session import SellerSession
from x402_audio.protocol.keystore import create_keystore
from x402_audio.protocol.signer import LocalSigner
from x402_audio.providers.provider import Ask
from x402_audio.sandbox import FaultPlan, FaultRule, SandboxSeller, SandboxServer
from x402_audio.secret import Secret
from x402_audio.settings import load_settings

KEY = "0x" + "9c17e5ab" * 8
PASSWORD = "correct horse battery seeded staple"
ACCOUNT_KEY = "VENICE-INFERENCE-KEY-5eeded-1f2e3d4c5b6a"
QUEUE = "/audio/queue"
PROMPT = "Warm indie folk, 120 BPM"
ROOT = Path(__file__).parent.parent
Open = Callable[..., Till]


def forms_of_key(key: str) -> set[str]:
    """The ways a key could be written."""
    raw = bytes.fromhex(key.removeprefix("0x"))
    return {
        raw.hex(),
        raw.hex().upper(),
        base64.b64encode(raw).decode(),
        str(int.from_bytes(raw, "big")),
        repr(raw)[2:-1],
    }


def forms_of_header(value: str) -> set[str]:
    """The signature, and every long piece of the header that holds some of it; the rest is only what was offered."""
    said = json.loads(base64.b64decode(value))
    signature = str(said["payload"]["signature"] if "payload" in said else said["signature"]).removeprefix(
        "0x"
    )
    first = base64.b64decode(value).index(signature.encode()) // 3 * 4 + 4
    return {signature} | {value[at : at + 40] for at in range(first, first + 120, 20)}


class Sieve:
    """Everything secret, and a search for it."""

    def __init__(self, *keys: str) -> None:
        self.forms = {PASSWORD, ACCOUNT_KEY}
        for key in (KEY, *keys):
            self.forms |= forms_of_key(key)

    def add(self, values: Iterable[str]) -> None:
        for value in values:
            self.forms |= forms_of_header(value) if not value.startswith("Bearer") else {value}

    def found(self, *texts: str | bytes) -> list[str]:
        hay = b"\n".join(
            text if isinstance(text, bytes) else text.encode("utf-8", "replace") for text in texts
        )
        return [form for form in self.forms if form.encode() in hay]

    def found_in(self, folder: Path) -> list[str]:
        return self.found(*(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()))


def report_of(error: BaseException) -> str:
    """An error and all behind it, suppressed or not, as the most talkative reporter would show them."""
    shown, waiting = list[BaseException](), [error]
    while waiting:
        each = waiting.pop()
        if not any(each is other for other in shown):
            shown.append(each)
            waiting += [behind for behind in (each.__cause__, each.__context__) if behind is not None]
    texts = [f"{each!s} {each!r} {each.args!r} {vars(each)!r}" for each in shown]
    for each in shown:
        texts.extend(TracebackException(type(each), each, each.__traceback__, capture_locals=True).format())
    return "\n".join(texts)


class Ear(logging.Handler):
    """Every logger's every word."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name} {record.getMessage()} {record.args!r} {vars(record)!r}")


@pytest.fixture
def ear() -> Iterator[Ear]:
    ear, root = Ear(), logging.getLogger()
    names = ("", "httpx", "httpcore", "httpcore.http11", "httpcore.connection", "x402_audio", "asyncio")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    root.addHandler(ear)
    yield ear
    root.removeHandler(ear)
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> WaitingClock:
    clock = WaitingClock()
    monkeypatch.setattr("x402_audio.payment.auth.time", clock)
    monkeypatch.setattr("x402_audio.payment.auth.asyncio", WaitingLoop(clock))
    return clock


@pytest.fixture(params=["sync", "async"])
def open_till(request: pytest.FixtureRequest, tmp_path: Path, clock: WaitingClock) -> Iterator[Open]:
    with ExitStack() as stack:

        def open_one(mode: str, **options: Any) -> Till:
            buyer = Buyer(awaited=request.param == "async")
            till = Till(tmp_path, clock, buyer, key=KEY, mode=mode, **options)
            till.signer.in_process = False  # its headers are stored, so there is something to find
            return stack.enter_context(till)

        yield open_one


def refused(act: Callable[[], object]) -> str:
    """The report of what an act raised, taken where no local of a test stands."""
    try:
        act()
    except Exception as error:
        return report_of(error)
    raise AssertionError("nothing was raised")


ENDS: dict[str, list[FaultRule]] = {
    "delivered": [],
    "no answer": [FaultRule("drop_after", QUEUE, nth=nth) for nth in range(2, 9)],
    "ill": [FaultRule("status_after", QUEUE, nth=nth, value=500) for nth in range(2, 9)],
    "declined": [FaultRule("settlement_failed", QUEUE, every=True)],
    "garbage": [FaultRule("status_after", QUEUE, nth=nth, value=404) for nth in range(2, 9)],
}


def fresh(rules: list[FaultRule]) -> list[FaultRule]:
    """Rules count what they see, so each test takes its own."""
    return [replace(rule) for rule in rules]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("mode", ["direct-v1", "direct-v2"])
def test_a_payment_by_auth_shows_in_no_error_log_print_or_file(
    open_till: Open, ear: Ear, capfd: pytest.CaptureFixture[str], mode: str, end: str
) -> None:
    till, sieve = open_till(mode), Sieve()
    till.faults(*fresh(ENDS[end]))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        shown = repr(till.buy()) if end == "delivered" else refused(till.buy)
    sieve.add(till.porter.values())
    assert till.porter.values()
    printed = capfd.readouterr()
    assert ear.lines
    assert not sieve.found(
        shown, *ear.lines, printed.out, printed.err, *(str(each.message) for each in warned)
    )
    assert not sieve.found(
        json.dumps(export_json(till.ledger)), repr(till.ledger.holds()), repr(till.ledger.events())
    )
    assert_only_in_the_secret_table(till.path, sieve, live=end != "delivered")


@pytest.mark.parametrize("end", ENDS)
def test_a_header_that_follows_from_its_fields_is_in_no_file_ever(open_till: Open, end: str) -> None:
    till, sieve = open_till("direct-v2"), Sieve()
    till.signer.in_process = True
    till.faults(*fresh(ENDS[end]))
    shown = repr(till.buy()) if end == "delivered" else refused(till.buy)
    sieve.add(till.porter.values())
    assert till.porter.values()
    assert not sieve.found(shown)
    assert not sieve.found_in(till.path.parent)


@pytest.mark.parametrize("end", ["delivered", "no answer", "ill"])
def test_a_draw_by_auth_shows_in_no_error_log_or_file(open_till: Open, ear: Ear, end: str) -> None:
    till, sieve = open_till("venice", prepaid=True, limits=TOP_UP_LIMITS), Sieve()
    till.faults(*(FaultRule(rule.action, QUEUE, nth=rule.nth - 1, value=rule.value) for rule in ENDS[end]))
    shown = repr(till.buy()) if end == "delivered" else refused(till.buy)
    sieve.add(till.porter.values())
    assert {name for _, name, _ in till.porter.seen} == {"sign-in-with-x", "payment-signature"}
    assert not sieve.found(
        shown, *ear.lines, json.dumps(export_json(till.ledger)), repr(till.ledger.events())
    )
    assert_only_in_the_secret_table(till.path, sieve, live=end != "delivered")


def assert_only_in_the_secret_table(ledger: Path, sieve: Sieve, *, live: bool) -> None:
    """The ledger's file and its log hold a secret only as a row of that table; without the rows, nowhere, free pages included."""
    rows = [bytes(row[0]) for row in asked(ledger, "SELECT bytes FROM secret")]
    assert bool(rows) == live
    assert bool(sieve.found(*rows)) == live
    for path in sorted(ledger.parent.iterdir()):
        assert path.stat().st_mode & 0o077 == 0
        left = path.read_bytes()
        for form in sieve.forms:  # as often as a row holds it, and no more: the rows are where it is
            held = sum(form.encode() in row for row in rows)
            if held and path.name == f"{ledger.name}-wal":
                continue  # every version of the row's page until it is taken up
            assert left.count(form.encode()) <= (held if path == ledger else 0), path.name


@pytest.mark.parametrize("mode", ["direct-v1", "direct-v2"])
def test_a_header_is_gone_from_the_file_once_its_hold_ends(open_till: Open, mode: str) -> None:
    till, sieve = open_till(mode), Sieve()
    till.faults(FaultRule("drop_after", QUEUE, nth=2))
    refused(till.buy)
    sieve.add(till.porter.values())
    assert sieve.found_in(till.path.parent), "while it may be sent again it must be at hand"
    till.buy()
    assert not sieve.found_in(till.path.parent)


@pytest.mark.parametrize("verb", ["void", "presume", "settle"])
def test_every_end_of_a_hold_takes_its_header_out_of_the_file(open_till: Open, verb: str) -> None:
    till, sieve = open_till("direct-v1"), Sieve()
    till.faults(FaultRule("drop_after", QUEUE, nth=2))
    refused(till.buy)
    sieve.add(till.porter.values())
    [hold] = till.ledger.holds()
    word = "why" if verb == "presume" else "evidence"
    getattr(till.ledger, verb)(hold.id, **{word: "a witness spoke"})
    assert not sieve.found_in(till.path.parent)


class BrokenLine(httpcore.NetworkStream):
    """Answers the unpaid request with a demand and never gets the payment through."""

    def __init__(self, demand: bytes) -> None:
        self._demand = demand
        self._left = b""

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if b"x-payment" in buffer.lower():
            raise httpcore.WriteTimeout("timed out")
        self._left = self._demand

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        said, self._left = self._left[:max_bytes], self._left[max_bytes:]
        return said

    def close(self) -> None:
        """Nothing is open."""

    def get_extra_info(self, info: str) -> Any:
        return None


class BrokenLines(httpcore.NetworkBackend):
    def __init__(self, demand: bytes) -> None:
        self._demand = demand

    def connect_tcp(self, *_: Any, **__: Any) -> httpcore.NetworkStream:
        return BrokenLine(self._demand)


class AwaitedLine(httpcore.AsyncNetworkStream):
    def __init__(self, demand: bytes) -> None:
        self._line = BrokenLine(demand)

    async def write(self, buffer: bytes, *_: Any, **__: Any) -> None:
        self._line.write(buffer)

    async def read(self, max_bytes: int, *_: Any, **__: Any) -> bytes:
        return self._line.read(max_bytes)

    async def aclose(self) -> None:
        """Nothing is open."""

    def get_extra_info(self, info: str) -> Any:
        return None


class AwaitedLines(httpcore.AsyncNetworkBackend):
    def __init__(self, demand: bytes) -> None:
        self._demand = demand

    async def connect_tcp(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        return AwaitedLine(self._demand)


def demand_of(till: Till) -> bytes:
    """The seller's own demand as it goes over the line."""
    answer = till.buyer.send(httpx.Auth(), "POST", till.url(QUEUE), json=MUSIC)
    return b"HTTP/1.1 402 P\r\ncontent-length: %d\r\n\r\n%b" % (len(answer.content), answer.content)


def transports(demand: bytes) -> tuple[httpx.HTTPTransport, httpx.AsyncHTTPTransport]:
    plain, awaited = httpx.HTTPTransport(), httpx.AsyncHTTPTransport()
    plain._pool.close()
    plain._pool = httpcore.ConnectionPool(network_backend=BrokenLines(demand))
    awaited._pool = httpcore.AsyncConnectionPool(network_backend=AwaitedLines(demand))
    return plain, awaited


def test_a_payment_stuck_in_the_transport_shows_in_no_frame(open_till: Open) -> None:
    """httpx's and httpcore's own frames hold the header in clear while they write it."""
    till, sieve = open_till("direct-v1"), Sieve()
    plain, awaited = transports(demand_of(till))

    def buy() -> object:
        with httpx.Client(auth=till.auth, transport=plain) as http:
            return http.post(till.url(QUEUE), json=MUSIC)

    async def buy_awaited() -> object:
        async with httpx.AsyncClient(auth=till.auth, transport=awaited) as http:
            return await http.post(till.url(QUEUE), json=MUSIC)

    shown = refused((lambda: run_beside_another(buy_awaited())) if till.buyer.awaited else buy)
    assert "WriteTimeout" in shown and "_send_request_headers" in shown
    [hold] = till.ledger.holds()
    stored = till.ledger.header_of(hold.id)
    assert stored is not None
    sieve.add([stored.decode()])
    assert not sieve.found(shown)


class OddBody(httpx.SyncByteStream, httpx.AsyncByteStream):
    """Fails in a way no transport fails."""

    def __iter__(self) -> Iterator[bytes]:
        raise RuntimeError("an odd failure")

    def __aiter__(self) -> AsyncIterator[bytes]:
        raise RuntimeError("an odd failure")


def test_a_stored_header_is_no_local_of_the_drivers(open_till: Open) -> None:
    till, sieve = open_till("direct-v1"), Sieve()
    till.faults(FaultRule("drop_after", QUEUE, nth=2))
    refused(till.buy)
    sieve.add(till.porter.values())
    transport = httpx.MockTransport(lambda _: httpx.Response(500, stream=OddBody()))

    def buy() -> object:
        with httpx.Client(auth=till.auth, transport=transport) as http:
            return http.post(till.url(QUEUE), json=MUSIC)

    async def buy_awaited() -> object:
        async with httpx.AsyncClient(auth=till.auth, transport=transport) as http:
            return await http.post(till.url(QUEUE), json=MUSIC)

    shown = refused((lambda: run_beside_another(buy_awaited())) if till.buyer.awaited else buy)
    assert "an odd failure" in shown
    assert not sieve.found(shown)


def settings_for(server: SandboxServer, folder: Path, **more: str) -> Any:
    env = {"X402_AUDIO_STATE_DIR": str(folder / "state"), "X402_AUDIO_API_URL": server.api_url, **more}
    return load_settings(env=env, cwd=folder, flags={})


def test_a_flows_payment_stuck_in_the_transport_shows_in_no_frame(open_till: Open) -> None:
    """The package's own drivers repeat the sending, and each attempt's frames stand behind the typed error."""
    till, sieve = open_till("direct-v1"), Sieve()
    plain, awaited = transports(demand_of(till))
    session = SellerSession(till.server.api_url, clock=till.clock, random=system_random)
    ask = Ask("POST", QUEUE, MUSIC)
    payer = Payer(till.signer, till.ledger, limits=(), clock=till.clock, random=system_random)

    def flow() -> Any:
        return buy_direct(payer, session, ask, PaymentPolicy(), identity="one")

    def buy() -> object:
        with httpx.Client(transport=plain) as http:
            return run(flow(), http, till.clock.sleep)

    async def buy_awaited() -> object:
        async with httpx.AsyncClient(transport=awaited) as http:
            return await run_async(flow(), http)

    shown = refused((lambda: run_beside_another(buy_awaited())) if till.buyer.awaited else buy)
    assert "PaymentUnsettled" in shown and "WriteTimeout" in shown
    [hold] = till.ledger.holds()
    stored = till.ledger.header_of(hold.id)
    assert stored is not None
    sieve.add([stored.decode()])
    assert not sieve.found(shown)


@pytest.mark.parametrize("place", ["depart", "resend", "header_of"])
def test_a_ledger_that_fails_in_the_middle_shows_no_header(
    open_till: Open, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    till, sieve = open_till("direct-v2"), Sieve()
    if place != "depart":
        till.faults(FaultRule("drop_after", QUEUE, nth=2))
        refused(till.buy)
    real = getattr(SqliteLedger, place)

    def busy(self: SqliteLedger, *given: Any) -> Any:
        kept = real(self, *given)
        raise LedgerBusy(f"the ledger is busy ({type(kept).__name__})")

    monkeypatch.setattr(SqliteLedger, place, busy)
    shown = refused(till.buy)
    monkeypatch.undo()
    [hold] = till.ledger.holds()
    stored = till.ledger.header_of(hold.id)
    assert stored is not None
    sieve.add([stored.decode()])
    assert "LedgerBusy" in shown
    assert not sieve.found(shown)


class TalkativeSigner(LocalSigner):
    """A device that fails after it signed, with the signature in its hands."""

    __slots__ = ()
    in_process = False

    def sign_digest(self, digest: bytes) -> bytes:
        signature = super().sign_digest(digest)
        signatures.append(signature.hex())
        raise OSError(f"the device went away after {len(signature)} bytes")


signatures: list[str] = []


def test_a_signer_that_fails_shows_neither_key_nor_signature(open_till: Open) -> None:
    till = open_till("direct-v1")
    signer = TalkativeSigner.from_hex(KEY)
    till.auth = X402Auth(signer, till.ledger, PaymentPolicy(), clock=till.clock)
    shown = refused(till.buy)
    assert "the device went away" in shown and signatures
    assert not Sieve().found(shown)
    assert signatures[-1] not in shown
    assert till.states() == ["reserved"]


def test_what_was_handled_before_keeps_its_locals() -> None:
    """A caller who buys while handling an error of his own finds that error as it was."""

    def own() -> None:
        mine = "the caller's own local"
        raise KeyError(len(mine))

    def failing() -> None:
        ours = KEY
        raise X402AudioError(f"{len(ours)}")

    def buy_meanwhile() -> None:
        try:
            own()
        except KeyError:
            with httpx.Client() as http:
                run(call(failing), http, lambda _: None)

    shown = refused(buy_meanwhile)
    assert "the caller's own local" in shown
    assert "ours =" not in shown


def test_an_error_behind_itself_is_emptied_once() -> None:
    error = ValueError("a ring")
    error.__cause__ = error
    forget_locals(error)


def test_a_secret_hides_from_every_way_of_showing_it() -> None:
    import copy
    import pickle

    secret = Secret(ACCOUNT_KEY)
    shown = (
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>40}",
        repr([secret]),
        repr({"k": secret}),
    )
    assert not Sieve().found(*shown)
    assert secret.reveal() == ACCOUNT_KEY
    assert secret and not Secret()
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        copy.copy(secret)
    with pytest.raises(TypeError):
        json.dumps(secret)


# --- the whole client
class Shop:
    """A seller whose door keeps what it was sent, and a client with seeded secrets."""

    def __init__(self, folder: Path, mode: str = "venice", **env: str) -> None:
        self.clock = WaitingClock()
        self.seller = SandboxSeller(mode=mode, clock=self.clock, job_seconds=4.0, faults=FaultPlan())
        self.server = SandboxServer(self.seller)
        self.porter = Porter(self.server)
        self.folder = folder
        self.env = env
        self.http = httpx.Client(trust_env=False)

    def generate(self, **wishes: Any) -> object:
        settings = settings_for(self.server, self.folder, **self.env)
        client = AudioClient(settings, http=self.http, clock=self.clock)
        try:
            asked: Any = {"duration_seconds": 3, "output": str(self.folder / "track.mp3"), **wishes}
            flow = client._verbs.generate(PROMPT, "elevenlabs-music", self.clock.at + 600, asked)
            return run(flow, self.http, self.clock.sleep)
        finally:
            client.close()

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self.server.stop()


WALLET_ENV = {"X402_AUDIO_PRIVATE_KEY": KEY, "X402_AUDIO_MAX_TOP_UP": "5"}
SILENT = FaultRule("status", "/x402/transactions", every=True, value=404)
FAULTS = {
    "delivered": [],
    "no answer to the top-up": [
        *(FaultRule("drop_after", "/x402/top-up", nth=nth) for nth in range(2, 9)),
        SILENT,
    ],
    "no answer to the draw": [FaultRule("drop_after", QUEUE, every=True), SILENT],
    "never credited": [FaultRule("never_credit", "/x402/top-up", every=True)],
    "retrieve is ill": [FaultRule("status", "/audio/retrieve", every=True, value=401)],
    "broken tracks": [FaultRule("truncate", "/audio/retrieve", every=True)],
}


@pytest.mark.parametrize("end", FAULTS)
def test_a_whole_walk_shows_its_secrets_nowhere(
    tmp_path: Path, ear: Ear, capfd: pytest.CaptureFixture[str], end: str
) -> None:
    sieve = Sieve()
    with Shop(tmp_path, **WALLET_ENV) as shop:
        shop.seller.faults.replace(fresh(FAULTS[end]))
        shown = repr(shop.generate()) if end == "delivered" else refused(shop.generate)
        sieve.add(shop.porter.values())
    names = {name for _, name, _ in shop.porter.seen}
    assert names == {"sign-in-with-x", "payment-signature"}
    printed = capfd.readouterr()
    assert not sieve.found(shown, *ear.lines, printed.out, printed.err)
    live = end.startswith("no answer")
    assert_only_in_the_secret_table(tmp_path / "state" / "ledger.db", sieve, live=live)


def test_an_account_key_shows_nowhere(tmp_path: Path, ear: Ear) -> None:
    with Shop(tmp_path) as shop:
        shop.env = {
            "X402_AUDIO_VENICE_API_KEY": ACCOUNT_KEY, "X402_AUDIO_BILLING": "account",
            "X402_AUDIO_ACCOUNT_ORIGIN": shop.server.origin, "X402_AUDIO_PROVIDER": "venice",
        }  # fmt: skip
        shop.seller.add_key(ACCOUNT_KEY, Usdc(5_000_000))
        shop.seller.faults.replace([FaultRule("drop_after", QUEUE)])
        shown = refused(shop.generate)
        shop.seller.faults.replace([])
        delivered = repr(shop.generate(again=True))
    assert f"Bearer {ACCOUNT_KEY}" in shop.porter.values()
    assert not Sieve().found(shown, delivered, *ear.lines)
    assert not Sieve().found_in(tmp_path)


@pytest.mark.parametrize("key", [KEY[:-1], KEY + "0", KEY[2:-2] + "zz", "0x" + "00" * 32])
def test_a_key_that_is_none_is_not_echoed(tmp_path: Path, key: str) -> None:
    with Shop(tmp_path, X402_AUDIO_PRIVATE_KEY=key) as shop:
        shown = refused(shop.generate)
    assert key.removeprefix("0x")[:60] not in shown


def test_a_keystores_password_and_key_show_nowhere(tmp_path: Path, ear: Ear) -> None:
    store, word = tmp_path / "wallet.json", tmp_path / "word"
    create_keystore(store, PASSWORD, lambda length: bytes.fromhex(KEY[2:])[:length])
    env = {"X402_AUDIO_KEYSTORE": str(store), "X402_AUDIO_KEYSTORE_PASSWORD_FILE": str(word)}
    word.write_text(PASSWORD + " but wrong\n")
    word.chmod(0o600)
    with Shop(tmp_path, **env) as shop:
        shown = refused(shop.generate)
        assert "wrong password" in shown
        word.write_text(PASSWORD + "\n")
        shown += refused(shop.generate)
    word.unlink()
    assert not Sieve().found(shown, *ear.lines)
    assert not Sieve().found_in(tmp_path)


# --- the command
def command(*words: str, env: dict[str, str], cwd: Path) -> subprocess.Popen[bytes]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("X402_AUDIO_")}
    dev = {
        "PYTHONDEVMODE": "1",
        "PYTHONWARNINGS": "default",
        "PYTHONPATH": str(ROOT),
        "PYTHONASYNCIODEBUG": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "x402_audio", *words], env={**plain, **dev, **env}, cwd=cwd, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.parametrize(("end", "flag"), [("delivered", "--json"), ("no answer to the draw", "--verbose")])
def test_the_command_shows_its_secrets_in_no_output_file_or_title(
    tmp_path: Path, end: str, flag: str
) -> None:
    sieve = Sieve()
    seller = SandboxSeller(job_seconds=0.3, faults=FaultPlan(fresh(FAULTS[end])))
    server = SandboxServer(seller)
    porter = Porter(server)
    titles: list[bytes] = []
    real = vars(server._http.routes)["answer"]

    def watch(request: Any) -> Any:
        titles.extend(
            Path(f"/proc/{running.pid}/{name}").read_bytes() for name in ("cmdline", "comm", "status")
        )
        return real(request)

    vars(server._http.routes)["answer"] = watch
    with server:
        env = {
            **WALLET_ENV,
            "X402_AUDIO_STATE_DIR": str(tmp_path / "state"),
            "X402_AUDIO_API_URL": server.api_url,
        }
        asked = [
            "generate",
            PROMPT,
            "--model",
            "elevenlabs-music",
            "--duration",
            "3",
            "--poll-interval",
            "0.2",
        ]
        running = command(*asked, "--output", "track.mp3", flag, env=env, cwd=tmp_path)
        out, err = running.communicate(timeout=60)
        assert running.returncode == (0 if end == "delivered" else 8), err
        exported = command("ledger", "export", "--format", "json", env=env, cwd=tmp_path).communicate(
            timeout=60
        )
        shown = command("config", env=env, cwd=tmp_path).communicate(timeout=60)
    sieve.add(porter.values())
    assert titles and exported[0] and shown[0]
    assert not sieve.found(out, err, *titles, *exported, *shown)
    assert_only_in_the_secret_table(tmp_path / "state" / "ledger.db", sieve, live=end != "delivered")
