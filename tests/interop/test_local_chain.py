"""The chain these tests stand on is Base as far as a client of USDC can see."""

from __future__ import annotations

import httpx

from tests.interop.chain import CHAIN_ID, DOMAIN_SEPARATOR, USDC, LocalChain
from tests.interop.conftest import FUNDS, Wallet
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
