"""The networks we sign for, and the USDC contract of each: our own table, never a seller's word.

A signing domain is a constant here; no setting and no offer adds one. Knows nothing of terms or keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Network:
    """A chain by both of its x402 names, its USDC contract (EIP-55) and that contract's EIP-712 domain."""

    caip2: str
    v1_name: str
    chain_id: int
    usdc: str
    domain_name: str
    domain_version: str
    domain_separator: bytes


BASE: Final = Network(
    caip2="eip155:8453",
    v1_name="base",
    chain_id=8453,
    usdc="0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
    domain_name="USD Coin",
    domain_version="2",
    domain_separator=bytes.fromhex("02fa7265e7c5d81118673727957699e4d68f74cd74b7db77da710fe8a2c7834f"),
)
BASE_SEPOLIA: Final = Network(
    caip2="eip155:84532",
    v1_name="base-sepolia",
    chain_id=84532,
    usdc="0x036CbD53842c5426634e7929541eC2318f3dCF7e",
    domain_name="USDC",
    domain_version="2",
    domain_separator=bytes.fromhex("71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818"),
)
_BY_NAME: Final = {
    name: network for network in (BASE, BASE_SEPOLIA) for name in (network.caip2, network.v1_name)
}


def network_named(text: str) -> Network | None:
    """The network of a CAIP-2 id (x402 v2) or a short name (v1), spelled exactly; None for any other."""
    return _BY_NAME.get(text)
