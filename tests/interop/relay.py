"""A node that is in trouble: it stands before a sound one and spoils some of its answers, as hosted nodes do."""

from __future__ import annotations

import json
from typing import Any, Literal

import httpx

from tests.interop.chain import LocalChain
from tests.interop.door import Asked, Door, Told

Trouble = Literal["a machine behind", "a reorganised block", "no archive", "no finalized block"]
_BLOCK = "eth_getBlockByNumber"


class Relay(Door):
    """node: answers what is not spoiled. behind: the machine behind the same balancer that has not come so far."""

    def __init__(self, trouble: Trouble, node: LocalChain, behind: LocalChain) -> None:
        super().__init__()
        self._trouble = trouble
        self._node = node
        self._behind = behind
        self._http = httpx.Client(trust_env=False, verify=False, timeout=30)

    def answer(self, asked: Asked) -> Told:
        call = json.loads(asked.body)
        told = self._answer(call, call["method"], call["params"])
        return Told(200, {"content-type": "application/json"}, json.dumps(told).encode())

    def _answer(self, call: dict[str, Any], method: str, params: list[Any]) -> dict[str, Any]:
        at = next((one for one in params[::-1] if one in ("latest", "finalized")), None)
        match self._trouble:
            case "a machine behind" if at != "finalized":
                return self._ask(self._behind, call)
            case "no archive" if method == "eth_call" and at is None:
                return _failed(call, -32000, "missing trie node 4b1e (path ) state is not available")
            case "no finalized block" if at == "finalized":
                return _failed(call, -32602, "invalid block tag finalized")
            case "a reorganised block" if method == _BLOCK and at is None:
                told = self._ask(self._node, call)
                told["result"]["hash"] = "0x" + "ab" * 32
                return told
        return self._ask(self._node, call)

    def _ask(self, node: LocalChain, call: dict[str, Any]) -> dict[str, Any]:
        told: dict[str, Any] = self._http.post(node.url, json=call).json()
        return told

    def stop(self) -> None:
        super().stop()
        self._http.close()


def _failed(call: dict[str, Any], code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": call["id"], "error": {"code": code, "message": message}}
