"""A payment that was signed and handed over and never used: counted until the chain says it can never be used.

The sellers are real and take the signature; the node is real and so is its time, on a fork of its own for each test.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.interop.chain import CHAIN_ID, USDC, LocalChain
from tests.interop.conftest import PRICE, Wallet
from tests.interop.customer import Customer, Ended
from tests.interop.front import Front
from tests.interop.relay import Relay, Trouble
from tests.interop.shelf import BREAKS
from tests.interop.shop_v1 import ShopV1

OpenChain = Callable[..., LocalChain]
VALID_S = 300
NOBODY = "http://127.0.0.1:9"
ZERO_FOR_ALL = "0x60206000f3"
"""Code that answers every call with one empty word: no nonce used, in nobody's signing domain."""


class Leaver:
    """A customer whose payment a seller took and left unused, and the ways to ask what became of it."""

    def __init__(self, customer: Customer, front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
        self.customer = customer
        self.front = front
        self._api_url = front.url + "/api/v1"
        self._patch = monkeypatch

    def buy(self) -> Ended:
        return self.customer.generate(self._api_url, prompt=BREAKS)

    def another(self) -> Ended:
        """A second track, which the seller sells."""
        return self.customer.generate(self._api_url, job_id="another")

    def reconcile(self, *nodes: LocalChain | str) -> Ended:
        """Ask these nodes."""
        urls = [node if isinstance(node, str) else node.url for node in nodes]
        self._patch.setenv("X402_AUDIO_RPC_URL", ",".join(urls))
        return self.customer.reconcile(self._api_url)

    @property
    def row(self) -> dict[str, Any]:
        """The one authorization of the books."""
        (row,) = self.customer.authorizations()
        return row

    def counted(self) -> tuple[str, int]:
        """(state of the one authorization, what the day's limit holds for it)."""
        limits: list[dict[str, Any]] = self.customer.run("budget").result["limits"]
        held = next(int(one["held_atomic"]) for one in limits if one["name"].startswith("MAX_PER_DAY"))
        return self.row["state"], held

    def handed_over(self) -> tuple[dict[str, str], str]:
        """(authorization, signature) as the seller has them."""
        (payment,) = set(self.front.payments)
        payload = json.loads(base64.b64decode(payment))["payload"]
        return payload["authorization"], payload["signature"]


Leave = Callable[[str], Leaver]


@pytest.fixture
def leave(customer: Customer, monkeypatch: pytest.MonkeyPatch, open_front: Callable[..., Front]) -> Leave:
    """Buys from a shop that has the payment checked by the facilitator, fails then, and never settles."""

    def leave_at(shop: str) -> Leaver:
        made = Leaver(customer, open_front(shop, remembers=False), monkeypatch)
        assert made.buy().code == 8
        assert made.counted() == ("signed", PRICE)
        return made

    return leave_at


@pytest.fixture
def leaver(leave: Leave, sdk_shop: str) -> Leaver:
    """That customer at the official SDK's own shop."""
    return leave(sdk_shop)


def test_it_is_freed_by_a_final_block_past_its_end_and_by_nothing_before(
    shop: str, leave: Leave, chain: LocalChain, open_chain: OpenChain
) -> None:
    leaver = leave(shop)
    later = open_chain(fork_of=chain)
    later.pass_time(VALID_S - 60)
    assert leaver.reconcile(later).code == 8, "it can still be used"
    later.rpc("evm_increaseTime", hex(120))
    later.mine()
    assert later.newest()[1] > leaver.row["valid_before"]
    assert leaver.reconcile(later).code == 8, "past its end, but not final"
    assert leaver.counted() == ("signed", PRICE)
    later.finalize()
    ended = leaver.reconcile(later)
    assert (ended.code, ended.result["void"]) == (0, [leaver.row["id"]])
    assert leaver.counted() == ("void", 0)
    assert not later.use(*leaver.handed_over()), "what was freed can never move"


def test_after_it_was_freed_nothing_is_signed_while_the_clocks_disagree(
    leaver: Leaver, chain: LocalChain, open_chain: OpenChain
) -> None:
    later = open_chain(fork_of=chain)
    later.pass_time(VALID_S + 60)
    assert leaver.reconcile(later).code == 0
    sent = len(leaver.front.payments)
    assert leaver.buy().code == 2
    assert (len(leaver.customer.authorizations()), len(leaver.front.payments)) == (1, sent)


def test_once_it_was_freed_the_same_job_is_bought_under_a_new_nonce(
    leave: Leave, shop_v1: ShopV1, chain: LocalChain, open_chain: OpenChain
) -> None:
    leaver = leave(shop_v1.url)
    later = open_chain(fork_of=chain)
    later.pass_time(VALID_S + 60)
    assert leaver.reconcile(later).code == 0
    assert leaver.reconcile(chain).code == 0
    shop_v1.broken = False
    assert leaver.buy().code == 0
    first, second = leaver.customer.authorizations()
    assert (first["state"], second["state"]) == ("void", "settled")
    assert [paid.nonce for paid in chain.payments(leaver.customer.address)] == [second["nonce"]]
    assert chain.left(leaver.customer.address) == PRICE


@pytest.mark.parametrize("funds", [2 * PRICE - 1])
def test_while_it_is_counted_the_rest_of_the_wallet_must_cover_the_next_track(
    leaver: Leaver, chain: LocalChain, funds: int
) -> None:
    assert leaver.another().code == 4
    assert leaver.counted() == ("signed", PRICE)
    chain.mint(leaver.customer.address, 1)
    assert leaver.another().code == 0
    assert chain.balance(leaver.customer.address) == funds + 1 - PRICE


def test_a_use_in_a_block_that_was_taken_back_settles_nothing(
    leaver: Leaver, chain: LocalChain, open_chain: OpenChain
) -> None:
    node = open_chain(fork_of=chain)
    with node.taken_back():
        assert node.use(*leaver.handed_over())
        assert leaver.reconcile(node).code == 8, "used, but not final"
    node.pass_time(VALID_S + 60)
    assert leaver.reconcile(node).result["void"] == [leaver.row["id"]]
    assert not node.is_used(leaver.customer.address, leaver.row["nonce"])


def test_without_a_node_to_ask_it_stays_counted(leaver: Leaver) -> None:
    _says(leaver.reconcile(NOBODY), "could not be read (ConnectError)")
    assert leaver.counted() == ("signed", PRICE)


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("a machine behind", "could not be read (error"),
        ("a reorganised block", "a finalized block changed while it was read"),
        ("no archive", "could not be read (error -32000)"),
        ("no finalized block", "could not be read (error -32602)"),
    ],
)
def test_a_node_in_trouble_frees_nothing_and_is_said_until_it_is_well(
    leaver: Leaver, chain: LocalChain, open_chain: OpenChain, trouble: Trouble, words: str
) -> None:
    later = open_chain(fork_of=chain)
    later.pass_time(VALID_S + 60)
    with Relay(trouble, later, behind=chain) as node:
        _says(leaver.reconcile(node.url), words)
        assert leaver.counted() == ("signed", PRICE)
    assert leaver.reconcile(later).result["void"] == [leaver.row["id"]]


def test_two_nodes_that_disagree_free_nothing_and_it_is_said(
    leaver: Leaver, chain: LocalChain, open_chain: OpenChain
) -> None:
    """One saw the time pass and the nonce unused, the other saw it used at the last moment."""
    unused = open_chain(fork_of=chain)
    unused.pass_time(VALID_S + 60)
    assert chain.use(*leaver.handed_over())
    chain.finalize()
    for nodes in ([unused, chain], [chain, unused]):
        _says(leaver.reconcile(*nodes), "the RPC nodes disagree about an authorization (expired and used)")
        assert leaver.counted() == ("signed", PRICE)
    assert leaver.reconcile(chain).result["settled"] == [leaver.row["id"]]
    assert chain.left(leaver.customer.address) == int(leaver.row["amount_atomic"]) == PRICE


def test_a_node_that_lags_behind_another_frees_nothing(
    leaver: Leaver, chain: LocalChain, open_chain: OpenChain
) -> None:
    later = open_chain(fork_of=chain)
    later.pass_time(VALID_S + 60)
    assert leaver.reconcile(later, chain).code == 8
    assert leaver.counted() == ("signed", PRICE)
    ahead = open_chain(fork_of=later)
    ahead.mine(5)
    assert leaver.reconcile(later, ahead).code == 0
    assert leaver.counted() == ("void", 0)


def test_two_nodes_on_two_forks_free_nothing_though_both_say_unused(
    leaver: Leaver, chain: LocalChain, open_chain: OpenChain
) -> None:
    forks = [open_chain(fork_of=chain) for _ in range(2)]
    forks[1].mint(leaver.customer.address, 1)
    for fork in forks:
        fork.pass_time(VALID_S + 60)
    _says(leaver.reconcile(*forks), "one of them is on a fork; nothing is freed")
    assert leaver.counted() == ("signed", PRICE)


def test_a_node_of_another_chain_or_without_the_token_is_not_believed(
    leaver: Leaver, open_chain: OpenChain
) -> None:
    for how in ({"chain_id": 84532}, {"code": "0x"}, {"code": ZERO_FOR_ALL}):
        foreign = open_chain(**how)
        foreign.pass_time(VALID_S + 60)
        _says(leaver.reconcile(foreign), "it was not believed")
        assert leaver.counted() == ("signed", PRICE)


def test_what_its_owner_cancelled_on_chain_is_freed(
    leaver: Leaver, wallet: Wallet, chain: LocalChain
) -> None:
    nonce = leaver.row["nonce"]
    assert chain.cancel(wallet.address, nonce, _cancellation(wallet, nonce))
    assert leaver.reconcile(chain).code == 8, "not final yet"
    chain.finalize()
    assert leaver.reconcile(chain).result["void"] == [leaver.row["id"]]
    assert "AuthorizationCanceled" in leaver.row["evidence"]
    assert not chain.use(*leaver.handed_over())
    assert chain.cancelled(wallet.address) == [nonce]


def _says(ended: Ended, why: str) -> None:
    """It could not be read, and why: to programs, and on the screen with what it means."""
    assert ended.code == 8
    assert any(why in text for text in ended.result["unread"])
    assert any(line.startswith("warning: could not read ") and why in line for line in ended.err.splitlines())
    assert "1 payment(s) are still unknown" in ended.err
    assert "money moved: unknown · next: start no other purchase" in ended.err


def _cancellation(wallet: Wallet, nonce: str) -> str:
    """The owner's signature under EIP-3009's CancelAuthorization."""
    from eth_account import Account

    signed = Account.sign_typed_data(
        wallet.key,
        {"name": "USD Coin", "version": "2", "chainId": CHAIN_ID, "verifyingContract": USDC},
        {
            "CancelAuthorization": [
                {"name": "authorizer", "type": "address"},
                {"name": "nonce", "type": "bytes32"},
            ]
        },
        {"authorizer": wallet.address, "nonce": bytes.fromhex(nonce[2:])},
    )
    return "0x" + bytes(signed.signature).hex()
