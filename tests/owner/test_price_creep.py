"""A price that creeps up is not paid unasked: 20 % above the lowest of 30 days for the same seller, model and size."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.jobs.stage import OpenStage, usd
from tests.ledger.desk import OTHER_SELLER, SteppedClock, counted_random, limit, pay, signed, top_up, wish
from x402_audio.errors import ApprovalWanted
from x402_audio.jsontext import Json
from x402_audio.ledger import approvals
from x402_audio.ledger.book import Hold, Reserve
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc
from x402_audio.providers.catalog import ModelSpec
from x402_audio.providers.prices import size_of
from x402_audio.providers.provider import AudioRequest
from x402_audio.sandbox import FaultRule

DAY = 86_400


def song(cents: int, **fields: Any) -> Reserve:
    return wish(cents, **{"model": "music", "size": "60 s", **fields})


def test_twenty_per_cent_above_the_lowest_is_paid_and_a_cent_more_is_asked(ledger: SqliteLedger) -> None:
    for cents in (60, 50, 60):
        pay(ledger, song(cents))
    with pytest.raises(ApprovalWanted) as refused:
        ledger.reserve(song(61), [])
    assert refused.value.message == (
        "the owner is asked first: $0.61 is more than 20 % above the lowest price of 30 days, $0.50, for music (60 s)"
        " at https://seller.example"
    )
    reserve = song(61)
    with pytest.raises(ApprovalWanted) as refused:
        ledger.reserve(reserve, [])
    ledger.grant(refused.value.approval_id)
    assert ledger.reserve(reserve, []).state == "reserved"


@pytest.mark.parametrize(("lowest", "asks"), [(508_333, True), (508_334, False)])
def test_the_fifth_is_exact_to_the_last_unit(ledger: SqliteLedger, lowest: int, asks: bool) -> None:
    pay(ledger, song(0, amount=Usdc(lowest)))
    if asks:
        with pytest.raises(ApprovalWanted):
            ledger.reserve(song(61), [])
    else:
        assert ledger.reserve(song(61), []).state == "reserved"


@pytest.mark.parametrize(
    "other",
    [{"model": "speech"}, {"size": "120 s"}, {"origin": "https://other.example"}, {"environment": "sandbox"},
     {"size": "", "model": ""}],
    ids="+".join,
)  # fmt: skip
def test_only_like_is_compared_with_like(ledger: SqliteLedger, other: dict[str, Any]) -> None:
    pay(ledger, song(50))
    assert ledger.reserve(song(90, **other), []).state == "reserved"


def test_a_price_of_more_than_thirty_days_ago_is_forgotten(ledger: SqliteLedger, clock: SteppedClock) -> None:
    pay(ledger, song(50))
    clock.at += 29 * DAY
    pay(ledger, song(60))
    with pytest.raises(ApprovalWanted):
        ledger.reserve(song(72), [])
    clock.at += DAY + 60
    assert ledger.reserve(song(72), []).state == "reserved"


def test_what_was_never_paid_is_no_price(ledger: SqliteLedger) -> None:
    ledger.void(ledger.reserve(song(10), []).id, evidence="never sent", unsigned=True)
    ledger.refund(pay(ledger, song(10)), Usdc(100_000), charge_id="r", why="failed")
    pay(ledger, wish(0, kind="account", nonce="", pay_to="", model="music", size="60 s"))
    assert ledger.reserve(song(90), []).state == "reserved"


def test_what_cannot_be_decided_or_is_given_back_in_part_is_no_price(ledger: SqliteLedger) -> None:
    ledger.presume(signed(ledger, song(10)), why="no witness")
    ledger.refund(pay(ledger, song(10)), Usdc(50_000), charge_id="r", why="half a track")
    assert ledger.reserve(song(90), []).state == "reserved"


def approved(ledger: SqliteLedger, reserve: Reserve) -> Hold:
    """What is reserved, with the owner's leave where it takes one."""
    try:
        return ledger.reserve(reserve, [])
    except ApprovalWanted as asked:
        ledger.grant(asked.approval_id)
    return ledger.reserve(reserve, [])


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([10, 20, 30]),
            st.sampled_from(["settle", "deliver", "deliver, settle", "refund", "presume", "void", "sign"]),
            st.sampled_from([0.0, 1.0, DAY / 2, DAY - 1e-6, float(DAY), 11.0 * DAY]),
        ),
        max_size=12,
    ),
    st.sampled_from([0.0, float(DAY), 18.0 * DAY, 30.0 * DAY]),
)
def test_the_lowest_price_is_that_of_every_payment_that_counts(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[int, str, float]], later: float
) -> None:
    clock = SteppedClock()
    ledger = SqliteLedger(tmp_path_factory.mktemp("books") / "l.db", clock=clock, random=counted_random())
    ids = list[str]()
    for cents, ends, seconds in history:
        ids.append(ledger.depart(approved(ledger, song(cents)).id, b"header").id)
        for end in ends.split(", "):
            if end == "deliver":
                ledger.deliver(ids[-1], "answered 2xx")
                clock.at += seconds
            elif end in ("settle", "refund"):
                ledger.settle(ids[-1], evidence="receipt")
            if end == "refund":
                ledger.refund(ids[-1], Usdc(10_000), charge_id="r", why="failed")
            elif end == "presume":
                ledger.presume(ids[-1], why="no witness")
            elif end == "void":
                ledger.void(ids[-1], evidence="unused")
        clock.at += seconds
    clock.at += later
    holds = ledger.holds()
    with ledger._database.transaction() as tx:
        since = tx.now - 30 * DAY
        counting = [
            hold.amount
            for hold in holds
            if not hold.refunded and (hold.state == "settled" or (hold.state == "signed" and hold.delivered_at))
            and (hold.counted_at or hold.delivered_at or 0) > since
        ]  # fmt: skip
        lowest = min(counting, default=None)
        for cents in (36, 37, 90):
            crept = lowest is not None and cents * 10_000 * 100 > lowest * 120
            assert approvals._lowest_below(tx, song(cents)) == (lowest if crept else None)
    ledger.close()


def test_a_delivered_payment_that_is_not_proven_yet_is_a_price(ledger: SqliteLedger) -> None:
    hold = ledger.reserve(song(50), [])
    ledger.depart(hold.id, b"header")
    ledger.deliver(hold.id, "answered 2xx")
    with pytest.raises(ApprovalWanted):
        ledger.reserve(song(61), [])


def test_top_ups_have_no_price(ledger: SqliteLedger) -> None:
    pay(ledger, song(50))
    assert ledger.reserve(top_up(900, model="music", size="60 s"), []).state == "reserved"


def test_both_reasons_are_said_at_once(ledger: SqliteLedger) -> None:
    pay(ledger, song(50))
    with pytest.raises(ApprovalWanted, match=r"APPROVE_ABOVE \$0.60 .*; .*20 % above"):
        ledger.reserve(song(61), [limit("jobs", "unasked", 60)])
    assert OTHER_SELLER not in ledger.approvals()[0].why


MODELS: list[tuple[str, Any, dict[str, Any], str]] = [
    ("tiers", {"durations": {"60": {"usd": 1, "min_seconds": 31, "max_seconds": 60}}}, {"duration_seconds": 45}, "31-60 s"),
    ("seconds", {"per_second": {"usd": 1}}, {"duration_seconds": 45}, "45 s"),
    ("track", {"generation": {"usd": 1}}, {"duration_seconds": 45}, "one track"),
    ("characters", {"per_thousand_characters": {"usd": 1}}, {"duration_seconds": 45}, "7 characters"),
    ("unknown", None, {"duration_seconds": 45}, "45 s"),
    ("unknown", None, {}, "7 characters"),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "pricing", "asked", "size"), MODELS, ids=lambda value: str(value)[:12])
def test_the_size_is_what_the_price_depends_on(
    shape: str, pricing: Any, asked: dict[str, Any], size: str
) -> None:
    from x402_audio.providers.prices import read_pricing

    spec = None if pricing is None else ModelSpec(id="m", pricing=read_pricing(pricing))
    assert size_of(AudioRequest(prompt=" a tune. ", model="m", **asked), spec) == size


def test_a_seller_who_raises_the_price_finds_the_owner_asked(stage: OpenStage) -> None:
    shop = stage(credit=usd("9"))
    shopper = shop.shopper()
    assert shopper.generate(job_id="a", again=True).completed
    dear: Json = {"status": 200, "body": '{"quote": 0.83}'}
    shop.faults(FaultRule("status", "/audio/quote", every=True, value=dear))
    with pytest.raises(ApprovalWanted, match=r"\$0.83 is more than 20 % above the lowest price"):
        shopper.generate(job_id="b", again=True)
    assert (shopper.job("b").state, shopper.job("b").parked_reason) == ("parked", "owner")
    assert len(shop.jobs) == 1
    ledger = shopper.client.ledger
    (asked,) = ledger.approvals(states=("wanted",))
    ledger.grant(asked.id)
    assert shopper.resume("b").completed
