"""What the chain says against what the books say: the judgement every test of a purchase here ends with."""

from __future__ import annotations

from tests.interop.chain import LocalChain
from tests.interop.conftest import FUNDS, PAYEE, PRICE
from tests.interop.customer import Customer


def books_are_the_chain(customer: Customer, chain: LocalChain, *, tracks: int = 1) -> None:
    """Every payment on chain is one settled authorization of the books, to the unit, and nothing else moved."""
    moved = [(paid.nonce, paid.payee, paid.value) for paid in chain.payments(customer.address)]
    booked = [
        (row["nonce"], row["pay_to"].lower(), int(row["amount_atomic"]))
        for row in customer.authorizations()
        if row["state"] == "settled"
    ]
    assert booked == moved
    assert [paid[1:] for paid in moved] == [(PAYEE.lower(), PRICE)] * tracks
    assert chain.left(customer.address) == FUNDS - chain.balance(customer.address) == PRICE * tracks
    assert customer.run("ledger", "verify").result["findings"] == []
