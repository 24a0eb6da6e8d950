"""A chain that takes its time, or takes something back: what the facilitator and the seller say then is not what happens."""

from __future__ import annotations

from tests.interop.chain import LocalChain
from tests.interop.clerk import Clerk
from tests.interop.customer import Customer
from tests.interop.evidence import books_are_the_chain


def test_a_settlement_that_nobody_waited_for_still_moves_the_money_once(
    shop: str, clerk: Clerk, customer: Customer, chain: LocalChain
) -> None:
    """The seller says failed or pending; the transaction is on its way, and mined later."""
    clerk.hasty = True
    api_url = shop + "/api/v1"
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
