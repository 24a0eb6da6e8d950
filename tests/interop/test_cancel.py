"""`wallet cancel` on a real chain: the owner pays gas, the token forgets the authorization, finality frees the hold."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chain.screen import at_a_terminal
from tests.cli.conftest import Ended
from tests.cli.test_owner_acts import Desk
from tests.interop.chain import USDC, LocalChain
from tests.interop.conftest import FUNDS, PAYEE, PRICE, Wallet
from tests.interop.customer import Customer
from x402_audio.clock import SystemClock, system_random
from x402_audio.ledger.book import Hold, Limit, Reserve
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc
from x402_audio.payment.chain import ChainReader
from x402_audio.protocol.networks import BASE

OpenChain = Callable[..., LocalChain]
NOWHERE = ("--provider", "direct", "--api-url", "http://127.0.0.1:9/api/v1")


def typed(words: tuple[str, ...], *answers: str) -> Ended:
    """One command line at a terminal, in this process."""
    code, said = at_a_terminal(words, *answers)
    return Ended(code, said, said)


def typed_alone(words: tuple[str, ...], *answers: str) -> Ended:
    """One command line at a terminal, in a process of its own."""
    desk = Desk()
    try:
        return desk.type(words, *answers)
    finally:
        desk.close()


@pytest.fixture
def own(
    customer: Customer, chain: LocalChain, open_chain: OpenChain, monkeypatch: pytest.MonkeyPatch
) -> LocalChain:
    """A chain in which time passes, as the RPC of the command line."""
    forked = open_chain(fork_of=chain)
    monkeypatch.setenv("X402_AUDIO_RPC_URL", forked.url)
    assert customer.address
    return forked


@pytest.fixture
def hold(own: LocalChain, wallet: Wallet) -> Hold:
    """An authorization that left, good for almost an hour, and nobody answered."""
    path = Path(os.environ["X402_AUDIO_STATE_DIR"]) / "ledger.db"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    ledger = SqliteLedger(path, clock=SystemClock(), random=system_random)
    now = int(time.time())
    wish = Reserve(
        kind="direct", wallet=wallet.address, network="eip155:8453", asset=USDC, environment="live",
        origin="https://shop.example", pay_to=PAYEE, amount=Usdc(PRICE), nonce="0x" + os.urandom(32).hex(),
        valid_after=now - 600, valid_before=now + 3000, method="POST", resource="https://shop.example/x",
        body_digest="", purchase="one",
    )  # fmt: skip
    held = ledger.reserve(wish, [Limit("wallet", "ever", Usdc(10 * PRICE), source="flag")])
    ledger.depart(held.id, b"a header")
    ledger.close()
    return held


def gas(chain: LocalChain, wallet: Wallet) -> None:
    chain.rpc("anvil_setBalance", wallet.address, hex(10**16))


def state(customer: Customer) -> str:
    return str(customer.authorizations()[0]["state"])


def test_a_cancelled_authorization_is_freed_once_that_is_final(
    customer: Customer, own: LocalChain, wallet: Wallet, hold: Hold
) -> None:
    gas(own, wallet)
    ended = typed_alone(("wallet", "cancel", hold.nonce), "cancel")
    assert ended.code == 0, ended.err
    assert own.cancelled(wallet.address) == [hold.nonce]
    assert "stays counted" in ended.out and "ETH of gas" in ended.err
    assert customer.run("reconcile", *NOWHERE).code == 8, "in a block, but not final"
    assert state(customer) == "signed"
    own.finalize()
    assert customer.run("reconcile", *NOWHERE).result["void"] == [hold.id]
    assert (state(customer), own.balance(wallet.address)) == ("void", FUNDS)


def test_without_ether_the_wait_is_explained_and_nothing_is_sent(
    customer: Customer, own: LocalChain, wallet: Wallet, hold: Hold
) -> None:
    ended = typed(("wallet", "cancel", hold.nonce))
    assert ended.code == 4
    assert "0 ETH" in ended.err and "ends by itself at" in ended.err
    assert (own.cancelled(wallet.address), state(customer)) == ([], "signed")
    own.pass_time(3100)
    late = typed(("wallet", "cancel", hold.nonce))
    assert (late.code, "nothing to cancel" in late.out) == (10, True)
    assert customer.run("reconcile", *NOWHERE).result["void"] == [hold.id]


def test_another_word_than_cancel_sends_nothing(
    customer: Customer, own: LocalChain, wallet: Wallet, hold: Hold
) -> None:
    gas(own, wallet)
    assert typed(("wallet", "cancel", hold.nonce), "yes").code == 3
    assert customer.run("wallet", "cancel", hold.nonce).code == 3, "and without a terminal"
    assert (own.cancelled(wallet.address), state(customer)) == ([], "signed")


def test_what_the_books_do_not_hold_open_is_not_cancelled(
    customer: Customer,
    own: LocalChain,
    wallet: Wallet,
    hold: Hold,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gas(own, wallet)
    assert typed(("wallet", "cancel", "0x" + "12" * 32)).code == 2
    monkeypatch.setenv("X402_AUDIO_NETWORK", "base-sepolia")
    elsewhere = typed(("wallet", "cancel", hold.nonce))
    assert (elsewhere.code, "eip155:8453" in elsewhere.err) == (2, True)
    assert own.cancelled(wallet.address) == []


def test_what_left_the_wallet_is_read_from_the_logs_of_a_real_token(
    own: LocalChain, wallet: Wallet, hold: Hold
) -> None:
    reader = ChainReader([own.url], BASE)
    data = "0xa9059cbb" + PAYEE[2:].lower().rjust(64, "0") + f"{7:064x}"
    own.rpc("anvil_impersonateAccount", wallet.address)
    gas(own, wallet)
    own.rpc("eth_sendTransaction", {"from": wallet.address, "to": USDC, "data": data})
    own.finalize()
    seen = reader.departures(wallet.address, since=hold.created_at)
    reader.close()
    assert [(one.nonce, one.payee, one.value) for one in seen.rows] == [("", PAYEE.lower(), 7)]
    assert seen.through == seen.end.number
