"""The chain as the programs see it: the real chain reader on nodes without a socket, which may lag, fail or lie.

The chain itself is the practice seller's (balances and nonces by block). No node alone tells the one lie nobody could
see through (a finalized block that never was); of two nodes one may.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.plan import Plan
from tests.simulation.sellers import Door
from x402_audio.jsontext import Json
from x402_audio.payment.chain import ChainReader
from x402_audio.payment.rpc import RpcNode
from x402_audio.protocol.networks import BASE
from x402_audio.sandbox.rpc import ChainFaults, ChainRpc


class _Forgetful(ChainRpc):
    """Says of every authorization that it is unused."""

    def _call(self, params: list[Json]) -> str:
        told = super()._call(params)
        call = params[0]
        data = str(call.get("data") or call.get("input")) if isinstance(call, dict) else ""
        return "0x" + "00" * 32 if data.startswith("0xe94a0102") else told


class _Node(RpcNode):
    """A node asked in this very process."""

    def __init__(self, url: str, rpc: ChainRpc, read: Callable[[], None]) -> None:
        super().__init__(url)
        self._answers = rpc
        self._read = read

    def _post(self, body: bytes) -> tuple[int, bytes]:
        self._read()
        return 200, self._answers.answer(body).encode()


class Nodes:
    """The RPC nodes of a world. `heal` makes them honest."""

    def __init__(self, plan: Plan, door: Door) -> None:
        seller = door.seller
        self._plan = plan
        self.reads = 0
        kinds: list[type[ChainRpc]] = [ChainRpc] * {"none": 0, "one": 1, "two": 2}[plan.chain]
        if plan.chain_lie == "one node never saw it":
            kinds[1] = _Forgetful
        self._rpcs = [kind(seller.chain, seller.lock) for kind in kinds]
        self._honest = ChainRpc(seller.chain, seller.lock)
        for rpc in self._rpcs:
            rpc.faults = ChainFaults(finality_seconds=plan.finality_s)
        if self._rpcs and plan.chain_lie == "wrong chain":
            self._rpcs[-1].faults = ChainFaults(chain_id=1)
        elif self._rpcs and plan.chain_lie == "lags":
            self._rpcs[-1].faults = ChainFaults(lag_seconds=3000, finality_seconds=plan.finality_s)
        elif self._rpcs and plan.chain_lie == "errors":
            self._rpcs[-1].faults = ChainFaults(error="over capacity")

    def reader(self) -> ChainReader | None:
        """What one program reads the chain with; None where it has no RPC."""
        if not self._rpcs:
            return None
        reader = ChainReader([f"https://node{i}.example" for i in range(len(self._rpcs))], BASE)
        vars(reader)["_rpc"] = tuple(
            _Node(f"https://node{i}.example", rpc, self._count) for i, rpc in enumerate(self._rpcs)
        )
        return reader

    def heal(self) -> None:
        """From now on every node tells the truth, without much lag."""
        self._honest.faults = ChainFaults(finality_seconds=30.0)
        self._rpcs = [self._honest for _ in self._rpcs]

    def _count(self) -> None:
        self.reads += 1
