"""A node of a chain as tests want it: honest by default, and wrong in exactly the way a test says.

Speaks JSON-RPC on 127.0.0.1 and writes down what it was asked. Each method may be replaced by a function of its
parameters; `Fail` is a JSON-RPC error, a `Raw` is a whole HTTP answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.payment.stranger import open_stranger
from x402_audio.jsontext import read_json_object, write_json
from x402_audio.money import Usdc
from x402_audio.payment.chain import ChainReader
from x402_audio.protocol.networks import BASE
from x402_audio.sandbox.verify import keccak

WALLET = "0x" + "11" * 20
PAYEE = "0x" + "ab" * 20
NONCE = "0x" + "07" * 32
PRICE = Usdc(690_000)
USED = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5"
CANCELED = "0x1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81"
TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
GENESIS = 1_700_000_000
HEAD = 5_000
"""The newest block; two seconds each, 600 blocks to finality."""
LIVE_UNTIL = GENESIS + 2 * 4_000
"""validBefore of the authorization: long past at the finalized block."""


class Fail(Exception):
    def __init__(self, code: int, message: str = "no", data: str = "") -> None:
        super().__init__(message)
        self.told = {"code": code, "message": message, **({"data": data} if data else {})}


@dataclass(frozen=True)
class Raw:
    """A whole answer."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def word(number: int) -> str:
    return "0x" + f"{int(number):064x}"


def topic(address: str) -> str:
    return "0x" + "00" * 12 + address[2:].lower()


def block_hash(number: int, branch: int = 0) -> str:
    return "0x" + f"{branch:02x}" + f"{number:062x}"


def log(
    event: str, *topics: str, data: str = "0x", block: int = 3_000, index: int = 0, tx: int = 1
) -> dict[str, Any]:
    return {
        "address": BASE.usdc, "topics": [event, *topics], "data": data, "blockNumber": hex(block),
        "blockHash": block_hash(block), "transactionHash": word(tx), "transactionIndex": "0x0",
        "logIndex": hex(index), "removed": False,
    }  # fmt: skip


def payment(
    nonce: str = NONCE, *, value: int = PRICE, payee: str = PAYEE, block: int = 3_000, tx: int = 1
) -> list[Any]:
    """The two events of a used authorization."""
    return [
        log(USED, topic(WALLET), nonce, block=block, tx=tx),
        log(TRANSFER, topic(WALLET), topic(payee), data=word(value), block=block, index=1, tx=tx),
    ]


class Node:
    """Answers honestly: `logs` happened, the newest block is `head`, `finalized` blocks before it is final."""

    def __init__(self) -> None:
        self.head, self.finality, self.branch = HEAD, 600, 0
        self.logs: list[dict[str, Any]] = []
        self.asked: list[tuple[str, Any]] = []
        self.wrong: dict[str, Callable[[Any], Any]] = {}
        self.honest: dict[str, Callable[[Any], Any]] = {
            "eth_chainId": self.chain_id, "eth_getBlockByNumber": self.block_by_number, "eth_getCode": self.code,
            "eth_call": self.view, "eth_getLogs": self.events, "eth_getTransactionReceipt": self.receipt,
        }  # fmt: skip
        self.url = ""
        self.heard: list[str] = []

    def params_of(self, method: str) -> list[Any]:
        return [params for name, params in self.asked if name == method]

    def answer(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        asked = read_json_object(body)
        name, params = str(asked["method"]), asked["params"]
        self.asked.append((name, params))
        told: dict[str, Any] = {"jsonrpc": "2.0", "id": asked["id"]}
        try:
            result = (self.wrong.get(name) or self.honest[name])(params)
            if isinstance(result, Raw):
                return result.status, {"content-type": "text/html", **result.headers}, result.body
            told["result"] = result
        except Fail as error:
            told["error"] = error.told
        return 200, {"content-type": "application/json"}, write_json(told).encode()

    def number(self, at: Any) -> int:
        if isinstance(at, dict):
            number = int(at["blockHash"][4:], 16)
            if number > self.head or block_hash(number, self.branch) != at["blockHash"]:
                raise Fail(-32000, "header for hash not found")
            return number
        tags = {"latest": self.head, "finalized": self.head - self.finality}
        number = tags[at] if at in tags else int(at, 16)
        if number > self.head:
            raise Fail(-32000, "header not found")
        return number

    def block(self, number: int, branch: int | None = None) -> dict[str, str]:
        its = block_hash(number, self.branch if branch is None else branch)
        return {
            "number": hex(number),
            "hash": its,
            "timestamp": hex(GENESIS + 2 * number),
            "baseFeePerGas": "0xf4240",
        }

    def chain_id(self, _: Any) -> Any:
        return "0x2105"

    def block_by_number(self, params: Any) -> Any:
        return self.block(self.number(params[0]))

    def code(self, params: Any) -> Any:
        self.number(params[1])
        return "0x60"

    def view(self, params: Any) -> Any:
        at, data = self.number(params[1]), params[0]["data"]
        if data[:10] == "0x" + keccak(b"DOMAIN_SEPARATOR()")[:4].hex():
            return "0x" + BASE.domain_separator.hex()
        if data[:10] == "0x70a08231":
            return word(1_000_000_000)
        assert data[:10] == "0xe94a0102"
        nonce = "0x" + data[-64:]
        spent = [
            one for one in self.logs if one["topics"][0] in (USED, CANCELED) and one["topics"][2] == nonce
        ]
        return word(int(any(int(one["blockNumber"], 16) <= at for one in spent)))

    def events(self, params: Any) -> Any:
        (wanted,) = params
        first, last = int(wanted["fromBlock"], 16), int(wanted["toBlock"], 16)
        return [
            one
            for one in self.logs
            if first <= int(one["blockNumber"], 16) <= last
            and all(
                want is None or one["topics"][place] in ([want] if isinstance(want, str) else want)
                for place, want in enumerate(wanted["topics"])
            )
        ]

    def receipt(self, params: Any) -> Any:
        mine = [one for one in self.logs if one["transactionHash"] == params[0]]
        return {"status": "0x1", "transactionHash": params[0], "logs": mine} if mine else None


@contextmanager
def open_node() -> Iterator[Node]:
    """Listens on a free port; the URL's path holds a key, as those of hosted nodes do."""
    node = Node()
    with open_stranger() as stranger:
        stranger.say = node.answer
        node.url = f"{stranger.origin}/v2/SECRET-API-KEY"
        node.heard = stranger.heard
        yield node


def ask(*nodes: Node, valid_before: int = LIVE_UNTIL, **more: Any) -> Any:
    """What became of the one authorization, by these nodes."""
    reader = ChainReader([node.url for node in nodes], BASE, **more)
    try:
        return reader.authorization(
            WALLET, NONCE, valid_before, since=float(GENESIS + 2 * 2_900), pay_to=PAYEE, value=PRICE
        )
    finally:
        reader.close()
