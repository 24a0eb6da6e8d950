"""Calls to the prepaid seller are built of what was asked only; its answers are read by what they prove."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.providers.shapes import FACTS, NOW, FixedClock, answer, fact
from x402_audio.errors import (
    ProtocolError,
    RateLimited,
    RequestInvalid,
    SellerError,
    SignInRejected,
    X402AudioError,
)
from x402_audio.money import Usdc
from x402_audio.providers.catalog import ModelSpec
from x402_audio.providers.prices import PerThousandCharacters
from x402_audio.providers.provider import (
    Answer,
    Ask,
    AudioRequest,
    Gone,
    PrepaidSeller,
    Processing,
    Provider,
    Queued,
    Refused,
    Shortfall,
    Unclear,
)
from x402_audio.providers.venice import Venice

WALLET: str = FACTS["wallet"]
CREDIT = Venice(clock=FixedClock())
ACCOUNT = Venice(billing="account", clock=FixedClock())


def test_it_keeps_both_contracts() -> None:
    provider: Provider = CREDIT
    prepaid: PrepaidSeller = CREDIT
    assert (provider.name, provider.billing, provider.floor) == ("venice", "credit", Usdc(100_000))
    assert (ACCOUNT.billing, ACCOUNT.floor) == ("account", 0)
    assert prepaid.ask_top_up() == Ask("POST", "/x402/top-up", route="top-up")


# --- asking


def test_only_what_was_asked_is_sent() -> None:
    asked = CREDIT.ask_queue(AudioRequest(" a piece \n", "m"), None)
    assert asked == Ask(
        "POST", "/audio/queue", {"model": "m", "prompt": "a piece"}, signed=True, route="queue"
    )


def test_every_field_has_its_wire_name_and_type() -> None:
    audio = AudioRequest(
        "a piece", "m", duration_seconds=60, lyrics="la", instrumental=False, voice="Aria", language="en",
        speed="1.10", loop=False, lyrics_optimizer=True,
    )  # fmt: skip
    body = CREDIT.ask_queue(audio, None).body
    assert body == {
        "model": "m", "prompt": "a piece", "lyrics_prompt": "la", "duration_seconds": 60,
        "force_instrumental": False, "lyrics_optimizer": True, "loop": False, "speed": Decimal("1.1"),
        "language_code": "en", "voice": "Aria",
    }  # fmt: skip


def test_a_whole_speed_is_an_integer_and_a_word_is_refused() -> None:
    body = CREDIT.ask_queue(AudioRequest("a piece", "m", speed="2.0"), None).body
    assert body is not None
    assert json.dumps(body["speed"]) == "2"
    with pytest.raises(RequestInvalid):
        CREDIT.ask_queue(AudioRequest("a piece", "m", speed="fast"), None)


def test_the_seller_is_never_told_to_delete_while_retrieving() -> None:
    asked = CREDIT.ask_retrieve("m", "id")
    assert asked == Ask(
        "POST", "/audio/retrieve", {"model": "m", "queue_id": "id"}, signed=True, route="retrieve"
    )


def test_a_quote_counts_characters_only_where_they_are_the_price() -> None:
    audio = AudioRequest("  four ", "m", duration_seconds=9)
    plain, spoken = (
        CREDIT.ask_quote(audio, None),
        CREDIT.ask_quote(audio, ModelSpec("m", pricing=PerThousandCharacters(Decimal(1)))),
    )
    assert plain is not None
    assert plain.body == {"model": "m", "duration_seconds": 9}
    assert not plain.signed
    assert spoken is not None
    assert spoken.body == {"model": "m", "duration_seconds": 9, "character_count": 4}


def test_wallet_and_account_routes() -> None:
    assert CREDIT.ask_models() == Ask("GET", "/models?type=music")
    assert CREDIT.ask_balance(WALLET) == Ask("GET", f"/x402/balance/{WALLET}", signed=True, route="balance")
    assert CREDIT.ask_transactions(WALLET, limit=100, offset=200) == Ask(
        "GET", f"/x402/transactions/{WALLET}?limit=100&offset=200", signed=True, route="transactions"
    )
    assert ACCOUNT.ask_billing_balance() == Ask("GET", "/billing/balance", signed=True)
    assert ACCOUNT.ask_key_limits() == Ask("GET", "/api_keys/rate_limits", signed=True)


# --- the queue call


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"model": "m", "queue_id": "q-1", "status": "QUEUED"}, Queued("q-1", "m")),
        ({"model": "m", "queue_id": "q-1"}, Queued("q-1", "m")),
        ({"queue_id": "q-1"}, Queued("q-1", "")),
    ],
)
def test_a_200_with_a_queue_id_is_bought(body: object, expected: Queued) -> None:
    assert CREDIT.read_queued(answer(200, body)) == expected


@pytest.mark.parametrize(
    "body",
    ["", "<html>", "[]", {}, {"queue_id": ""}, {"queue_id": 7}, {"queue_id": "a b"}, {"queue_id": "x" * 257}],
)
def test_a_200_that_cannot_be_read_is_unclear(body: object) -> None:
    assert isinstance(CREDIT.read_queued(answer(200, body)), Unclear)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 415, 429])
def test_a_plain_no_bought_nothing(status: int) -> None:
    outcome = CREDIT.read_queued(answer(status, {"error": "no"}, {"retry-after": "7"}))
    assert outcome == Refused(status, "", "no", retry_after=7.0)


@pytest.mark.parametrize("code", [code for code in FACTS["sign_in_codes"] if code != "NONCE_REUSED"])
def test_a_rejected_sign_in_bought_nothing(code: str) -> None:
    outcome = CREDIT.read_queued(answer(401, {"error": "no", "code": f"X402_SIGN_IN_{code}"}))
    assert outcome == Refused(401, code, "no")


def test_a_reused_nonce_proves_nothing() -> None:
    outcome = CREDIT.read_queued(answer(401, {"error": "no", "code": "X402_SIGN_IN_NONCE_REUSED"}))
    assert isinstance(outcome, Unclear)
    assert outcome.nonce_reused


@pytest.mark.parametrize("status", [201, 204, 301, 307, 408, 409, 410, 418, 425, 500, 502, 503, 504, 599])
def test_everything_else_is_unclear(status: int) -> None:
    outcome = CREDIT.read_queued(answer(status, {"queue_id": "q-1", "error": "x"}))
    assert isinstance(outcome, Unclear)
    assert not outcome.nonce_reused


def test_a_rejected_prompt_keeps_the_suggestion() -> None:
    outcome = CREDIT.read_queued(answer(422, {"error": "policy", "suggested_prompt": "softer"}))
    assert outcome == Refused(422, "content", "policy", "softer")


@pytest.mark.parametrize("name", FACTS["cures"])
def test_each_402_names_its_cure(name: str) -> None:
    entry = FACTS["forms_of_402"][name][0]
    for seller, cure in zip((CREDIT, ACCOUNT), FACTS["cures"][name], strict=True):
        for outcome in (seller.read_queued(fact(entry)), seller.read_progress(fact(entry))):
            assert isinstance(outcome, Shortfall)
            assert outcome.cure == cure


def test_a_402_below_the_floor_states_both_figures() -> None:
    outcome = CREDIT.read_queued(fact(FACTS["forms_of_402"]["e below the floor"][0]))
    assert outcome == Shortfall("top-up", "Payment required", Usdc(42_100), Usdc(5_000_000))


# --- polling


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (
            200,
            {"status": "PROCESSING", "average_execution_time": 20000, "execution_duration": 5200},
            Processing(20.0, 5.2),
        ),
        (200, {"status": "PROCESSING"}, Processing(None, None)),
        (
            200,
            {"status": "PROCESSING", "average_execution_time": "x", "execution_duration": -1},
            Processing(None, None),
        ),
        (200, {"status": "FAILED"}, Gone("failed", "the seller calls the job FAILED", "unknown")),
        (400, {"error": "Request ID is invalid."}, Gone("unknown_id", "Request ID is invalid.", "unknown")),
        (400, {"error": "refused"}, Gone("failed", "refused", "claimed")),
        (404, {"error": "not found"}, Gone("expired", "not found", "unknown")),
        (422, {"error": "policy", "suggested_prompt": "s"}, Gone("rejected", "policy", "claimed", "s")),
        (401, {"error": "no", "code": "X402_SIGN_IN_EXPIRED"}, Refused(401, "EXPIRED", "no")),
        (429, {"error": "slow"}, Refused(429, "", "slow")),
        (500, {"error": "broken"}, Refused(500, "", "broken")),
        (503, "", Refused(503, "", "no reason given")),
        (200, "<html>", Refused(502, "unreadable", "a 200 that is neither audio nor readable JSON")),
    ],
)
def test_every_answer_to_a_poll(status: int, body: object, expected: object) -> None:
    assert CREDIT.read_progress(answer(status, body)) == expected


@pytest.mark.parametrize(
    ("status", "body", "done"),
    [
        (200, {"success": True}, True),
        (200, {"success": False}, False),
        (200, "", False),
        (404, {"error": "gone"}, True),
        (400, {"error": "Request ID is invalid."}, True),
        (400, {"error": "other"}, False),
        (402, {}, False),
        (500, {}, False),
    ],
)
def test_completion_is_done_when_the_copy_is_gone(status: int, body: object, done: bool) -> None:
    assert CREDIT.read_completed(answer(status, body)) is done


@pytest.mark.parametrize(
    ("model", "late"),
    [("elevenlabs-music", False), ("seed-audio-1-0", True), ("seed-audio-2", True), ("new", True)],
)
def test_silence_about_a_charge_speaks_only_for_published_models(model: str, late: bool) -> None:
    assert CREDIT.charges_late(model) is late


# --- prices


@pytest.mark.parametrize(
    ("figure", "atomic"),
    [("0.69", 690_000), ("1", 1_000_000), ("0.6900000000000001", 690_000), ("0.0000066", 7), ("1e-20", 1)],
)
def test_a_quote_is_rounded_up(figure: str, atomic: int) -> None:
    assert CREDIT.read_quote(answer(200, f'{{"quote":{figure}}}')) == atomic


@pytest.mark.parametrize(
    "figure",
    ["0", "-1", '"0.69"', "null", "true", "NaN", "1e9", "1e999999999", "1e99999999999999999999", "[]"],
)
def test_an_insane_quote_is_no_price(figure: str) -> None:
    with pytest.raises(ProtocolError):
        CREDIT.read_quote(answer(200, f'{{"quote":{figure}}}'))


def test_models_are_read_and_errors_typed(facts: dict[str, Any]) -> None:
    assert len(CREDIT.read_models(answer(200, FACTS["models"]))) == len(facts["models"]["data"])
    with pytest.raises(ProtocolError):
        CREDIT.read_models(answer(200, {"data": "none"}))
    with pytest.raises(RateLimited):
        CREDIT.read_models(answer(429, {"error": "slow"}))


# --- credit


def balance(**changes: object) -> Answer:
    data = {**FACTS["balance"]["data"], **changes}
    return answer(200, {"success": True, "data": data})


def test_a_balance_is_rounded_down_and_its_wallet_compared_without_case() -> None:
    read = CREDIT.read_balance(balance(), WALLET.upper().replace("0X", "0x"))
    assert (read.credit, read.diem) == (Usdc(4_239_999), None)
    assert (read.minimum_top_up, read.suggested_top_up) == (Usdc(5_000_000), Usdc(10_000_000))


def test_diem_is_named_only_while_there_is_some() -> None:
    assert CREDIT.read_balance(balance(diemBalanceUsd=5.25), WALLET).diem == Usdc(5_250_000)
    assert CREDIT.read_balance(balance(diemBalanceUsd=0), WALLET).diem is None
    assert CREDIT.read_balance(balance(diemBalanceUsd=None), WALLET).diem is None


@pytest.mark.parametrize(
    "changes",
    [
        {"balanceUsd": "4.20"},
        {"balanceUsd": -0.01},
        {"balanceUsd": None},
        {"balanceUsd": True},
        {"balanceUsd": [4]},
        {"balanceUsd": 1_000_000.01},
        {"walletAddress": "0x" + "1" * 40},
        {"walletAddress": None},
        {"diemBalanceUsd": "1"},
        {"diemBalanceUsd": -1},
        {"canConsume": False},
    ],
)
def test_a_doubtful_balance_opens_nothing(changes: dict[str, object]) -> None:
    with pytest.raises(ProtocolError) as caught:
        CREDIT.read_balance(balance(**changes), WALLET)
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("figure", ["NaN", "Infinity", "1e999999999", "1e99999999999999999999", "4,2", "'4'"])
def test_a_balance_that_is_no_json_number_opens_nothing(figure: str) -> None:
    raw = f'{{"success":true,"data":{{"walletAddress":"{WALLET}","balanceUsd":{figure},"canConsume":true}}}}'
    with pytest.raises(ProtocolError):
        CREDIT.read_balance(answer(200, raw), WALLET)


def test_a_balance_that_says_no_success_opens_nothing() -> None:
    with pytest.raises(ProtocolError):
        CREDIT.read_balance(answer(200, {**FACTS["balance"], "success": False}), WALLET)


@pytest.mark.parametrize(
    ("status", "kind"), [(401, SignInRejected), (403, SignInRejected), (429, RateLimited), (500, SellerError)]
)
def test_a_refused_balance_is_an_error_of_its_kind(status: int, kind: type[SellerError]) -> None:
    with pytest.raises(kind):
        CREDIT.read_balance(answer(status, {"error": "no"}), WALLET)


def test_rows_are_rounded_against_us_and_unknown_types_kept() -> None:
    page = CREDIT.read_transactions(answer(200, FACTS["transactions"]), WALLET)
    assert page.balance == Usdc(4_240_000)
    assert not page.has_more
    assert [(row.type, row.amount, row.created_at - NOW, row.request_id, row.model) for row in page.rows] == [
        ("REFUND", 690_000, 4.5, "r1", ""),
        ("CHARGE", -7, 3.0, "r2", "elevenlabs-music"),
        ("CHARGE", -690_000, 2.0, "r1", "elevenlabs-music"),
        ("GIFT", 250_000, 1.0, "", ""),
        ("TOP_UP", 5_000_000, 0.0, "", ""),
    ]


def row(**changes: object) -> Answer:
    data = FACTS["transactions"]["data"]
    rows = [{**data["transactions"][2], **changes}]
    return answer(200, {"success": True, "data": {**data, "transactions": rows}})


def test_a_charge_is_taken_whichever_sign_it_wears() -> None:
    assert CREDIT.read_transactions(row(amount=0.0000066), WALLET).rows[0].amount == -7


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": "-0.69"}, {"amount": None}, {"amount": 10**9}, {"id": None}, {"id": "a b"}, {"type": 3},
        {"createdAt": "yesterday"}, {"createdAt": None}, {"createdAt": -1}, {"createdAt": 10**30}, {"requestId": 7},
        {"modelId": "a\nb"},
    ],
)  # fmt: skip
def test_one_unreadable_row_refuses_the_page(changes: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        CREDIT.read_transactions(row(**changes), WALLET)


@pytest.mark.parametrize(("count", "more"), [(99, False), (100, True)])
def test_without_pagination_a_full_page_has_more(count: int, more: bool) -> None:
    data = {
        "walletAddress": WALLET,
        "transactions": [FACTS["transactions"]["data"]["transactions"][2]] * count,
    }
    assert CREDIT.read_transactions(answer(200, {"data": data}), WALLET).has_more is more


# --- account


def test_an_account_is_read_from_either_route() -> None:
    limits = ACCOUNT.read_account_balance(answer(200, FACTS["account_limits"]))
    assert (limits.permitted, limits.usd, limits.diem, limits.largest) == (True, 50_230_000, None, 50_230_000)
    full = ACCOUNT.read_account_balance(answer(200, FACTS["account_balance"]))
    assert (full.usd, full.diem, full.earned, full.bundled) == (25_000_000, None, 1_500_000, None)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": {"accessPermitted": "yes", "balances": {}}},
        {"canConsume": True, "balances": {"usd": "5"}},
    ],
)
def test_a_doubtful_account_opens_nothing(body: object) -> None:
    with pytest.raises(ProtocolError):
        ACCOUNT.read_account_balance(answer(200, body))


# --- strangers


names = st.sampled_from([
    "error", "code", "status", "queue_id", "model", "data", "quote", "balanceUsd", "walletAddress", "transactions",
    "amount", "id", "type", "createdAt", "balances", "canConsume", "average_execution_time", "x402Version", "accepts",
])  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=10,
)


@given(
    status=st.sampled_from([200, 400, 401, 402, 404, 422, 429, 500]),
    value=st.dictionaries(names, values, max_size=6),
    raw=st.none() | st.binary(max_size=40),
)
def test_no_answer_raises_anything_but_our_own_errors(status: int, value: object, raw: bytes | None) -> None:
    strange = Answer(status, {}, json.dumps(value).encode() if raw is None else raw)
    for seller in (CREDIT, ACCOUNT):
        for always in (seller.read_queued, seller.read_progress, seller.read_completed):
            always(strange)
        readers = (
            seller.read_models, seller.read_quote, seller.read_account_balance,
            lambda a, s=seller: s.read_balance(a, WALLET), lambda a, s=seller: s.read_transactions(a, WALLET),
        )  # fmt: skip
        for read in readers:
            line = _line(read, strange)
            assert line.isprintable()
            assert len(line) < 260


def _line(read: Any, strange: Answer) -> str:
    try:
        read(strange)
    except X402AudioError as error:
        return error.message
    return ""
