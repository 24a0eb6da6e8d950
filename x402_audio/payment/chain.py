"""The chain as a witness: was an authorization used, cancelled, or can it never be used any more.

Reads only. web3 is imported on first use. Before any answer counts, the RPC must be on our chain, the USDC contract
must have code and its domain separator must be ours; a state is read at a finalized block by its number, never by a
tag; where two RPCs are set, "unused" needs both. Anything else is ChainError: could not read, nothing is freed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from x402_audio.errors import ChainError
from x402_audio.money import Usdc
from x402_audio.protocol.networks import Network

if TYPE_CHECKING:
    from web3 import Web3

T = TypeVar("T")
READ_TIMEOUT_S: Final = 20
LOG_SPAN_BLOCKS: Final = 2_000
_AUTHORIZATION_STATE: Final = bytes.fromhex("e94a0102")
_BALANCE_OF: Final = bytes.fromhex("70a08231")
_DOMAIN_SEPARATOR: Final = bytes.fromhex("3644e515")
_USED: Final = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5"
_CANCELED: Final = "0x1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81"
_TRANSFER: Final = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"


@dataclass(frozen=True, slots=True)
class ChainVerdict:
    """used: money moved (transaction says where). cancelled, expired: it never will. open: not decided yet."""

    state: Literal["used", "cancelled", "expired", "open"]
    transaction: str
    block: int
    evidence: str


class ChainReader:
    """One network seen through one or more RPC URLs."""

    def __init__(self, rpc_urls: Sequence[str], network: Network) -> None:
        self._urls = tuple(rpc_urls)
        self._network = network
        self._nodes: list[Web3] = []

    def usdc_balance(self, address: str) -> Usdc:
        """USDC of an address at the newest block, the lowest any RPC tells. Raises ChainError."""
        data = _BALANCE_OF + _word(address)
        return Usdc(min(int.from_bytes(self._read(node, lambda n: self._view(n, data)), "big") for node in self._sound()))

    def latest_time(self) -> int:
        """Unix seconds of the newest block."""
        return int(self._read(self._sound()[0], lambda node: node.eth.get_block("latest"))["timestamp"])

    def authorization(
        self, authorizer: str, nonce: str, valid_before: int, *, since: float, pay_to: str, value: Usdc
    ) -> ChainVerdict:
        """What became of an authorization (nonce: 0x + 64 hex). `since`: when it was made, Unix seconds.

        Raises ChainError when the chain cannot be read or two RPCs disagree.
        """
        verdicts = [
            self._verdict(node, authorizer, nonce, valid_before, since, pay_to, value) for node in self._sound()
        ]
        if len({verdict.state for verdict in verdicts}) > 1:
            said = " and ".join(sorted({verdict.state for verdict in verdicts}))
            raise ChainError(f"the RPC nodes disagree about an authorization ({said}); it stays counted")
        return verdicts[0]

    def _verdict(
        self, node: Web3, authorizer: str, nonce: str, valid_before: int, since: float, pay_to: str, value: Usdc
    ) -> ChainVerdict:
        block = self._read(node, lambda n: n.eth.get_block("finalized"))
        number, timestamp = int(block["number"]), int(block["timestamp"])
        data = _AUTHORIZATION_STATE + _word(authorizer) + bytes.fromhex(nonce[2:])
        used = int.from_bytes(self._read(node, lambda n: self._view(n, data, number)), "big")
        self._check_unmoved(node, number, bytes(block["hash"]))
        where = f"finalized block {number} of chain {self._network.chain_id}"
        if used == 0:
            if timestamp >= valid_before:
                return ChainVerdict("expired", "", number, f"unused at {where}, past validBefore")
            return ChainVerdict("open", "", number, f"unused at {where}, still valid")
        logs = self._logs(node, authorizer, nonce, since, number, timestamp)
        for log in logs:
            transaction = "0x" + bytes(log["transactionHash"]).hex()
            if _topic(log, 0) == _CANCELED:
                return ChainVerdict("cancelled", transaction, number, f"AuthorizationCanceled by {where}")
            if self._moved(node, transaction, authorizer, pay_to, value):
                return ChainVerdict("used", transaction, number, f"AuthorizationUsed and Transfer by {where}")
        raise ChainError("the authorization is used, but its log could not be read yet; it stays counted")

    def _check_unmoved(self, node: Web3, number: int, block_hash: bytes) -> None:
        again = self._read(node, lambda n: n.eth.get_block(number))
        if bytes(again["hash"]) != block_hash:
            raise ChainError("a finalized block changed while it was read; the node cannot be trusted")

    def _logs(
        self, node: Web3, authorizer: str, nonce: str, since: float, number: int, timestamp: int
    ) -> list[Any]:
        """The use or cancellation of a nonce, searched back to when it was made (2 s a block, with room)."""
        first = max(0, number - int(max(0.0, timestamp - since) / 2) - 300)
        found: list[Any] = []
        for start in range(first, number + 1, LOG_SPAN_BLOCKS):
            wish: Any = {
                "address": self._network.usdc,
                "fromBlock": start,
                "toBlock": min(start + LOG_SPAN_BLOCKS - 1, number),
                "topics": [[_USED, _CANCELED], "0x" + _word(authorizer).hex(), nonce],
            }
            found.extend(self._read(node, lambda n, w=wish: n.eth.get_logs(w)))  # type: ignore[misc]
        return found

    def _moved(self, node: Web3, transaction: str, authorizer: str, pay_to: str, value: Usdc) -> bool:
        """The transaction succeeded and carries our transfer from the USDC contract."""
        receipt: Any = self._read(node, lambda n: n.eth.get_transaction_receipt(transaction))  # type: ignore[arg-type]
        if int(receipt["status"]) != 1:
            return False
        return any(
            str(log["address"]).lower() == self._network.usdc.lower()
            and _topic(log, 0) == _TRANSFER
            and _topic(log, 1) == "0x" + _word(authorizer).hex()
            and _topic(log, 2) == "0x" + _word(pay_to).hex()
            and int.from_bytes(bytes(log["data"]), "big") == value
            for log in receipt["logs"]
        )

    def _view(self, node: Web3, data: bytes, block: int | None = None) -> bytes:
        call: Any = {"to": self._network.usdc, "data": "0x" + data.hex()}
        answer = bytes(node.eth.call(call) if block is None else node.eth.call(call, block))
        if len(answer) != 32:
            raise ChainError("the USDC contract answered with something else than one word")
        return answer

    def _sound(self) -> list[Web3]:
        """The nodes, checked once to be on our chain with our contract."""
        if not self._nodes:
            self._nodes = [self._connect(url) for url in self._urls]
        return self._nodes

    def _connect(self, url: str) -> Web3:
        import sys

        depth = sys.getrecursionlimit()
        from web3 import HTTPProvider, Web3

        sys.setrecursionlimit(depth)  # a dependency lifts it to 100,000
        node = Web3(HTTPProvider(url, request_kwargs={"timeout": READ_TIMEOUT_S}, exception_retry_configuration=None))
        chain_id = self._read(node, lambda n: n.eth.chain_id)
        if chain_id != self._network.chain_id:
            raise ChainError(f"the RPC is on chain {chain_id}, not {self._network.chain_id}; it was not believed")
        if not self._read(node, lambda n: n.eth.get_code(self._network.usdc)):  # type: ignore[arg-type]
            raise ChainError("there is no USDC contract on the RPC's chain; it was not believed")
        if self._read(node, lambda n: self._view(n, _DOMAIN_SEPARATOR)) != self._network.domain_separator:
            raise ChainError("the USDC contract on the RPC's chain has another signing domain; it was not believed")
        return node

    def _read(self, node: Web3, read: Callable[[Web3], T]) -> T:
        """Run one reading; whatever goes wrong in foreign code means: could not read."""
        try:
            return read(node)
        except ChainError:
            raise
        except Exception as error:  # web3 raises its own, requests' and ValueError kinds
            raise ChainError(f"the RPC could not be read ({type(error).__name__})") from None


def _word(address: str) -> bytes:
    return bytes.fromhex(address[2:]).rjust(32, b"\0")


def _topic(log: Any, index: int) -> str:
    topics = log["topics"]
    return "0x" + bytes(topics[index]).hex() if len(topics) > index else ""
