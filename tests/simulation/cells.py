"""The crash table's worlds: one purchase of each kind, walked once, then again with one exact misfortune at each step.

Nothing is drawn: a cell is (kind of payment, step, misfortune), and its world is always the same. Knows no table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.simulation.case import SPENT
from tests.simulation.driver import Process
from tests.simulation.misfortune import Ordered
from tests.simulation.plan import Plan
from tests.simulation.sellers import Letter
from tests.simulation.world import World, open_world

PAYMENTS: dict[str, Plan] = {
    "direct, v1": Plan(seed=1, kind="direct-v1"),
    "direct, v2": Plan(seed=2, kind="direct-v2"),
    "draw on credit": Plan(seed=3, kind="credit", funds="credit"),
    "top-up and draw": Plan(seed=4, kind="credit", funds="top-up"),
    "X402Auth, v1": Plan(seed=5, kind="auth-v1"),
    "X402Auth, v2": Plan(seed=6, kind="auth-v2"),
    "X402Auth on credit": Plan(seed=7, kind="auth-credit", funds="credit"),
}
FAULTS = (
    "lost", "answer lost", "twice", "late", "slow", "cut", "garbage", "500", "500 after", "429", "402 again", "redirect",
    "redirect after",
)  # fmt: skip
UNTOUCHED = ""


@dataclass(frozen=True, slots=True)
class Point:
    """One step of the undisturbed walk. books: the states of job and holds then; asks: the request, if it is one."""

    step: int
    books: str
    asks: str

    @property
    def sends(self) -> bool:
        return self.asks.startswith("sends")


@dataclass(frozen=True, slots=True)
class Cell:
    """What came of one misfortune. `violations` is empty when no money was lost or doubled."""

    payment: str
    point: Point
    misfortune: str
    outcome: str
    violations: tuple[str, ...]


def walk(payment: str) -> list[Point]:
    """The steps of this kind of payment when nothing goes wrong."""
    with open_world(_plan(payment), Ordered(-1, UNTOUCHED)) as world:
        books = {0: world.judge.state_of_books()}
        asks: dict[int, str] = {}
        watched = world.machine.after_step
        leaving = world.network.leaving

        def after_step(process: Process) -> None:
            watched(process)
            books[process.steps] = world.judge.state_of_books()
            asks.setdefault(process.steps, "writes and reads")

        def leaves(process: Process, letter: Letter) -> None:
            leaving(process, letter)
            asks[process.steps] = f"sends {letter.method} {letter.route}"

        world.machine.after_step, world.network.leaving = after_step, leaves
        world.storm()
        return [
            Point(step, books[max(one for one in books if one < step)], asks[step])
            for step in sorted(asks)
            if step
        ]


def cell(payment: str, point: Point, misfortune: str) -> Cell | None:
    """The walk again with this one misfortune, healed and judged; None where there is nothing it could befall."""
    strikes = Ordered(point.step, misfortune)
    plan = replace(_plan(payment), power_cut="power" in misfortune)
    with open_world(plan, strikes) as world:
        if plan.power_cut:
            strikes.power_cut = lambda: world.timeline.later(0.0, world.power_cut)
        world.storm()
        if not world.violations:
            world.heal()
        if not strikes.happened:
            return None
        return Cell(payment, point, misfortune, _outcome(world), tuple(world.violations))


def _plan(payment: str) -> Plan:
    return replace(PAYMENTS[payment], finality_s=30.0, tries=4, back_after_s=(5.0, 60.0))


def _outcome(world: World) -> str:
    """What the customer has and what he paid, by the seller's memory and the chain."""
    case, (customer,) = world.judge.case, world.customers
    topped = sum(one.kind == "topup" and case.truth.used(one.nonce) for one in case.left.values())
    bought = sum(one.kind == "direct" and case.truth.stands(one.nonce) for one in case.left.values())
    bought += sum(case.truth.stands(nonce) for nonce in case.draws)
    if bought > 1 or topped > 1:
        return f"paid {bought} times, {topped} top-ups"
    if customer.happy or "completed" in world.judge.ends():
        return ("delivered, paid once" if bought else "delivered for nothing") + (
            ", 1 top-up" if topped else ""
        )
    booked = any(row["state"] in SPENT and row["kind"] != "topup" for row in case.rows())
    if bought and booked and world.plan.stranger:
        return "paid once and booked, the caller has no answer"
    return "paid and not delivered" if bought or topped else "paid nothing"
