"""What a seed chose: who buys what from whom, within which limits, and what goes wrong. Plain values, no behaviour.

Everything a world does beyond this is drawn from `Random(seed)` in the order things happen, so a seed is a world.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Literal

Kind = Literal["credit", "direct-v1", "direct-v2", "auth-v1", "auth-v2", "auth-credit"]
KINDS: tuple[Kind, ...] = ("credit", "direct-v1", "direct-v2", "auth-v1", "auth-v2", "auth-credit")

FATES = (
    "lost", "answer lost", "twice", "late", "slow", "cut", "garbage", "500", "500 after", "429", "402 again",
    "redirect", "redirect after",
)  # fmt: skip
"""What may befall one request on its way."""

LIES: dict[str, tuple[str, ...]] = {
    "credit": (
        "never credits", "overcharges", "shows rows twice", "balance nonsense", "charges and fails",
        "fails and refunds", "refuses content", "says a top-up failed", "late top-up", "loses the media",
        "charges at the end", "no receipt",
    ),
    "direct": (
        "says 402 though paid", "takes the money later", "says success false though paid", "says paid though not",
        "charges and fails", "fails and refunds", "no receipt", "wrong terms",
    ),
}  # fmt: skip
CHAIN_LIES = ("wrong chain", "lags", "errors", "one node never saw it")


@dataclass(frozen=True, slots=True)
class Plan:
    """One world. Rates are per request or step; `jobs` of USD 0.69 each."""

    seed: int
    kind: Kind
    jobs: int = 1
    tries: int = 4
    rivals: int = 0
    trouble: float = 0.0
    crash: float = 0.0
    stall: float = 0.0
    power_cut: bool = False
    lie: str = ""
    chain: Literal["none", "one", "two"] = "one"
    chain_lie: str = ""
    finality_s: float = 900.0
    funds: Literal["credit", "top-up", "little"] = "top-up"
    max_per_hour: str = "100"
    max_top_up: str = "5"
    max_top_up_day: str = "20"
    max_total: str = ""
    crowd: bool = False
    back_after_s: tuple[float, ...] = (0.5, 5.0, 60.0, 290.0, 900.0)
    foreign_draws: bool = False
    clock_error_s: float = 0.0
    opaque_owners: bool = False
    real_rates: bool = False
    signer_afar: bool = False
    """The signature is not made in the buying process: header stored, a commit of its own before it leaves."""

    @property
    def credit(self) -> bool:
        return self.kind.endswith("credit")

    @property
    def stranger(self) -> bool:
        return self.kind.startswith("auth")

    @property
    def honest(self) -> bool:
        """Nobody lies and nobody else spends: what was paid must be delivered."""
        return not self.lie and not self.chain_lie and not self.foreign_draws


def plan_of(seed: int) -> Plan:
    """The world of a seed."""
    dice = Random(f"plan {seed}")
    kind: Kind = dice.choice(("credit", "credit", *KINDS))
    plan = Plan(
        seed=seed, kind=kind, jobs=dice.choice((1, 1, 2, 3)), rivals=dice.choice((0, 0, 1, 2)),
        trouble=dice.choice((0.0, 0.05, 0.15, 0.35)), crash=dice.choice((0.0, 0.003, 0.01, 0.03)),
        stall=dice.choice((0.0, 0.0, 0.005, 0.02)), power_cut=dice.random() < 0.15,
        chain=dice.choice(("none", "one", "one", "two")), finality_s=dice.choice((0.0, 30.0, 900.0)),
        opaque_owners=dice.random() < 0.1, real_rates=dice.random() < 0.1,
    )  # fmt: skip
    if dice.random() < 0.35:
        plan = replace(plan, lie=dice.choice(LIES["credit" if plan.credit else "direct"]))
    if plan.chain != "none" and dice.random() < 0.2:
        lies = CHAIN_LIES if plan.chain == "two" else CHAIN_LIES[:3]
        plan = replace(plan, chain_lie=dice.choice(lies))
    if plan.credit:
        plan = replace(
            plan, funds=dice.choice(("credit", "top-up", "top-up", "little")),
            foreign_draws=dice.random() < 0.12, max_top_up=dice.choice(("5", "5", "6", "0")),
        )  # fmt: skip
    if dice.random() < 0.25:
        plan = replace(plan, max_per_hour=dice.choice(("0.69", "1.40", "0.50")))
    if dice.random() < 0.08:
        plan = replace(plan, clock_error_s=dice.choice((-400.0, -30.0, 30.0, 400.0)))
    if dice.random() < 0.1:
        plan = replace(plan, max_total=dice.choice(("0.70", "1.40", "5.50")))
    if dice.random() < 0.1:  # everybody at the same instant over equally fast lines, and too little for all
        plan = replace(plan, crowd=True, jobs=3, max_per_hour=dice.choice(("0.69", "1.40", "100")))
    return replace(plan, signer_afar=dice.random() < 0.25)
