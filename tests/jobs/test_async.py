"""The awaited face: the same verbs, the same walk, the same books."""

from __future__ import annotations

import asyncio
import inspect
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.company import run_beside_another
from tests.jobs.stage import MODEL, PROMPT, QUOTE, SECONDS, settings_for, usd
from x402_audio.client import AsyncAudioClient, AudioClient
from x402_audio.errors import InsufficientBalance
from x402_audio.payment import session
from x402_audio.sandbox import FaultPlan, FaultRule, Limits, SandboxSeller, SandboxServer

SYNC_ONLY = {"__enter__", "__exit__"}
ASYNC_ONLY = {"__aenter__", "__aexit__"}


def _verbs(face: type) -> set[str]:
    return {
        name
        for name, value in vars(face).items()
        if callable(value) or isinstance(value, classmethod | property)
    }


def test_both_faces_have_the_same_verbs() -> None:
    assert _verbs(AudioClient) - SYNC_ONLY == _verbs(AsyncAudioClient) - ASYNC_ONLY


@pytest.mark.parametrize("verb", sorted(_verbs(AudioClient) - SYNC_ONLY - {"http", "__init__"}))
def test_a_verb_takes_the_same_words_and_gives_the_same_on_both(verb: str) -> None:
    plain, awaited = getattr(AudioClient, verb), getattr(AsyncAudioClient, verb)
    assert inspect.signature(plain) == inspect.signature(awaited)
    assert inspect.iscoroutinefunction(awaited) != (verb == "from_env")


def _seller(*rules: FaultRule, mode: str = "venice") -> SandboxSeller:
    return SandboxSeller(mode=mode, job_seconds=0.2, limits=Limits.off(), faults=FaultPlan(rules))


async def _buy(client: AsyncAudioClient, folder: Path, name: str, most: str | None = "5") -> str:
    track = await client.generate(
        PROMPT, model=MODEL, duration_seconds=SECONDS, job_id=name, output=folder / f"{name}.mp3", poll_interval=0.1,
        max_top_up=most,
    )  # fmt: skip
    assert track.completed
    return track.sha256


@pytest.mark.parametrize("mode", ["venice", "direct-v1", "direct-v2"])
def test_the_awaited_walk_pays_once_and_its_repeat_nothing(tmp_path: Path, mode: str) -> None:
    async def walk(server: SandboxServer) -> None:
        async with AsyncAudioClient(settings_for(server.api_url, tmp_path / "books")) as client:
            first = await _buy(client, tmp_path, "k")
            before = server.seller.books()
            assert await _buy(client, tmp_path, "k") == first
            assert server.seller.books() == before
            assert client.job("k").state == "completed"
            assert [hold.state for hold in client.ledger.holds()] == ["settled"] * (
                2 if mode == "venice" else 1
            )
            report = await client.reconcile()
            assert report.differences == ()
            assert (await client.seller()) == ("venice" if mode == "venice" else "direct")

    (tmp_path / "books").mkdir(mode=0o700)
    with SandboxServer(_seller(mode=mode)) as server:
        run_beside_another(walk(server))
    assert len(server.seller.payments) == 1
    assert len(server.seller.jobs) == 1


def test_tasks_that_ask_for_one_job_share_it_and_those_of_others_share_the_top_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "PER_MINUTE", {})

    async def walk(server: SandboxServer) -> None:
        async with AsyncAudioClient(settings_for(server.api_url, tmp_path / "books")) as client:
            tracks = await asyncio.gather(
                *(_buy(client, tmp_path, name) for name in ("a", "a", "b", "a", "b"))
            )
            assert len(set(tracks)) == 2

    (tmp_path / "books").mkdir(mode=0o700)
    with SandboxServer(_seller()) as server:
        run_beside_another(walk(server))
    assert [payment.value for payment in server.seller.payments.values()] == [usd("5")]
    assert len(server.seller.jobs) == 2


def test_a_lost_answer_is_one_payment_awaited_too(tmp_path: Path) -> None:
    async def walk(server: SandboxServer) -> None:
        async with AsyncAudioClient(settings_for(server.api_url, tmp_path / "books")) as client:
            await _buy(client, tmp_path, "k")

    (tmp_path / "books").mkdir(mode=0o700)
    with SandboxServer(_seller(FaultRule("drop_after", "/x402/top-up", nth=2))) as server:
        run_beside_another(walk(server))
    assert len(server.seller.payments) == 1


def test_a_cancelled_task_leaves_the_job_to_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled in the middle of a slow queue call; the next walk buys nothing a second time."""

    acted = threading.Event()

    async def walk(server: SandboxServer) -> None:
        async with AsyncAudioClient(settings_for(server.api_url, tmp_path / "books")) as client:
            task = asyncio.create_task(_buy(client, tmp_path, "k"))
            await asyncio.to_thread(acted.wait, 30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert client.job("k").state in ("reserved", "queued")
            server.seller.release_stream.set()
            await client.reconcile()
            assert (await client.resume("k", poll_interval=0.1)).completed

    (tmp_path / "books").mkdir(mode=0o700)
    with SandboxServer(_seller(FaultRule("hang_after", "/audio/queue"))) as server:
        open_job = server.seller.open_job

        def opening(*order: Any, **more: Any) -> Any:
            acted.set()
            return open_job(*order, **more)

        monkeypatch.setattr(server.seller, "open_job", opening)
        run_beside_another(walk(server))
        assert len(server.seller.jobs) == 1
        assert int(server.seller.account(next(iter(server.seller._accounts))).credit) == usd("5") - QUOTE


def test_what_is_missing_is_said_awaited_too(tmp_path: Path) -> None:
    async def walk(server: SandboxServer) -> None:
        async with AsyncAudioClient(settings_for(server.api_url, tmp_path / "books")) as client:
            with pytest.raises(InsufficientBalance) as caught:
                await _buy(client, tmp_path, "k", most=None)
            assert caught.value.missing == usd("0.79")

    (tmp_path / "books").mkdir(mode=0o700)
    with SandboxServer(_seller()) as server:
        run_beside_another(walk(server))
    assert server.seller.payments == {}
