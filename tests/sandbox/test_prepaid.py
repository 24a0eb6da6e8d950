"""The prepaid seller from quote to deleted media, its seven ways to say 402, and its limits."""

from __future__ import annotations

import io
import threading
from decimal import Decimal
from typing import Any

import httpx
import pytest
import soundfile

from tests.sandbox.customer import MUSIC, OpenShop, Shop, Wallet, header_of, value_of
from x402_audio.money import Usdc
from x402_audio.sandbox import FaultPlan, FaultRule, Limits
from x402_audio.sandbox.audio import find_queue_id, make_audio

DOLLAR = 1_000_000


def funded(open_shop: OpenShop, **options: Any) -> tuple[Shop, Wallet]:
    shop = open_shop(starting_credit=Usdc(20 * DOLLAR), **options)
    return shop, shop.wallet()


def handle(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return {"model": answer.json()["model"], "queue_id": answer.json()["queue_id"]}


def rows(shop: Shop, wallet: Wallet) -> list[tuple[str, Decimal]]:
    answer = shop.http.get(f"/x402/transactions/{wallet.address}", headers=wallet.sign_in(shop.host))
    return [(row["type"], Decimal(str(row["amount"]))) for row in answer.json()["data"]["transactions"]]


@pytest.mark.parametrize(
    ("body", "usd", "seconds", "kind"),
    [
        (MUSIC, "0.69", 60, "audio/mpeg"),
        ({**MUSIC, "duration_seconds": "61"}, "1.38", 61, "audio/mpeg"),
        (
            {"model": "ace-step-15", "prompt": "Seaside ambience", "lyrics_prompt": "la"},
            "0.04",
            90,
            "audio/flac",
        ),
        (
            {"model": "elevenlabs-sound-effects-v2", "prompt": "rain", "duration_seconds": 10},
            "0.023",
            10,
            "audio/wav",
        ),
        (
            {"model": "elevenlabs-tts-v3", "prompt": "Good morning to you", "voice": "Aria"},
            "0.002185",
            2,
            "audio/mpeg",
        ),
        ({"model": "stable-audio-25", "prompt": "A slow piano line"}, "0.19", 45, "audio/wav"),
        (
            {"model": "minimax-music-v26", "prompt": "A slow piano", "force_instrumental": True},
            "0.18",
            45,
            "audio/mpeg",
        ),
        ({"model": "seed-audio-1-0", "prompt": "Waves at night, gulls"}, "0.00575", 2, "audio/wav"),
    ],
    ids=lambda value: value["model"] if isinstance(value, dict) else "",
)
def test_a_job_is_charged_made_fetched_and_forgotten(
    body: dict[str, Any], usd: str, seconds: int, kind: str, open_shop: OpenShop
) -> None:
    shop, wallet = funded(open_shop)
    job = handle(shop.signed(wallet, "/audio/queue", body))
    assert shop.signed(wallet, "/audio/retrieve", job).json() == {
        "status": "PROCESSING",
        "average_execution_time": 2000,
        "execution_duration": 0,
    }
    shop.clock.at += 2
    track = shop.signed(wallet, "/audio/retrieve", job)
    assert track.headers["content-type"] == kind
    assert len(track.content) == int(track.headers["content-length"])
    assert soundfile.info(io.BytesIO(track.content)).duration == pytest.approx(seconds, abs=0.1)
    assert find_queue_id(track.content) == job["queue_id"]
    assert rows(shop, wallet)[0] == ("CHARGE", -Decimal(usd))
    assert shop.signed(wallet, "/audio/complete", job).json() == {"success": True}
    assert shop.signed(wallet, "/audio/retrieve", job).status_code == 404
    assert shop.books()["jobs"][0]["completed"] is True


def test_every_format_decodes_to_its_length_and_tells_two_jobs_apart() -> None:
    for audio_format in ("mp3", "flac", "wav"):
        for seconds in (1, 37):
            data = make_audio(audio_format, seconds, "0000-aaaa")
            samples, rate = soundfile.read(io.BytesIO(data))
            assert len(samples) == seconds * rate
            assert abs(samples).max() > 0.01
            assert find_queue_id(data) == "0000-aaaa"
            assert find_queue_id(make_audio(audio_format, seconds, "0000-bbbb")) == "0000-bbbb"
    assert find_queue_id(b"RIFF") is None


def test_quotes_are_json_numbers_and_match_the_charge(open_shop: OpenShop) -> None:
    shop = open_shop()
    asked = [
        ({"model": "elevenlabs-music", "duration_seconds": 180}, "2.08"),
        ({"model": "elevenlabs-tts-v3", "character_count": 1500}, "0.1725"),
        ({"model": "seed-audio-1-0"}, "0.345"),
        ({"model": "ace-step-15", "duration_seconds": "210"}, "0.08"),
    ]
    for body, usd in asked:
        assert shop.post("/audio/quote", body).text == f'{{"quote":{usd}}}'
    assert shop.post("/audio/quote", {"model": "elevenlabs-tts-v3"}).status_code == 400
    assert shop.post("/audio/quote", {"model": "elevenlabs-music", "character_count": 3}).status_code == 400
    assert shop.post("/audio/quote", {"model": "nothing"}).status_code == 404
    assert (
        shop.http.post("/audio/quote", content=b"{", headers={"content-type": "application/json"}).status_code
        == 400
    )
    assert shop.http.post("/audio/quote", content=b"{}").status_code == 400


@pytest.mark.parametrize(
    ("model", "field", "value"),
    [
        ("elevenlabs-music", "force_instrumental", None),
        ("elevenlabs-music", "speed", 1),
        ("elevenlabs-music", "lyrics_prompt", "la la la la la"),
        ("elevenlabs-music", "voice", "Aria"),
        ("elevenlabs-music", "language_code", "en"),
        ("elevenlabs-music", "duration_seconds", 601),
        ("elevenlabs-music", "duration_seconds", 60.0),
        ("elevenlabs-music", "prompt", "short"),
        ("elevenlabs-music", "price", 1),
        ("ace-step-15", "force_instrumental", False),
        ("ace-step-15", "duration_seconds", 61),
        ("ace-step-15", "prompt", "x" * 513),
        ("elevenlabs-tts-v3", "speed", 1),
        ("elevenlabs-tts-multilingual-v2", "speed", 1.3),
        ("elevenlabs-tts-multilingual-v2", "voice", "Nobody"),
        ("elevenlabs-tts-multilingual-v2", "language_code", "english"),
        ("minimax-music-v2", "prompt", "No lyrics were given"),
        ("minimax-music-v25", "duration_seconds", 60),
        ("stable-audio-25", "loop", False),
    ],
)
def test_a_field_the_model_does_not_take_is_refused_by_its_presence(
    model: str, field: str, value: object, open_shop: OpenShop
) -> None:
    shop, wallet = funded(open_shop)
    answer = shop.signed(wallet, "/audio/queue", {"model": model, "prompt": "Warm indie folk", field: value})
    assert answer.status_code == 400
    assert answer.json()["error"] == "Invalid request parameters"
    assert shop.books()["jobs"] == []


def test_without_credentials_the_queue_makes_an_offer_that_is_none(open_shop: OpenShop) -> None:
    shop = open_shop()
    answer = shop.post("/audio/queue", MUSIC)
    terms = value_of(answer.headers["PAYMENT-REQUIRED"])
    assert answer.status_code == 402
    assert {**terms, "authOptions": answer.json()["authOptions"]} == answer.json()
    assert [(e["network"], e["amount"]) for e in terms["accepts"]] == [
        ("eip155:8453", "10000000"),
        ("solana", "10000000"),
    ]
    payload = shop.wallet().authorize(terms["accepts"][0]["payTo"], 10 * DOLLAR)
    for name in ("PAYMENT-SIGNATURE", "X-PAYMENT", "X-402-Payment"):
        envelope = {"x402Version": 2, "accepted": terms["accepts"][0], "payload": payload}
        paid = shop.post("/audio/queue", MUSIC, {name: header_of(envelope)})
        assert (paid.status_code, paid.json()["code"]) == (400, "PAYMENT_HEADER_NOT_ACCEPTED")
    assert shop.books()["payments"] == []
    wallet_route = shop.http.get(f"/x402/balance/{shop.wallet().address}")
    assert (wallet_route.status_code, wallet_route.json()["accepts"]) == (402, [])


def test_credit_below_the_floor_and_below_the_price_are_told_apart(open_shop: OpenShop) -> None:
    shop = open_shop()
    wallet = shop.wallet()
    shop.seller.credit(wallet.address, Usdc(99_999))
    below_floor = shop.signed(wallet, "/audio/queue", MUSIC)
    assert below_floor.json()["reason"] == "insufficient_balance"
    assert below_floor.json()["currentBalanceUsd"] == 0.099999
    assert "x402Version" not in below_floor.json()
    shop.seller.credit(wallet.address, Usdc(1))
    below_price = shop.signed(wallet, "/audio/queue", MUSIC)
    assert below_price.status_code == 402
    assert list(below_price.json()) == ["error"]
    assert below_price.json()["error"].startswith("Insufficient USD or Diem balance")


def test_the_sixth_request_in_flight_is_turned_away(open_shop: OpenShop) -> None:
    plan = FaultPlan([FaultRule("slow", "/audio/retrieve", every=True)])
    shop, wallet = funded(open_shop, faults=plan)
    job = handle(shop.signed(wallet, "/audio/queue", MUSIC))
    headers = [wallet.sign_in(shop.host) for _ in range(6)]
    answers: list[int] = []
    waiting = [
        threading.Thread(target=lambda h=h: answers.append(shop.post("/audio/retrieve", job, h).status_code))
        for h in headers[:5]
    ]
    for thread in waiting:
        thread.start()
    account = shop.seller.account(wallet.address)
    while account.in_flight < 5:
        assert all(thread.is_alive() for thread in waiting)
    sixth = shop.post("/audio/complete", job, headers[5])
    assert (sixth.status_code, sixth.json()["code"]) == (429, "X402_CONCURRENCY_LIMIT")
    shop.seller.release_stream.set()
    for thread in waiting:
        thread.join()
    assert answers == [200] * 5
    assert account.in_flight == 0


def test_the_minute_limits_answer_429_in_their_two_dialects(open_shop: OpenShop) -> None:
    shop, wallet = funded(open_shop, limits=Limits(retrieve=1, balance=1))
    body = {"model": "elevenlabs-music", "queue_id": "none"}
    assert shop.signed(wallet, "/audio/retrieve", body).json() == {"error": "Request ID is invalid."}
    second = shop.signed(wallet, "/audio/retrieve", body)
    assert (second.status_code, second.json()) == (429, {"error": "Rate limit exceeded"})
    assert int(second.headers["x-ratelimit-reset-requests"]) == int((shop.clock.now() + 60) * 1000)
    assert shop.balance(wallet).status_code == 200
    limited = shop.balance(wallet)
    assert limited.json() == {"error": "Rate limit exceeded. Please try again later."}
    assert "x-ratelimit-reset-requests" not in limited.headers


def test_twenty_one_failed_calls_close_the_door_for_half_a_minute(open_shop: OpenShop) -> None:
    shop, wallet = funded(open_shop)
    statuses = [shop.signed(wallet, "/audio/queue", {"model": "none"}).status_code for _ in range(22)]
    assert statuses == [404] * 21 + [429]
    shop.clock.at += 31
    handle(shop.signed(wallet, "/audio/queue", MUSIC))


def test_failed_and_refused_jobs_are_refunded_in_a_row_of_their_own(open_shop: OpenShop) -> None:
    shop, wallet = funded(open_shop)
    shop.faults({"action": "fail_job", "nth": 1}, {"action": "refuse_content", "nth": 2, "value": "Be kind"})
    failing = handle(shop.signed(wallet, "/audio/queue", MUSIC))
    refused = shop.signed(wallet, "/audio/queue", MUSIC)
    assert (refused.status_code, refused.json()["suggested_prompt"]) == (422, "Be kind")
    shop.clock.at += 3
    assert shop.signed(wallet, "/audio/retrieve", failing).status_code == 500
    taken = [("REFUND", Decimal("0.69")), ("CHARGE", Decimal("-0.69"))]
    assert sorted(rows(shop, wallet)[:4]) == sorted(taken * 2)
    assert shop.balance(wallet).json()["data"]["balanceUsd"] == 20


def test_two_buyers_of_the_last_credit_do_not_both_get_it(open_shop: OpenShop) -> None:
    shop = open_shop(starting_credit=Usdc(800_000), charge_when="end")
    wallet = shop.wallet()
    first = handle(shop.signed(wallet, "/audio/queue", MUSIC))
    assert shop.signed(wallet, "/audio/queue", MUSIC).status_code == 402
    shop.clock.at += 3
    assert shop.signed(wallet, "/audio/retrieve", first).status_code == 200
    assert shop.books()["credit"][wallet.address.lower()] == 110_000


def test_another_programs_charge_takes_at_most_what_is_there(open_shop: OpenShop) -> None:
    shop = open_shop()
    wallet = shop.wallet()
    for usd in ("1.00", "-0.25", "-3.00"):
        answer = shop.http.post(
            f"{shop.server.origin}/sandbox/credit", json={"wallet": wallet.address, "usd": usd}
        )
        assert answer.status_code == 200
    assert rows(shop, wallet) == [
        ("CHARGE", Decimal("-0.75")),
        ("CHARGE", Decimal("-0.25")),
        ("TOP_UP", Decimal(1)),
    ]


def test_a_wallet_with_diem_spends_that_first_and_without_rows(open_shop: OpenShop) -> None:
    shop = open_shop()
    wallet = shop.wallet()
    shop.seller.account(wallet.address).diem = Usdc(DOLLAR)
    handle(shop.signed(wallet, "/audio/queue", MUSIC))
    data = shop.balance(wallet).json()["data"]
    assert (data["diemBalanceUsd"], data["canConsume"], rows(shop, wallet)) == (0.31, True, [])


def test_a_key_draws_on_its_own_balance_and_stops_at_its_own_cap(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.seller.add_key("first-key", Usdc(DOLLAR))
    shop.seller.add_key("second-key", Usdc(9 * DOLLAR), spend_limit=Usdc(700_000), kind="ADMIN")
    first, second = ({"Authorization": f"Bearer {key}"} for key in ("first-key", "second-key"))
    job = handle(shop.post("/audio/queue", MUSIC, first))
    assert shop.post("/audio/retrieve", job, second).json() == {"error": "Request ID is invalid."}
    assert (
        shop.post("/audio/queue", MUSIC, first).json()["error"].startswith("Insufficient USD or Diem balance")
    )
    handle(shop.post("/audio/queue", MUSIC, second))
    assert (
        shop.post("/audio/queue", MUSIC, second)
        .json()["error"]
        .startswith("API key USD spend limit exceeded")
    )
    assert shop.http.get("/billing/balance", headers=first).status_code == 401
    assert shop.http.get("/billing/balance", headers=second).json()["balances"]["usd"] == 8.31
    assert shop.http.get("/api_keys/rate_limits", headers=first).json()["data"]["balances"]["USD"] == 0.31
    assert shop.http.get("/api_keys/rate_limits", headers=shop.wallet().sign_in(shop.host)).status_code == 401
    assert shop.http.get("/api_keys/rate_limits").status_code == 402
    assert shop.post("/audio/queue", MUSIC, {"Authorization": "Bearer wrong"}).status_code == 401
    assert "first-key" not in str(shop.books())


def test_the_books_hold_no_header(open_shop: OpenShop) -> None:
    shop, wallet = funded(open_shop)
    headers = wallet.sign_in(shop.host)
    handle(shop.post("/audio/queue", MUSIC, headers))
    shop.post("/audio/queue", MUSIC, headers)
    books = shop.books()
    assert headers["SIGN-IN-WITH-X"] not in str(books)
    assert [job["sends"] for job in books["jobs"]] == [2]
    assert [entry["code"] for entry in books["requests"]] == ["", "X402_SIGN_IN_NONCE_REUSED"]
