"""A clock that jumps an hour back or ahead, at any step: one payment at most, and once it is right the track arrives."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from tests.jobs.stage import OpenStage, Shopper, Stage, WaitingClock, settings_for, usd
from x402_audio.errors import PaymentUnsettled, X402AudioError
from x402_audio.jsontext import Json
from x402_audio.sandbox import FaultRule

HOUR_S = 3600
RESUMES_MAX = 2
SENDS = 8
"""More than one purchase is ever sent."""


class ThisMachine(WaitingClock):
    """This machine's clock: the world's, and how wrong it is."""

    def __init__(self, world: WaitingClock, off: float = 0.0) -> None:
        super().__init__(world.at)
        self.world, self.off = world, off

    def now(self) -> float:
        return self.world.now() + self.off

    def monotonic(self) -> float:
        return self.world.monotonic()

    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)


def customer(shop: Stage, machine: ThisMachine, *, provider: str = "auto", rpc: bool = False) -> Shopper:
    """A client on that machine; every one shares the books."""
    (shop.folder / "state").mkdir(mode=0o700, exist_ok=True)
    settings = settings_for(
        shop.server.api_url,
        shop.folder / "state",
        MAX_TOP_UP="5",
        PROVIDER=provider,
        RPC_URL=shop.server.rpc_url,
    )
    return shop.kept(Shopper(settings, machine))


def jump_at(machine: ThisMachine, http: httpx.Client, route: str, nth: int, seconds: float) -> None:
    """Let the clock jump when the nth answer of a route arrives."""
    left = [nth]

    def jump(response: httpx.Response) -> None:
        if response.request.url.path.endswith(route):
            left[0] -= 1
            machine.off = machine.off if left[0] else seconds

    http.event_hooks = {"response": [jump]}


def tried(act: Callable[[], object]) -> None:
    """It works, or ends with a clear line."""
    try:
        act()
    except X402AudioError as error:
        told = error
    else:
        return
    assert "\n" not in str(told)
    assert told.next_step


@pytest.mark.parametrize("seconds", [-HOUR_S, HOUR_S], ids=["back", "ahead"])
@pytest.mark.parametrize(
    ("mode", "route", "nth"),
    [
        ("venice", "/audio/quote", 1), ("venice", "/x402/top-up", 1), ("venice", "/x402/top-up", 2),
        ("venice", "/audio/queue", 1), ("venice", "/audio/retrieve", 1), ("direct-v2", "/audio/quote", 1),
        ("direct-v2", "/audio/queue", 1), ("direct-v2", "/audio/queue", 2), ("direct-v2", "/audio/retrieve", 1),
    ],
)  # fmt: skip
def test_a_jump_in_mid_purchase_buys_nothing_twice_and_loses_nothing(
    mode: str, route: str, nth: int, seconds: float, stage: OpenStage
) -> None:
    shop = stage(mode=mode)
    machine = ThisMachine(shop.clock)
    shopper = customer(shop, machine)
    jump_at(machine, shopper.http, route, nth, seconds)
    tried(lambda: shopper.generate(job_id="j1"))
    assert machine.off == seconds, "the step was reached"
    tried(lambda: shopper.generate(job_id="j1"))
    machine.off = 0.0
    for _ in range(RESUMES_MAX):
        shop.clock.wait(60)
        tried(lambda: shopper.generate(job_id="j1"))
    assert shopper.job("j1").state == "completed"
    assert (len(shop.payments), len(shop.jobs)) == (1, 1)
    assert shopper.client.ledger.verify() == []


@pytest.mark.parametrize("seconds", [-HOUR_S, HOUR_S], ids=["back", "ahead"])
@pytest.mark.parametrize("mode", ["venice", "direct-v1", "direct-v2"])
def test_a_clock_an_hour_off_pays_nothing(mode: str, seconds: float, stage: OpenStage) -> None:
    shop = stage(mode=mode)
    shopper = customer(shop, ThisMachine(shop.clock, seconds), provider=mode.partition("-")[0])
    with pytest.raises(X402AudioError) as caught:
        shopper.generate(job_id="j1")
    assert caught.value.money_moved == "no"
    assert (shop.payments, shop.jobs) == ([], [])


def hour_ahead(shop: Stage) -> Shopper:
    """A client whose books were written while the clock was an hour ahead; now it is right."""
    machine = ThisMachine(shop.clock, HOUR_S)
    shopper = customer(shop, machine, rpc=True)
    shopper.client.ledger.freeze("in the hour that was not")
    shopper.client.ledger.unfreeze("the owner, on a terminal")
    machine.off = 0.0
    return shopper


@pytest.mark.parametrize("mode", ["venice", "direct-v2"])
def test_books_that_were_written_an_hour_ahead_still_find_what_was_paid(mode: str, stage: OpenStage) -> None:
    """Ledger time stays ahead for that hour; what the seller and the chain say has the world's time."""
    shop = stage(mode=mode, credit=usd("5") if mode == "venice" else usd("0"))
    shopper = hour_ahead(shop)
    first = 1 if mode == "venice" else 2
    shop.faults(*(FaultRule("drop_after", "/audio/queue", nth=nth) for nth in range(first, first + SENDS)))
    with pytest.raises(PaymentUnsettled):
        shopper.generate(job_id="j1")
    shop.faults()
    shop.clock.wait(2 * HOUR_S)
    report = shopper.reconcile()
    assert (len(report.settled), report.open, report.differences) == (1, (), ())
    assert [bool(hold.transaction) for hold in shopper.holds("j1")] == [mode != "venice"]
    tried(lambda: shopper.resume("j1"))
    assert (len(shop.payments), len(shop.jobs)) == (0 if mode == "venice" else 1, 1)


def test_a_charge_is_not_overlooked_because_the_books_are_ahead(stage: OpenStage) -> None:
    refused = FaultRule("status_after", "/audio/queue", value={"status": 422, "body": {}})
    shop = stage(refused, credit=usd("5"))
    shopper = hour_ahead(shop)
    with pytest.raises(PaymentUnsettled):
        shopper.generate(job_id="j1")
    assert [hold.state for hold in shopper.holds("j1")] == ["signed"], "charged, so not free"
    report = shopper.reconcile()
    assert (len(report.settled), report.differences) == (1, ())
    assert shop.left() == usd("4.31")


def test_silence_of_the_seller_is_not_measured_by_a_clock_that_is_off(stage: OpenStage) -> None:
    shop = stage(credit=usd("5"))
    machine = ThisMachine(shop.clock)
    shopper = customer(shop, machine)
    shop.faults(*(FaultRule("drop_before", "/audio/queue", nth=nth) for nth in range(1, SENDS)))
    with pytest.raises(PaymentUnsettled):
        shopper.generate(job_id="j1")
    shop.faults()
    machine.off = 550
    shop.clock.wait(1300)  # half an hour by this machine, not by the world
    early: dict[str, Json] = {"status": 401, "body": {"code": "X402_SIGN_IN_FUTURE_TIMESTAMP"}}
    for _ in range(2):
        shop.faults(
            FaultRule("status", "/x402/transactions", value=early)
        )  # sign-ins learn the seller's time
        assert shopper.reconcile().unread == ()
        shop.clock.wait(70)
    assert [hold.state for hold in shopper.holds("j1")] == ["signed"]
    machine.off = 0.0
    shop.faults()
    shop.clock.wait(1200)
    for _ in range(4):
        shopper.reconcile()
        shop.clock.wait(70)
    assert [hold.state for hold in shopper.holds("j1")] == ["void"]
