"""The chain as a witness, read through web3 from the sandbox's JSON-RPC: what frees money, and what never does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.payment.stranger import open_stranger
from tests.payment.till import KEY, MUSIC, PRICE, WALLET, CountingSigner, WaitingClock
from x402_audio.client import AudioClient
from x402_audio.errors import ChainError, ClockError, InsufficientBalance, PaymentUnsettled
from x402_audio.jsontext import read_json_object, write_json
from x402_audio.ledger.book import Hold
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc
from x402_audio.payment.auth import X402Auth
from x402_audio.payment.chain import ChainReader
from x402_audio.payment.policy import PaymentPolicy
from x402_audio.protocol.networks import BASE, BASE_SEPOLIA
from x402_audio.sandbox import FaultPlan, FaultRule, SandboxSeller, SandboxServer
from x402_audio.sandbox.rpc import ChainFaults
from x402_audio.settings import load_settings

QUEUE = "/audio/queue"
PAYEE = "0x" + "ab" * 20
NONCE = "0x" + "07" * 32
ELSEWHERE = "0x" + "cd" * 20


class Node:
    """A seller whose chain is asked; `faults` are its node's."""

    def __init__(self, clock: WaitingClock, *, network: str = "base") -> None:
        self.seller = SandboxSeller(mode="direct-v1", network=network, clock=clock, faults=FaultPlan())
        self.server = SandboxServer(self.seller)
        self.since = clock.at

    @property
    def url(self) -> str:
        return self.server.rpc_url

    def faults(self, **wrong: Any) -> None:
        self.seller.rpc.faults = ChainFaults(**wrong)

    def pay(self, value: int = PRICE, *, to: str = PAYEE, nonce: str = NONCE) -> str:
        """The transfer that an authorization causes; its transaction."""
        return self.seller.chain.transfer(WALLET.lower(), to, value, nonce).transaction


OpenNode = Callable[..., Node]


@pytest.fixture
def clock() -> WaitingClock:
    return WaitingClock()


@pytest.fixture
def open_node(clock: WaitingClock) -> Iterator[OpenNode]:
    with ExitStack() as stack:

        def open_one(**options: Any) -> Node:
            node = Node(clock, **options)
            stack.enter_context(node.server)
            return node

        yield open_one


@pytest.fixture
def node(open_node: OpenNode) -> Node:
    return open_node()


def ask(*nodes: Node, **changed: Any) -> Any:
    reader = ChainReader([node.url for node in nodes], BASE)
    about = {
        "valid_before": int(nodes[0].since) + 300,
        "since": nodes[0].since,
        "pay_to": PAYEE,
        "value": PRICE,
        **changed,
    }
    return reader.authorization(WALLET, NONCE, **about)


def test_an_unused_authorization_is_open_while_it_is_valid(node: Node, clock: WaitingClock) -> None:
    clock.at += 298
    assert ask(node).state == "open"


def test_an_unused_authorization_past_its_end_at_a_finalized_block_is_expired(
    node: Node, clock: WaitingClock
) -> None:
    clock.at += 302
    verdict = ask(node)
    assert verdict.state == "expired"
    assert f"finalized block {verdict.block} of chain 8453" in verdict.evidence


def test_past_its_end_but_not_finally_is_still_open(node: Node, clock: WaitingClock) -> None:
    node.faults(finality_seconds=1200)
    clock.at += 1400
    assert ask(node).state == "open"
    clock.at += 102
    assert ask(node).state == "expired"


def test_a_lagging_node_does_not_free_a_payment(node: Node, clock: WaitingClock) -> None:
    node.pay()
    node.faults(lag_seconds=1200)
    clock.at += 1000
    assert ask(node).state == "open"


def test_a_used_authorization_names_its_transaction(node: Node, clock: WaitingClock) -> None:
    transaction = node.pay()
    clock.at += 4
    verdict = ask(node)
    assert (verdict.state, verdict.transaction) == ("used", transaction)
    clock.at += 50_000
    assert ask(node).transaction == transaction, "found by its log, thousands of blocks later"


@pytest.mark.parametrize(("to", "value"), [(ELSEWHERE, PRICE), (PAYEE, Usdc(1))])
def test_a_nonce_used_for_another_transfer_is_no_evidence(
    node: Node, clock: WaitingClock, to: str, value: Usdc
) -> None:
    node.pay(value, to=to)
    clock.at += 4
    with pytest.raises(ChainError, match="could not be read yet"):
        ask(node)


def test_a_cancelled_authorization_never_moves(clock: WaitingClock) -> None:
    """The sandbox cancels nothing, so a scripted node tells of it."""
    cancelled = "0x1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81"
    told = log_of(cancelled)
    receipt = {"status": "0x1", "logs": [told], "transactionHash": told["transactionHash"]}
    with scripted(clock, logs=[told], receipt=receipt) as url:
        verdict = reader_verdict(url, clock)
    assert (verdict.state, verdict.transaction) == ("cancelled", "0x" + "33" * 32)


@pytest.mark.parametrize("status", ["0x0", "0x1"])
def test_a_failed_transaction_moved_nothing(clock: WaitingClock, status: str) -> None:
    used = log_of("0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5")
    moved = {
        **used, "topics": ["0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef", topic(WALLET), topic(PAYEE)],
        "data": "0x" + f"{int(PRICE):064x}",
    }  # fmt: skip
    with scripted(
        clock, logs=[used], receipt={"status": status, "logs": [moved], "transactionHash": "0x" + "33" * 32}
    ) as url:
        if status == "0x1":
            assert reader_verdict(url, clock).state == "used"
        else:
            with pytest.raises(ChainError):
                reader_verdict(url, clock)


def topic(address: str) -> str:
    return "0x" + "00" * 12 + address[2:].lower()


def log_of(event: str) -> dict[str, Any]:
    return {
        "address": BASE.usdc, "topics": [event, topic(WALLET), NONCE], "data": "0x", "blockNumber": "0x1",
        "blockHash": "0x" + "44" * 32, "transactionHash": "0x" + "33" * 32, "transactionIndex": "0x0", "logIndex": "0x0",
        "removed": False,
    }  # fmt: skip


def scripted(
    clock: WaitingClock,
    *,
    logs: Any = None,
    receipt: Any = None,
    hashes: tuple[str, ...] = (),
    **results: Any,
) -> Any:
    """A node that says the used word of everything, with these logs and this receipt; `results` by method replace all."""
    from contextlib import contextmanager

    from x402_audio.sandbox.verify import keccak

    separator = "0x" + keccak(b"DOMAIN_SEPARATOR()")[:4].hex()
    turn = iter(hashes)

    def result(method: str, params: Any) -> Any:
        if method in results:
            return results[method]
        if method == "eth_getBlockByNumber":
            stamp = hex(int(clock.at))
            return {
                "number": "0x10",
                "hash": next(turn, "0x" + "44" * 32),
                "timestamp": stamp,
                "extraData": "0x",
            }
        if method == "eth_call":
            data = params[0].get("data") or params[0].get("input")
            return "0x" + BASE.domain_separator.hex() if data == separator else "0x" + f"{1:064x}"
        return {
            "eth_chainId": "0x2105", "eth_getCode": "0x60", "eth_getLogs": logs or [], "eth_getTransactionReceipt": receipt,
        }[method]  # fmt: skip

    @contextmanager
    def opened() -> Iterator[str]:
        with open_stranger() as stranger:

            def say(body: bytes) -> tuple[int, dict[str, str], bytes]:
                asked = read_json_object(body)
                said = result(str(asked["method"]), asked["params"])
                answer = {"jsonrpc": "2.0", "id": asked["id"], "result": said}
                return 200, {"content-type": "application/json"}, write_json(answer).encode()

            stranger.say = say
            yield stranger.origin

    return opened()


def reader_verdict(url: str, clock: WaitingClock) -> Any:
    reader = ChainReader([url], BASE)
    return reader.authorization(WALLET, NONCE, int(clock.at) - 1, since=clock.at, pay_to=PAYEE, value=PRICE)


@pytest.mark.parametrize(
    "wrong",
    [
        {"eth_chainId": "0x1"}, {"eth_getCode": "0x"}, {"eth_call": "0x"}, {"eth_call": "0x" + "01" * 32},
        {"eth_getBlockByNumber": None}, {"eth_getBlockByNumber": {"number": "0x1"}}, {"eth_chainId": "many"},
        {"eth_getLogs": [{}]}, {"eth_getLogs": "none"}, {"eth_call": "0x" + "00" * 31},
    ],
    ids=str,
)  # fmt: skip
def test_words_of_a_node_that_make_no_sense_are_no_evidence(
    clock: WaitingClock, wrong: dict[str, Any]
) -> None:
    with scripted(clock, **wrong) as url, pytest.raises(ChainError):
        reader_verdict(url, clock)


def test_a_finalized_block_that_changes_while_it_is_read_is_no_evidence(clock: WaitingClock) -> None:
    with (
        scripted(clock, hashes=("0x" + "44" * 32, "0x" + "55" * 32)) as url,
        pytest.raises(ChainError, match="changed"),
    ):
        reader_verdict(url, clock)


def test_a_foreign_chain_id_frees_nothing(node: Node, clock: WaitingClock) -> None:
    clock.at += 1000
    node.faults(chain_id=1)
    with pytest.raises(ChainError, match="on chain 1, not 8453"):
        ask(node)


def test_a_node_that_changes_its_chain_later_is_not_believed(node: Node, clock: WaitingClock) -> None:
    reader = ChainReader([node.url], BASE)
    about: Any = {"since": node.since, "pay_to": PAYEE, "value": PRICE}
    assert reader.authorization(WALLET, NONCE, int(node.since) + 300, **about).state == "open"
    clock.at += 1000
    node.faults(chain_id=84532)
    with pytest.raises(ChainError):
        reader.authorization(WALLET, NONCE, int(node.since) + 300, **about)


def test_a_network_without_our_contract_or_with_another_domain_is_not_believed(open_node: OpenNode) -> None:
    sepolia = open_node(network="base-sepolia")
    with pytest.raises(ChainError, match="on chain 84532"):
        ask(sepolia)
    sepolia.faults(chain_id=8453)
    with pytest.raises(ChainError, match="no USDC contract"):
        ask(sepolia)
    node = open_node()
    odd = ChainReader([node.url], replace(BASE, domain_separator=BASE_SEPOLIA.domain_separator))
    with pytest.raises(ChainError, match="another signing domain"):
        odd.latest_time()


@pytest.mark.parametrize("error", ["over capacity", "header not found"])
def test_a_node_that_answers_errors_could_not_be_read(node: Node, error: str) -> None:
    node.faults(error=error)
    with pytest.raises(ChainError, match="could not be read"):
        ask(node)


def test_a_node_that_is_not_there_could_not_be_read(node: Node) -> None:
    node.server.stop()
    with pytest.raises(ChainError, match="could not be read"):
        ask(node)


def test_unused_needs_both_nodes(open_node: OpenNode, clock: WaitingClock) -> None:
    first, second = open_node(), open_node()
    clock.at += 1000
    assert ask(first, second).state == "expired"
    second.faults(lag_seconds=900)
    with pytest.raises(ChainError, match="disagree"):
        ask(first, second)
    second.faults(error="down")
    with pytest.raises(ChainError):
        ask(first, second)


def test_used_at_one_node_and_unused_at_another_is_undecided(
    open_node: OpenNode, clock: WaitingClock
) -> None:
    first, second = open_node(), open_node()
    second.pay()
    clock.at += 1000
    with pytest.raises(ChainError, match="expired and used"):
        ask(first, second)


def test_the_balance_is_the_lowest_that_any_node_tells(open_node: OpenNode, clock: WaitingClock) -> None:
    first, second = open_node(), open_node()
    second.pay()
    clock.at += 2
    assert ChainReader([first.url], BASE).usdc_balance(WALLET) == 1_000_000_000
    assert ChainReader([first.url, second.url], BASE).usdc_balance(WALLET) == 1_000_000_000 - PRICE
    assert ChainReader([first.url], BASE).latest_time() == pytest.approx(clock.at, abs=2)


def test_reading_the_chain_leaves_the_recursion_limit_alone(node: Node) -> None:
    """In a process of its own: only the first import of web3 lifts it."""
    asked = (
        "import sys; from x402_audio.payment.chain import ChainReader; from x402_audio.protocol.networks import BASE\n"
        "before = sys.getrecursionlimit(); ChainReader([sys.argv[1]], BASE).latest_time()\n"
        "print('web3' in sys.modules, sys.getrecursionlimit() - before)"
    )
    command = [sys.executable, "-c", asked, node.url]
    root = Path(__file__).parents[2]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.split() == ["True", "0"]


# --- in a payment
class Payer:
    """A client of a direct seller with its chain at hand."""

    def __init__(self, node: Node, folder: Path, clock: WaitingClock, *, rpc_urls: str | None = None) -> None:
        self.node, self.clock = node, clock
        self.signer = CountingSigner()
        self.ledger = SqliteLedger(folder / "ledger.db", clock=clock)
        settings = load_settings(
            env={
                "X402_AUDIO_PRIVATE_KEY": KEY, "X402_AUDIO_STATE_DIR": str(folder), "X402_AUDIO_PROVIDER": "direct",
                "X402_AUDIO_API_URL": node.server.api_url, "X402_AUDIO_RPC_URL": rpc_urls or node.url,
            },
            cwd=folder, flags={},
        )  # fmt: skip
        self.client = AudioClient(settings, signer=self.signer, ledger=self.ledger, clock=clock)
        self.reader = ChainReader([node.url], BASE)
        self.auth = X402Auth(self.signer, self.ledger, PaymentPolicy(), clock=clock, chain=self.reader)

    def buy(self) -> httpx.Response:
        with httpx.Client(auth=self.auth, trust_env=False) as http:
            return http.post(self.node.server.api_url + QUEUE, json=MUSIC)

    def lose(self, fault: str) -> Hold:
        """A payment whose answer never came."""
        self.node.seller.faults.replace([FaultRule(fault, QUEUE, nth=2)])
        with pytest.raises(httpx.RemoteProtocolError):
            self.buy()
        return self.ledger.holds()[0]

    def close(self) -> None:
        self.client.close()
        assert self.ledger.verify() == []
        self.ledger.close()


OpenPayer = Callable[..., Payer]


@pytest.fixture
def open_payer(tmp_path: Path, clock: WaitingClock) -> Iterator[OpenPayer]:
    with ExitStack() as stack:

        def open_one(node: Node, **more: Any) -> Payer:
            payer = Payer(node, tmp_path, clock, **more)
            stack.callback(payer.close)
            return payer

        yield open_one


def test_a_payment_is_signed_only_if_the_chain_shows_the_money(node: Node, open_payer: OpenPayer) -> None:
    payer = open_payer(node)
    left = Usdc(PRICE - 1)
    node.seller.chain.transfer(WALLET.lower(), ELSEWHERE, 1_000_000_000 - left)
    payer.clock.at += 2
    with pytest.raises(InsufficientBalance) as short:
        payer.buy()
    assert (short.value.balance, short.value.missing) == (left, 1)
    assert payer.signer.authorizations == []


def test_what_is_on_its_way_is_not_free_on_the_chain(node: Node, open_payer: OpenPayer) -> None:
    payer = open_payer(node)
    node.seller.chain.transfer(WALLET.lower(), ELSEWHERE, 1_000_000_000 - 2 * PRICE + 1)
    payer.clock.at += 2
    payer.lose("drop_before")
    with httpx.Client(auth=payer.auth, trust_env=False) as http, pytest.raises(InsufficientBalance):
        http.post(node.server.api_url + QUEUE, json={**MUSIC, "prompt": "Rain on tin"})
    assert len(payer.signer.authorizations) == 1


def test_a_clock_two_minutes_from_the_last_block_signs_nothing(node: Node, open_payer: OpenPayer) -> None:
    payer = open_payer(node)
    node.faults(lag_seconds=130)
    with pytest.raises(ClockError):
        payer.buy()
    assert payer.signer.authorizations == []


def test_a_chain_that_cannot_be_read_signs_nothing(node: Node, open_payer: OpenPayer) -> None:
    payer = open_payer(node)
    node.faults(error="over capacity")
    with pytest.raises(ChainError) as unread:
        payer.buy()
    assert (unread.value.money_moved, payer.signer.authorizations) == ("no", [])


def test_an_unused_authorization_is_freed_only_past_its_end_at_a_finalized_block(
    node: Node, open_payer: OpenPayer
) -> None:
    payer = open_payer(node)
    hold = payer.lose("drop_before")
    node.faults(finality_seconds=1200)
    for later in (0, 290, 20, 900):
        payer.clock.at += later
        payer.client.reconcile()
        assert payer.ledger.hold(hold.id).state == "signed"
        with pytest.raises(PaymentUnsettled) if later else pytest.raises(httpx.RemoteProtocolError):
            node.seller.faults.replace([FaultRule("drop_before", QUEUE, every=True)])
            payer.buy()
    payer.clock.at = float(hold.valid_before + 1202)
    report = payer.client.reconcile()
    assert report.voided == (hold.id,)
    assert payer.ledger.hold(hold.id).state == "void"
    assert len(payer.signer.authorizations) == 1
    node.seller.faults.replace([])
    node.faults()
    assert payer.buy().status_code == 200
    assert len(payer.signer.authorizations) == 2


def test_a_used_authorization_is_settled_with_its_transaction(node: Node, open_payer: OpenPayer) -> None:
    payer = open_payer(node)
    hold = payer.lose("drop_after")
    payer.clock.at += 4
    report = payer.client.reconcile()
    assert report.settled == (hold.id,)
    [payment] = node.seller.payments.values()
    assert payer.ledger.hold(hold.id).transaction == payment.transaction


@pytest.mark.parametrize("wrong", [{"error": "over capacity"}, {"chain_id": 1}, {"lag_seconds": 90_000}])
def test_what_could_not_be_read_stays_counted(
    node: Node, open_payer: OpenPayer, wrong: dict[str, Any]
) -> None:
    payer = open_payer(node)
    hold = payer.lose("drop_before")
    payer.clock.at += 80_000
    node.faults(**wrong)
    report = payer.client.reconcile()
    assert (payer.ledger.hold(hold.id).state, report.open, report.voided) == ("signed", (hold.id,), ())


def test_two_nodes_that_disagree_free_nothing(open_node: OpenNode, open_payer: OpenPayer) -> None:
    node, other = open_node(), open_node()
    payer = open_payer(node, rpc_urls=f"{node.url},{other.url}")
    hold = payer.lose("drop_before")
    payer.clock.at += 1000
    other.faults(lag_seconds=950)
    payer.client.reconcile()
    assert payer.ledger.hold(hold.id).state == "signed"
    other.faults()
    payer.client.reconcile()
    assert payer.ledger.hold(hold.id).state == "void"
