"""The chain as a witness: was an authorization used, cancelled, or can it never be used any more; and what left a wallet.

Reads only. web3 is imported on first use. Before any answer counts, the RPC must be on our chain, the USDC contract
must have code and its domain separator must be ours; a state is read at a finalized block by its hash (by its number
where a node knows no hashes), never by a tag, and before it frees money that block is read again; where two RPCs are
set, "unused" needs both, on one chain. Anything else is ChainError: could not read, nothing is freed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast

from x402_audio.errors import ChainError
from x402_audio.money import Usdc
from x402_audio.payment.rpc import READ_TIMEOUT_S, RpcNode
from x402_audio.protocol.networks import Network

if TYPE_CHECKING:
    from web3 import Web3
    from web3.types import BlockIdentifier, LogReceipt, TxParams

T = TypeVar("T")
BLOCK_SECONDS: Final = 2
LOG_SPAN_BLOCKS: Final = 2_000
LOG_SPAN_MIN: Final = 10
LOG_CALLS_MAX: Final = 400
_AUTHORIZATION_STATE: Final = bytes.fromhex("e94a0102")
_BALANCE_OF: Final = bytes.fromhex("70a08231")
_DOMAIN_SEPARATOR: Final = bytes.fromhex("3644e515")
USED: Final = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5"
CANCELED: Final = "0x1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81"
TRANSFER: Final = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
_NO_SUCH_FORM: Final = frozenset({-32600, -32601, -32602, -32603})
"""How a node says that it does not understand a question; every other error is about the block or the state."""


@dataclass(frozen=True, slots=True)
class ChainVerdict:
    """used: money moved (transaction says where). cancelled, expired: it never will. open: not decided yet."""

    state: Literal["used", "cancelled", "expired", "open"]
    transaction: str
    block: int
    evidence: str


@dataclass(frozen=True, slots=True)
class Head:
    """A finalized block: number, hash (0x + 64 hex), Unix seconds."""

    number: int
    hash: str
    at: int


@dataclass(frozen=True, slots=True)
class Departure:
    """USDC that left a wallet: atomic units; nonce "" where no authorization caused it; `at` Unix seconds, about."""

    nonce: str
    payee: str
    value: Usdc
    transaction: str
    block: int
    at: float


@dataclass(frozen=True, slots=True)
class Departures:
    """What left in the blocks up to and with `through`; `end` is the finalized head, `through` may lie before it."""

    rows: tuple[Departure, ...]
    first: int
    through: int
    end: Head


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
    """One network seen through one or more RPC URLs. timeout_s: for one answer, seconds."""

    def __init__(
        self, rpc_urls: Sequence[str], network: Network, *, timeout_s: float = READ_TIMEOUT_S
    ) -> None:
        self.network = network
        self._rpc = tuple(RpcNode(url, timeout_s=timeout_s) for url in rpc_urls)
        self._nodes: list[UsdcNode] = []

    def usdc_balance(self, address: str) -> Usdc:
        """USDC of an address at the newest block, the lowest any RPC tells. Raises ChainError."""
        data = _BALANCE_OF + _word(address)
        words = [node.could(partial(node.view, data, "latest")) for node in self._sound()]
        return Usdc(min(map(_number, words)))

    def latest_time(self) -> int:
        """Unix seconds of the newest block."""
        node = self._sound()[0]
        return node.could(lambda: int(node.web3.eth.get_block("latest")["timestamp"]))

    def authorization(
        self, authorizer: str, nonce: str, valid_before: int, *, since: float, pay_to: str, value: Usdc
    ) -> ChainVerdict:
        """What became of an authorization (nonce: 0x + 64 hex). `since`: when it was made, Unix seconds.

        Raises ChainError when the chain cannot be read or two RPCs disagree.
        """
        asked = _Asked(authorizer, nonce, valid_before, since, pay_to, value)
        nodes = self._sound()
        heads, verdicts = [], []
        for node in nodes:
            head = node.could(node.finalized)
            heads.append(head)
            verdicts.append(node.could(partial(_verdict, node, head, asked)))
        verdict = agreed(verdicts)
        if verdict.state in ("expired", "cancelled"):
            _check_one_chain(nodes, heads)
        return verdict

    def finalized(self) -> Head:
        """The newest finalized block, as the first RPC tells. Raises ChainError."""
        node = self._sound()[0]
        return node.could(node.finalized)

    def departures(
        self,
        wallet: str,
        *,
        first: int | None = None,
        since: float | None = None,
        calls_max: int = LOG_CALLS_MAX,
    ) -> Departures:
        """What left a wallet from a block on and since a time (Unix seconds), up to the finalized head.

        Reads at most `calls_max` times; `through` says how far it came. Raises ChainError.
        """
        node = self._sound()[0]
        return node.could(partial(_departures, node, wallet, first, since, calls_max))

    def close(self) -> None:
        """Let go of the connections."""
        for rpc in self._rpc:
            rpc.close()

    def node(self) -> UsdcNode:
        """The first node, found sound just now. Raises ChainError."""
        node = self._sound()[0]
        node.could(partial(node.check, "latest"))
        return node

    def _sound(self) -> list[UsdcNode]:
        """The nodes, each found to be on our chain with our contract."""
        if not self._nodes:
            nodes = [UsdcNode(rpc, self.network) for rpc in self._rpc]
            for node in nodes:
                node.could(partial(node.check, "latest"))
            self._nodes = nodes
        return self._nodes


def agreed(verdicts: Sequence[ChainVerdict]) -> ChainVerdict:
    """One verdict of all. Raises ChainError when they differ."""
    states = sorted({verdict.state for verdict in verdicts})
    if len(states) > 1:
        raise ChainError(
            f"the RPC nodes disagree about an authorization ({' and '.join(states)}); it stays counted"
        )
    return verdicts[0]


class UsdcNode:
    """One RPC seen through web3, and what is asked of the USDC contract there."""

    def __init__(self, rpc: RpcNode, network: Network) -> None:
        self.rpc = rpc
        self.network = network
        self._web3: Web3 | None = None
        self._knows_hashes = True

    @property
    def web3(self) -> Web3:
        if self._web3 is None:
            self._web3 = self.rpc.web3()
        return self._web3

    @property
    def usdc(self) -> Any:
        return self.network.usdc

    def could(self, read: Callable[[], T]) -> T:
        """Run one reading; whatever goes wrong in foreign code or foreign words means: could not read."""
        try:
            return read()
        except ChainError:
            raise
        except Exception as error:  # web3 raises its own, ValueError and TypeError kinds
            code = _code_of(error)
            what = type(error).__name__ if code is None else f"error {code}"
            raise self.rpc.unread(what) from None

    def check(self, at: BlockIdentifier) -> None:
        """What stands behind a URL may change between two calls, so whatever frees money asks again."""
        chain_id = self.web3.eth.chain_id
        here = f"the RPC at {self.rpc.host} is"
        if chain_id != self.network.chain_id:
            raise ChainError(f"{here} on chain {chain_id}, not {self.network.chain_id}; it was not believed")
        if not self.web3.eth.get_code(self.usdc, at):
            raise ChainError(f"{here} on a chain with no USDC contract; it was not believed")
        if self.view(_DOMAIN_SEPARATOR, at) != self.network.domain_separator:
            raise ChainError(
                f"{here} on a chain whose USDC contract has another signing domain; it was not believed"
            )

    def view(self, data: bytes, at: BlockIdentifier) -> bytes:
        """One word of the USDC contract."""
        call = cast("TxParams", {"to": self.usdc, "data": "0x" + data.hex()})
        answer = bytes(self.web3.eth.call(call, at))
        if len(answer) != 32:
            raise self.rpc.unread("the USDC contract answered with something else than one word")
        return answer

    def is_used(self, authorizer: str, nonce: str, at: BlockIdentifier = "latest") -> bool:
        """authorizationState: used or cancelled. Frees nothing unless read at a finalized block."""
        data = _AUTHORIZATION_STATE + _word(authorizer) + bytes.fromhex(nonce[2:])
        return _number(self.view(data, at)) != 0

    def finalized(self) -> Head:
        return _head(self.web3.eth.get_block("finalized"))

    def head_at(self, number: int) -> Head:
        return _head(self.web3.eth.get_block(cast(Any, number)))

    def pinned(self, head: Head, read: Callable[[BlockIdentifier], T]) -> T:
        """A reading at this very block: a node that does not have it cannot answer from another one."""
        if self._knows_hashes:
            try:
                return read(cast(Any, {"blockHash": head.hash, "requireCanonical": True}))
            except Exception as error:
                if _code_of(error) not in _NO_SUCH_FORM:
                    raise
                self._knows_hashes = False
        return read(cast(Any, head.number))

    def check_unmoved(self, head: Head) -> None:
        """The block is still the one of its height, and finality did not go back. Raises ChainError."""
        if self.head_at(head.number) != head:
            raise ChainError(
                f"a finalized block changed while it was read at {self.rpc.host}; it was not believed"
            )
        if self.finalized().number < head.number:
            raise ChainError(
                f"the finalized block went back between two answers of {self.rpc.host}; it was not believed"
            )

    def logs(
        self, topics: Sequence[Any], first: int, last: int, calls_max: int = LOG_CALLS_MAX
    ) -> Iterator[tuple[int, list[LogReceipt]]]:
        """(last block of the piece, its logs), oldest first; smaller pieces where the node refuses large ones."""
        span, start = LOG_SPAN_BLOCKS, first
        for _ in range(calls_max):
            if start > last:
                return
            end = min(start + span - 1, last)
            wanted: Any = {
                "address": self.usdc, "fromBlock": hex(start), "toBlock": hex(end), "topics": list(topics),
            }  # fmt: skip
            try:
                found = self.web3.eth.get_logs(wanted)
            except Exception as error:
                if _code_of(error) is None or span <= LOG_SPAN_MIN:
                    raise
                span = max(span // 4, LOG_SPAN_MIN)
                continue
            yield end, [log for log in found if _is_ours(log, self.network.usdc, start, end)]
            start = end + 1


def _verdict(node: UsdcNode, head: Head, asked: _Asked) -> ChainVerdict:
    node.pinned(head, node.check)
    used = node.pinned(head, partial(node.is_used, asked.authorizer, asked.nonce))
    where = f"finalized block {head.number} of chain {node.network.chain_id}"
    if not used and head.at < asked.valid_before:
        return ChainVerdict("open", "", head.number, f"unused at {where}, still valid")
    node.check_unmoved(head)
    if not used:
        return ChainVerdict("expired", "", head.number, f"unused at {where}, past validBefore")
    first = _block_about(head, asked.since)
    topics = [[USED, CANCELED], "0x" + _word(asked.authorizer).hex(), asked.nonce]
    for _, logs in node.logs(topics, first, head.number):
        for log in logs:
            transaction, event = _transaction(log), _topic(log, 0)
            if event == CANCELED and _in_receipt(node, log, _is_cancel(asked)):
                return ChainVerdict(
                    "cancelled", transaction, head.number, f"AuthorizationCanceled by {where}"
                )
            if event == USED and _in_receipt(node, log, _is_transfer(asked)):
                return ChainVerdict(
                    "used", transaction, head.number, f"AuthorizationUsed and Transfer by {where}"
                )
    raise ChainError("the authorization is used, but its log could not be read yet; it stays counted")


def _check_one_chain(nodes: Sequence[UsdcNode], heads: Sequence[Head]) -> None:
    """Two RPCs are two witnesses only when they tell of one chain: the lowest block read is the same at all."""
    lowest = min(heads, key=lambda head: head.number)
    for node in nodes:
        there = node.could(partial(node.head_at, lowest.number))
        if there.hash != lowest.hash:
            raise ChainError(
                f"the RPC nodes disagree about block {lowest.number}: one of them is on a fork; nothing is freed"
            )


def _in_receipt(node: UsdcNode, found: LogReceipt, fits: Callable[[LogReceipt], bool]) -> bool:
    """The transaction of this log succeeded and carries the event that proves it."""
    receipt = node.web3.eth.get_transaction_receipt(found["transactionHash"])
    if int(receipt["status"]) != 1 or _transaction(receipt) != _transaction(found):
        return False
    return any(
        str(log["address"]).lower() == node.network.usdc.lower() and fits(log) for log in receipt["logs"]
    )


def _is_transfer(asked: _Asked) -> Callable[[LogReceipt], bool]:
    topics = (TRANSFER, "0x" + _word(asked.authorizer).hex(), "0x" + _word(asked.pay_to).hex())
    return lambda log: _topics(log) == topics and _number(bytes(log["data"])) == asked.value


def _is_cancel(asked: _Asked) -> Callable[[LogReceipt], bool]:
    topics = (CANCELED, "0x" + _word(asked.authorizer).hex(), asked.nonce.lower())
    return lambda log: _topics(log) == topics


def _departures(
    node: UsdcNode, wallet: str, first: int | None, since: float | None, calls_max: int
) -> Departures:
    head = node.finalized()
    node.pinned(head, node.check)
    wanted = [head.number + 1] if first is None else [first, head.number + 1]
    start = min(wanted if since is None else [*wanted, _block_about(head, since)])
    through, rows = start - 1, list[Departure]()
    for end, logs in node.logs([[USED, TRANSFER], "0x" + _word(wallet).hex()], start, head.number, calls_max):
        rows += departures_in(logs, head)
        through = end
    node.check_unmoved(head)
    return Departures(tuple(rows), start, through, head)


def departures_in(logs: Sequence[LogReceipt], head: Head) -> list[Departure]:
    """Transfers, each with the nonce used just before it in the same transaction.

    A transfer of nothing is left out: anybody can make one in anybody's name.
    """
    rows: list[Departure] = []
    nonce, its_transaction = "", ""
    for log in sorted(logs, key=lambda log: (int(log["blockNumber"]), int(log["logIndex"]))):
        transaction, block = _transaction(log), int(log["blockNumber"])
        if _topic(log, 0) == USED:
            nonce, its_transaction = _topic(log, 2), transaction
            continue
        value = Usdc(_number(bytes(log["data"])))
        if value > 0:
            at = head.at - (head.number - block) * float(BLOCK_SECONDS)
            payee = "0x" + _topic(log, 2)[-40:]
            caused = nonce if its_transaction == transaction else ""
            rows.append(Departure(caused, payee, value, transaction, block, at))
        nonce = ""
    return rows


def _block_about(head: Head, at: float) -> int:
    """A block surely not after that time (with room of 300 blocks)."""
    return max(0, head.number - int(max(0.0, head.at - at) / BLOCK_SECONDS) - 300)


def _head(block: Any) -> Head:
    return Head(int(block["number"]), "0x" + bytes(block["hash"]).hex(), int(block["timestamp"]))


def _is_ours(log: LogReceipt, usdc: str, first: int, last: int) -> bool:
    """A log of the USDC contract, in the blocks that were asked for, and not taken back."""
    return (
        str(log["address"]).lower() == usdc.lower()
        and first <= int(log["blockNumber"]) <= last
        and not log.get("removed", False)
    )


def _code_of(error: Exception) -> int | None:
    """The code of a JSON-RPC error object, None for any other trouble."""
    answer = getattr(error, "rpc_response", None)
    told = answer.get("error") if isinstance(answer, dict) else None
    code = told.get("code") if isinstance(told, dict) else None
    return code if isinstance(code, int) else None


def _word(address: str) -> bytes:
    return bytes.fromhex(address[2:]).rjust(32, b"\0")


def _number(word: bytes) -> int:
    return int.from_bytes(word, "big")


def _transaction(log: Any) -> str:
    return "0x" + bytes(log["transactionHash"]).hex()


def _topics(log: LogReceipt) -> tuple[str, ...]:
    return tuple("0x" + bytes(topic).hex() for topic in log["topics"])


def _topic(log: LogReceipt, index: int) -> str:
    topics = _topics(log)
    return topics[index] if len(topics) > index else ""
