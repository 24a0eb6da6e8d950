"""Sellers paid on the very call: one signature, one payment, whatever comes back; and none for foreign terms."""

from __future__ import annotations

from typing import Any

import pytest

from tests.jobs.stage import QUOTE, CountingSigner, OpenStage, Shopper, Stage
from x402_audio.errors import (
    InsufficientBalance,
    PaymentRejected,
    PaymentUnsettled,
    SignerError,
    X402AudioError,
)
from x402_audio.jsontext import Json
from x402_audio.protocol.exact import Authorization
from x402_audio.protocol.networks import Network
from x402_audio.sandbox import FaultRule

BOTH = pytest.mark.parametrize("mode", ["direct-v1", "direct-v2"])


def _one_payment(shop: Stage, shopper: Shopper, signer: CountingSigner) -> None:
    assert len(signer.authorizations) == 1
    (payment,) = shop.payments
    assert payment["value"] == QUOTE
    (hold,) = shopper.holds("k")
    assert (hold.state, hold.nonce, hold.amount) == ("settled", payment["nonce"], QUOTE)
    assert len(shop.jobs) == 1
    assert shopper.client.ledger.verify() == []


@BOTH
def test_a_track_is_paid_once_on_the_call_itself(stage: OpenStage, mode: str) -> None:
    shop, signer = stage(mode=mode), CountingSigner()
    shopper = shop.shopper(signer=signer)
    track = shopper.generate(job_id="k", max_price="1")
    assert (track.completed, track.cost, track.payments[0]["nonce"]) == (
        True,
        QUOTE,
        shop.payments[0]["nonce"],
    )
    _one_payment(shop, shopper, signer)
    before = shop.asked()
    assert shop.shopper().generate(job_id="k").sha256 == track.sha256
    assert shop.asked() == before


class FailingSigner(CountingSigner):
    """In this process, and cannot sign."""

    def sign_authorization(self, network: Network, authorization: Authorization) -> bytes:
        raise SignerError("the key is gone")


@BOTH
def test_a_signer_that_fails_leaves_nothing_at_risk(stage: OpenStage, mode: str) -> None:
    shop = stage(mode=mode)
    shopper = shop.shopper(signer=FailingSigner())
    with pytest.raises(SignerError) as failed:
        shopper.generate(job_id="k")
    assert (failed.value.money_moved, [hold.state for hold in shopper.holds("k")]) == ("no", ["void"])
    assert shop.shopper().generate(job_id="k").completed
    assert len(shop.payments) == 1
    assert shopper.client.ledger.verify() == []


@BOTH
def test_a_signer_that_fails_when_the_payment_left_before_does_not_say_that_nothing_moved(
    stage: OpenStage, mode: str
) -> None:
    shop = stage(*(FaultRule("drop_after", "/audio/queue", nth=nth) for nth in range(2, 6)), mode=mode)
    with pytest.raises(PaymentUnsettled):
        shop.shopper().generate(job_id="k")
    shopper = shop.shopper(signer=FailingSigner())
    with pytest.raises(SignerError) as failed:
        shopper.resume("k")
    assert (failed.value.money_moved, [hold.state for hold in shopper.holds("k")]) == ("unknown", ["signed"])
    assert shop.shopper().resume("k").completed
    assert len(shop.payments) == 1


LOST = [
    FaultRule("drop_after", "/audio/queue", nth=2),
    FaultRule("drop_before", "/audio/queue", nth=2),
    FaultRule("status_after", "/audio/queue", nth=2, value=500),
    FaultRule("status_after", "/audio/queue", nth=2, value=502),
    FaultRule("status", "/audio/queue", nth=2, value=503),
    FaultRule("status_after", "/audio/queue", nth=2, value={"status": 429, "headers": {"Retry-After": "4"}}),
    FaultRule("no_receipt", "/audio/queue", nth=2),
    FaultRule("garbage", "/audio/queue", nth=2),
    FaultRule(
        "status_after", "/audio/queue", nth=2, value={"status": 200, "body": {"thanks": "for the money"}}
    ),
    FaultRule(
        "status", "/audio/queue", nth=2, value={"status": 200, "body": "<html>Welcome to this hotel</html>"}
    ),
]


@BOTH
@pytest.mark.parametrize("rule", LOST, ids=str)
def test_a_lost_answer_is_asked_for_with_the_same_bytes(stage: OpenStage, mode: str, rule: FaultRule) -> None:
    lost = FaultRule(rule.action, rule.route, nth=rule.nth, value=rule.value)
    shop, signer = stage(lost, mode=mode), CountingSigner()
    shopper = shop.shopper(signer=signer)
    assert shopper.generate(job_id="k").completed
    _one_payment(shop, shopper, signer)


@BOTH
def test_a_hanging_seller_is_left_and_asked_again_with_the_same_bytes(stage: OpenStage, mode: str) -> None:
    shop, signer = stage(FaultRule("hang_after", "/audio/queue", nth=2), mode=mode), CountingSigner()
    shopper = shop.shopper(signer=signer)
    shopper.hang_up_after(0.2, times=1, route="/audio/queue")
    assert shopper.generate(job_id="k").completed
    _one_payment(shop, shopper, signer)


@BOTH
@pytest.mark.parametrize("rule", ["redirect_after", "status_after"])
def test_a_no_after_the_settlement_frees_nothing_and_resume_sends_the_same_bytes(
    stage: OpenStage, mode: str, rule: str
) -> None:
    value: Json = "http://127.0.0.1:9" if rule == "redirect_after" else 403
    shop, signer = stage(FaultRule(rule, "/audio/queue", nth=2, value=value), mode=mode), CountingSigner()
    shopper = shop.shopper(signer=signer)
    with pytest.raises(X402AudioError) as caught:
        shopper.generate(job_id="k")
    assert (caught.value.exit_code, caught.value.money_moved) == (8, "unknown")
    assert (shopper.job("k").state, shopper.job("k").parked_reason) == ("parked", "unknown")
    assert shopper.resume("k").completed
    _one_payment(shop, shopper, signer)


@BOTH
def test_a_decline_without_a_result_header_is_told_in_the_words_of_its_terms(
    stage: OpenStage, mode: str
) -> None:
    """The npm middlewares answer so: 402, the terms again, their `error` the reason."""
    shop = stage(
        FaultRule("settlement_failed", "/audio/queue", nth=2),
        FaultRule("no_receipt", "/audio/queue", nth=2),
        mode=mode,
    )
    with pytest.raises(PaymentRejected) as caught:
        shop.shopper().generate(job_id="k")
    assert (caught.value.error_reason, caught.value.exit_code) == ("transaction_failed", 8)


@BOTH
def test_dropped_for_ever_is_unknown_until_the_chain_speaks(stage: OpenStage, mode: str) -> None:
    """The chain says used: settled, paid and not delivered; nothing is signed anew."""
    shop, signer = stage(FaultRule("drop_after", "/audio/queue", every=True), mode=mode), CountingSigner()
    shop.faults(*(FaultRule("drop_after", "/audio/queue", nth=n) for n in range(2, 40)))
    shopper = shop.shopper(signer=signer, RPC_URL=shop.server.rpc_url)
    with pytest.raises(PaymentUnsettled):
        shopper.generate(job_id="k")
    with pytest.raises(PaymentUnsettled):
        shopper.generate(job_id="k")
    shop.clock.wait(2000)
    report = shopper.reconcile()
    assert len(report.settled) == 1
    with pytest.raises(X402AudioError) as caught:
        shopper.resume("k")
    assert (caught.value.exit_code, caught.value.money_moved) == (9, "yes")
    assert (len(signer.authorizations), len(shop.payments)) == (1, 1)


@BOTH
def test_what_reconcile_settled_is_still_asked_for_with_the_same_authorization(
    stage: OpenStage, mode: str
) -> None:
    """The track is paid: while the authorization is valid its seller may be shown it again."""
    rules = [FaultRule("drop_after", "/audio/queue", nth=nth) for nth in range(2, 9)]
    signer = CountingSigner()
    shop = stage(*rules, mode=mode)
    shopper = shop.shopper(signer=signer, RPC_URL=shop.server.rpc_url)
    with pytest.raises(PaymentUnsettled):
        shopper.generate(job_id="k")
    shop.faults()
    report = shopper.reconcile()
    (hold,) = shopper.holds("k")
    assert (report.settled, hold.state, hold.delivered_at) == ((hold.id,), "settled", None)
    assert shopper.resume("k").completed
    assert len({one.nonce for one in signer.authorizations}) == len(shop.payments) == len(shop.jobs) == 1
    (hold,) = shopper.holds("k")
    assert hold.delivered_at is not None
    assert shopper.client.ledger.verify() == []


@BOTH
def test_unused_at_a_finalized_block_past_its_end_a_new_nonce_may_be_made(
    stage: OpenStage, mode: str
) -> None:
    shop, signer = stage(mode=mode), CountingSigner()
    shop.faults(*(FaultRule("drop_before", "/audio/queue", nth=n) for n in range(2, 9)))
    shopper = shop.shopper(signer=signer, RPC_URL=shop.server.rpc_url)
    with pytest.raises(PaymentUnsettled):
        shopper.generate(job_id="k")
    shop.faults()
    shop.clock.wait(200)
    assert shopper.reconcile().voided == (), "still valid: it could be used any moment"
    shop.clock.wait(2000)
    assert len(shopper.reconcile().voided) == 1
    assert shopper.resume("k").completed
    assert len({authorization.nonce for authorization in signer.authorizations}) == 2
    assert (len(shop.payments), len(shop.jobs)) == (1, 1)


def test_without_a_chain_to_read_an_undecided_payment_counts_as_spent(stage: OpenStage) -> None:
    shop, signer = stage(mode="direct-v2"), CountingSigner()
    shop.faults(*(FaultRule("drop_before", "/audio/queue", nth=n) for n in range(2, 9)))
    shopper = shop.shopper(signer=signer)
    with pytest.raises(PaymentUnsettled):
        shopper.generate(job_id="k")
    shop.clock.wait(300 + 1790)
    assert shopper.reconcile().presumed == ()
    shop.clock.wait(20)
    assert len(shopper.reconcile().presumed) == 1
    assert shopper.job("k").parked_reason == "human"
    assert len(signer.authorizations) == 1


@BOTH
def test_more_than_the_quote_and_a_cent_is_refused(stage: OpenStage, mode: str) -> None:
    name = "maxAmountRequired" if mode == "direct-v1" else "amount"
    asked: dict[int, list[int]] = {}
    exits: dict[int, int] = {}
    for over in (10_000, 10_001):
        shop, signer = stage(mode=mode), CountingSigner()
        shop.faults(FaultRule("wrong_terms", "/audio/queue", value={name: str(int(QUOTE) + over)}))
        shopper = shop.shopper(signer=signer, state=f"state-{over}")
        try:
            shopper.generate(job_id="k", output=shop.folder / f"{over}.mp3")
        except X402AudioError as error:
            exits[over] = error.exit_code
        asked[over] = [authorization.value for authorization in signer.authorizations]
    assert asked == {10_000: [QUOTE + 10_000], 10_001: []}
    assert exits == {10_001: 3} if mode == "direct-v1" else {10_000: 8, 10_001: 3}, (
        "v2 takes its own price only"
    )


OWN = "OWN"
FOREIGN: list[dict[str, Json]] = [
    {"network": "base-sepolia"},
    {"network": "eip155:1"},
    {"network": None},
    {"asset": "0x" + "11" * 20},
    {"asset": "USDC"},
    {"scheme": "upto"},
    {"payTo": "0x" + "00" * 20},
    {"payTo": "0x1234"},
    {"payTo": OWN},
    {"maxTimeoutSeconds": 5},
    {"maxTimeoutSeconds": "300"},
    {"extra": {"name": "Fake Coin"}},
    {"extra": {"version": "1"}},
    {"extra": {"assetTransferMethod": "permit2"}},
    {"AMOUNT": "0"},
    {"AMOUNT": "-1"},
    {"AMOUNT": "1e3"},
    {"AMOUNT": " 690000"},
    {"AMOUNT": "690000.0"},
    {"AMOUNT": 690000},
    {"AMOUNT": None},
    {"AMOUNT": str(2**256)},
]


def _patch(patch: dict[str, Json], mode: str, wallet: str) -> Json:
    amount = "maxAmountRequired" if mode == "direct-v1" else "amount"
    return {
        amount if name == "AMOUNT" else name: wallet if value == OWN else value
        for name, value in patch.items()
    }


@BOTH
@pytest.mark.parametrize("patch", FOREIGN, ids=str)
def test_no_signature_is_asked_for_on_foreign_terms(
    stage: OpenStage, mode: str, patch: dict[str, Json]
) -> None:
    shop, signer = stage(mode=mode), CountingSigner()
    shop.faults(FaultRule("wrong_terms", "/audio/queue", every=True, value=_patch(patch, mode, shop.wallet)))
    with pytest.raises(X402AudioError) as caught:
        shop.shopper(signer=signer).generate(job_id="k")
    assert (caught.value.money_moved, caught.value.exit_code in (3, 5, 7)) == ("no", True)
    assert (signer.authorizations, shop.payments) == ([], [])


@pytest.mark.parametrize("patch", FOREIGN, ids=str)
def test_no_signature_is_asked_for_on_foreign_top_up_terms(stage: OpenStage, patch: dict[str, Json]) -> None:
    shop, signer = stage(), CountingSigner()
    shop.faults(
        FaultRule("wrong_terms", "/x402/top-up", every=True, value=_patch(patch, "venice", shop.wallet))
    )
    with pytest.raises(X402AudioError) as caught:
        shop.shopper(signer=signer).generate(job_id="k", max_top_up="5")
    assert caught.value.money_moved == "no"
    assert (signer.authorizations, shop.payments, shop.jobs) == ([], [], [])


def test_header_and_body_that_disagree_are_refused(stage: OpenStage) -> None:
    for where in ("header", "body"):
        shop, signer = stage(mode="direct-v2"), CountingSigner()
        patch: dict[str, Any] = {"entry": {"payTo": "0x" + "22" * 20}, "where": where}
        shop.faults(FaultRule("wrong_terms", "/audio/queue", every=True, value=patch))
        with pytest.raises(X402AudioError):
            shop.shopper(signer=signer, state=f"state-{where}").generate(job_id="k")
        assert (signer.authorizations, shop.payments) == ([], [])


@BOTH
def test_another_payee_later_is_refused_by_the_pin(stage: OpenStage, mode: str) -> None:
    shop, signer = stage(mode=mode), CountingSigner()
    shopper = shop.shopper(signer=signer)
    shopper.generate(job_id="k")
    shop.faults(FaultRule("wrong_terms", "/audio/queue", every=True, value={"payTo": "0x" + "22" * 20}))
    with pytest.raises(X402AudioError) as caught:
        shopper.generate(job_id="l", again=True)
    assert (caught.value.code, caught.value.exit_code) == ("PayeeRefused", 3)
    assert len(signer.authorizations) == 1


@BOTH
def test_usdc_on_chain_must_cover_the_price(stage: OpenStage, mode: str) -> None:
    shop, signer = stage(mode=mode, wallet_usdc=QUOTE - 1), CountingSigner()
    with pytest.raises(InsufficientBalance) as caught:
        shop.shopper(signer=signer, RPC_URL=shop.server.rpc_url).generate(job_id="k")
    assert (caught.value.exit_code, caught.value.missing, signer.authorizations) == (4, 1, [])
