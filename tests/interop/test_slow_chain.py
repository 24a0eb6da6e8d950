"""A chain that takes its time, or takes something back: what the facilitator and the seller say then is not what happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.chain import GAS_KEYS, LocalChain
from tests.interop.conftest import PAYEE, PRICE, open_facilitator, open_sdk_shop
from tests.interop.customer import Customer
from tests.interop.evidence import books_are_the_chain
from tests.interop.shop_v1 import ShopV1


@pytest.fixture(scope="module")
def hasty(base: LocalChain, home: Path) -> Iterator[str]:
    """A facilitator that gives up at once on a transaction that is not mined."""
    with open_facilitator(base, home, GAS_KEYS[1], patience_s=0.3) as running:
        yield running.url


@pytest.fixture(params=["v1", "v2"])
def hasty_shop(request: pytest.FixtureRequest, hasty: str, home: Path) -> Iterator[str]:
    """A shop of each version there."""
    if request.param == "v2":
        with open_sdk_shop(hasty, home) as running:
            yield running.url
    else:
        with ShopV1(hasty, pay_to=PAYEE, price=PRICE) as shop:
            yield shop.url


def test_a_settlement_that_nobody_waited_for_still_moves_the_money_once(
    hasty_shop: str, customer: Customer, chain: LocalChain
) -> None:
    """The seller says failed or pending; the transaction is on its way, and mined later."""
    api_url = hasty_shop + "/api/v1"
    with chain.unmined():
        for _ in range(2):
            ended = customer.generate(api_url)
            error = ended.told["error"]
            assert (ended.code, error["moneyMoved"]) == (8, "unknown")
            assert error["error_reason"] in ("transaction_failed", "settlement_pending")
        assert customer.reconcile(api_url).code == 8
        assert chain.payments(customer.address) == []
    chain.finalize()
    assert len(chain.payments(customer.address)) == 1
    assert customer.reconcile(api_url).code == 0
    books_are_the_chain(customer, chain)
