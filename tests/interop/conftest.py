"""One chain, one facilitator and one seller for all tests here; a wallet with USDC for each. None outlives the tests."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests.interop.chain import GAS_KEYS, LocalChain
from tests.interop.clerk import Clerk
from tests.interop.customer import Customer
from tests.interop.door import PAYMENT_HEADERS
from tests.interop.front import Front
from tests.interop.peers import Peer, python_module
from tests.interop.shop_v1 import ShopV1
from x402_audio.protocol.signer import LocalSigner

FUNDS = 1_000_000_000
"""A thousand USDC, atomic units."""
PRICE = 690_000
HANG_UP_S = 0.3
PAYEE = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"


@dataclass(frozen=True, slots=True)
class Wallet:
    """A key made for one test, and its address."""

    key: str
    address: str


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home folder of everything that is started here."""
    return tmp_path_factory.mktemp("peers")


@pytest.fixture(scope="session")
def base(home: Path) -> Iterator[LocalChain]:
    """The one chain of all tests; its time is the machine's."""
    with LocalChain(home) as chain:
        yield chain


@pytest.fixture
def chain(base: LocalChain) -> LocalChain:
    """The chain, its newest block of this moment. Whoever lets time pass takes a fork of it (`open_chain`)."""
    base.mine()
    return base


@pytest.fixture
def open_chain(home: Path) -> Iterator[Callable[..., LocalChain]]:
    """Starts more chains: `open_chain(fork_of=chain)` is the same up to now, for tests in which time passes."""
    with ExitStack() as stack:
        yield lambda **how: stack.enter_context(LocalChain(home, **how))


@pytest.fixture
def funds() -> int:
    """What the wallet starts with; a test may say otherwise by a parameter of this name."""
    return FUNDS


@pytest.fixture
def wallet(request: pytest.FixtureRequest, chain: LocalChain, funds: int) -> Wallet:
    """A wallet nobody else uses, with a thousand USDC."""
    key = "0x" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()
    made = Wallet(key, LocalSigner.from_hex(key).address)
    chain.mint(made.address, funds)
    return made


@pytest.fixture(scope="session")
def facilitator(base: LocalChain, home: Path) -> Iterator[str]:
    """Where the official SDK's facilitator answers; it verifies and settles both versions on the chain."""
    how = {"GAS_KEYS": " ".join(GAS_KEYS[:2]), "RPC_URL": base.url}
    with Peer(python_module("sdk_facilitator"), home, **how) as running:
        yield running.url


@pytest.fixture(scope="session")
def _one_clerk(facilitator: str) -> Iterator[Clerk]:
    with Clerk(facilitator) as clerk:
        yield clerk


@pytest.fixture
def clerk(_one_clerk: Clerk) -> Iterator[Clerk]:
    """Who stands between the shops and the facilitator; honest and patient unless the test says otherwise."""
    yield _one_clerk
    _one_clerk.lie, _one_clerk.hasty = None, False


@pytest.fixture(scope="session")
def sdk_shop(_one_clerk: Clerk, home: Path) -> Iterator[str]:
    """Where a shop on the official SDK's middleware answers (version 2)."""
    how = {"FACILITATOR": _one_clerk.url, "PAY_TO": PAYEE, "PRICE": f"${PRICE / 1_000_000}"}
    with Peer(python_module("sdk_seller"), home, **how) as running:
        yield running.url


@pytest.fixture
def shop_v1(_one_clerk: Clerk) -> Iterator[ShopV1]:
    """Our own shop of version 1, on the official SDK's facilitator."""
    with ShopV1(_one_clerk.url, pay_to=PAYEE, price=PRICE) as shop:
        yield shop


@pytest.fixture(params=["v1", "v2"])
def shop(request: pytest.FixtureRequest) -> str:
    """Where the shop of each version answers."""
    if request.param == "v2":
        return str(request.getfixturevalue("sdk_shop"))
    first: ShopV1 = request.getfixturevalue("shop_v1")
    return first.url


@pytest.fixture
def open_front() -> Iterator[Callable[..., Front]]:
    """Puts fronts before shops: `open_front(url, remembers=..., elsewhere=...)`."""
    with ExitStack() as stack:
        yield lambda shop, **how: stack.enter_context(Front(shop, **how))


def hang_up_on_the_first_payment() -> Callable[[httpx.Request], None]:
    """Shortens the wait for the answer to the first request that carries a payment, of all it is shown."""
    payments = count(1)

    def shorten(request: httpx.Request) -> None:
        carried = {name.decode().lower() for name, _ in request.headers.raw}
        if carried & set(PAYMENT_HEADERS) and next(payments) == 1:
            request.extensions["timeout"] = httpx.Timeout(HANG_UP_S).as_dict()

    return shorten


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer to a payment is not waited for: whether it is slow or never comes makes no difference here."""
    plain = httpx.Client.send
    hang_up = hang_up_on_the_first_payment()

    def send(http: httpx.Client, request: httpx.Request, **how: Any) -> httpx.Response:
        hang_up(request)
        return plain(http, request, **how)

    monkeypatch.setattr(httpx.Client, "send", send)


@pytest.fixture
def customer(
    wallet: Wallet,
    chain: LocalChain,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Customer:
    """The command line with that wallet and that chain; the pauses between two sendings are short."""
    monkeypatch.setenv("X402_AUDIO_PRIVATE_KEY", wallet.key)
    monkeypatch.setenv("X402_AUDIO_RPC_URL", chain.url)
    monkeypatch.setattr("x402_audio.client.time", SimpleNamespace(sleep=lambda _: time.sleep(0.02)))
    return Customer(wallet.address, capsys)
