"""What a cancellation is on the wire, and when none is sent; the node is scripted, no money and no ether exist."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chain.node import NONCE, Fail, Node, word
from x402_audio.errors import ChainError, PaymentRefused, SignerError
from x402_audio.payment.cancel import COST_MAX_WEI, GAS, Cancellation, plan_cancellation, send_cancellation
from x402_audio.payment.chain import ChainReader
from x402_audio.protocol.exact import Authorization, cancellation_digest
from x402_audio.protocol.networks import BASE, Network
from x402_audio.protocol.signer import LocalSigner, recover_address

KEY = "0x" + "5a" * 32
SIGNER = LocalSigner.from_hex(KEY)
PLAN = Cancellation(NONCE, count=300, max_fee=2_000_000, tip=1_000_000, cost=GAS * 2_000_000, ether=10**18)


@pytest.fixture
def paying(node: Node) -> Node:
    """A node that knows fees and takes transactions."""
    node.honest |= {
        "eth_maxPriorityFeePerGas": lambda _: "0xf4240", "eth_getTransactionCount": lambda _: "0x12c",
        "eth_getBalance": lambda _: hex(10**18), "eth_sendRawTransaction": lambda _: word(1),
    }  # fmt: skip
    return node


def test_the_transaction_is_what_ethereum_libraries_read(paying: Node) -> None:
    from eth_account import Account
    from eth_account.typed_transactions.typed_transaction import TypedTransaction
    from hexbytes import HexBytes

    sent: list[str] = []

    def note(params: Any) -> str:
        sent.append(params[0])
        return word(1)

    paying.wrong["eth_call"] = lambda p: paying.view(p) if p[0]["data"][:10] != "0x5a049a70" else "0x"
    paying.wrong["eth_sendRawTransaction"] = note
    with pytest.raises(ChainError, match="another transaction"):
        send_cancellation(ChainReader([paying.url], BASE), SIGNER, PLAN, lambda _: None)
    read = TypedTransaction.from_bytes(HexBytes(sent[0])).as_dict()
    assert Account.recover_transaction(sent[0]) == SIGNER.address
    assert (read["chainId"], read["nonce"], read["value"], read["gas"]) == (8453, 300, 0, GAS)
    assert (read["maxFeePerGas"], read["maxPriorityFeePerGas"], len(read["accessList"])) == (
        2_000_000,
        1_000_000,
        0,
    )
    assert "0x" + bytes(read["to"]).hex() == BASE.usdc.lower()
    data = bytes(read["data"])
    assert data[:4].hex() == "5a049a70" and "0x" + data[36:68].hex() == NONCE
    signature = data[100:164] + data[99:100]
    digest = cancellation_digest(BASE, SIGNER.address, bytes.fromhex(NONCE[2:]))
    assert recover_address(digest, signature) == SIGNER.address


def test_the_digest_is_that_of_eip_712() -> None:
    from eth_account.messages import encode_typed_data

    types = {
        "CancelAuthorization": [
            {"name": "authorizer", "type": "address"},
            {"name": "nonce", "type": "bytes32"},
        ]
    }
    domain = {"name": "USD Coin", "version": "2", "chainId": 8453, "verifyingContract": BASE.usdc}
    message = {"authorizer": SIGNER.address, "nonce": bytes.fromhex(NONCE[2:])}
    signable = encode_typed_data(domain, types, message)
    from x402_audio.protocol.address import keccak256

    digest = keccak256(b"\x19" + signable.version + signable.header + signable.body)
    assert cancellation_digest(BASE, SIGNER.address, bytes.fromhex(NONCE[2:])) == digest


def test_a_plan_names_the_most_it_can_cost(paying: Node) -> None:
    plan = plan_cancellation(ChainReader([paying.url], BASE), SIGNER.address, NONCE)
    assert (plan.count, plan.cost, plan.ether) == (300, GAS * 3_000_000, 10**18)


def test_a_node_without_a_word_on_tips_is_asked_for_its_fees_and_nobody_is_warned(paying: Node) -> None:
    """A library's warning, with a path of this machine in it, stood between the owner and the question."""

    def unknown(_: object) -> object:
        raise Fail(-32601, "the method does not exist")

    paying.wrong["eth_maxPriorityFeePerGas"] = unknown
    paying.honest["eth_feeHistory"] = lambda _: {
        "oldestBlock": "0x1", "baseFeePerGas": ["0x1", "0x1"], "gasUsedRatio": [0], "reward": [["0x7"]],
    }  # fmt: skip
    assert plan_cancellation(ChainReader([paying.url], BASE), SIGNER.address, NONCE).tip > 0


def test_a_gas_price_beyond_reason_is_not_believed(paying: Node) -> None:
    paying.wrong["eth_maxPriorityFeePerGas"] = lambda _: hex(COST_MAX_WEI // GAS)
    with pytest.raises(ChainError, match="not believed"):
        plan_cancellation(ChainReader([paying.url], BASE), SIGNER.address, NONCE)


def test_on_another_chain_nothing_is_planned(paying: Node) -> None:
    paying.wrong["eth_chainId"] = lambda _: "0x1"
    with pytest.raises(ChainError, match="on chain 1"):
        plan_cancellation(ChainReader([paying.url], BASE), SIGNER.address, NONCE)


def test_a_node_that_became_another_chain_is_sent_nothing(paying: Node) -> None:
    reader = ChainReader([paying.url], BASE)
    plan = plan_cancellation(reader, SIGNER.address, NONCE)
    paying.wrong["eth_chainId"] = lambda _: "0x1"
    with pytest.raises(ChainError, match="on chain 1"):
        send_cancellation(reader, SIGNER, plan, lambda _: None)
    assert paying.params_of("eth_sendRawTransaction") == []


def test_a_used_authorization_is_not_cancelled(paying: Node) -> None:
    paying.wrong["eth_call"] = lambda p: word(1) if p[0]["data"].startswith("0xe94a0102") else paying.view(p)
    with pytest.raises(PaymentRefused, match="used or cancelled already"):
        plan_cancellation(ChainReader([paying.url], BASE), SIGNER.address, NONCE)


def test_a_signer_elsewhere_sends_no_transaction(paying: Node) -> None:
    class Remote:
        address = SIGNER.address

        def sign_authorization(self, network: Network, authorization: Authorization) -> bytes:
            raise AssertionError("nothing is signed")

        def sign_message(self, text: str) -> bytes:
            raise AssertionError("nothing is signed")

    with pytest.raises(SignerError, match="on this machine"):
        send_cancellation(ChainReader([paying.url], BASE), Remote(), PLAN, lambda _: None)
    assert paying.asked == []
