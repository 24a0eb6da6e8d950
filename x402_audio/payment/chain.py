"""The chain as a witness: was an authorization used, cancelled, or can it never be used any more.

Reads only. web3 is imported on first use. Before any answer counts, the RPC must be on our chain, the USDC contract
must have code and its domain separator must be ours; a state is read at a finalized block by its number, never by a
tag; where two RPCs are set, "unused" needs both. Anything else is ChainError: could not read, nothing is freed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeVar, cast

from x402_audio.errors import ChainError
from x402_audio.money import Usdc
from x402_audio.protocol.networks import Network

if TYPE_CHECKING:
    from eth_typing import BlockNumber, ChecksumAddress, HexStr
    from web3 import Web3
    from web3.types import LogReceipt, TxParams

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


@dataclass(frozen=True, slots=True)
class _Asked:
    """One authorization, as our books have it."""

    authorizer: str
    nonce: str
    valid_before: int
    since: float
    pay_to: str
    value: Usdc


class ChainReader:
    """One network seen through one or more RPC URLs."""

    def __init__(self, rpc_urls: Sequence[str], network: Network) -> None:
        self._urls = tuple(rpc_urls)
        self._network = network
        self._nodes: list[Web3] = []

    def usdc_balance(self, address: str) -> Usdc:
        """USDC of an address at the newest block, the lowest any RPC tells. Raises ChainError."""
        data = _BALANCE_OF + _word(address)
        words = [_could(partial(self._view, node, data)) for node in self._sound()]
        return Usdc(min(int.from_bytes(word, "big") for word in words))

    def latest_time(self) -> int:
        """Unix seconds of the newest block."""
        node = self._sound()[0]
        return _could(lambda: int(node.eth.get_block("latest")["timestamp"]))

    def authorization(
        self, authorizer: str, nonce: str, valid_before: int, *, since: float, pay_to: str, value: Usdc
    ) -> ChainVerdict:
        """What became of an authorization (nonce: 0x + 64 hex). `since`: when it was made, Unix seconds.

        Raises ChainError when the chain cannot be read or two RPCs disagree.
        """
        asked = _Asked(authorizer, nonce, valid_before, since, pay_to, value)
        verdicts = [_could(partial(self._verdict, node, asked)) for node in self._sound()]
        if len({verdict.state for verdict in verdicts}) > 1:
            said = " and ".join(sorted({verdict.state for verdict in verdicts}))
            raise ChainError(f"the RPC nodes disagree about an authorization ({said}); it stays counted")
        return verdicts[0]

    def _verdict(self, node: Web3, asked: _Asked) -> ChainVerdict:
        self._check(node)
        block = node.eth.get_block("finalized")
        number, timestamp = int(block["number"]), int(block["timestamp"])
        data = _AUTHORIZATION_STATE + _word(asked.authorizer) + bytes.fromhex(asked.nonce[2:])
        used = int.from_bytes(self._view(node, data, number), "big")
        if bytes(node.eth.get_block(_number(number))["hash"]) != bytes(block["hash"]):
            raise ChainError("a finalized block changed while it was read; the node cannot be trusted")
        where = f"finalized block {number} of chain {self._network.chain_id}"
        if used == 0:
            if timestamp >= asked.valid_before:
                return ChainVerdict("expired", "", number, f"unused at {where}, past validBefore")
            return ChainVerdict("open", "", number, f"unused at {where}, still valid")
        for log in self._logs(node, asked, number, timestamp):
            transaction = "0x" + bytes(log["transactionHash"]).hex()
            if _topic(log, 0) == _CANCELED:
                return ChainVerdict("cancelled", transaction, number, f"AuthorizationCanceled by {where}")
            if self._moved(node, log, asked):
                return ChainVerdict("used", transaction, number, f"AuthorizationUsed and Transfer by {where}")
        raise ChainError("the authorization is used, but its log could not be read yet; it stays counted")

    def _logs(self, node: Web3, asked: _Asked, number: int, timestamp: int) -> Iterator[LogReceipt]:
        """The use or cancellation of a nonce, searched back to when it was made (2 s a block, with room)."""
        first = max(0, number - int(max(0.0, timestamp - asked.since) / 2) - 300)
        for start in range(first, number + 1, LOG_SPAN_BLOCKS):
            yield from node.eth.get_logs({
                "address": self._usdc,
                "fromBlock": _number(start),
                "toBlock": _number(min(start + LOG_SPAN_BLOCKS - 1, number)),
                "topics": [[_hex(_USED), _hex(_CANCELED)], _hex("0x" + _word(asked.authorizer).hex()), _hex(asked.nonce)],
            })  # fmt: skip

    def _moved(self, node: Web3, used: LogReceipt, asked: _Asked) -> bool:
        """The transaction of this log succeeded and carries our transfer from the USDC contract."""
        receipt = node.eth.get_transaction_receipt(used["transactionHash"])
        if int(receipt["status"]) != 1:
            return False
        return any(
            str(log["address"]).lower() == self._network.usdc.lower()
            and _topic(log, 0) == _TRANSFER
            and _topic(log, 1) == "0x" + _word(asked.authorizer).hex()
            and _topic(log, 2) == "0x" + _word(asked.pay_to).hex()
            and int.from_bytes(bytes(log["data"]), "big") == asked.value
            for log in receipt["logs"]
        )

    def _view(self, node: Web3, data: bytes, block: int | None = None) -> bytes:
        call: TxParams = {"to": self._usdc, "data": _hex("0x" + data.hex())}
        answer = bytes(node.eth.call(call) if block is None else node.eth.call(call, _number(block)))
        if len(answer) != 32:
            raise ChainError("the USDC contract answered with something else than one word")
        return answer

    @property
    def _usdc(self) -> ChecksumAddress:
        return cast("ChecksumAddress", self._network.usdc)

    def _sound(self) -> list[Web3]:
        """The nodes, each found to be on our chain with our contract."""
        if not self._nodes:
            self._nodes = [_could(partial(self._connect, url)) for url in self._urls]
        return self._nodes

    def _connect(self, url: str) -> Web3:
        import sys

        depth = sys.getrecursionlimit()
        from web3 import HTTPProvider, Web3

        sys.setrecursionlimit(depth)  # a dependency lifts it to 100,000
        node = Web3(
            HTTPProvider(url, request_kwargs={"timeout": READ_TIMEOUT_S}, exception_retry_configuration=None)
        )
        self._check(node)
        return node

    def _check(self, node: Web3) -> None:
        """What stands behind a URL may change between two calls, so whatever frees money asks again."""
        chain_id = node.eth.chain_id
        if chain_id != self._network.chain_id:
            raise ChainError(
                f"the RPC is on chain {chain_id}, not {self._network.chain_id}; it was not believed"
            )
        if not node.eth.get_code(self._usdc):
            raise ChainError("there is no USDC contract on the RPC's chain; it was not believed")
        if self._view(node, _DOMAIN_SEPARATOR) != self._network.domain_separator:
            raise ChainError(
                "the USDC contract on the RPC's chain has another signing domain; it was not believed"
            )


def _could(read: Callable[[], T]) -> T:
    """Run one reading; whatever goes wrong in foreign code or foreign words means: could not read."""
    try:
        return read()
    except ChainError:
        raise
    except Exception as error:  # web3 raises its own, requests' and ValueError kinds
        raise ChainError(f"the RPC could not be read ({type(error).__name__})") from None


def _word(address: str) -> bytes:
    return bytes.fromhex(address[2:]).rjust(32, b"\0")


def _hex(text: str) -> HexStr:
    return cast("HexStr", text)


def _number(block: int) -> BlockNumber:
    return cast("BlockNumber", block)


def _topic(log: LogReceipt, index: int) -> str:
    topics = log["topics"]
    return "0x" + bytes(topics[index]).hex() if len(topics) > index else ""
