"""Buyers of other people's making, `x402-fetch` and `@x402/fetch` from npm, pay our practice seller's direct routes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.interop.neighbours import practice_seller, run_script

QUEUE = "/api/v1/audio/queue"
PRICE = 690_000
NETWORKS = {"direct-v1": "base", "direct-v2": "eip155:8453"}


@dataclass(frozen=True, slots=True)
class Round:
    """What the buyers were answered, and what each seller wrote down."""

    bought: dict[str, dict[str, Any]]
    declined: dict[str, dict[str, Any]]
    books: dict[str, dict[str, Any]]
    wallet: str


@pytest.fixture(scope="module")
def shopping(tmp_path_factory: pytest.TempPathFactory) -> Round:
    """All buyers go round once; each seller declines the last payment it is handed."""
    folder: Path = tmp_path_factory.mktemp("buyers")
    with practice_seller(folder, "direct-v1") as v1, practice_seller(folder, "direct-v2") as v2:
        v1.faults({"action": "settlement_failed", "route": QUEUE, "nth": 6})
        v2.faults({"action": "settlement_failed", "route": QUEUE, "nth": 4})
        seen = run_script("buyers.mjs", folder, v1.api_url, v2.api_url, v1.key)
        books = {"direct-v1": v1.books(), "direct-v2": v2.books()}
        return Round(seen["bought"], seen["declined"], books, v1.wallet)


@pytest.mark.parametrize(
    ("buyer", "mode", "position"),
    [
        ("x402-fetch", "direct-v1", 0),
        ("@x402/fetch offered v1", "direct-v1", 1),
        ("@x402/fetch", "direct-v2", 0),
    ],
)
def test_another_projects_buyer_pays_once_and_reads_the_settlement(
    shopping: Round, buyer: str, mode: str, position: int
) -> None:
    """The seller checked the signature for itself: the books hold a payment only then."""
    answer = shopping.bought[buyer]
    books = shopping.books[mode]
    payment, job = books["payments"][position], books["jobs"][position]
    assert answer["status"] == 200
    assert answer["body"]["queue_id"] == payment["queue_id"] == job["queue_id"]
    assert (payment["from"], payment["value"], payment["sends"]) == (shopping.wallet, PRICE, 1)
    assert answer["settlement"] == {
        "success": True,
        "transaction": payment["transaction"],
        "network": NETWORKS[mode],
        "payer": shopping.wallet,
    }


@pytest.mark.parametrize(("buyer", "mode"), [("x402-fetch", "direct-v1"), ("@x402/fetch", "direct-v2")])
def test_another_projects_buyer_reads_that_its_payment_was_declined(
    shopping: Round, buyer: str, mode: str
) -> None:
    answer = shopping.declined[buyer]
    assert answer["status"] == 402
    assert answer["settlement"] == {
        "success": False,
        "errorReason": "transaction_failed",
        "transaction": "",
        "network": NETWORKS[mode],
        "payer": shopping.wallet,
    }


@pytest.mark.parametrize(("mode", "sold"), [("direct-v1", 2), ("direct-v2", 1)])
def test_every_purchase_of_another_project_is_one_demand_and_one_payment(
    shopping: Round, mode: str, sold: int
) -> None:
    books = shopping.books[mode]
    assert [entry["status"] for entry in books["requests"] if entry["path"] == QUEUE] == [402, 200] * sold + [
        402,
        402,
    ]
    assert (len(books["payments"]), len(books["jobs"])) == (sold, sold)
    assert len({payment["nonce"] for payment in books["payments"]}) == sold
