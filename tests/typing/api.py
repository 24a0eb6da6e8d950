"""The public names as programs use them, synchronous and awaited. Never run: the type checker reads it with the rest.

A name that changes its type, or loses its types, fails here before it fails in somebody's editor.
"""

from __future__ import annotations

from typing import assert_type

import httpx

from x402_audio import (
    AsyncAudioClient,
    AudioClient,
    Budget,
    BudgetExceeded,
    InsufficientBalance,
    Limit,
    LocalSigner,
    Notice,
    PaymentPolicy,
    PaymentUnsettled,
    Prepaid,
    Receipt,
    Signer,
    SqliteLedger,
    Track,
    Usdc,
    Window,
    X402AudioError,
    X402Auth,
    load_settings,
    receipt_of,
)


def tell(notice: Notice) -> None:
    assert_type(notice.text, str)


def one_shot() -> str:
    with AudioClient.from_env(on_notice=tell) as client:
        track = client.generate(
            "Warm indie folk", model="elevenlabs-music", duration_seconds=60, max_price="0.75"
        )
    assert_type(track, Track)
    assert_type(track.cost, Usdc)
    assert_type(track.path, str)
    return track.path


def bot(work: list[tuple[str, str]]) -> str:
    budget = Budget("jingles", limit="5.00", window=Window.DAY)
    with AudioClient.from_env(budget=budget) as client:
        for slug, prompt in work:
            try:
                client.generate(prompt, model="elevenlabs-music", job_id=f"jingles/{slug}")
            except BudgetExceeded as stop:
                assert_type(stop.limit, str)
                return stop.next_step
            except InsufficientBalance as short:
                assert_type(short.missing, int)
                return short.next_step
    return ""


def after_a_crash() -> list[str]:
    with AudioClient(load_settings()) as client:
        paths = [client.resume(job.id).path for job in client.unfinished()]
        assert_type(client.reconcile().open, tuple[str, ...])
        for outcome in client.work(until_idle=True):
            assert_type(outcome.error, X402AudioError | None)
        return paths


async def awaited() -> Track:
    async with AsyncAudioClient.from_env() as client:
        assert_type((await client.quote(model="elevenlabs-music", duration_seconds=60)).model, str)
        return await client.generate("Seaside ambience", model="elevenlabs-music", output="sea.mp3")


def any_seller(signer: Signer, url: str) -> Receipt:
    limits = [Limit("wallet", "day", Usdc.parse_usd("5"))]
    prepaid = [Prepaid("https://seller.example/api/v1", top_ups_allowed=True)]
    auth = X402Auth(
        signer, SqliteLedger("spend.db"), PaymentPolicy(max_amount="0.50"), limits=limits, prepaid=prepaid
    )
    with httpx.Client(auth=auth) as http:
        try:
            response = http.post(
                url, json={"prompt": "rain on tin"}, extensions={"x402_audio": {"purchase": "rain"}}
            )
        except PaymentUnsettled as unknown:
            assert_type(unknown.valid_before, int)
            raise
    assert_type(receipt_of(response), Receipt)
    return receipt_of(response)


async def any_seller_awaited(url: str) -> Usdc:
    auth = X402Auth(LocalSigner.from_env(), SqliteLedger("spend.db"), PaymentPolicy())
    async with httpx.AsyncClient(auth=auth) as http:
        receipt = receipt_of(await http.get(url))
    assert_type(receipt.amount, Usdc)
    return receipt.amount + Usdc(1)
