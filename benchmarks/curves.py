"""`python -m benchmarks.curves`: how cost grows with waiting jobs and with processes, as data and as pictures.

Writes `benchmarks/curves.json` and `docs/curve-*.svg`. The ledger lies in memory where the machine has such a place:
what is shown is the program, not a disk.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.waiting import MEMORY, arm
from x402_audio.clock import system_random
from x402_audio.ledger.book import Limit, Reserve
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc

JOBS: Final = (1, 10, 100, 300, 1000)
PROCESSES: Final = (1, 2, 4, 8, 16, 32)
SECONDS: Final = 4.0
COMMITS: Final = 2
"""A payment's: reserved and leaving; paid and come."""
DATA: Final = Path(__file__).with_name("curves.json")
DOCS: Final = Path(__file__).parent.parent / "docs"
CENT: Final = Usdc(10_000)
LIMITS: Final = (
    Limit("jobs", "payment", CENT, source="environment"),
    Limit("jobs", "hour", Usdc(10**12), source="environment"),
    Limit("jobs", "day", Usdc(10**12), source="environment"),
)


def payment() -> Reserve:
    nonce = system_random(32).hex()
    return Reserve(
        kind="direct", wallet="0x" + "a1" * 20, network="eip155:8453", asset="0x" + "d4" * 20, environment="production",
        origin="https://seller.example", pay_to="0x" + "b2" * 20, amount=CENT, nonce="0x" + nonce, valid_after=0,
        valid_before=2**31, method="POST", resource="https://seller.example/audio", body_digest=nonce, purchase=nonce,
        leaves=True,
    )  # fmt: skip


def pay(path: Path) -> dict[str, float]:
    """One process's payments, booked for SECONDS from the word to begin."""
    ledger = SqliteLedger(path)
    ledger.heads()
    print("ready", flush=True)
    sys.stdin.readline()
    start, payments = time.process_time(), 0
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        hold = ledger.reserve(payment(), LIMITS)
        ledger.settle(hold.id, evidence="receipt")
        payments += 1
    return {"payments": payments, "cpu_s": time.process_time() - start}


def processes(number: int) -> dict[str, float]:
    """So many processes on one ledger, begun together once all of them are there."""
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        path = Path(folder) / "ledger.db"
        SqliteLedger(path).close()
        words = [sys.executable, "-m", "benchmarks.curves", str(path)]
        running = [
            subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(number)
        ]
        for each in running:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"
        begin = time.monotonic()
        for each in running:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        told = [json.loads(each.communicate()[0]) for each in running]
        took = time.monotonic() - begin
    payments = sum(each["payments"] for each in told)
    return {
        "processes": number,
        "commits_per_s": round(payments * COMMITS / took, 1),
        "cpu_us_per_payment": round(sum(each["cpu_s"] for each in told) * 1e6 / payments, 1),
    }


def waiting(jobs: int) -> dict[str, float]:
    found = arm(jobs)
    return {
        "jobs": jobs, "resident_mb": round(found["kb"] / 1024, 2), "polls": found["polls"],
        "cpu_ms_per_poll": round(found["cpu_s"] * 1e3 / found["polls"], 3),
    }  # fmt: skip


# --- pictures
@dataclass(frozen=True, slots=True)
class Curve:
    """One picture: x grows by factors, y from nothing."""

    file: str
    title: str
    rows: str
    x: str
    x_label: str
    y: str
    y_label: str


CURVES: Final = (
    Curve("curve-waiting-memory.svg", "Memory of a program that waits for jobs", "waiting", "jobs", "waiting jobs", "resident_mb", "resident memory, MB"),
    Curve("curve-waiting-cpu.svg", "Processor time of a poll, equally many polls", "waiting", "jobs", "waiting jobs", "cpu_ms_per_poll", "processor time a poll, ms"),
    Curve("curve-processes-commits.svg", "Processes that pay from one ledger", "processes", "processes", "processes", "commits_per_s", "commits a second"),
    Curve("curve-processes-cpu.svg", "Processor time of a booked payment", "processes", "processes", "processes", "cpu_us_per_payment", "processor time a payment, µs"),
)  # fmt: skip
LEFT: Final = 70
RIGHT: Final = 600
TOP: Final = 50
BOTTOM: Final = 300


def picture(curve: Curve, rows: Sequence[Mapping[str, float]]) -> str:
    """An SVG with both axes named, readable on light and dark pages."""
    xs, ys = [row[curve.x] for row in rows], [row[curve.y] for row in rows]
    top = _round_up(max(ys))

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            round(LEFT + (RIGHT - LEFT) * log(x / xs[0]) / log(xs[-1] / xs[0]), 1),
            round(BOTTOM - (BOTTOM - TOP) * y / top, 1),
        )

    lines = []
    for step in range(5):
        value = top * step / 4
        _, y = place(xs[0], value)
        lines.append(f'<line x1="{LEFT}" y1="{y}" x2="{RIGHT}" y2="{y}" stroke="#ddd"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{value:g}</text>')
    points = [place(x, y) for x, y in zip(xs, ys, strict=True)]
    lines += [
        f'<text x="{x}" y="{BOTTOM + 18}" text-anchor="middle">{value:g}</text>'
        for value, (x, _) in zip(xs, points, strict=True)
    ]
    joined = " ".join(f"{x},{y}" for x, y in points)
    lines.append(f'<polyline points="{joined}" fill="none" stroke="#0052ff" stroke-width="2"/>')
    lines += [f'<circle cx="{x}" cy="{y}" r="3.5" fill="#0052ff"/>' for x, y in points]
    middle = (LEFT + RIGHT) / 2
    return "\n".join([
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 350" font-family="sans-serif" font-size="12" fill="#333">',
        f"<title>{curve.title}</title>",
        '<rect width="640" height="350" fill="#fff"/>',
        f'<text x="{middle}" y="24" text-anchor="middle" font-size="15">{curve.title}</text>',
        *lines,
        f'<text x="{middle}" y="{BOTTOM + 40}" text-anchor="middle">{curve.x_label}</text>',
        (f'<text x="16" y="{(TOP + BOTTOM) / 2}" text-anchor="middle" transform="rotate(-90 16 {(TOP + BOTTOM) / 2})">'
        f"{curve.y_label}</text>"),
        "</svg>",
    ]) + "\n"  # fmt: skip


def _round_up(value: float) -> float:
    """To the next 1, 2, 4 or 8 of its power of ten, so that quarters are round."""
    power = 1.0
    while power * 10 <= value:
        power *= 10
    while power > value:
        power /= 10
    return next(power * step for step in (1, 2, 4, 6, 8, 10) if power * step >= value)


def main() -> None:
    data = {
        "waiting": [waiting(jobs) for jobs in JOBS],
        "processes": [processes(number) for number in PROCESSES],
    }
    DATA.write_text(json.dumps(data, indent=1) + "\n")
    for curve in CURVES:
        (DOCS / curve.file).write_text(picture(curve, data[curve.rows]), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(pay(Path(sys.argv[1]))))
    else:
        main()
