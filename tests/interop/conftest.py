"""One chain, one facilitator and one seller for all tests here; a wallet with USDC for each. None outlives the tests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.chain import GAS_KEYS, LocalChain
from tests.interop.peers import Peer, python_module
from x402_audio.protocol.signer import LocalSigner

FUNDS = 1_000_000_000
"""A thousand USDC, atomic units."""


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
    """The chain, its newest block of this moment. Whoever lets time pass on it takes a `fork` instead."""
    base.mine()
    return base


@pytest.fixture
def fork(chain: LocalChain, home: Path) -> Iterator[LocalChain]:
    """A chain of its own from here on, for tests in which time passes."""
    with LocalChain(home, fork_of=chain) as forked:
        yield forked


@pytest.fixture
def wallet(request: pytest.FixtureRequest, chain: LocalChain) -> Wallet:
    """A wallet nobody else uses, with a thousand USDC."""
    key = "0x" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()
    made = Wallet(key, LocalSigner.from_hex(key).address)
    chain.mint(made.address, FUNDS)
    return made


@pytest.fixture(scope="session")
def facilitator(base: LocalChain, home: Path) -> Iterator[str]:
    """Where the official SDK's facilitator answers; it verifies and settles both versions on the chain."""
    with Peer(python_module("sdk_facilitator"), home, GAS_KEY=GAS_KEYS[0], RPC_URL=base.url) as running:
        yield running.url
