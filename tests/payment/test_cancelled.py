"""Who is cancelled while the answer to a paid request is being booked has no answer: asked again, it is not paid twice."""

from __future__ import annotations

import asyncio
import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.paid_call import auth_on
from benchmarks.seller import demand
from x402_audio.ledger.database import Database, Transaction
from x402_audio.ledger.sqlite import SqliteLedger

URL = "https://seller.example/audio"


class Shop:
    """Takes any payment, and keeps what it was shown."""

    def __init__(self, *, receipts: bool) -> None:
        self.shown: list[str] = []
        self._receipts = receipts

    def __call__(self, request: httpx.Request) -> httpx.Response:
        paid = httpx.Headers(request.headers.raw).get("payment-signature")
        if paid is None:
            return httpx.Response(402, headers={"payment-required": demand(str(request.url))})
        self.shown.append(paid)
        settled = {"success": True, "transaction": "0x" + "ab" * 32, "network": "eip155:8453"}
        head = {"payment-response": b64encode(json.dumps(settled).encode()).decode()}
        body = httpx.ByteStream(b"audio")
        return httpx.Response(
            200, headers=(head if self._receipts else {}) | {"content-length": "5"}, stream=body
        )


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    kept = SqliteLedger(tmp_path / "ledger.db")
    yield kept
    assert kept.verify() == []
    kept.close()


@pytest.mark.parametrize("receipts", [True, False], ids=["proven", "unproven"])
def test_who_is_cancelled_while_the_answer_is_booked_asks_again_with_the_same_payment(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch, *, receipts: bool
) -> None:
    shop, reached, gate = Shop(receipts=receipts), threading.Event(), threading.Event()
    commit, commits = Database.commit, list[int]()

    def slow(self: Database, tx: Transaction) -> None:
        commits.append(len(commits))
        if len(commits) == 2:  # reserved and left; now the answer
            reached.set()
            assert gate.wait(30)
        commit(self, tx)

    monkeypatch.setattr(Database, "commit", slow)

    async def main() -> httpx.Response:
        async with httpx.AsyncClient(auth=auth_on(ledger), transport=httpx.MockTransport(shop)) as http:
            first = asyncio.ensure_future(http.post(URL, json={"prompt": "rain"}))
            assert await asyncio.to_thread(reached.wait, 30)
            first.cancel()
            gate.set()
            with pytest.raises(asyncio.CancelledError):
                await first
            return await http.post(URL, json={"prompt": "rain"})

    answer = asyncio.run(main())
    assert (answer.status_code, answer.content) == (200, b"audio")
    assert len(shop.shown) == 2 and len(set(shop.shown)) == 1
    [hold] = ledger.holds()
    assert (hold.state, hold.delivered_at is not None) == ("settled" if receipts else "signed", True)


@pytest.mark.parametrize("receipts", [True, False], ids=["proven", "unproven"])
def test_who_is_interrupted_alone_while_the_answer_is_booked_asks_again_with_the_same_payment(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch, *, receipts: bool
) -> None:
    """Alone on its loop it books there, and the interrupt's handler runs between two lines of that."""
    shop, commits, commit = Shop(receipts=receipts), list[int](), Database.commit

    def interrupted(self: Database, tx: Transaction) -> None:
        commits.append(threading.get_ident())
        if len(commits) == 2:  # reserved and left; now the answer
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        commit(self, tx)

    monkeypatch.setattr(Database, "commit", interrupted)

    async def buy() -> httpx.Response:
        async with httpx.AsyncClient(auth=auth_on(ledger), transport=httpx.MockTransport(shop)) as http:
            return await http.post(URL, json={"prompt": "rain"})

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(buy())
    answer = asyncio.run(buy())
    assert set(commits) == {threading.get_ident()}
    assert (answer.status_code, answer.content) == (200, b"audio")
    assert len(shop.shown) == 2 and len(set(shop.shown)) == 1
    [hold] = ledger.holds()
    assert (hold.state, hold.delivered_at is not None) == ("settled" if receipts else "signed", True)


def test_after_a_delivered_answer_an_equal_request_is_a_new_purchase(ledger: SqliteLedger) -> None:
    shop = Shop(receipts=True)
    with httpx.Client(auth=auth_on(ledger), transport=httpx.MockTransport(shop)) as http:
        for _ in range(2):
            assert http.post(URL, json={"prompt": "rain"}).status_code == 200
    assert len(set(shop.shown)) == 2
