"""Misfortune to order: ordered rules that say which request goes wrong, and how.

Counts requests and hands out what was ordered; the rooms that answer do the harm. Knows no money.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from x402_audio.jsontext import Json

CONNECTION_ACTIONS: Final = (
    "drop_before", "drop_after", "hang_after", "status", "status_after", "garbage", "truncate", "slow",
    "redirect", "redirect_after", "no_receipt",
)  # fmt: skip
SELLER_ACTIONS: Final = {
    "overcharge": "/audio/queue",
    "charge_without_delivery": "/audio/queue",
    "fail_job": "/audio/queue",
    "refuse_content": "/audio/queue",
    "expire_media": "/audio/queue",
    "never_credit": "/x402/top-up",
    "settlement_failed": "/x402/top-up",
    "slow_settlement": "/x402/top-up",
    "raw_balance": "/x402/balance",
    "wrong_terms": "",
}
ACTIONS: Final = frozenset(CONNECTION_ACTIONS) | frozenset(SELLER_ACTIONS)
_SEEDED: Final[tuple[tuple[str, str, Json], ...]] = (
    ("drop_before", "/audio/queue", None),
    ("drop_after", "/audio/queue", None),
    ("drop_after", "/x402/top-up", None),
    ("drop_after", "/audio/retrieve", None),
    ("status", "/audio/queue", 503),
    ("status_after", "/audio/queue", 500),
    ("status_after", "/x402/top-up", 504),
    ("status", "/audio/retrieve", 429),
    ("status", "/x402/balance", 500),
    ("garbage", "/audio/queue", None),
    ("garbage", "/audio/quote", None),
    ("truncate", "/audio/retrieve", None),
    ("no_receipt", "/x402/top-up", None),
    ("fail_job", "/audio/queue", None),
    ("refuse_content", "/audio/queue", None),
    ("drop_after", "/audio/complete", None),
)


@dataclass(slots=True)
class FaultRule:
    """`action` befalls the `nth` request (1-based) whose path holds `route`, or every one of them.

    `value` is the action's own: a status or `{"status", "body", "headers"}`, seconds, an origin to redirect to,
    a patch of terms, dollars, raw balance tokens (a list is used up one by one).
    """

    action: str
    route: str = ""
    method: str = ""
    nth: int = 1
    every: bool = False
    value: Json = None
    seen: int = 0

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"no such fault: {self.action}")
        self.route = self.route or SELLER_ACTIONS.get(self.action, "")

    def strikes(self, method: str, path: str) -> bool:
        """Count this request if the rule is about it, and say whether it is the one."""
        if self.route not in path or (self.method and self.method.upper() != method):
            return False
        self.seen += 1
        if isinstance(self.value, list):
            return self.seen <= len(self.value)
        return self.every or self.seen == self.nth

    def detail(self) -> Json:
        return self.value[self.seen - 1] if isinstance(self.value, list) else self.value


class FaultPlan:
    """The rules in force, in order; of two rules with one action the first to strike is used."""

    def __init__(self, rules: Iterable[FaultRule] = ()) -> None:
        self._lock = threading.Lock()
        self._rules = list(rules)

    def replace(self, rules: Iterable[FaultRule]) -> None:
        with self._lock:
            self._rules = list(rules)

    def take(self, method: str, path: str) -> dict[str, Json]:
        """What befalls this request: action and value. Every rule about it counts it."""
        taken: dict[str, Json] = {}
        with self._lock:
            for rule in self._rules:
                if rule.strikes(method, path):
                    taken.setdefault(rule.action, rule.detail())
        return taken

    @staticmethod
    def read_rules(value: Json) -> list[FaultRule]:
        """Rules from JSON. Raises ValueError."""
        if not isinstance(value, list):
            raise ValueError("rules are a list")
        return [_read_rule(item) for item in value]

    @classmethod
    def from_seed(cls, seed: int) -> FaultPlan:
        """One to three honest accidents, the same for the same seed; each strikes once and then it is over."""
        dice = random.Random(seed)
        chosen = dice.sample(_SEEDED, dice.randint(1, 3))
        return cls(
            FaultRule(action, route, "", dice.randint(1, 2), False, value) for action, route, value in chosen
        )


def _read_rule(item: Json) -> FaultRule:
    if not isinstance(item, dict) or set(item) - {"action", "route", "method", "nth", "every", "value"}:
        raise ValueError("a rule has action, route, method, nth, every, value")
    action, route, method = item.get("action"), item.get("route", ""), item.get("method", "")
    nth, every = item.get("nth", 1), item.get("every", False)
    if not (isinstance(action, str) and isinstance(route, str) and isinstance(method, str)):
        raise ValueError("action, route and method are texts")
    if not isinstance(nth, int) or isinstance(nth, bool) or nth < 1 or not isinstance(every, bool):
        raise ValueError("nth is a number from 1, every is true or false")
    return FaultRule(action, route, method, nth, every, item.get("value"))
