"""The vendor's own client, `venice-x402-client`, walks through our practice seller: refused, topped up, served."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.interop.neighbours import practice_seller, run_script
from x402_audio.protocol.signer import LocalSigner
from x402_audio.sandbox.audio import find_queue_id

MODEL = "elevenlabs-music"
CARELESS_KEY = "0x" + "5b" * 32
CARELESS = LocalSigner.from_hex(CARELESS_KEY).address.lower()
PRICE, TOP_UP, OWN_TOP_UP = 690_000, 5_000_000, 6_000_000


@dataclass(frozen=True, slots=True)
class Walk:
    """One run of the client: what it saw, what the seller wrote down, the track, and the wallet."""

    seen: dict[str, Any]
    books: dict[str, Any]
    track: bytes
    wallet: str

    def mine(self, what: str, by: str = "wallet") -> list[dict[str, Any]]:
        return [entry for entry in self.books[what] if entry[by] == self.wallet]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """The client is run once; every test here reads what came of it."""
    folder: Path = tmp_path_factory.mktemp("venice")
    file = folder / "track.mp3"
    with practice_seller(folder, "venice") as seller:
        seen = run_script("venice.mjs", folder, seller.origin, seller.key, CARELESS_KEY, MODEL, str(file))
        return Walk(seen, seller.books(), file.read_bytes(), seller.wallet)


def test_the_vendors_client_is_signed_in_under_its_own_header_and_refused_without_credit(walk: Walk) -> None:
    assert walk.seen["wallet"].lower() == walk.wallet
    assert MODEL in walk.seen["models"]
    assert walk.seen["before"] == {
        "walletAddress": walk.wallet,
        "balanceUsd": 0,
        "canConsume": False,
        "minimumTopUpUsd": 5,
        "suggestedTopUpUsd": 10,
    }
    assert walk.seen["refused"] == {
        "code": "INSUFFICIENT_BALANCE",
        "currentBalance": 0,
        "suggestedAmount": 10,
    }
    first_queue = next(entry for entry in walk.books["requests"] if entry["path"].endswith("/audio/queue"))
    assert (first_queue["status"], first_queue["wallet"]) == (402, walk.wallet)


def test_the_vendors_client_tops_up_once_and_reads_the_credit_it_bought(walk: Walk) -> None:
    """Its payment is the third form in the field: version 1 in layout, version 2 by number."""
    (top_up,) = walk.mine("top_ups", by="from")
    assert (top_up["value"], top_up["credited"], top_up["sends"]) == (TOP_UP, True, 1)
    assert walk.seen["shown"] == 5
    assert (walk.seen["toppedUp"]["balanceUsd"], walk.seen["toppedUp"]["canConsume"]) == (5, True)


def test_the_vendors_client_queues_polls_saves_and_completes_one_track(walk: Walk) -> None:
    (job,) = walk.mine("jobs")
    assert walk.seen["queued"] == {"model": MODEL, "queue_id": job["queue_id"], "status": "QUEUED"}
    assert walk.seen["first"]["status"] == "PROCESSING"
    assert walk.seen["first"]["average_execution_time"] == 300
    assert walk.seen["type"] == "audio/mpeg"
    assert find_queue_id(walk.track) == job["queue_id"]
    assert walk.seen["completed"] == {"success": True}
    assert (job["charge_atomic"], job["state"], job["completed"]) == (PRICE, "completed", True)
    assert walk.seen["gone"] == {"status": 404}


def test_the_vendors_client_reads_in_the_transactions_what_the_books_say(walk: Walk) -> None:
    (job,) = walk.mine("jobs")
    charge, top_up = walk.seen["transactions"]
    assert (charge["type"], charge["amount"], charge["balanceAfter"]) == ("CHARGE", -0.69, 4.31)
    assert (charge["requestId"], charge["modelId"]) == (job["queue_id"], MODEL)
    assert (top_up["type"], top_up["amount"], top_up["requestId"]) == ("TOP_UP", 5, None)
    assert walk.seen["after"]["balanceUsd"] == 4.31
    assert walk.books["credit"][walk.wallet] == TOP_UP - PRICE


def test_the_vendors_own_automatic_top_up_buys_credit_and_then_the_job(walk: Walk) -> None:
    assert walk.seen["spender"].lower() == CARELESS
    paid = [(entry["value"], entry["sends"]) for entry in walk.books["top_ups"] if entry["from"] == CARELESS]
    (job,) = (entry for entry in walk.books["jobs"] if entry["wallet"] == CARELESS)
    assert paid == [(OWN_TOP_UP, 1)]
    assert walk.seen["spent"]["queue_id"] == job["queue_id"]
    assert walk.books["credit"][CARELESS] == OWN_TOP_UP - PRICE
