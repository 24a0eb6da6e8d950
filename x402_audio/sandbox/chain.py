"""A chain that is only arithmetic: blocks every two seconds, USDC balances and nonces by block height.

Blocks are computed from the time, never stored; a transfer stands in the block of its moment. Knows no JSON-RPC
(`rpc.py` speaks it) and checks no signature.
"""

from __future__ import annotations

from dataclasses import dataclass

from x402_audio.clock import Clock
from x402_audio.money import Usdc
from x402_audio.sandbox.verify import Network, keccak

BLOCK_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Transfer:
    """USDC that moved in one transaction; `nonce` is empty for one that no authorization caused."""

    index: int
    block: int
    payer: str
    payee: str
    value: int
    nonce: str
    transaction: str


class Chain:
    """USDC on one network. The seller's lock guards it."""

    def __init__(self, network: Network, clock: Clock, *, wallet_usdc: Usdc, pay_to: str) -> None:
        self.network = network
        self._clock = clock
        self._wallet_usdc = wallet_usdc
        self._pay_to = pay_to
        self.transfers: list[Transfer] = []
        self._changes: dict[str, list[tuple[int, int]]] = {}
        self._used: dict[tuple[str, str], int] = {}

    def height(self, seconds_ago: float = 0) -> int:
        """The number of the newest block that long ago."""
        return max(0, int(self._clock.now() - seconds_ago - self.network.genesis) // BLOCK_SECONDS)

    def timestamp(self, block: int) -> int:
        return self.network.genesis + block * BLOCK_SECONDS

    def block_hash(self, block: int) -> str:
        """24 bytes of hash and 8 of number, so that the number can be read back."""
        number = block.to_bytes(8, "big")
        seed = self.network.chain_id.to_bytes(8, "big") + number
        return "0x" + keccak(b"sandbox block" + seed)[:24].hex() + number.hex()

    def block_of(self, block_hash: str) -> int | None:
        """The number of the block with this hash, or None."""
        if len(block_hash) != 66:
            return None
        block = int(block_hash[-16:], 16)
        return block if block <= self.height() and self.block_hash(block) == block_hash.lower() else None

    def balance(self, address: str, block: int) -> Usdc:
        """USDC held after that block. Every unseen wallet started with the same sum, the payee with nothing."""
        address = address.lower()
        held = 0 if address == self._pay_to else int(self._wallet_usdc)
        return Usdc(held + sum(change for at, change in self._changes.get(address, ()) if at <= block))

    def nonce_used(self, payer: str, nonce: str, block: int) -> bool:
        """EIP-3009 `authorizationState` after that block."""
        used_at = self._used.get((payer.lower(), nonce.lower()))
        return used_at is not None and used_at <= block

    def transfer(self, payer: str, payee: str, value: int, nonce: str = "") -> Transfer:
        """Move USDC now. The caller has checked that it may."""
        index = len(self.transfers)
        seed = f"{self.network.chain_id} {index} {payer} {payee} {value} {nonce}"
        moved = Transfer(
            index, self.height(), payer, payee, value, nonce,
            "0x" + keccak(b"sandbox transaction " + seed.encode()).hex(),
        )  # fmt: skip
        self.transfers.append(moved)
        self._changes.setdefault(payer, []).append((moved.block, -value))
        self._changes.setdefault(payee, []).append((moved.block, value))
        if nonce:
            self._used[payer, nonce] = moved.block
        return moved
