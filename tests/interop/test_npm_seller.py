"""We buy from shops of other people's making, `x402-express` and `@x402/express` from npm; the chain counts the payments.

They settle through the official Python SDK's facilitator and through one of npm's packages, so nothing between our
signature and the token is ours.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.interop.chain import GAS_KEYS, LocalChain
from tests.interop.conftest import Wallet
from tests.interop.neighbours import PAY_TO, SHOP_PRICE, NpmShop, npm_shop
from tests.interop.peers import ROOT, Peer, node_script
from tests.jobs.stage import MODEL, PROMPT, SECONDS, CountingSigner, Shopper, WaitingClock, settings_for
from x402_audio import LocalSigner, PaymentPolicy, SqliteLedger, X402Auth, receipt_of
from x402_audio.errors import JobFailed, PaymentRejected, PaymentUnsettled
from x402_audio.payment.chain import ChainReader
from x402_audio.protocol.networks import BASE

VERSIONS = pytest.mark.parametrize("version", ["v1", "v2"])
FACILITATORS = pytest.mark.parametrize("settled_by", ["python", "npm"])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NpmShop]:
    with npm_shop(tmp_path_factory.mktemp("shop")) as running:
        yield running


@pytest.fixture(scope="module")
def facilitators(facilitator: str, base: LocalChain, home: Path) -> Iterator[dict[str, str]]:
    """Where the two answer, by what they are made of."""
    with Peer(node_script("facilitator.mjs"), home, GAS_KEY=GAS_KEYS[2], RPC_URL=base.url) as npm:
        yield {"python": facilitator, "npm": npm.url}


class Lossy(httpx.HTTPTransport):
    """A line on which the seller's second answer, the one to the payment, is lost after it was given."""

    queued = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        self.queued += request.url.path.endswith("/audio/queue")
        if self.queued == 2:
            answer.read()
            answer.close()
            self.queued += 1
            raise httpx.ReadError("the line went dead", request=request)
        return answer


OpenCustomer = Callable[..., tuple[Shopper, CountingSigner]]


@pytest.fixture
def customer(tmp_path: Path) -> Iterator[OpenCustomer]:
    """Opens clients whose waiting costs no time; their books are proven in the end."""
    with ExitStack() as stack:

        def open_one(api_url: str, key: str, *, rpc_url: str = "") -> tuple[Shopper, CountingSigner]:
            state, signer = tmp_path / "state", CountingSigner(key)
            state.mkdir(mode=0o700, exist_ok=True)
            settings = settings_for(api_url, state, key=key, PROVIDER="direct", RPC_URL=rpc_url)
            shopper = Shopper(settings, WaitingClock(time.time()), signer=signer)
            stack.callback(shopper.close)
            stack.callback(lambda: _proven(shopper))
            return shopper, signer

        yield open_one


def _proven(shopper: Shopper) -> None:
    assert shopper.client.ledger.verify() == []


@VERSIONS
def test_the_command_buys_a_track_from_an_npm_shop_with_one_payment_on_the_chain(
    version: str, shop: NpmShop, facilitator: str, chain: LocalChain, wallet: Wallet, tmp_path: Path
) -> None:
    api_url, track = shop.api_url(version, facilitator), tmp_path / "track.wav"
    words = [
        "generate", PROMPT, "--model", MODEL, "--duration", str(SECONDS), "--provider", "direct",
        "--api-url", api_url, "--max-price", "1", "--job-id", "k", "--output", str(track), "--json",
        "--poll-interval", "0.05",
    ]  # fmt: skip
    env = {
        "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "X402_AUDIO_PRIVATE_KEY": wallet.key,
        "X402_AUDIO_RPC_URL": chain.url,
    }  # fmt: skip
    command = [sys.executable, "-m", "x402_audio", *words]
    ended = subprocess.run(
        command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = json.loads(ended.stdout)["result"]
    (payment,) = chain.payments(wallet.address)
    (booked,) = told["payments"]
    assert (payment.payee, payment.value) == (PAY_TO.lower(), SHOP_PRICE)
    assert (booked["nonce"], booked["transaction"]) == (payment.nonce, payment.transaction)
    assert (booked["state"], told["cost_atomic"]) == ("settled", str(SHOP_PRICE))
    assert (told["path"], told["content_type"], told["duration_seconds"]) == (str(track), "audio/wav", 3.0)
    assert told["queue_id"] in {job["queue_id"] for job in shop.jobs(api_url)}


@VERSIONS
@FACILITATORS
@pytest.mark.parametrize("awaited", [False, True], ids=["sync", "async"])
def test_a_strangers_httpx_client_buys_from_an_npm_shop_with_one_payment_on_the_chain(
    version: str,
    awaited: bool,
    shop: NpmShop,
    settled_by: str,
    facilitators: dict[str, str],
    chain: LocalChain,
    wallet: Wallet,
    tmp_path: Path,
) -> None:
    auth = X402Auth(
        LocalSigner.from_hex(wallet.key), SqliteLedger(tmp_path / "spend.db"), PaymentPolicy(max_amount="0.50"),
        chain=ChainReader([chain.url], BASE),
    )  # fmt: skip
    answer = _post(auth, f"{shop.api_url(version, facilitators[settled_by])}/audio/queue", awaited=awaited)
    assert (answer.status_code, answer.json()["status"]) == (200, "QUEUED")
    (payment,) = chain.payments(wallet.address)
    receipt = receipt_of(answer)
    assert (receipt.nonce, receipt.transaction) == (payment.nonce, payment.transaction)
    assert (receipt.state, receipt.amount, receipt.sends) == ("settled", payment.value, 1)
    assert (payment.payee, payment.value) == (PAY_TO.lower(), SHOP_PRICE)


def _post(auth: X402Auth, url: str, *, awaited: bool) -> httpx.Response:
    order = {"model": MODEL, "prompt": PROMPT}
    if awaited:
        return asyncio.run(_posted(auth, url, order))
    with httpx.Client(auth=auth, trust_env=False, timeout=30) as http:
        return http.post(url, json=order)


async def _posted(auth: X402Auth, url: str, order: dict[str, str]) -> httpx.Response:
    async with httpx.AsyncClient(auth=auth, trust_env=False, timeout=30) as http:
        return await http.post(url, json=order)


@VERSIONS
def test_an_npm_shop_that_fails_again_and_again_is_paid_once_by_the_same_bytes_when_it_is_well(
    version: str, shop: NpmShop, facilitator: str, chain: LocalChain, wallet: Wallet, customer: OpenCustomer
) -> None:
    """Its middleware settles nothing it did not deliver; from outside that cannot be told from a lost answer."""
    api_url = shop.api_url(version, facilitator)
    shopper, signer = customer(api_url, wallet.key, rpc_url=chain.url)
    before = len(shop.jobs(api_url))
    with pytest.raises(PaymentUnsettled) as caught:
        shopper.generate("A storm that fails 5 times", job_id="k", max_price="1")
    assert (caught.value.exit_code, caught.value.money_moved) == (8, "unknown")
    assert (chain.payments(wallet.address), shopper.reconcile().voided) == ([], ())
    assert [(hold.state, hold.sends) for hold in shopper.holds("k")] == [("signed", 4)]

    assert shopper.resume("k").completed
    (payment,) = chain.payments(wallet.address)
    assert [_hex(authorization.nonce) for authorization in signer.authorizations] == [payment.nonce]
    assert [(hold.state, hold.sends) for hold in shopper.holds("k")] == [("settled", 6)]
    assert len(shop.jobs(api_url)) == before + 1


@VERSIONS
@FACILITATORS
def test_an_npm_shop_that_declines_what_it_already_took_is_never_paid_again(
    version: str,
    shop: NpmShop,
    settled_by: str,
    facilitators: dict[str, str],
    chain: LocalChain,
    wallet: Wallet,
    customer: OpenCustomer,
) -> None:
    """Its first answer is lost, the same bytes again are declined as used. Only the chain knows, and is believed."""
    shopper, signer = customer(shop.api_url(version, facilitators[settled_by]), wallet.key, rpc_url=chain.url)
    shopper.http.close()
    shopper.http = httpx.Client(transport=Lossy(), timeout=30)
    with pytest.raises(PaymentRejected) as caught:
        shopper.generate(job_id="k", max_price="1")
    assert (caught.value.exit_code, caught.value.money_moved) == (8, "unknown")
    assert [hold.state for hold in shopper.holds("k")] == ["signed"]

    chain.finalize()
    assert len(shopper.reconcile().settled) == 1
    (hold,) = shopper.holds("k")
    (payment,) = chain.payments(wallet.address)
    assert (hold.state, hold.sends, hold.transaction) == ("settled", 2, payment.transaction)
    assert [_hex(authorization.nonce) for authorization in signer.authorizations] == [payment.nonce]
    with pytest.raises(JobFailed) as ended:
        shopper.resume("k")
    assert (ended.value.exit_code, ended.value.money_moved) == (9, "yes")
    assert len({one.nonce for one in signer.authorizations}) == len(chain.payments(wallet.address)) == 1


@VERSIONS
@FACILITATORS
def test_an_npm_shop_that_declines_an_empty_wallet_leaves_one_signature_that_counts(
    version: str,
    shop: NpmShop,
    settled_by: str,
    facilitators: dict[str, str],
    chain: LocalChain,
    customer: OpenCustomer,
) -> None:
    """Without an RPC the wallet is not looked at before; the shop's word is told and frees nothing."""
    shopper, signer = customer(shop.api_url(version, facilitators[settled_by]), "0x" + "5c" * 32)
    with pytest.raises(PaymentRejected) as caught:
        shopper.generate(job_id="k", max_price="1")
    assert (caught.value.exit_code, caught.value.money_moved) == (8, "unknown")
    assert caught.value.error_reason.startswith(("invalid_exact_evm_", "insufficient_funds"))
    (hold,) = shopper.holds("k")
    assert (hold.state, hold.amount, hold.sends) == ("signed", SHOP_PRICE, 1)
    with pytest.raises(PaymentRejected):
        shopper.resume("k")
    assert len({one.nonce for one in signer.authorizations}) == 1
    assert chain.payments(shopper.client.wallet) == []


def _hex(nonce: bytes) -> str:
    return "0x" + nonce.hex()
