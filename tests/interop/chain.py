"""Base on this machine: a real EVM node (anvil) with Base's chain id, and USDC's signing domain at USDC's address.

The contract is `token.sol`, compiled here. What the node's logs say is the evidence of the tests: how often the token
moved, for whom, under which nonce.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.interop.peers import NODE, PEERS, ROOT, Peer, peer

CHAIN_ID = 8453
USDC = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
DOMAIN_SEPARATOR = "0x02fa7265e7c5d81118673727957699e4d68f74cd74b7db77da710fe8a2c7834f"
GAS_KEYS = (
    "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
)
"""Published keys that the node gives ether to: one for each program that sends transactions of its own."""
FAUCET = "0xa0Ee7A142d267C1f36714E4a8F75612F20a79720"
FINAL_AFTER_BLOCKS = 2
TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
USED = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5"
CANCELED = "0x1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81"
_MINT = "0x40c10f19"
_BALANCE_OF = "0x70a08231"
_AUTHORIZATION_STATE = "0xe94a0102"
_TRANSFER_WITH_AUTHORIZATION = "0xcf092995"
_CANCEL_AUTHORIZATION = "0xb7b72899"


def token_code() -> str:
    """The runtime code of `token.sol`, hex; compiled once and kept beside the compiler."""
    source = (ROOT / "tests" / "interop" / "token.sol").read_text()
    compiler = peer("node/node_modules/solc/solc.js")
    kept = PEERS / f"token-{hashlib.sha256(source.encode()).hexdigest()[:16]}.hex"
    if not kept.exists():
        part = kept.with_suffix(f".{os.getpid()}")
        part.write_text(_compile(compiler, source))
        part.replace(kept)
    return kept.read_text()


def _compile(compiler: Path, source: str) -> str:
    asked = {
        "language": "Solidity",
        "sources": {"token.sol": {"content": source}},
        "settings": {
            "viaIR": True,
            "optimizer": {"enabled": True},
            "outputSelection": {"*": {"*": ["evm.deployedBytecode.object"]}},
        },
    }
    command = [NODE, str(compiler), "--standard-json"]
    ended = subprocess.run(
        command, input=json.dumps(asked), capture_output=True, text=True, check=True, timeout=120
    )
    told = json.loads(ended.stdout[ended.stdout.index("{") :])
    assert "contracts" in told, told
    code: str = told["contracts"]["token.sol"]["Token"]["evm"]["deployedBytecode"]["object"]
    return "0x" + code


@dataclass(frozen=True, slots=True)
class Payment:
    """One authorization that was used: USDC moved. value: atomic units; all hex in lower case."""

    payer: str
    nonce: str
    payee: str
    value: int
    transaction: str


class LocalChain:
    """A node of our own. Blocks come with transactions, or when asked for; two more make a block final."""

    def __init__(
        self,
        folder: Path,
        *,
        fork_of: LocalChain | None = None,
        chain_id: int = CHAIN_ID,
        code: str | None = None,
        begins: int | None = None,
    ) -> None:
        """fork_of: the same chain up to its newest block, then one of its own. code: what stands at USDC's address.

        begins: when its time began, Unix seconds; else now.
        """
        more = ["--fork-url", fork_of.url, "--no-storage-caching"] if fork_of else []
        more += [] if begins is None else ["--timestamp", str(begins)]
        command = [
            str(peer("node/node_modules/@foundry-rs/anvil-*/bin/anvil")), "--host", "127.0.0.1", "--port", "0",
            "--chain-id", str(chain_id), "--slots-in-an-epoch", str(FINAL_AFTER_BLOCKS // 2), *more,
        ]  # fmt: skip
        self._peer = Peer(command, folder, ready=r"Listening on 127\.0\.0\.1:(\d+)")
        self.url: str = self._peer.url
        self._http = httpx.Client(base_url=self.url, trust_env=False, verify=False, timeout=30)
        if fork_of is None:
            self.rpc("anvil_setCode", USDC, token_code() if code is None else code)
            self.mine()

    def rpc(self, method: str, *params: object) -> Any:
        """One JSON-RPC call. Raises AssertionError on an error of the node."""
        asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        told = self._http.post("/", json=asked).json()
        assert "result" in told, f"{method}: {told}"
        return told["result"]

    # --- time
    def mine(self, blocks: int = 1) -> None:
        self.rpc("anvil_mine", hex(blocks))

    def finalize(self) -> None:
        """Let everything that has happened so far become final."""
        self.mine(FINAL_AFTER_BLOCKS)

    def pass_time(self, seconds: int) -> None:
        """So many seconds go by on the chain, and a block after them becomes final."""
        self.rpc("evm_increaseTime", hex(seconds))
        self.mine(1 + FINAL_AFTER_BLOCKS)

    @contextmanager
    def unmined(self) -> Iterator[None]:
        """Meanwhile transactions wait; afterwards they are mined."""
        self.rpc("evm_setAutomine", False)
        try:
            yield
        finally:
            self.rpc("evm_setAutomine", True)
            self.mine()

    @contextmanager
    def taken_back(self) -> Iterator[None]:
        """What happens meanwhile has never been, afterwards."""
        before = self.rpc("evm_snapshot")
        yield
        assert self.rpc("evm_revert", before)

    def newest(self) -> tuple[int, int]:
        """(number, Unix seconds) of the newest block."""
        block = self.rpc("eth_getBlockByNumber", "latest", False)
        return int(block["number"], 16), int(block["timestamp"], 16)

    # --- money
    def mint(self, address: str, units: int) -> None:
        """Give USDC; units: atomic."""
        assert self._send(_MINT + _word(address) + _uint(units))

    def use(self, authorization: Mapping[str, str], signature: str) -> bool:
        """Whoever has a signature may use it: so does this. Whether the token moved."""
        numbers = (_uint(int(authorization[name])) for name in ("value", "validAfter", "validBefore"))
        fields = (
            _word(authorization["from"]),
            _word(authorization["to"]),
            *numbers,
            authorization["nonce"][2:],
        )
        return self._send(_TRANSFER_WITH_AUTHORIZATION + "".join(fields) + _bytes_after(7, signature))

    def cancel(self, authorizer: str, nonce: str, signature: str) -> bool:
        """Cancel an authorization by its owner's signature. Whether it worked."""
        return self._send(_CANCEL_AUTHORIZATION + _word(authorizer) + nonce[2:] + _bytes_after(3, signature))

    def balance(self, address: str) -> int:
        """USDC of an address, atomic units."""
        return int(self._view(_BALANCE_OF + _word(address)), 16)

    def is_used(self, payer: str, nonce: str) -> bool:
        """The nonce was used or cancelled."""
        return int(self._view(_AUTHORIZATION_STATE + _word(payer) + nonce[2:]), 16) == 1

    def payments(self, payer: str) -> list[Payment]:
        """Every authorization of this wallet that moved money, oldest first."""
        return [self._payment(log) for log in self._logs([USED, "0x" + _word(payer)])]

    def cancelled(self, payer: str) -> list[str]:
        """Every nonce of this wallet that was cancelled."""
        return [str(log["topics"][2]) for log in self._logs([CANCELED, "0x" + _word(payer)])]

    def left(self, payer: str) -> int:
        """All USDC that ever left an address, atomic units, by whatever call."""
        return sum(int(log["data"], 16) for log in self._logs([TRANSFER, "0x" + _word(payer)]))

    def _payment(self, used: dict[str, Any]) -> Payment:
        """A use and the transfer of the same transaction that follows it."""
        receipt = self.rpc("eth_getTransactionReceipt", used["transactionHash"])
        moved = next(
            log
            for log in receipt["logs"]
            if log["topics"][0] == TRANSFER and int(log["logIndex"], 16) == int(used["logIndex"], 16) + 1
        )
        assert moved["topics"][1] == used["topics"][1]
        return Payment(
            payer="0x" + moved["topics"][1][-40:], nonce=used["topics"][2], payee="0x" + moved["topics"][2][-40:],
            value=int(moved["data"], 16), transaction=used["transactionHash"],
        )  # fmt: skip

    def _logs(self, topics: list[str]) -> list[dict[str, Any]]:
        asked = {"fromBlock": "0x0", "toBlock": "latest", "address": USDC, "topics": topics}
        found: list[dict[str, Any]] = self.rpc("eth_getLogs", asked)
        return found

    def _send(self, data: str) -> bool:
        """A transaction of the faucet's to the token, mined. Whether it went through."""
        call = {"from": FAUCET, "to": USDC, "data": data, "gas": hex(500_000)}
        return bool(self.rpc("eth_sendTransactionSync", call)["status"] == "0x1")

    def _view(self, data: str) -> str:
        return str(self.rpc("eth_call", {"to": USDC, "data": data}, "latest"))

    def stop(self) -> None:
        self._http.close()
        self._peer.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _word(address: str) -> str:
    return address[2:].lower().rjust(64, "0")


def _uint(number: int) -> str:
    return format(number, "064x")


def _bytes_after(words: int, data: str) -> str:
    """The last argument where it is bytes: after so many words stand its length and its padded content."""
    plain = data[2:]
    return _uint(32 * words) + _uint(len(plain) // 2) + plain.ljust(-(-len(plain) // 64) * 64, "0")
