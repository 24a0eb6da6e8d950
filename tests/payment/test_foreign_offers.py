"""Every foreign offer, by the whole auth and by the whole client: the signer is asked for nothing, nothing is held.

The seller answers the call with exactly the 402 that the table says; the good offer beside it shows that the rest of
the way is sound.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.payment.till import KEY, MUSIC, PRICE, WALLET, CountingSigner, WaitingClock
from x402_audio.client import AudioClient
from x402_audio.clock import system_random
from x402_audio.errors import (
    AboveMaximum,
    NoAcceptableRequirement,
    PaymentRefused,
    ProtocolError,
    X402AudioError,
)
from x402_audio.flow import run
from x402_audio.ledger.book import Limit
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc
from x402_audio.payment.auth import X402Auth
from x402_audio.payment.policy import PaymentPolicy
from x402_audio.sandbox import FaultPlan, FaultRule, SandboxSeller, SandboxServer
from x402_audio.settings import load_settings
from x402_audio.verbs import JobWishes

USDC = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
SEPOLIA_USDC = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
SELLER = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
OTHER = "0x2670B922ef37C7Df47158725C0CC407b5382293F"
UINT256 = 2**256
QUEUE = "/audio/queue"


def entry(**changed: Any) -> dict[str, Any]:
    """A good entry of version 2, with `changed` members; None takes a member away."""
    good = {
        "scheme": "exact", "network": "eip155:8453", "amount": str(int(PRICE)), "asset": USDC, "payTo": SELLER,
        "maxTimeoutSeconds": 300, "extra": {"name": "USD Coin", "version": "2"},
    }  # fmt: skip
    return {name: value for name, value in {**good, **changed}.items() if value is not None}


def entry_v1(**changed: Any) -> dict[str, Any]:
    good = entry(network="base", amount=None, maxAmountRequired=str(int(PRICE)))
    return {**good, "resource": "", "description": "", "mimeType": "", **changed}


def terms(*entries: Any, version: int = 2, **more: Any) -> dict[str, Any]:
    resource = {"resource": {"url": "http://127.0.0.1/"}} if version == 2 else {}
    return {"x402Version": version, **resource, "accepts": list(entries), **more}


@dataclass(frozen=True)
class Offer:
    """One 402: terms in the header, in the body, or texts as they stand."""

    name: str
    header: Any = None
    body: Any = ""

    def answer(self) -> dict[str, Any]:
        header = (
            self.header if isinstance(self.header, str) or self.header is None else json.dumps(self.header)
        )
        body = self.body if isinstance(self.body, str) else json.dumps(self.body)
        headers = {} if header is None else {"PAYMENT-REQUIRED": base64.b64encode(header.encode()).decode()}
        return {"status": 402, "body": body, "headers": headers}


def offers(name: str, **changed: Any) -> list[Offer]:
    """The same foreign member in version 2 (header), version 2 (body) and version 1 (body)."""
    first = changed.pop("v1", None)
    old = dict(changed)
    if "amount" in old:
        old["maxAmountRequired"] = old.pop("amount")
    return [
        Offer(f"{name}, header", header=terms(entry(**changed))),
        Offer(f"{name}, body", body=terms(entry(**changed))),
        Offer(f"{name}, version 1", body=terms(entry_v1(**(first or old)), version=1)),
    ]


GOOD = json.dumps(terms(entry()))
DEEP = "[" * 50_000 + "]" * 50_000
TABLE = [
    *offers("network of another chain", network="eip155:1", v1={"network": "ethereum"}),
    *offers(
        "network of the test chain",
        network="eip155:84532",
        asset=SEPOLIA_USDC,
        v1={"network": "base-sepolia", "asset": SEPOLIA_USDC},
    ),
    *offers(
        "network that is not EVM", network="solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", v1={"network": "solana"}
    ),
    *offers("network in another spelling", network="EIP155:8453", v1={"network": "Base"}),
    *offers("network with a zero", network="eip155:08453", v1={"network": "base "}),
    *offers("network that is a number", network=8453),
    *offers("asset of another token", asset="0xfde4C96c8593536E31F229EA8f37b2ADa2699bb2"),
    *offers("asset of the test chain", asset=SEPOLIA_USDC),
    *offers("asset missing", asset=None),
    *offers("asset not an address", asset="USDC"),
    *offers("domain name of the test chain", extra={"name": "USDC", "version": "2"}),
    *offers("domain name of another kind", extra={"name": ["USD Coin"], "version": "2"}),
    *offers("domain version", extra={"name": "USD Coin", "version": "1"}),
    *offers("domain version as a number", extra={"name": "USD Coin", "version": 2}),
    *offers("extra that is a list", extra=["USD Coin", "2"]),
    *offers("scheme upto", scheme="upto"),
    *offers("scheme batch-settlement", scheme="batch-settlement"),
    *offers("scheme in capitals", scheme="EXACT"),
    *offers(
        "transfer method permit2",
        extra={"name": "USD Coin", "version": "2", "assetTransferMethod": "permit2"},
    ),
    *offers("transfer method erc7710", extra={"assetTransferMethod": "erc7710"}),
    *offers("transfer method null", extra={"assetTransferMethod": None}),
    *offers("payee zero", payTo="0x" + "0" * 40),
    *offers("payee the wallet itself", payTo=WALLET),
    *offers("payee the wallet in small letters", payTo=WALLET.lower()),
    *offers("payee too short", payTo=SELLER[:-1]),
    *offers("payee too long", payTo=SELLER + "0"),
    *offers("payee a name", payTo="seller.eth"),
    *offers("payee with a wrong checksum", payTo=SELLER.replace("B", "b", 1)),
    *offers("payee without 0x", payTo=SELLER[2:]),
    *offers("payee missing", payTo=None),
    *offers("payee in a list", payTo=[SELLER]),
    *(
        offer
        for amount in (
            "0",
            "01",
            "1.0",
            "1e3",
            "-1",
            "+1",
            " 1",
            "1 ",
            "1\n",
            "",
            "0x10",
            "1_000",
            "\uff11\uff12\uff13",
            "\u0663",
            "1,000",
            str(UINT256),
            "9" * 78,
            "9" * 5000,
            690000,
            690000.0,
            True,
            None,
            ["690000"],
            {"amount": "1"},
        )
        for offer in offers(f"amount {amount!s:.12} {type(amount).__name__}", amount=amount)
    ),
    *offers("timeout zero", maxTimeoutSeconds=0),
    *offers("timeout of 5 s", maxTimeoutSeconds=5),
    *offers("timeout of 19 s", maxTimeoutSeconds=19),
    *offers("timeout negative", maxTimeoutSeconds=-300),
    *offers("timeout as text", maxTimeoutSeconds="300"),
    *offers("timeout with a point", maxTimeoutSeconds=300.5),
    *offers("timeout true", maxTimeoutSeconds=True),
    *offers("timeout missing", maxTimeoutSeconds=None),
    *offers("payment before work", extra={"name": "USD Coin", "version": "2", "paymentFlow": "upfront"}),
    Offer("a key twice in the header", header=GOOD.replace('"payTo"', f'"payTo":"{OTHER}","payTo"')),
    Offer("a key twice in the body", body=GOOD.replace('"amount"', '"amount":"1","amount"')),
    Offer("accepts twice", body=GOOD.replace('"accepts"', '"accepts":[],"accepts"')),
    Offer(
        "a key twice, spelled with an escape",
        body=GOOD.replace('"payTo"', f'"pay\\u0054o":"{OTHER}","payTo"'),
    ),
    Offer("header and body disagree on the payee", terms(entry()), terms(entry(payTo=OTHER))),
    Offer("header and body disagree on the amount", terms(entry()), terms(entry(amount="690001"))),
    Offer("header and body disagree on the asset", terms(entry()), terms(entry(asset=SEPOLIA_USDC))),
    Offer("header and body disagree on the network", terms(entry()), terms(entry(network="eip155:84532"))),
    Offer("header and body disagree on a second way", terms(entry()), terms(entry(), entry(payTo=OTHER))),
    Offer(
        "version 1 body disagrees with the header", terms(entry()), terms(entry_v1(payTo=OTHER), version=1)
    ),
    Offer("header too deep", header="[" * 3_000 + "]" * 3_000),
    Offer("body too deep", body=DEEP),
    Offer(
        "extra too deep", body='{"x402Version":2,"accepts":[{"extra":' + '{"a":' * 60 + "1" + "}" * 60 + "}]}"
    ),
    Offer("header too long", header=json.dumps(terms(entry(), more="x" * 16_384))),
    Offer("body too long", body=json.dumps(terms(entry(), more="x" * 65_536))),
    Offer("too many ways to pay", body=terms(*[entry()] * 17)),
    Offer("no way to pay", body=terms()),
    Offer("accepts an object", body={"x402Version": 2, "accepts": entry()}),
    Offer("accepts of texts", body=terms("exact", None, 1)),
    Offer("version 3", body=terms(entry(), version=3)),
    Offer("no version", body={"accepts": [entry()]}),
    Offer("version true", body={"x402Version": True, "accepts": [entry_v1()]}),
    Offer("an entry of version 1 called version 2", body=terms(entry_v1())),
    Offer("an entry of version 2 called version 1", body=terms(entry(network="base"), version=1)),
    Offer("both amounts", body=terms(entry(maxAmountRequired="1"))),
    Offer("NaN beside a good way", body=GOOD.replace('"x402Version"', '"x":NaN,"x402Version"')),
    Offer(
        "a number too long to be read",
        body=GOOD.replace('"x402Version"', '"x":' + "9" * 5000 + ',"x402Version"'),
    ),
    Offer(
        "an exponent too large to be read",
        body=GOOD.replace('"x402Version"', '"x":1e999999999999999999999,"x402Version"'),
    ),
    Offer("no JSON", body="<html>402</html>"),
    Offer("nothing", body=""),
    Offer("text that cannot be echoed", body=GOOD.replace('"x402Version"', '"x":"\\ud800","x402Version"')),
    Offer("terms too long to be echoed", body=json.dumps(terms(entry(), extensions={"x": "y" * 20_000}))),
]


class Counter:
    """One seller for the whole table, and a wallet that counts what it is asked."""

    def __init__(self, folder: Path) -> None:
        self.clock = WaitingClock()
        self.seller = SandboxSeller(mode="direct-v2", clock=self.clock, faults=FaultPlan())
        self.server = SandboxServer(self.seller).start()
        self.signer = CountingSigner()
        self.ledger = SqliteLedger(folder / "ledger.db", clock=self.clock, random=system_random)
        settings = load_settings(
            env={
                "X402_AUDIO_PRIVATE_KEY": KEY, "X402_AUDIO_STATE_DIR": str(folder), "X402_AUDIO_PROVIDER": "direct",
                "X402_AUDIO_API_URL": self.server.api_url,
            },
            cwd=folder, flags={},
        )  # fmt: skip
        self.http = httpx.Client(trust_env=False)
        self.client = AudioClient(
            settings, http=self.http, signer=self.signer, ledger=self.ledger, clock=self.clock
        )
        self.jobs = 0

    def offer(self, answer: dict[str, Any]) -> None:
        self.seller.faults.replace([FaultRule("status", QUEUE, every=True, value=answer)])

    def through_auth(self, policy: PaymentPolicy | None = None, **more: Any) -> httpx.Response:
        auth = X402Auth(self.signer, self.ledger, policy or PaymentPolicy(max_amount="1"), clock=self.clock)
        with httpx.Client(auth=auth, trust_env=False) as http:
            return http.post(self.server.api_url + QUEUE, json=MUSIC, **more)

    def through_client(self) -> None:
        self.jobs += 1
        until = self.clock.monotonic() + 60
        asked: JobWishes = {"duration_seconds": 60, "job_id": f"job-{self.jobs}"}
        run(
            self.client._verbs.generate("Warm indie folk", "elevenlabs-music", until, asked),
            self.http,
            self.clock.sleep,
        )

    def held(self) -> int:
        return sum(allowance.held + allowance.spent for allowance in self.ledger.allowances([EVER]))

    def close(self) -> None:
        self.http.close()
        self.server.stop()
        assert self.ledger.verify() == []
        self.ledger.close()


EVER = Limit("wallet", "ever", Usdc(10**12))


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counter]:
    counter = Counter(tmp_path_factory.mktemp("books"))
    yield counter
    counter.close()


Way = Callable[[Counter], object]
WAYS = pytest.mark.parametrize("way", [Counter.through_auth, Counter.through_client], ids=["auth", "client"])


@WAYS
@pytest.mark.parametrize("offer", TABLE, ids=lambda offer: offer.name)
def test_a_foreign_offer_is_not_signed(counter: Counter, offer: Offer, way: Way) -> None:
    counter.offer(offer.answer())
    before = len(counter.signer.authorizations)
    with pytest.raises((NoAcceptableRequirement, ProtocolError, PaymentRefused)) as refused:
        way(counter)
    assert (refused.value.money_moved, refused.value.exit_code in (3, 5, 7)) == ("no", True)
    assert len(counter.signer.authorizations) == before
    assert counter.held() == 0
    assert counter.ledger.holds(states=("reserved", "signed", "settled", "presumed")) == []


@WAYS
def test_the_good_offer_beside_them_is_signed_once(tmp_path: Path, way: Way) -> None:
    counter = Counter(tmp_path)
    try:
        counter.offer(Offer("", header=terms(entry()), body=terms(entry())).answer())
        with pytest.raises(X402AudioError) as declined:
            way(counter)
        assert declined.value.exit_code == 8
        assert [signed.value for signed in counter.signer.authorizations] == [PRICE]
        assert counter.held() == PRICE
    finally:
        counter.close()


def test_an_offer_is_refused_with_every_way_and_its_reason(counter: Counter) -> None:
    foreign = (
        entry(scheme="upto"),
        entry(network="eip155:1"),
        entry(payTo="0x" + "0" * 40),
        entry(maxTimeoutSeconds=5),
    )
    counter.offer(Offer("", body=terms(*foreign)).answer())
    with pytest.raises(NoAcceptableRequirement) as refused:
        counter.through_auth()
    rejections: Any = refused.value.rejections
    assert sorted((each.index, each.reason) for each in rejections) == [
        (0, "scheme"), (1, "network"), (2, "payee"), (3, "timeout")]  # fmt: skip
    assert all(word in str(refused.value) for word in ("scheme", "network", "payee", "timeout"))


@WAYS
def test_a_price_above_the_maximum_is_refused(counter: Counter, way: Way) -> None:
    counter.offer(Offer("", body=terms(entry(amount="1000001"))).answer())
    before = len(counter.signer.authorizations)
    with pytest.raises(X402AudioError) as refused:
        way(counter)
    assert (refused.value.exit_code, refused.value.money_moved) == (3, "no")
    assert len(counter.signer.authorizations) == before


def test_a_price_more_than_a_cent_above_the_quote_is_refused(counter: Counter) -> None:
    policy = PaymentPolicy(quoted=PRICE)
    before = len(counter.signer.authorizations)
    counter.offer(Offer("", body=terms(entry(amount=str(int(PRICE) + 10_001)))).answer())
    with pytest.raises(AboveMaximum):
        counter.through_auth(policy)
    with pytest.raises(AboveMaximum, match="was quoted"):
        counter.through_client()
    assert len(counter.signer.authorizations) == before


def test_a_demand_over_an_open_line_is_refused(counter: Counter) -> None:
    auth = X402Auth(counter.signer, counter.ledger, PaymentPolicy(), clock=counter.clock)
    answer = Offer("", body=terms(entry())).answer()
    transport = httpx.MockTransport(lambda _: httpx.Response(402, text=answer["body"]))
    before = len(counter.signer.authorizations)
    hosts = (
        "http://seller.example/",
        "http://localhost/",
        "http://127.0.0.1.example/",
        "http://[::ffff:127.0.0.1]/",
    )
    for url in (*hosts, "https://user:word@seller.example/"):
        with httpx.Client(auth=auth, transport=transport) as http, pytest.raises(PaymentRefused):
            http.get(url)
    assert len(counter.signer.authorizations) == before


def test_a_clock_two_minutes_from_the_sellers_signs_nothing(counter: Counter) -> None:
    answer = Offer("", body=terms(entry())).answer()
    dated = {"Date": "Sun, 06 Nov 1994 08:49:37 GMT"}
    transport = httpx.MockTransport(lambda _: httpx.Response(402, text=answer["body"], headers=dated))
    auth = X402Auth(counter.signer, counter.ledger, PaymentPolicy(), clock=counter.clock)
    before = len(counter.signer.authorizations)
    with httpx.Client(auth=auth, transport=transport) as http, pytest.raises(X402AudioError) as refused:
        http.get("https://seller.example/")
    assert refused.value.exit_code == 2
    assert len(counter.signer.authorizations) == before


def test_of_several_good_ways_the_cheapest_is_signed_and_only_it(tmp_path: Path) -> None:
    counter = Counter(tmp_path)
    try:
        ways = (
            entry(scheme="upto", amount="1"),
            entry(amount="500"),
            entry(amount="400"),
            entry(amount="300", payTo=WALLET),
        )
        counter.offer(Offer("", header=terms(*ways)).answer())
        with pytest.raises(X402AudioError) as declined:
            counter.through_auth()
        assert declined.value.money_moved == "unknown"
        [signed] = counter.signer.authorizations
        assert (signed.value, signed.to) == (400, SELLER)
        assert signed.valid_before - counter.clock.now() == 300
    finally:
        counter.close()


@pytest.mark.parametrize("seconds", [301, 86_400, 315_360_000, 2**255])
def test_a_long_timeout_is_cut_to_our_own(tmp_path: Path, seconds: int) -> None:
    counter = Counter(tmp_path)
    try:
        counter.offer(Offer("", header=terms(entry(maxTimeoutSeconds=seconds))).answer())
        with pytest.raises(X402AudioError):
            counter.through_auth()
        [signed] = counter.signer.authorizations
        assert (signed.valid_after, signed.valid_before) == (
            int(counter.clock.at) - 600,
            int(counter.clock.at) + 300,
        )
    finally:
        counter.close()
