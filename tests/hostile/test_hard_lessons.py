"""The hard lessons, one test each: every one was measured on a client people use today, and lost money there.

The number in a test's name is the lesson's in the product contract. Evidence: what the wallet signed, what the seller
was sent, the seller's books. What is shown at length elsewhere stands here once more, short and end to end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests.hostile.crook import Crook, Victim, open_crook, open_victim, reply
from tests.hostile.readers import demand, offer
from tests.jobs.stage import OpenStage
from tests.payment.stranger import open_stranger
from tests.payment.till import KEY, MUSIC, PRICE, SECRET_HEADERS, WALLET, Till
from x402_audio import errors
from x402_audio.cli import main
from x402_audio.clock import SystemClock, system_random
from x402_audio.errors import (
    BudgetExceeded,
    InsufficientBalance,
    JobFailed,
    LedgerError,
    NoAcceptableRequirement,
    PaymentRefused,
    PaymentRejected,
    PaymentUnsettled,
    SignerError,
    X402AudioError,
)
from x402_audio.jsontext import Json
from x402_audio.ledger import database
from x402_audio.ledger.book import Limit
from x402_audio.ledger.database import wal_is_safe
from x402_audio.money import Usdc
from x402_audio.protocol import base64text
from x402_audio.protocol.address import keccak256
from x402_audio.protocol.exact import Authorization, authorization_digest
from x402_audio.protocol.networks import BASE, BASE_SEPOLIA
from x402_audio.protocol.signer import LocalSigner
from x402_audio.sandbox import FaultRule, Limits, SandboxSeller, SandboxServer
from x402_audio.sandbox.rpc import ChainFaults
from x402_audio.settings import load_settings

ROOT = Path(__file__).parents[2]
QUEUE = "/audio/queue"
OpenTill = Callable[..., Till]
TWO = (Limit("wallet", "day", Usdc(2 * PRICE), source="flag"),)
"""Room for two payments."""


@contextmanager
def sold_by_a_crook(
    folder: Path, settings: dict[str, str] | None = None, **how: Any
) -> Iterator[tuple[Crook, Victim]]:
    with open_crook(**how) as crook, open_victim(crook, folder, **(settings or {})) as victim:
        yield crook, victim
        victim.check_books()


def program(text: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A few lines in a process of their own."""
    return subprocess.run(
        [sys.executable, "-c", text, *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
    )  # fmt: skip


# --- 1: every check comes before the signature
FOREIGN: dict[str, dict[str, object]] = {
    "to nobody": offer(payTo="0x" + "0" * 40), "to the wallet itself": offer(payTo=LocalSigner.from_hex("0x" + "5a" * 32).address),
    "under another name": offer(extra={"name": "USDC", "version": "2"}), "of another version": offer(extra={"name": "USD Coin", "version": "1"}),
    "on Ethereum": offer(network="eip155:1"), "on Base Sepolia": offer(network="eip155:84532", asset=BASE_SEPOLIA.usdc),
    "in another token": offer(asset="0x" + "12" * 20), "far too dear": offer(amount="100000000"),
    "for ten seconds": offer(maxTimeoutSeconds=10), "before the work": offer(extra={"paymentFlow": "upfront"}),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_lesson_1_nothing_foreign_is_signed(name: str, tmp_path: Path) -> None:
    with sold_by_a_crook(tmp_path) as (crook, victim):
        crook.insists("queue", lambda _: reply(402, demand(FOREIGN[name])))
        with pytest.raises(PaymentRefused):
            victim.generate()
        assert victim.signed == 0 and not crook.payments


def test_lesson_1_ten_years_become_five_minutes(tmp_path: Path) -> None:
    with sold_by_a_crook(tmp_path) as (crook, victim):
        crook.insists("queue", lambda _: reply(402, demand(offer(maxTimeoutSeconds=315_360_000))))
        began = int(victim.shopper.clock.now())
        victim.generate()
        [signed] = victim.signer.authorizations
        assert signed.valid_before <= began + 300


def test_lesson_1_what_was_checked_is_what_is_signed(open_till: OpenTill) -> None:
    till = open_till("direct-v2")
    till.buy()
    [signed], [hold] = till.signer.authorizations, till.ledger.holds()
    assert (signed.from_, signed.to, signed.value) == (hold.wallet, hold.pay_to, hold.amount)
    assert (signed.valid_after, signed.valid_before) == (hold.valid_after, hold.valid_before)
    assert "0x" + signed.nonce.hex() == hold.nonce
    assert (till.payments[0]["value"], till.payments[0]["nonce"]) == (hold.amount, hold.nonce)


def test_lesson_1_a_redirect_leads_to_no_other_payee(open_till: OpenTill) -> None:
    till = open_till("direct-v2")
    with open_stranger() as stranger:
        other = demand(offer(payTo="0x" + "77" * 20))
        stranger.say = lambda _: (402, {"payment-required": base64text.encode(json.dumps(other))}, b"")
        till.faults(FaultRule("redirect", QUEUE, every=True, value=stranger.origin))
        with pytest.raises(PaymentRefused):
            till.buy(follow=True)
        assert len(stranger.heard) == 1, "asked, and its demand refused"
    assert not till.signer.authorizations and not till.ledger.holds()


# --- 2: repeats
@pytest.mark.parametrize("mode", ["direct-v1", "direct-v2"])
@pytest.mark.parametrize("awaited", [False, True])
def test_lesson_2_three_retries_after_a_dropped_answer_are_one_nonce(
    mode: str, awaited: bool, open_till: OpenTill
) -> None:
    till = open_till(mode, awaited=awaited)
    till.faults(*(FaultRule("drop_after", QUEUE, nth=nth) for nth in (2, 3, 4)))
    for _ in range(3):
        with pytest.raises(httpx.TransportError):
            till.buy()
    assert till.buy().status_code == 200
    assert len(till.nonces) == 1 and len(till.payments) == 1 and till.payments[0]["value"] == PRICE


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_lesson_2_a_redirect_after_payment_is_not_paid_twice(
    status: int, tmp_path: Path, open_till: OpenTill
) -> None:
    till = open_till("direct-v2")
    with open_stranger() as stranger:
        till.faults(FaultRule("redirect_after", QUEUE, nth=2, value=f"{stranger.origin}"))
        with pytest.raises(X402AudioError) as caught:
            till.buy(follow=True)
        assert caught.value.exit_code == 8
        assert not [name for name in SECRET_HEADERS if name in stranger.headers_heard()]
    assert len(till.nonces) == 1 and len(till.payments) == 1
    with sold_by_a_crook(tmp_path) as (crook, victim):
        crook.insists("paid", lambda heard: reply(status, "", {"location": heard.path}))
        for _ in range(3):
            with pytest.raises(X402AudioError):
                victim.generate()
        assert len(crook.nonces) == 1


def test_lesson_2_a_tool_call_answered_503_is_one_payment(tmp_path: Path) -> None:
    """The agent calls again, and again: the same key is the same purchase."""
    with sold_by_a_crook(tmp_path) as (crook, victim):
        crook.insists("paid", lambda _: reply(503, {"error": "try again"}))
        for _ in range(3):
            with pytest.raises(PaymentUnsettled) as caught:
                victim.generate()
            assert caught.value.retry == "same_id"
        assert victim.signed == 1 and len(crook.nonces) == 1
        crook.repents()
        assert victim.generate().completed
        assert victim.signed == 1 and len(crook.nonces) == 1


def test_lesson_2_of_ten_payments_at_once_the_two_that_fit_are_made(open_till: OpenTill) -> None:
    till = open_till("direct-v2", limits=TWO)

    def buy(number: int) -> bool:
        try:
            return till.buy(json={**MUSIC, "prompt": f"take {number} of ten"}).status_code == 200
        except BudgetExceeded:
            return False

    with ThreadPoolExecutor(10) as pool:
        assert sum(pool.map(buy, range(10))) == 2
    assert len(till.payments) == len(till.nonces) == 2


@pytest.mark.parametrize("status", [400, 402, 404, 429, 500])
def test_lesson_2_a_failed_answer_gives_no_budget_back(status: int, open_till: OpenTill) -> None:
    """Ten tries where two fit, every paid answer a failure: a signature that left counts."""
    till = open_till("direct-v1", limits=TWO)
    till.faults(
        FaultRule("status_after", QUEUE, every=True, value={"status": status, "body": {"error": "no"}})
    )
    till.porter.seen.clear()
    ends: list[type[BaseException]] = []
    for number in range(10):
        till.faults(
            FaultRule("status_after", QUEUE, nth=2, value={"status": status, "body": {"error": "no"}})
        )
        with suppress(httpx.HTTPError):
            try:
                till.buy(json={**MUSIC, "prompt": f"take {number} of ten"})
            except X402AudioError as error:
                ends.append(type(error))
    assert len(till.nonces) == 2
    assert ends.count(BudgetExceeded) == 8
    assert sum(hold.amount for hold in till.ledger.holds() if hold.state != "void") == 2 * PRICE


def test_lesson_2_four_processes_keep_to_one_budget(tmp_path: Path) -> None:
    """Room for seven; four programs that know nothing of each other but the ledger."""
    seller = SandboxSeller(mode="direct-v2", limits=Limits.off())
    with SandboxServer(seller) as server:
        spender, books = ROOT / "tests" / "payment" / "spender.py", tmp_path / "state" / "ledger.db"
        programs = [
            subprocess.Popen(
                [sys.executable, str(spender), server.api_url, str(books), "0x" + "6c" * 32, str(number)],
                stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            for number in range(4)
        ]  # fmt: skip
        paid = [int(one.communicate(timeout=60)[0]) for one in programs]
        sold: Any = seller.books()["payments"]
    assert sum(paid) == len(sold) == 7


# --- 3: expired is not unpaid
def test_lesson_3_expired_is_not_unpaid(open_till: OpenTill) -> None:
    """The answer was lost, the time is over, the money is gone all the same: nothing frees it but a witness."""
    till = open_till("direct-v2", limits=(Limit("wallet", "day", Usdc(PRICE), source="flag"),))
    till.faults(FaultRule("drop_after", QUEUE, nth=2))
    with pytest.raises(httpx.TransportError):
        till.buy()
    till.clock.at += 3_600
    for _ in range(3):
        with pytest.raises(PaymentUnsettled):
            till.buy()
    with pytest.raises(BudgetExceeded):
        till.buy(json={**MUSIC, "prompt": "another song"})
    assert len(till.nonces) == 1 and till.states() == ["signed"]


def test_lesson_3_a_sellers_failed_is_not_unpaid(tmp_path: Path) -> None:
    """It says the payment failed, and holds the signature."""
    failed = {
        "payment-response": base64text.encode('{"success":false,"transaction":"","errorReason":"expired"}')
    }
    with sold_by_a_crook(tmp_path) as (crook, victim):
        crook.insists("paid", lambda _: reply(402, demand(), failed))
        with pytest.raises(PaymentRejected) as caught:
            victim.generate()
        assert caught.value.money_moved == "unknown"
        victim.shopper.clock.wait(7_200)
        victim.shopper.reconcile()
        with pytest.raises(X402AudioError):
            victim.generate()
        assert victim.signed == 1 and len(crook.nonces) == 1
        assert [hold.state for hold in victim.shopper.holds()] in (["signed"], ["presumed"])


# --- 4: the 402 that looks like an offer
def test_lesson_4_the_402_of_a_queue_call_is_not_an_offer(tmp_path: Path) -> None:
    """Ten dollars for this URL, to the right payee, on the right chain: and no price at all."""
    ten = demand(offer(amount="10000000"), resource={"url": "https://api.venice.ai/api/v1/audio/queue"})
    more = {"MAX_TOP_UP": "20", "MAX_PER_PAYMENT": "20", "MAX_PER_JOB": "20", "MAX_PER_DAY": "50"}
    with sold_by_a_crook(tmp_path, more, prepaid=True) as (crook, victim):
        terms = {"payment-required": base64text.encode(json.dumps(ten))}
        crook.insists("queue", lambda _: reply(402, ten, terms))
        with pytest.raises(InsufficientBalance):
            victim.generate(max_price="20")
        assert victim.signed == 0 and not crook.payments


def test_lesson_4_there_are_no_twenty_five_top_ups_in_a_row(stage: OpenStage) -> None:
    """Every queue call is answered 402, whatever was paid in: one top-up, then they stop, for all jobs."""
    empty: Json = {"error": "Payment required", "code": "PAYMENT_REQUIRED", "reason": "insufficient_balance"}
    shop = stage(FaultRule("status", QUEUE, every=True, value={"status": 402, "body": empty}))
    programs = [shop.shopper(MAX_TOP_UP="5", MAX_TOP_UP_PER_DAY="500") for _ in range(2)]
    for number in range(25):
        with pytest.raises(PaymentRefused):
            programs[number % 2].generate(f"A song for number {number}", job_id=f"k{number}")
    assert [payment["value"] for payment in shop.payments] == [5_000_000]


def test_lesson_4_credit_that_never_shows_stops_top_ups_for_all_jobs(stage: OpenStage) -> None:
    shop = stage(FaultRule("never_credit", every=True))
    programs = [shop.shopper(MAX_TOP_UP="5", MAX_TOP_UP_PER_DAY="500") for _ in range(2)]
    for number in range(6):
        with pytest.raises(PaymentRefused):
            programs[number % 2].generate(f"A song for number {number}", job_id=f"k{number}")
    assert len(shop.payments) == 1


# --- 5: two grammars, and the names of the token
@pytest.mark.parametrize(
    "amount",
    ["6.9e5", "0x10", "690000.0", " 690000", "0690000", 690_000, 0.69, "-690000", "690_000", "\uff16"],
)
def test_lesson_5_an_atomic_amount_is_ascii_digits(amount: object, tmp_path: Path) -> None:
    with sold_by_a_crook(tmp_path) as (crook, victim):
        crook.insists("queue", lambda _: reply(402, demand(offer(amount=amount))))
        with pytest.raises(NoAcceptableRequirement):
            victim.generate()
        assert victim.signed == 0


@pytest.mark.parametrize(
    ("quote", "credit", "bought"),
    [
        ("0.69", "0.79", True), ("0.69", "0.7899999", False), ("0.6900001", "0.79", False), ("0.6900001", "0.790001", True),
        ("6.9e-1", "7.9e-1", True), ("0.69", "0.78999999999999999999999999999999999999", False),
    ],
)  # fmt: skip
def test_lesson_5_figures_are_decimals_rounded_against_us(
    quote: str, credit: str, bought: bool, tmp_path: Path
) -> None:
    with sold_by_a_crook(tmp_path, prepaid=True, credit=credit) as (crook, victim):
        crook.insists("quote", lambda _: reply(200, f'{{"quote":{quote}}}'))
        victim.most = 690_001
        if bought:
            victim.generate()
        else:
            with pytest.raises(InsufficientBalance):
                victim.generate()
        assert bool(crook.asked("queue")) is bought


def test_lesson_5_the_token_is_named_otherwise_on_the_test_chain() -> None:
    from eth_account.messages import encode_typed_data
    from eth_utils.crypto import keccak

    from x402_audio.protocol.exact import typed_data

    pay = Authorization(WALLET, "0x" + "12" * 20, Usdc(1), 0, 1, bytes(32))
    for network, name in ((BASE, "USD Coin"), (BASE_SEPOLIA, "USDC")):
        assert network.domain_name == name
        text = encode_typed_data(full_message=typed_data(network, pay))
        assert keccak(b"\x19\x01" + text.header + text.body) == authorization_digest(network, pay)


# --- 6: depth, sizes, time
def test_lesson_6_deep_json_after_the_payment_ends_no_process(tmp_path: Path) -> None:
    """With the library imported that lifts the recursion limit to 100,000 such a text was a segmentation fault."""
    text = (
        "import sys\nfrom eth_account import Account\nsys.setrecursionlimit(100_000)\n"
        "from x402_audio.jsontext import read_json\nfrom x402_audio.protocol.requirements import read_payment_required\n"
        "from x402_audio.errors import ProtocolError\nfrom x402_audio.protocol.payload import settlement_fault\n"
        "import base64\n"
        "for opening in ('[', '{\"a\":'):\n"
        "    deep = opening * 200_000\n"
        "    try: read_json(deep, bytes_max=1 << 24); raise SystemExit('read')\n"
        "    except ValueError: pass\n"
        "    try: read_payment_required({}, deep.encode()); raise SystemExit('read')\n"
        "    except ProtocolError: pass\n"
        "    assert settlement_fault({'payment-response': base64.b64encode((opening * 900).encode()).decode()})\n"
    )
    ended = program(text)
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "")
    with sold_by_a_crook(tmp_path) as (crook, victim):
        crook.insists("paid", lambda _: reply(200, "[" * 60_000))
        with pytest.raises(X402AudioError) as caught:
            victim.generate()
        assert caught.value.exit_code in (8, 9) and victim.signed == 1
        assert len(crook.payments) > 1 and len(set(crook.payments)) == 1


SWOLLEN: dict[str, Callable[[], bytes]] = {
    "unpacks to 64 MB": lambda: reply(200, zlib.compress(bytes(64 << 20), wbits=31), {"content-encoding": "gzip"}),
    "a header of 2 MB": lambda: reply(200, {"queue_id": "x"}, {"x-long": "y" * 2_000_000}),
    "a receipt of 200 KB": lambda: reply(200, b"{", {"payment-response": "y" * 200_000}),
    "a thousand headers": lambda: reply(200, b"{", {f"x-{number}": "y" * 200 for number in range(1_000)}),
    "a body of 40 MB": lambda: reply(200, b'{"queue_id":"' + b"z" * 40_000_000 + b'"}'),
}  # fmt: skip


@pytest.mark.parametrize("name", SWOLLEN)
def test_lesson_6_a_swollen_answer_to_a_payment_is_bounded(name: str, tmp_path: Path) -> None:
    """Decoded sizes and headers; the time an answer takes is bounded in `test_bounds.py`."""
    with sold_by_a_crook(tmp_path) as (crook, victim):
        swollen = SWOLLEN[name]()
        crook.insists("paid", lambda _: swollen)
        tracemalloc.start()
        try:
            with pytest.raises(X402AudioError) as caught:
                victim.generate()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert caught.value.exit_code in (8, 9) and peak < 32 << 20
        assert victim.signed == 1 and len(set(crook.payments)) == 1


def test_lesson_6_signing_leaves_the_recursion_limit_alone() -> None:
    text = (
        "import sys; before = sys.getrecursionlimit()\n"
        "from x402_audio.protocol.signer import LocalSigner\n"
        "LocalSigner.from_hex('0x' + '5a' * 32).sign_message('hello')\nassert sys.getrecursionlimit() == before"
    )
    assert program(text).returncode == 0


# --- 7: keys
@pytest.mark.parametrize(
    "key",
    [
        "0x" + "5" * 63,
        "5" * 63,
        "0x" + "5" * 65,
        "0x" + "g" * 64,
        "0x" + "0" * 64,
        "0x" + "f" * 64,
        "0x5a",
        " " * 64,
    ],
)
def test_lesson_7_a_key_is_exactly_a_key_and_never_echoed(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("X402_AUDIO_PRIVATE_KEY", key)
    monkeypatch.setenv("X402_AUDIO_STATE_DIR", str(tmp_path))
    code = main(["wallet", "address"])
    said = capsys.readouterr()
    assert code in (2, 6)
    assert not key.strip() or key.removeprefix("0x") not in said.out + said.err
    with pytest.raises(SignerError) as caught:
        LocalSigner.from_hex(key)
    assert not key.strip() or key.removeprefix("0x") not in str(caught.value)


# --- 8: httpx
@pytest.mark.parametrize("mode", ["direct-v1", "direct-v2"])
def test_lesson_8_secret_headers_travel_one_hop(mode: str, open_till: OpenTill) -> None:
    till = open_till(mode)
    with open_stranger() as stranger:
        till.faults(FaultRule("redirect_after", QUEUE, nth=2, value=stranger.origin))
        with pytest.raises(PaymentUnsettled):
            till.buy(follow=True)
        assert not [name for name in SECRET_HEADERS if name in stranger.headers_heard()]


def test_lesson_8_loopback_goes_through_no_proxy(tmp_path: Path) -> None:
    with open_stranger() as proxy, open_crook() as crook:
        text = (
            "import sys\nfrom x402_audio.client import AudioClient\nfrom x402_audio.settings import load_settings\n"
            "with AudioClient(load_settings()) as client:\n"
            "    print(client.generate('warm indie folk', model='m', max_price='1', output=sys.argv[1]).completed)"
        )
        names = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy")
        ended = program(
            text, str(tmp_path / "track.wav"), X402_AUDIO_API_URL=crook.api_url, X402_AUDIO_PROVIDER="direct",
            X402_AUDIO_PRIVATE_KEY="0x" + "5a" * 32, X402_AUDIO_STATE_DIR=str(tmp_path / "state"),
            **dict.fromkeys(names, proxy.origin), NO_PROXY="", no_proxy="",
        )  # fmt: skip
        assert ended.stdout.strip() == "True", ended.stderr
        assert not proxy.heard and len(crook.payments) == 1


def test_lesson_8_no_spelling_of_loopback_goes_through_a_proxy(tmp_path: Path) -> None:
    """A proxy would read the sign-in: plain http is only for this machine. Nobody listens on the port that is asked."""
    text = (
        "import asyncio, httpx\nfrom x402_audio.client import AsyncAudioClient, AudioClient\n"
        "from x402_audio.settings import load_settings\n"
        "for host in ('127.0.0.2', '127.0.0.1', '[::1]', '[0:0:0:0:0:0:0:1]'):\n"
        "    for client in (AudioClient, AsyncAudioClient):\n"
        "        url = f'http://{host}:9/api/v1'\n"
        "        http = client(load_settings(flags={'API_URL': url})).http\n"
        "        try: asyncio.run(http.get(url)) if client is AsyncAudioClient else http.get(url)\n"
        "        except httpx.ConnectError: print('nobody')"
    )
    with open_stranger() as proxy:
        ended = program(
            text, X402_AUDIO_PROVIDER="venice", X402_AUDIO_PRIVATE_KEY="0x" + "5a" * 32,
            X402_AUDIO_STATE_DIR=str(tmp_path / "state"), NO_PROXY="", no_proxy="",
            **dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), proxy.origin),
        )  # fmt: skip
        assert (ended.stdout.split(), ended.stderr) == (["nobody"] * 8, "")
        assert not proxy.heard


def test_lesson_8_the_users_own_transport_stays(open_till: OpenTill) -> None:
    """An Auth pays; verify, proxy, limits and hooks of the client are the user's."""
    till = open_till("direct-v2")
    carried: list[str] = []

    class Own(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            carried.append(request.url.path)
            return super().handle_request(request)

    with httpx.Client(transport=Own(), auth=till.auth) as http:
        assert http.post(till.url(QUEUE), json=MUSIC).status_code == 200
    assert len(carried) == 2


# --- 9: SQLite
def test_lesson_9_wal_is_used_only_where_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raced = [(3, 7, 0), (3, 40, 1), (3, 44, 5), (3, 45, 0), (3, 50, 6), (3, 51, 0), (3, 51, 2)]
    assert not any(map(wal_is_safe, raced)) and all(
        map(wal_is_safe, [(3, 44, 6), (3, 50, 7), (3, 51, 3), (3, 52, 0)])
    )
    with sold_by_a_crook(tmp_path) as (_, victim):
        victim.generate()
        beside = {path.name for path in (tmp_path / "state").iterdir()}
        assert {"ledger.db-wal", "ledger.db-shm"} <= beside
    for version in raced:
        monkeypatch.setattr("apsw.sqlite_lib_version", lambda version=version: "{}.{}.{}".format(*version))
        with pytest.raises(LedgerError, match="can lose a committed payment"):
            database.Database(
                tmp_path / "state" / "ledger.db", clock=SystemClock(), random=system_random, create=False
            )


# --- 10: a stranger's clone
def test_lesson_10_a_clone_gives_neither_url_nor_payee_nor_limit(tmp_path: Path) -> None:
    clone = tmp_path / "clone" / "deep" / "inside"
    clone.mkdir(parents=True)
    lines = (
        "X402_AUDIO_API_URL=https://evil.example/api/v1", "X402_AUDIO_PAYEES=0x" + "66" * 20, "X402_AUDIO_MAX_PER_DAY=1000",
        "X402_AUDIO_MAX_TOP_UP=1000", "X402_AUDIO_PROVIDER=direct", "X402_AUDIO_NETWORK=base-sepolia", "X402_AUDIO_RPC_URL=https://evil.example",
    )  # fmt: skip
    own = {"X402_AUDIO_PRIVATE_KEY": KEY, "X402_AUDIO_STATE_DIR": str(tmp_path / "state")}
    plain = load_settings(env=own, cwd=clone)
    for folder in (clone, clone.parent, tmp_path / "clone"):
        for name, text in (
            (".env", "\n".join(lines)),
            ("x402-audio.toml", 'api_url = "https://evil.example"\nmax_per_day = "1000"'),
        ):
            (folder / name).write_text(text)
            (folder / name).chmod(0o600)
    read = load_settings(env=own, cwd=clone)
    for name in ("api_url", "payees", "limits", "provider", "network", "rpc_urls", "max_top_up"):
        assert getattr(read, name) == getattr(plain, name), name
    (clone / ".env").unlink()
    (clone / "x402-audio.toml").unlink()
    assert load_settings(env=own, cwd=clone).warnings == plain.warnings, (
        "a parent's files are not even looked at"
    )


# --- 11: lying nodes
LIES: dict[str, ChainFaults] = {
    "another chain": ChainFaults(chain_id=1),
    "lags behind": ChainFaults(lag_seconds=7_000),
    "never final": ChainFaults(finality_seconds=100_000),
    "down": ChainFaults(error="down"),
}


@pytest.mark.parametrize("name", LIES)
def test_lesson_11_a_lying_node_frees_nothing(name: str, open_till: OpenTill) -> None:
    """The payment went through; a fork, a lagging or foreign node says "unused" and would free the money."""
    till = open_till("direct-v1")
    settings = load_settings(
        env={
            "X402_AUDIO_PRIVATE_KEY": KEY, "X402_AUDIO_STATE_DIR": str(till.path.parent), "X402_AUDIO_PROVIDER": "direct",
            "X402_AUDIO_API_URL": till.server.api_url, "X402_AUDIO_RPC_URL": till.server.rpc_url,
        },
        cwd=till.path.parent, flags={},
    )  # fmt: skip
    till.faults(FaultRule("drop_after", QUEUE, nth=2))
    with pytest.raises(httpx.TransportError):
        till.buy()
    till.clock.at += 3_600
    till.seller.rpc.faults = LIES[name]
    from x402_audio.client import AudioClient

    client = AudioClient(settings, signer=till.signer, ledger=till.ledger, clock=till.clock)
    with suppress(X402AudioError):
        client.reconcile()
    assert till.states() in (["signed"], ["settled"]) and len(till.nonces) == 1
    till.seller.rpc.faults = ChainFaults()
    client.reconcile()
    assert till.states() == ["settled"]
    client.close()


# --- 12: only what was asked, and our own words
def test_lesson_12_only_what_was_asked_is_sent(tmp_path: Path) -> None:
    with sold_by_a_crook(tmp_path) as (crook, victim):
        victim.generate(duration_seconds=None)
        assert json.loads(crook.asked("paid")[0].body) == {
            "model": "elevenlabs-music",
            "prompt": "Warm indie folk, 120 BPM",
        }


def test_lesson_12_the_sign_in_is_our_text(stage: OpenStage, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    sign = LocalSigner.sign_message

    def note(self: LocalSigner, text: str) -> bytes:
        texts.append(text)
        return sign(self, text)

    monkeypatch.setattr(LocalSigner, "sign_message", note)
    shop = stage(credit=Usdc(5_000_000))
    shop.shopper().generate(job_id="k", output=shop.folder / "track.mp3")
    host = shop.server.origin.removeprefix("http://")
    assert texts and all(text.startswith(f"{host} wants you to sign in") for text in texts)
    assert all("\n\nSign in to Venice AI\n\n" in text for text in texts)


# --- 13: other schemes, and deep equality
@pytest.mark.parametrize(
    "entry",
    [
        offer(scheme="upto"),
        offer(scheme="batch-settlement"),
        *(offer(extra={"assetTransferMethod": name}) for name in ("permit2", "erc7710", "", None)),
    ],
)
def test_lesson_13_permit2_and_upto_are_never_signed(entry: dict[str, object], tmp_path: Path) -> None:
    with sold_by_a_crook(tmp_path) as (crook, victim):
        crook.insists("queue", lambda _: reply(402, demand(entry)))
        with pytest.raises(NoAcceptableRequirement):
            victim.generate()
        assert victim.signed == 0


def test_lesson_13_what_was_accepted_is_echoed_untouched(tmp_path: Path) -> None:
    """Address case, unknown members, order, long fractions: reference servers compare by deep equality."""
    entry = (
        '{"zz":[1,{"q":0.10000000000000000001}],' + json.dumps(offer())[1:-1] + ',"a":null,"\u00fc":"\u2028"}'
    )
    with sold_by_a_crook(tmp_path) as (crook, victim):
        crook.insists(
            "queue",
            lambda _: reply(
                402, f'{{"x402Version":2,"resource":{{"url":"u","k":1.50}},"accepts":[{entry}]}}'
            ),
        )
        victim.generate()
        sent = base64text.decode(crook.payments[0]).decode()
        told = json.loads(sent, parse_float=Decimal)
        assert told["accepted"] == json.loads(entry, parse_float=Decimal)
        assert list(told["accepted"]) == list(json.loads(entry)) and '"k":1.50' in sent


# --- 14: a sandbox is no trap
def test_lesson_14_nobody_owns_what_a_sandbox_asks_to_pay(open_till: OpenTill, tmp_path: Path) -> None:
    till = open_till("direct-v2")
    till.buy()
    [signed] = till.signer.authorizations
    said = keccak256(b"x402-audio sandbox: an address that nobody owns")
    assert signed.to.lower() == "0x" + said[-20:].hex(), "the hash of a sentence: nobody has its key"


def test_lesson_14_the_demo_uses_a_fresh_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from x402_audio.cli import sandbox_commands

    serve = sandbox_commands._serving
    monkeypatch.setattr(sandbox_commands, "_serving", lambda mode, _: serve(mode, 0.01))
    monkeypatch.setattr(
        "x402_audio.client.time", SimpleNamespace(sleep=lambda seconds: time.sleep(min(seconds, 0.02)))
    )
    for name, value in (
        ("PRIVATE_KEY", KEY),
        ("STATE_DIR", str(tmp_path / "own")),
        ("API_URL", "https://evil.example"),
    ):
        monkeypatch.setenv(f"X402_AUDIO_{name}", value)
    code = main(["demo", "--json", "--output", str(tmp_path / "a.mp3")])
    captured = capsys.readouterr()
    said = (captured.out + captured.err).lower()
    assert code == 0, said
    assert LocalSigner.from_hex(KEY).address.lower() not in said and KEY[2:] not in said
    assert not (tmp_path / "own").exists()
    assert not [name for name in SECRET_HEADERS if f"{name}:" in said]


# --- 15: what an agent reads
def test_lesson_15_an_unknown_end_says_same_key_and_money_may_have_moved(tmp_path: Path) -> None:
    with sold_by_a_crook(tmp_path) as (crook, victim):
        crook.insists("paid", lambda _: reply(500, {"error": "please retry with a new payment"}))
        with pytest.raises(PaymentUnsettled) as caught:
            victim.generate()
        error = caught.value
        assert "may have moved" in f"{error} {error.next_step}" and "same key" in error.next_step
        assert (error.money_moved, error.retry, error.exit_code) == ("unknown", "same_id", 8)


def test_lesson_15_no_error_that_follows_money_invites_a_new_purchase() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, X402AudioError)
    ]
    after_money = [kind for kind in kinds if kind.money_moved != "no" or kind.exit_code in (8, 9)]
    assert {PaymentUnsettled, PaymentRejected, JobFailed} <= set(after_money)
    assert {kind.retry for kind in after_money} <= {"never", "same_id"}
    for kind in (PaymentUnsettled, PaymentRejected):
        assert "money may have moved" in kind.next_step
