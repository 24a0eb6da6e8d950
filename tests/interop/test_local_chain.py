"""The chain these tests stand on is Base as far as a client of USDC can see."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx
import pytest

from tests.interop.chain import CHAIN_ID, DOMAIN_SEPARATOR, USDC, LocalChain
from tests.interop.conftest import FUNDS, Wallet
from tests.interop.customer import Customer
from tests.interop.peers import peer
from tests.interop.shop_v1 import ShopV1
from x402_audio.payment.chain import ChainReader
from x402_audio.protocol.networks import BASE


def test_the_token_at_usdcs_address_signs_in_usdcs_domain(chain: LocalChain) -> None:
    told = chain.rpc("eth_call", {"to": USDC, "data": "0x3644e515"}, "latest")
    assert (told, int(chain.rpc("eth_chainId"), 16)) == (DOMAIN_SEPARATOR, CHAIN_ID)


def test_the_products_reader_believes_the_chain(chain: LocalChain, wallet: Wallet) -> None:
    reader = ChainReader([chain.url], BASE)
    assert reader.usdc_balance(wallet.address) == FUNDS
    assert reader.latest_time() == chain.newest()[1]


def test_the_command_shows_what_the_wallet_has_on_chain(customer: Customer) -> None:
    ended = customer.run("wallet", "balance")
    assert (ended.code, FUNDS) == (0, int(ended.result["usdc_atomic"]))


@pytest.mark.parametrize("seconds", [-200, 200])
def test_nothing_is_signed_when_the_newest_block_is_far_from_this_machines_clock(
    shop_v1: ShopV1,
    customer: Customer,
    open_chain: Callable[..., LocalChain],
    monkeypatch: pytest.MonkeyPatch,
    seconds: int,
) -> None:
    off = open_chain(begins=int(time.time()) + seconds)
    off.mint(customer.address, FUNDS)
    monkeypatch.setenv("X402_AUDIO_RPC_URL", off.url)
    ended = customer.generate(shop_v1.url + "/api/v1")
    assert (ended.code, ended.told["error"]["code"]) == (2, "ClockError")
    assert customer.authorizations() == []


def test_nothing_is_signed_while_the_node_that_is_set_cannot_be_read(
    shop_v1: ShopV1, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X402_AUDIO_RPC_URL", "http://127.0.0.1:9")
    ended = customer.generate(shop_v1.url + "/api/v1")
    assert (ended.code, ended.told["error"]["moneyMoved"]) == (7, "no")
    assert customer.authorizations() == []


def test_the_facilitator_settles_both_versions_here(facilitator: str) -> None:
    kinds = httpx.get(f"{facilitator}/supported", trust_env=False).json()["kinds"]
    offered = {(kind["x402Version"], kind["network"]) for kind in kinds}
    assert {(1, "base"), (2, "eip155:8453")} <= offered


def test_a_missing_package_is_named_with_the_script_that_installs_it() -> None:
    with pytest.raises(
        pytest.fail.Exception, match=r"\.peers/no/such/thing is missing; `bash scripts/test` installs it"
    ):
        peer("no/such/thing")
