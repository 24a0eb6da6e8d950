"""The chain over JSON-RPC: as much of an Ethereum node as a reader of USDC asks for.

Reads `Chain` and changes nothing. Its three faults (another chain id, lagging, failing) are set from outside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import RLock

from x402_audio.jsontext import Json, read_json
from x402_audio.sandbox.answers import encode_json
from x402_audio.sandbox.chain import Chain, Transfer
from x402_audio.sandbox.verify import keccak

AUTHORIZATION_USED = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5"
TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
_NO_HASH = "0x" + "00" * 32


@dataclass(slots=True)
class ChainFaults:
    """What is wrong with the node: a foreign chain id, seconds behind, seconds from finality, an error text."""

    chain_id: int | None = None
    lag_seconds: float = 0
    finality_seconds: float = 0
    error: str = ""


class RpcError(Exception):
    """A JSON-RPC error object."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class ChainRpc:
    """Answers JSON-RPC requests, single or in a batch."""

    def __init__(self, chain: Chain, lock: RLock) -> None:
        self.faults = ChainFaults()
        self._chain = chain
        self._lock = lock
        self._methods: dict[str, Callable[[list[Json]], object]] = {
            "eth_chainId": lambda _: hex(self._chain_id()),
            "net_version": lambda _: str(self._chain_id()),
            "eth_blockNumber": lambda _: hex(self._latest()),
            "eth_syncing": lambda _: False,
            "eth_getBlockByNumber": lambda params: self._block(self._number(_at(params, 0))),
            "eth_getBlockByHash": lambda params: self._block(self._chain.block_of(str(_at(params, 0)))),
            "eth_getCode": self._code,
            "eth_call": self._call,
            "eth_getBalance": lambda _: "0x0",
            "eth_getLogs": lambda params: self._logs(_at(params, 0)),
            "eth_getTransactionReceipt": lambda params: self._receipt(str(_at(params, 0))),
        }

    def answer(self, body: bytes) -> str:
        """The text of the answer to this request body."""
        try:
            asked = read_json(body)
        except ValueError:
            return encode_json(_error(None, -32700, "parse error"))
        with self._lock:
            if isinstance(asked, list):
                return encode_json([self._one(item) for item in asked])
            return encode_json(self._one(asked))

    def _one(self, asked: Json) -> dict[str, object]:
        if not isinstance(asked, dict):
            return _error(None, -32600, "invalid request")
        name, params = asked.get("method"), asked.get("params", [])
        if self.faults.error:
            return _error(asked.get("id"), -32000, self.faults.error)
        method = self._methods.get(str(name))
        if method is None:
            return _error(asked.get("id"), -32601, f"the method {name} does not exist")
        try:
            result = method(params if isinstance(params, list) else [])
        except RpcError as error:
            return _error(asked.get("id"), error.code, error.message)
        except (ValueError, OverflowError):
            return _error(asked.get("id"), -32602, "invalid params")
        return {"jsonrpc": "2.0", "id": asked.get("id"), "result": result}

    def _chain_id(self) -> int:
        return self.faults.chain_id or self._chain.network.chain_id

    def _latest(self) -> int:
        return self._chain.height(self.faults.lag_seconds)

    def _number(self, tag: Json) -> int | None:
        """The block meant by a tag, a number or an EIP-1898 object; None if there is none yet."""
        if isinstance(tag, dict):
            if "blockHash" in tag:
                found = self._chain.block_of(str(tag["blockHash"]))
                return found if found is not None and found <= self._latest() else None
            tag = tag.get("blockNumber", "latest")
        if tag in ("latest", "pending", None):
            return self._latest()
        if tag in ("finalized", "safe"):
            return self._chain.height(self.faults.lag_seconds + self.faults.finality_seconds)
        number = 0 if tag == "earliest" else int(str(tag), 16)
        return number if 0 <= number <= self._latest() else None

    def _existing(self, tag: Json) -> int:
        number = self._number(tag)
        if number is None:
            raise RpcError(-32000, "header not found")
        return number

    def _block(self, number: int | None) -> dict[str, object] | None:
        if number is None or number > self._latest():
            return None
        chain = self._chain
        return {
            "number": hex(number),
            "hash": chain.block_hash(number),
            "parentHash": chain.block_hash(number - 1) if number else _NO_HASH,
            "timestamp": hex(chain.timestamp(number)),
            "transactions": [moved.transaction for moved in chain.transfers if moved.block == number],
            "baseFeePerGas": "0x1",
            "difficulty": "0x0",
            "extraData": "0x",
            "gasLimit": "0x1c9c380",
            "gasUsed": "0x0",
            "logsBloom": "0x" + "00" * 256,
            "miner": "0x" + "00" * 20,
            "mixHash": _NO_HASH,
            "nonce": "0x" + "00" * 8,
            "receiptsRoot": _NO_HASH,
            "sha3Uncles": _NO_HASH,
            "size": "0x220",
            "stateRoot": _NO_HASH,
            "transactionsRoot": _NO_HASH,
            "uncles": [],
        }

    def _code(self, params: list[Json]) -> str:
        self._existing(_at(params, 1))
        return "0x6080604052" if str(_at(params, 0)).lower() == self._chain.network.asset.lower() else "0x"

    def _call(self, params: list[Json]) -> str:
        call, block = _at(params, 0), self._existing(_at(params, 1))
        if not isinstance(call, dict):
            raise ValueError("no call")
        if str(call.get("to")).lower() != self._chain.network.asset.lower():
            return "0x"
        data = bytes.fromhex(str(call.get("data") or call.get("input") or "0x")[2:])
        if data[:4] == _selector(b"authorizationState(address,bytes32)") and len(data) == 68:
            used = self._chain.nonce_used("0x" + data[16:36].hex(), "0x" + data[36:].hex(), block)
            return _word(int(used))
        if data[:4] == _selector(b"balanceOf(address)") and len(data) == 36:
            return _word(self._chain.balance("0x" + data[16:].hex(), block))
        if data[:4] == _selector(b"DOMAIN_SEPARATOR()"):
            return "0x" + self._chain.network.domain_separator().hex()
        if data[:4] == _selector(b"decimals()"):
            return _word(6)
        raise RpcError(3, "execution reverted")

    def _logs(self, wanted: Json) -> list[dict[str, object]]:
        if not isinstance(wanted, dict):
            raise ValueError("no filter")
        if "blockHash" in wanted:
            first = last = self._existing({"blockHash": wanted["blockHash"]})
        else:
            first = self._existing(wanted.get("fromBlock"))
            end = self._number(wanted.get("toBlock"))
            last = self._latest() if end is None else end
        address, topics = wanted.get("address"), wanted.get("topics") or []
        addresses = [
            str(item).lower() for item in (address if isinstance(address, list) else [address]) if item
        ]
        if addresses and self._chain.network.asset.lower() not in addresses:
            return []
        moved = [t for t in self._chain.transfers if first <= t.block <= min(last, self._latest())]
        return [log for t in moved for log in self._events(t) if _fits(log, topics)]

    def _receipt(self, transaction: str) -> dict[str, object] | None:
        for moved in self._chain.transfers:
            if moved.transaction == transaction.lower() and moved.block <= self._latest():
                return {
                    "transactionHash": moved.transaction,
                    "transactionIndex": hex(moved.index),
                    "blockHash": self._chain.block_hash(moved.block),
                    "blockNumber": hex(moved.block),
                    "from": moved.payee,
                    "to": self._chain.network.asset,
                    "contractAddress": None,
                    "cumulativeGasUsed": "0x1",
                    "effectiveGasPrice": "0x1",
                    "gasUsed": "0x1",
                    "logs": self._events(moved),
                    "logsBloom": "0x" + "00" * 256,
                    "status": "0x1",
                    "type": "0x2",
                }
        return None

    def _events(self, moved: Transfer) -> list[dict[str, object]]:
        payer, payee = _topic(moved.payer), _topic(moved.payee)
        events: list[tuple[list[str], str]] = [([TRANSFER, payer, payee], _word(moved.value))]
        if moved.nonce:
            events.insert(0, ([AUTHORIZATION_USED, payer, moved.nonce], "0x"))
        return [
            {
                "address": self._chain.network.asset,
                "topics": topics,
                "data": data,
                "blockNumber": hex(moved.block),
                "blockHash": self._chain.block_hash(moved.block),
                "transactionHash": moved.transaction,
                "transactionIndex": hex(moved.index),
                "logIndex": hex(2 * moved.index + place),
                "removed": False,
            }
            for place, (topics, data) in enumerate(events)
        ]


def _fits(log: dict[str, object], wanted: Json) -> bool:
    topics = log["topics"]
    if not isinstance(wanted, list) or not isinstance(topics, list) or len(wanted) > len(topics):
        return not wanted
    for want, topic in zip(wanted, topics, strict=False):
        choices = want if isinstance(want, list) else [want]
        if want is not None and topic not in [str(choice).lower() for choice in choices]:
            return False
    return True


def _selector(signature: bytes) -> bytes:
    return keccak(signature)[:4]


def _word(number: int) -> str:
    return "0x" + int(number).to_bytes(32, "big").hex()


def _topic(address: str) -> str:
    return "0x" + "00" * 12 + address[2:].lower()


def _at(params: list[Json], place: int) -> Json:
    return params[place] if place < len(params) else None


def _error(request_id: Json, code: int, message: str) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": message}}
