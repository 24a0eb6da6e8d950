"""Threads of one wallet: five requests in flight, the seller's waits obeyed, one job bought once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.jobs.stage import MODEL, PROMPT, QUOTE, SECONDS, OpenStage, settings_for, usd
from x402_audio.client import AudioClient
from x402_audio.jsontext import Json
from x402_audio.payment import session
from x402_audio.sandbox import FaultRule, Limits, SandboxSeller, SandboxServer


@pytest.fixture
def seller() -> SandboxSeller:
    return SandboxSeller(starting_credit=usd("20"), job_seconds=0.2, limits=Limits(in_flight=5))


@pytest.fixture
def client(seller: SandboxSeller, tmp_path: Path) -> Iterator[AudioClient]:
    (tmp_path / "books").mkdir(mode=0o700)
    with (
        SandboxServer(seller) as server,
        AudioClient(settings_for(server.api_url, tmp_path / "books")) as one,
    ):
        yield one


def _buy(client: AudioClient, folder: Path, name: str) -> str:
    track = client.generate(
        PROMPT,
        model=MODEL,
        duration_seconds=SECONDS,
        job_id=name,
        output=folder / f"{name}.mp3",
        poll_interval=0.1,
    )
    return track.sha256


def test_eight_threads_never_have_more_than_five_requests_in_flight(
    client: AudioClient, seller: SandboxSeller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted by the seller, which answers slowly and would refuse a sixth."""
    counted: list[int] = []
    note = seller.note_request

    def counting(method: str, path: str, status: int, wallet: str, code: str) -> None:
        counted.append(1 + seller.account(client.wallet).in_flight)
        note(method, path, status, wallet, code)

    monkeypatch.setattr(seller, "note_request", counting)
    monkeypatch.setattr(session, "PER_MINUTE", {})
    seller.faults.replace([FaultRule("slow", "/audio/", every=True, value=Decimal("0.15"))])
    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(_buy, client, tmp_path, f"job-{n}") for n in range(8)]
        assert len({one.result(60) for one in done}) == 8
    assert 4 <= max(counted) <= 5
    assert 429 not in [entry["status"] for entry in _requests(seller)]


def _requests(seller: SandboxSeller) -> list[dict[str, Any]]:
    found: Any = seller.books()["requests"]
    return list(found)


def test_one_job_asked_for_by_six_threads_is_bought_once_and_given_to_all(
    client: AudioClient, seller: SandboxSeller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "PER_MINUTE", {})
    gate = threading.Barrier(6)

    def one() -> str:
        gate.wait(30)
        return _buy(client, tmp_path, "k")

    with ThreadPoolExecutor(6) as pool:
        tracks = {future.result(60) for future in [pool.submit(one) for _ in range(6)]}
    assert len(tracks) == 1
    assert len(seller.jobs) == 1
    assert seller.account(client.wallet).credit == usd("20") - QUOTE


WAIT: Json = {"status": 429, "headers": {"Retry-After": "9"}, "body": {"error": "Rate limit exceeded"}}


@pytest.mark.parametrize(
    "route", ["/audio/quote", "/audio/retrieve", "/audio/complete", "/x402/balance", "/models"]
)
def test_a_wait_the_seller_names_is_waited(stage: OpenStage, route: str) -> None:
    shop = stage(FaultRule("status", route, value=WAIT), credit=usd("5"))
    shopper = shop.shopper(PROVIDER="venice")
    asked: list[float] = []

    def note(request: httpx.Request) -> None:
        if route in request.url.path:
            asked.append(shop.clock.at)

    shopper.http.event_hooks = {"request": [note]}
    assert shopper.generate(job_id="k").completed
    assert asked[1] - asked[0] >= 9


def test_a_wait_named_to_one_program_holds_for_the_wallets_others(stage: OpenStage) -> None:
    shop = stage(FaultRule("status", "/audio/retrieve", value=WAIT), credit=usd("5"))
    first, second = shop.shopper(), shop.shopper()
    second.submit(job_id="b", again=True)
    asked: list[float] = []

    def note(request: httpx.Request) -> None:
        if request.url.path.endswith("/audio/retrieve"):
            asked.append(shop.clock.at)

    for shopper in (first, second):
        shopper.http.event_hooks = {"request": [note]}

    def neighbour() -> None:
        second.resume("b")

    shop.clock.later(5, neighbour)
    first.generate(job_id="a", again=True)
    assert len(shop.jobs) == 2
    assert asked[1] - asked[0] >= 9


def test_polls_of_many_jobs_stay_within_the_published_rate(stage: OpenStage) -> None:
    """Twenty jobs at once: the seller counts, and refuses nothing."""
    shop = stage(credit=usd("20"), job_seconds=40)
    shopper = shop.shopper()
    for n in range(20):
        shopper.submit(job_id=f"job-{n}", again=True)
    assert all(outcome.track is not None for outcome in shopper.work(timeout=1200))
    assert 429 not in [entry["status"] for entry in _requests(shop.seller)]
    assert len(shop.jobs) == 20
