"""The chain as a witness: only a finalized block of our own chain frees money, and no node's trouble ever does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from tests.chain.node import (
    CANCELED,
    LIVE_UNTIL,
    NONCE,
    WALLET,
    Fail,
    Node,
    Raw,
    ask,
    block_hash,
    log,
    payment,
    topic,
    word,
)
from x402_audio.errors import ChainError
from x402_audio.payment.chain import ChainReader
from x402_audio.protocol.networks import BASE

NewNode = Callable[[], Node]
FINAL = 4_400
STATE = "0xe94a0102"


def state_reads(node: Node) -> list[Any]:
    return [params[1] for params in node.params_of("eth_call") if params[0]["data"].startswith(STATE)]


# --- what an honest chain says


def test_unused_past_its_end_at_a_finalized_block_is_expired(node: Node) -> None:
    verdict = ask(node)
    assert (verdict.state, verdict.block) == ("expired", FINAL)


def test_unused_is_open_while_the_finalized_block_is_before_its_end(node: Node) -> None:
    end = 1_700_000_000 + 2 * FINAL
    assert (ask(node, valid_before=end).state, ask(node, valid_before=end + 1).state) == ("expired", "open")


def test_a_used_one_names_its_transaction(node: Node) -> None:
    node.logs = payment()
    verdict = ask(node)
    assert (verdict.state, verdict.transaction) == ("used", word(1))


def test_a_cancelled_one_is_proven_by_its_receipt(node: Node) -> None:
    node.logs = [log(CANCELED, topic(WALLET), NONCE)]
    assert ask(node).state == "cancelled"


def test_a_cancellation_whose_transaction_failed_is_no_evidence(node: Node) -> None:
    node.logs = [log(CANCELED, topic(WALLET), NONCE)]
    node.wrong["eth_getTransactionReceipt"] = lambda params: {
        "status": "0x0", "transactionHash": params[0], "logs": node.logs,
    }  # fmt: skip
    with pytest.raises(ChainError, match="could not be read yet"):
        ask(node)


def test_the_state_is_read_at_a_block_by_its_hash_and_never_by_a_tag(node: Node) -> None:
    ask(node)
    assert [at["blockHash"] for at in state_reads(node)] == [block_hash(FINAL)]


def test_a_node_that_knows_no_hashes_is_read_by_number(node: Node) -> None:
    honest = node.view

    def numbers_only(params: Any) -> Any:
        if isinstance(params[1], dict):
            raise Fail(-32602, "invalid argument 1: cannot unmarshal object")
        return honest(params)

    node.wrong["eth_call"] = numbers_only
    assert ask(node).state == "expired"
    assert state_reads(node) == [hex(FINAL)]


def test_logs_are_asked_for_in_smaller_pieces_where_a_node_wants_that(node: Node) -> None:
    node.logs = payment()
    honest = node.events

    def at_most_fifty(params: Any) -> Any:
        if int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) >= 50:
            raise Fail(-32005, "query exceeds max block range 50")
        return honest(params)

    node.wrong["eth_getLogs"] = at_most_fifty
    assert ask(node).state == "used"


# --- another chain, a fork, a node that is behind


def test_a_node_on_another_chain_frees_nothing(node: Node) -> None:
    node.wrong["eth_chainId"] = lambda _: "0x1"
    with pytest.raises(ChainError, match="on chain 1, not 8453"):
        ask(node)


def test_a_chain_without_the_contract_frees_nothing(node: Node) -> None:
    node.wrong["eth_getCode"] = lambda _: "0x"
    with pytest.raises(ChainError, match="no USDC contract"):
        ask(node)


def test_a_fork_with_another_signing_domain_frees_nothing(node: Node) -> None:
    node.wrong["eth_call"] = lambda _: "0x" + "01" * 32
    with pytest.raises(ChainError, match="another signing domain"):
        ask(node)


def test_a_fork_with_another_block_at_the_same_height_frees_nothing(new_node: NewNode) -> None:
    honest, fork = new_node(), new_node()
    honest.logs = []
    fork.branch, fork.head = 7, 5_100
    for nodes in ((honest, fork), (fork, honest)):
        with pytest.raises(ChainError, match="on a fork"):
            ask(*nodes)


def test_two_nodes_of_one_chain_at_different_heights_agree(new_node: NewNode) -> None:
    first, second = new_node(), new_node()
    second.head += 7
    assert ask(first, second).state == "expired"


def test_two_nodes_that_disagree_free_nothing(new_node: NewNode) -> None:
    first, second = new_node(), new_node()
    second.logs = payment()
    for nodes in ((first, second), (second, first)):
        with pytest.raises(ChainError, match="disagree"):
            ask(*nodes)


def test_a_second_node_that_cannot_be_read_frees_nothing(new_node: NewNode) -> None:
    first, second = new_node(), new_node()
    second.wrong["eth_call"] = lambda _: None
    with pytest.raises(ChainError):
        ask(first, second)


def test_a_balancer_whose_finalized_block_goes_back_frees_nothing(node: Node) -> None:
    heads = iter([FINAL, 3_900])

    def by_turns(params: Any) -> Any:
        return node.block(next(heads) if params[0] == "finalized" else node.number(params[0]))

    node.wrong["eth_getBlockByNumber"] = by_turns
    with pytest.raises(ChainError, match="went back"):
        ask(node)


def test_a_node_behind_the_balancer_cannot_answer_for_a_block_it_does_not_have(node: Node) -> None:
    """One machine names the finalized block; the one that is asked for the state is behind and says `unused` gladly."""
    node.logs = payment(block=4_300)
    behind = Node()
    behind.head = 3_500

    def stale(params: Any) -> Any:
        if params[1] == "latest":
            return behind.view(params)
        if isinstance(params[1], dict):
            return behind.view(params)
        return behind.view([params[0], hex(min(int(params[1], 16), behind.head))])

    node.wrong["eth_call"] = stale
    with pytest.raises(ChainError, match="error -32000"):
        ask(node)


def test_a_block_that_was_reorganised_while_it_was_read_frees_nothing(node: Node) -> None:
    def reorganised(params: Any) -> Any:
        number = node.number(params[0])
        return node.block(number, branch=0 if params[0] == "finalized" else 3)

    node.wrong["eth_getBlockByNumber"] = reorganised
    with pytest.raises(ChainError, match="changed"):
        ask(node)


def test_a_node_without_the_state_of_that_block_frees_nothing(node: Node) -> None:
    honest = node.view

    def pruned(params: Any) -> Any:
        if params[1] != "latest":
            raise Fail(-32000, "missing trie node 4b1e (path ) state is not available")
        return honest(params)

    node.wrong["eth_call"] = pruned
    with pytest.raises(ChainError, match="could not be read"):
        ask(node)


@pytest.mark.parametrize("answer", ["error", "null"])
def test_a_node_that_knows_no_finalized_block_frees_nothing(node: Node, answer: str) -> None:
    def unsupported(params: Any) -> Any:
        if params[0] != "finalized":
            return node.block(node.number(params[0]))
        if answer == "error":
            raise Fail(-32602, "invalid block tag finalized")
        return None

    node.wrong["eth_getBlockByNumber"] = unsupported
    with pytest.raises(ChainError, match="could not be read"):
        ask(node)


# --- nodes that are no nodes


NONSENSE: dict[str, Callable[[Any], Any]] = {
    "null": lambda _: None,
    "a web page": lambda _: Raw(b"<html>login</html>"),
    "a page with an error status": lambda _: Raw(b"<html>502</html>", 502),
    "JSON of another kind": lambda _: Raw(b"[1]"),
    "an answer to another question": lambda _: Raw(b'{"jsonrpc":"2.0","id":999,"result":"0x2105"}'),
    "deep JSON": lambda _: Raw(b"[" * 5000 + b"]" * 5000),
    "a key twice": lambda _: Raw(b'{"id":1,"id":1,"result":"0x2105"}'),
    "a huge answer": lambda _: Raw(b'{"result":"' + b"0" * (5 << 20) + b'"}'),
    "a redirect": lambda _: Raw(b"", 307, {"location": "https://elsewhere.example/"}),
    "a number that is no number": lambda _: "many",
    "an object": lambda _: {},
}


@pytest.mark.parametrize("method", ["eth_chainId", "eth_getBlockByNumber", "eth_call"])
@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_of_a_node_could_not_be_read(node: Node, method: str, what: str) -> None:
    node.wrong[method] = NONSENSE[what]
    with pytest.raises(ChainError) as unread:
        ask(node)
    assert (unread.value.money_moved, unread.value.owner) == ("no", "time")


def test_a_node_that_says_nothing_could_not_be_read(node: Node) -> None:
    import threading

    never = threading.Event()

    def hang(_: Any) -> Any:
        never.wait(5)

    node.wrong["eth_chainId"] = hang
    try:
        with pytest.raises(ChainError, match="ReadTimeout"):
            ask(node, timeout_s=0.1)
    finally:
        never.set()


def test_a_contract_cannot_send_us_to_other_hosts(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """An OffchainLookup revert (EIP-3668) names URLs, and web3 would ask them; only configured hosts are dialled."""
    from eth_abi.abi import encode

    sent: list[object] = []
    monkeypatch.setattr("web3.eth.eth.handle_offchain_lookup", lambda *told: sent.append(told))
    words = (BASE.usdc, ["https://elsewhere.example/{data}"], b"", bytes(4), b"")
    lookup = "0x556f1830" + encode(["address", "string[]", "bytes", "bytes4", "bytes"], words).hex()

    def revert(_: Any) -> Any:
        raise Fail(3, "execution reverted", lookup)

    node.wrong["eth_call"] = revert
    with pytest.raises(ChainError, match="OffchainLookup"):
        ask(node)
    assert sent == []


def test_the_key_in_an_rpc_url_is_in_no_error_and_no_log(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ask(node)
    assert any("/v2/SECRET-API-KEY" in line for line in node.heard), "the node itself is asked with it"
    told = [caplog.text]
    for what in NONSENSE.values():
        node.wrong["eth_getBlockByNumber"] = what
        with pytest.raises(ChainError) as unread:
            ask(node)
        told += [repr(unread.value), unread.value.message, str(unread.value.__context__), caplog.text]
    reader = ChainReader([node.url], BASE)
    told.append(repr(reader._rpc))
    reader.close()
    assert "SECRET" not in " ".join(told)
    assert "127.0.0.1" in told[2]


def test_the_end_of_validity_itself_is_past_it(node: Node) -> None:
    """EIP-3009 wants `now < validBefore`: a block at that very second can no longer use it."""
    at = 1_700_000_000 + 2 * FINAL
    assert ask(node, valid_before=at).state == "expired"
    assert at > LIVE_UNTIL
