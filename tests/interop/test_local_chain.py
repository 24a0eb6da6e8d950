"""The chain these tests stand on is Base as far as a client of USDC can see."""

from __future__ import annotations

import httpx
import pytest

from tests.interop.chain import CHAIN_ID, DOMAIN_SEPARATOR, USDC, LocalChain
from tests.interop.conftest import FUNDS, Wallet
from tests.interop.peers import peer
from x402_audio.payment.chain import ChainReader
from x402_audio.protocol.networks import BASE


def test_the_token_at_usdcs_address_signs_in_usdcs_domain(chain: LocalChain) -> None:
    told = chain.rpc("eth_call", {"to": USDC, "data": "0x3644e515"}, "latest")
    assert (told, int(chain.rpc("eth_chainId"), 16)) == (DOMAIN_SEPARATOR, CHAIN_ID)


def test_the_products_reader_believes_the_chain(chain: LocalChain, wallet: Wallet) -> None:
    reader = ChainReader([chain.url], BASE)
    assert reader.usdc_balance(wallet.address) == FUNDS
    assert reader.latest_time() == chain.newest()[1]


def test_the_facilitator_settles_both_versions_here(facilitator: str) -> None:
    kinds = httpx.get(f"{facilitator}/supported", trust_env=False).json()["kinds"]
    offered = {(kind["x402Version"], kind["network"]) for kind in kinds}
    assert {(1, "base"), (2, "eip155:8453")} <= offered


def test_a_missing_package_is_named_with_the_script_that_installs_it() -> None:
    with pytest.raises(
        pytest.fail.Exception, match=r"\.peers/no/such/thing is missing; `bash scripts/test` installs it"
    ):
        peer("no/such/thing")
