"""Cancelling an open authorization on chain: a transaction of the wallet itself, paid in ether, asked for by its owner.

It frees nothing: the hold stays counted until the chain says at a finalized block that the authorization is cancelled
(`reconcile`). Sends exactly one kind of transaction, `cancelAuthorization` to our own USDC contract on our own chain.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from x402_audio.errors import ChainError, PaymentRefused, SignerError
from x402_audio.payment.chain import ChainReader, UsdcNode
from x402_audio.protocol.address import keccak256
from x402_audio.protocol.exact import cancellation_digest
from x402_audio.protocol.signer import LocalSigner, Signer

if TYPE_CHECKING:
    from web3.types import TxParams

GAS: Final = 120_000
"""More than `cancelAuthorization` takes; what is not used is not paid."""
COST_MAX_WEI: Final = 10**15
"""0.001 ETH: a node that names a higher price is not believed."""
WEI: Final = 10**18
SEEN_WITHIN_S: Final = 60.0
EVERY_S: Final = 2.0
_CANCEL: Final = bytes.fromhex("5a049a70")
_TYPE_2: Final = b"\x02"
_Item = bytes | int | list["_Item"]


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What a cancellation would be: fees, cost at most and ether at hand, in wei; `count` is the wallet's next number."""

    nonce: str
    count: int
    max_fee: int
    tip: int
    cost: int
    ether: int

    @property
    def affordable(self) -> bool:
        return self.ether >= self.cost


@dataclass(frozen=True, slots=True)
class Sent:
    """A cancellation that left. mined: None while no block has it; else whether it succeeded."""

    transaction: str
    mined: bool | None


def plan_cancellation(chain: ChainReader, wallet: str, nonce: str) -> Cancellation:
    """Look what cancelling costs; signs nothing. Raises ChainError, PaymentRefused when it is used or cancelled."""
    node = chain.node()
    if node.could(partial(node.is_used, wallet, nonce)):
        raise PaymentRefused(
            "the chain has this authorization as used or cancelled already; nothing was sent",
            money_moved="unknown", owner="reconcile", next_step="run: x402-audio reconcile",
        )  # fmt: skip
    return node.could(partial(_plan, node, wallet, nonce))


def _plan(node: UsdcNode, wallet: str, nonce: str) -> Cancellation:
    eth, address = node.web3.eth, cast(Any, wallet)
    base = int(eth.get_block("latest")["baseFeePerGas"])
    with warnings.catch_warnings(
        action="ignore"
    ):  # a node without a word on tips is asked for its fee history
        tip = int(eth.max_priority_fee)
    max_fee = 2 * base + tip
    cost = GAS * max_fee
    if cost > COST_MAX_WEI:
        raise ChainError(
            f"the RPC at {node.rpc.host} names a gas price that would cost {ether(cost)} ETH; it was not believed"
        )
    count = int(eth.get_transaction_count(address, "pending"))
    return Cancellation(nonce, count, max_fee, tip, cost, int(eth.get_balance(address, "latest")))


def send_cancellation(
    chain: ChainReader, signer: Signer, plan: Cancellation, sleep: Callable[[float], None]
) -> Sent:
    """Sign, try on the newest state, send, and wait a minute for a block. Raises ChainError, SignerError."""
    if not isinstance(signer, LocalSigner):
        raise SignerError("only a key on this machine can send a cancellation")
    node = chain.node()
    data = _CANCEL + _arguments(node, signer, plan.nonce)
    call = cast("TxParams", {"from": signer.address, "to": node.usdc, "data": "0x" + data.hex()})
    node.could(lambda: node.web3.eth.call(call, "latest"))
    raw = _signed(node, signer, plan, data)
    told = node.could(lambda: bytes(node.web3.eth.send_raw_transaction(raw)))
    transaction = keccak256(raw)
    if told != transaction:
        raise ChainError(f"the RPC at {node.rpc.host} names another transaction than was sent to it")
    return Sent("0x" + transaction.hex(), _mined(node, transaction, sleep))


def _arguments(node: UsdcNode, signer: LocalSigner, nonce: str) -> bytes:
    number = bytes.fromhex(nonce[2:])
    signature = signer.sign_digest(cancellation_digest(node.network, signer.address, number))
    address = bytes.fromhex(signer.address[2:]).rjust(32, b"\0")
    return address + number + signature[64:].rjust(32, b"\0") + signature[:64]


def _signed(node: UsdcNode, signer: LocalSigner, plan: Cancellation, data: bytes) -> bytes:
    """The transaction, type 2 (EIP-1559): no value, to the USDC contract of our table, on its chain."""
    network = node.network
    fields: list[_Item] = [
        network.chain_id, plan.count, plan.tip, plan.max_fee, GAS, bytes.fromhex(network.usdc[2:]), 0, data, [],
    ]  # fmt: skip
    signature = signer.sign_digest(keccak256(_TYPE_2 + _rlp(fields)))
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    return _TYPE_2 + _rlp([*fields, signature[64] - 27, r, s])


def _rlp(item: _Item) -> bytes:
    """Recursive length prefix encoding, as transactions are written (Ethereum yellow paper, appendix B)."""
    if isinstance(item, list):
        return _prefixed(0xC0, b"".join(_rlp(one) for one in item))
    data = item.to_bytes((item.bit_length() + 7) // 8, "big") if isinstance(item, int) else item
    return data if len(data) == 1 and data[0] < 0x80 else _prefixed(0x80, data)


def _prefixed(kind: int, data: bytes) -> bytes:
    if len(data) < 56:
        return bytes([kind + len(data)]) + data
    length = len(data).to_bytes((len(data).bit_length() + 7) // 8, "big")
    return bytes([kind + 55 + len(length)]) + length + data


def _mined(node: UsdcNode, transaction: bytes, sleep: Callable[[float], None]) -> bool | None:
    for _ in range(int(SEEN_WITHIN_S / EVERY_S)):
        try:
            receipt = node.could(lambda: node.web3.eth.get_transaction_receipt(cast(Any, transaction)))
        except ChainError:  # not in a block yet, or not readable: reconcile will see
            sleep(EVERY_S)
        else:
            return int(receipt["status"]) == 1
    return None


def ether(wei: int) -> str:
    """Wei as ETH, decimal text."""
    whole, part = divmod(wei, WEI)
    return f"{whole}.{part:018d}".rstrip("0").rstrip(".")
