"""`work`: many stored jobs in one loop, which asks nobody more often than it must."""

from __future__ import annotations

import pytest

from tests.jobs.stage import QUOTE, OpenStage, usd
from x402_audio.errors import ChainError
from x402_audio.sandbox import FaultRule


def test_a_seller_is_asked_ever_more_seldom_while_the_chain_cannot_be_read(stage: OpenStage) -> None:
    """Nothing may be signed then, and each look costs the seller a request that brings it nothing."""
    shop = stage(mode="direct-v2")
    shopper = shop.shopper(RPC_URL="http://127.0.0.1:9/")
    for name in ("a", "b"):
        shopper.submit(f"the song called {name}", job_id=name)
    outcomes = shopper.work(timeout=600)
    assert [type(one.error) for one in outcomes] == [ChainError, ChainError]
    assert shop.payments == []
    assert 2 * 5 <= shop.asked()["/audio/queue"] <= 2 * 20


def test_a_job_whose_seller_is_back_goes_on_within_a_minute(stage: OpenStage) -> None:
    shop = stage(FaultRule("status", "/x402/balance", every=True, value=503), credit=usd("5"))
    shopper = shop.shopper(PROVIDER="venice")
    shopper.submit(job_id="a")
    shopper.submit("another song", job_id="b")
    began = shop.clock.at
    shop.clock.later(300, shop.faults)
    outcomes = shopper.work(timeout=3600)
    assert [one.track is not None for one in outcomes] == [True, True]
    assert shop.clock.at - began < 300 + 60 + 120
    assert shop.left() == usd("5") - 2 * QUOTE


def test_a_job_that_waits_for_its_seller_costs_no_request_before_it_is_due(stage: OpenStage) -> None:
    shop = stage(credit=usd("5"))
    shopper = shop.shopper()
    for name in ("a", "b", "c"):
        shopper.submit(f"the song called {name}", job_id=name, poll_interval=50.0)
    outcomes = shopper.work(timeout=3600)
    assert all(one.track is not None for one in outcomes)
    assert shop.asked()["/audio/retrieve"] <= 3 * 2


@pytest.mark.parametrize(("status", "requests"), [(402, 1), (500, 9)])
def test_a_seller_that_confirms_no_completion_is_asked_ever_more_seldom(
    stage: OpenStage, status: int, requests: int
) -> None:
    """The tracks are there; all that is left is that its copies may go."""
    shop = stage(FaultRule("status", "/audio/complete", every=True, value=status), credit=usd("5"))
    shopper = shop.shopper()
    for name in ("a", "b"):
        shopper.submit(f"the song called {name}", job_id=name)
    outcomes = shopper.work(timeout=600)
    assert [one.track is not None for one in outcomes] == [True, True]
    assert shop.asked()["/audio/complete"] <= 2 * requests * 20
    assert shop.left() == usd("5") - 2 * QUOTE
