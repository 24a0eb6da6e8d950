"""What happened, line by line, and which faults and crash points a run has reached. Holds no secret and no real path."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Trace:
    """Lines with their simulated second; `reached` counts (what befell, where)."""

    root: str
    lines: list[str] = field(default_factory=list)
    reached: Counter[tuple[str, str]] = field(default_factory=Counter)

    def say(self, at: float, who: str, text: str) -> None:
        self.lines.append(f"{at:11.3f}  {who:<12} {text.replace(self.root, '')}")

    def reach(self, what: str, where: str) -> None:
        self.reached[what, where] += 1

    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()[:16]
