"""The chain facade, read by web3 as any node is read."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tests.sandbox.customer import MUSIC, OpenShop, Shop, header_of

USDC = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
ABI = [
    {
        "name": "balanceOf",
        "type": "function",
        "stateMutability": "view",
        "inputs": [{"name": "account", "type": "address"}],
        "outputs": [{"name": "", "type": "uint256"}],
    },
    {
        "name": "authorizationState",
        "type": "function",
        "stateMutability": "view",
        "inputs": [{"name": "authorizer", "type": "address"}, {"name": "nonce", "type": "bytes32"}],
        "outputs": [{"name": "", "type": "bool"}],
    },
    {
        "name": "DOMAIN_SEPARATOR",
        "type": "function",
        "stateMutability": "view",
        "inputs": [],
        "outputs": [{"name": "", "type": "bytes32"}],
    },
]
SEPARATORS = {
    "base": "02fa7265e7c5d81118673727957699e4d68f74cd74b7db77da710fe8a2c7834f",
    "base-sepolia": "71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818",
}


def node(shop: Shop) -> Any:
    limit = sys.getrecursionlimit()
    from web3 import HTTPProvider, Web3

    sys.setrecursionlimit(limit)
    return Web3(HTTPProvider(shop.server.rpc_url, request_kwargs={"timeout": 10}))


def usdc(web3: Any, address: str = USDC) -> Any:
    return web3.eth.contract(address=address, abi=ABI).functions


def paid(open_shop: OpenShop) -> tuple[Shop, dict[str, Any]]:
    """A direct seller that was paid once, and the authorization it was paid with."""
    shop = open_shop(mode="direct-v1")
    entry = shop.post("/audio/queue", MUSIC).json()["accepts"][0]
    payload = shop.wallet().authorize(entry["payTo"], 690_000)
    envelope = {"x402Version": 1, "scheme": "exact", "network": "base", "payload": payload}
    assert shop.post("/audio/queue", MUSIC, {"X-PAYMENT": header_of(envelope)}).status_code == 200
    return shop, payload["authorization"]


def test_state_is_read_by_height_hash_and_tag(open_shop: OpenShop) -> None:
    shop, signed = paid(open_shop)
    web3 = node(shop)
    height = web3.eth.block_number
    assert web3.eth.chain_id == 8453
    assert web3.net.version == "8453"
    assert len(web3.eth.get_code(USDC)) > 0
    assert len(web3.eth.get_code(shop.wallet().address)) == 0
    asked = usdc(web3).authorizationState(signed["from"], bytes.fromhex(signed["nonce"][2:]))
    block = web3.eth.get_block("latest")
    assert block["number"] == height
    assert 0 <= shop.clock.now() - block["timestamp"] < 2
    for place in (height, block["hash"], "latest", "finalized", "safe"):
        assert asked.call(block_identifier=place) is True
    assert asked.call(block_identifier=height - 1) is False
    assert usdc(web3).balanceOf(signed["from"]).call() == 1_000_000_000 - 690_000
    assert usdc(web3).balanceOf(signed["from"]).call(block_identifier=height - 1) == 1_000_000_000
    assert usdc(web3).balanceOf(web3.to_checksum_address(signed["to"])).call() == 690_000
    assert web3.eth.get_block(block["hash"])["number"] == height
    assert web3.eth.get_block(height)["parentHash"] == web3.eth.get_block(height - 1)["hash"]
    assert web3.eth.get_block("earliest")["number"] == 0


def test_the_receipt_and_the_logs_show_the_use_and_the_transfer(open_shop: OpenShop) -> None:
    shop, signed = paid(open_shop)
    web3 = node(shop)
    used = web3.keccak(text="AuthorizationUsed(address,bytes32)")
    moved = web3.keccak(text="Transfer(address,address,uint256)")
    who = "0x" + "00" * 12 + signed["from"][2:].lower()
    height = web3.eth.block_number
    wanted = {
        "address": USDC,
        "fromBlock": height - 10,
        "toBlock": height,
        "topics": [used, who, signed["nonce"]],
    }
    logs = web3.eth.get_logs(wanted)
    assert [log["topics"][2].hex() for log in logs] == [signed["nonce"][2:]]
    receipt = web3.eth.get_transaction_receipt(logs[0]["transactionHash"])
    assert receipt["status"] == 1
    assert [log["topics"][0] for log in receipt["logs"]] == [used, moved]
    assert int(receipt["logs"][1]["data"].hex(), 16) == 690_000
    assert shop.books()["payments"][0]["transaction"] == "0x" + logs[0]["transactionHash"].hex().removeprefix(
        "0x"
    )
    assert len(web3.eth.get_logs({**wanted, "topics": [[used, moved], None]})) == 2
    assert web3.eth.get_logs({**wanted, "topics": [used, None, "0x" + "00" * 32]}) == []
    assert web3.eth.get_logs({**wanted, "fromBlock": height - 10, "toBlock": height - 1}) == []
    assert web3.eth.get_logs({"blockHash": web3.eth.get_block(height)["hash"], "topics": [used]}) == logs


def test_time_makes_blocks_and_finality_lags_as_told(open_shop: OpenShop) -> None:
    shop, _ = paid(open_shop)
    web3 = node(shop)
    before = web3.eth.block_number
    shop.clock.at += 60
    assert web3.eth.block_number == before + 30
    shop.faults(chain={"finality_seconds": 40, "lag_seconds": 10})
    assert web3.eth.block_number == before + 25
    assert web3.eth.get_block("finalized")["number"] == before + 5


@pytest.mark.parametrize("network", ["base", "base-sepolia"])
def test_the_domain_separator_is_the_published_one(network: str, open_shop: OpenShop) -> None:
    shop = open_shop(network=network)
    address = shop.seller.network.asset
    assert usdc(node(shop), address).DOMAIN_SEPARATOR().call().hex() == SEPARATORS[network]


def test_a_foreign_or_failing_node_is_played_on_demand(open_shop: OpenShop) -> None:
    shop = open_shop()

    def ask(body: object) -> Any:
        return shop.http.post(shop.server.rpc_url, json=body).json()

    shop.faults(chain={"chain_id": 1})
    assert ask({"jsonrpc": "2.0", "id": 7, "method": "eth_chainId"}) == {
        "jsonrpc": "2.0",
        "id": 7,
        "result": "0x1",
    }
    shop.faults(chain={"error": "header not found"})
    assert ask({"jsonrpc": "2.0", "id": 7, "method": "eth_chainId"})["error"]["message"] == "header not found"
    shop.faults(chain={})
    both = ask(
        [{"jsonrpc": "2.0", "id": n, "method": m} for n, m in ((1, "eth_chainId"), (2, "eth_nothing"))]
    )
    assert [answer.get("result", answer.get("error", {}).get("code")) for answer in both] == [
        "0x2105",
        -32601,
    ]
    future = ask({"id": 1, "method": "eth_getBlockByNumber", "params": ["0xffffffffff", False]})
    assert future["result"] is None
    nowhere = ask(
        {"id": 1, "method": "eth_call", "params": [{"to": USDC, "data": "0x3644e515"}, "0xffffffffff"]}
    )
    assert nowhere["error"]["message"] == "header not found"
    assert ask({"id": 1, "method": "eth_call", "params": [{"to": USDC, "data": "0xzz"}, "latest"]})["error"]
