"""Freeze: what waits for its turn when the brake is pulled never leaves; what is paid is still saved."""

from __future__ import annotations

import pytest

from tests.jobs.stage import CountingSigner, OpenStage, usd
from x402_audio.errors import Frozen
from x402_audio.flow import Flow, sleep
from x402_audio.payment.session import SellerSession

WAIT_S = 30.0


@pytest.fixture
def slow_turns(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every turn on a route that spends is waited for; the routes waited on."""
    waited: list[str] = []
    real = SellerSession.turn

    def turn(self: SellerSession, route: str) -> Flow[None]:
        yield from real(self, route)
        if route in ("queue", "top-up"):
            waited.append(route)
            yield from sleep(WAIT_S)

    monkeypatch.setattr(SellerSession, "turn", turn)
    return waited


@pytest.mark.parametrize(
    ("mode", "turns", "credit"),
    [("venice", 1, "20"), ("venice", 2, "0"), ("direct-v1", 2, "0"), ("direct-v2", 2, "0")],
    ids=["draw", "top-up", "direct v1", "direct v2"],
)
def test_a_brake_pulled_while_a_payment_waits_for_its_turn_stops_it(
    stage: OpenStage, slow_turns: list[str], mode: str, turns: int, credit: str
) -> None:
    """The last turn is the one before the bytes that spend."""
    shop, signer = stage(mode=mode, credit=usd(credit)), CountingSigner()
    shopper, owner = shop.shopper(signer=signer, MAX_TOP_UP="5"), shop.shopper()
    shop.clock.later(WAIT_S * turns - 1, lambda: owner.client.ledger.freeze("stop"))
    with pytest.raises(Frozen) as caught:
        shopper.generate(job_id="k")
    assert caught.value.money_moved == "no"
    assert len(slow_turns) == turns
    assert (shop.payments, shop.jobs) == ([], [])
    assert {hold.state for hold in shopper.holds()} <= {"void"}


@pytest.mark.parametrize("mode", ["venice", "direct-v2"])
def test_a_brake_pulled_while_a_payment_is_repeated_sends_it_no_more(
    stage: OpenStage, slow_turns: list[str], mode: str
) -> None:
    from x402_audio.sandbox import FaultRule

    queue = "/audio/queue"
    first = 1 if mode == "venice" else 2
    shop = stage(FaultRule("drop_before", queue, nth=first), mode=mode, credit=usd("20"))
    shopper, owner = shop.shopper(), shop.shopper()
    shop.clock.later(WAIT_S * (first + 0.9), lambda: owner.client.ledger.freeze("stop"))
    with pytest.raises(Frozen) as caught:
        shopper.generate(job_id="k")
    assert caught.value.money_moved == "unknown"
    assert (shop.payments, shop.jobs) == ([], [])
    owner.client.ledger.unfreeze("go on")
    assert shopper.resume("k").completed
    assert len(shop.jobs) == 1
