"""Several real processes of one wallet on one ledger: the gate, the top-up and a job each happen once for all."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.program import HurriedClock
from tests.jobs.stage import FLOOR, KEY, QUOTE, settings_for, usd
from x402_audio.client import AudioClient
from x402_audio.ledger.book import JobRecord
from x402_audio.money import ZERO, Usdc
from x402_audio.protocol.signer import LocalSigner
from x402_audio.sandbox import FaultPlan, FaultRule, Limits, SandboxSeller, SandboxServer
from x402_audio.sandbox.audio import find_queue_id

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 60
WALLET = LocalSigner.from_hex(KEY).address


class Fleet:
    """Programs on one state folder, and what they say, in the order it was said."""

    def __init__(self, folder: Path, server: SandboxServer, stack: ExitStack) -> None:
        self.folder = folder
        self.seller = server.seller
        self.api_url = server.api_url
        self._stack = stack
        self._reading, self._writing = os.pipe()
        self._buffer = b""
        self._programs: list[subprocess.Popen[bytes]] = []
        self.heard: list[dict[str, Any]] = []
        stack.callback(os.close, self._reading)
        (folder / "state").mkdir(mode=0o700)

    def program(self, **wish: Any) -> None:
        program = subprocess.Popen(
            [sys.executable, "-m", "tests.jobs.program", str(self.folder / "state"), self.api_url,
             json.dumps({"folder": str(self.folder), **wish})],
            stdin=subprocess.PIPE, stdout=self._writing, cwd=ROOT,
        )  # fmt: skip
        self._stack.callback(_end, program)
        self._programs.append(program)

    def go(self) -> None:
        """Begin, once every program stands at the line."""
        self.until(lambda: self.said("ready") == len(self._programs))
        for program in self._programs:
            assert program.stdin is not None
            program.stdin.write(b"go\n")
            program.stdin.flush()

    def said(self, what: str) -> int:
        return sum(line["what"] == what for line in self.heard)

    def last(self) -> dict[str, str]:
        """The newest state of each job, by what its programs said."""
        return {
            line["job"]: line["what"]
            for line in self.heard
            if line["what"] in ("queued", "parked", "completed")
        }

    def until(self, true: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        """Listen until it is so."""
        end = time.monotonic() + patience_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._reading, selectors.EVENT_READ)
            while not true():
                assert selector.select(end - time.monotonic()), f"it never came; heard {self.heard}"
                self._buffer += os.read(self._reading, 1 << 16)
                *lines, self._buffer = self._buffer.split(b"\n")
                self.heard += [json.loads(line) for line in lines]

    def books(self) -> dict[str, Any]:
        return self.seller.books()

    def jobs(self) -> list[JobRecord]:
        """The stored jobs, oldest first."""
        with AudioClient(settings_for(self.api_url, self.folder / "state")) as client:
            return client.jobs()

    def queue_answers(self) -> list[int]:
        return [
            entry["status"] for entry in self.books()["requests"] if entry["path"].endswith("/audio/queue")
        ]


def _end(program: subprocess.Popen[bytes]) -> None:
    program.kill()
    program.wait()
    assert program.stdin is not None
    program.stdin.close()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    with ExitStack() as stack:

        def gather(*rules: FaultRule, credit: Usdc = ZERO, **options: Any) -> Fleet:
            options.setdefault("limits", Limits(retrieve=None))
            seller = SandboxSeller(
                starting_credit=credit, job_seconds=options.pop("job_seconds", 0.5),
                faults=FaultPlan(rules), **options,
            )  # fmt: skip
            return Fleet(tmp_path, stack.enter_context(SandboxServer(seller)), stack)

        yield gather


def test_of_ten_jobs_of_five_programs_exactly_those_start_that_the_credit_covers(
    fleet: Callable[..., Fleet],
) -> None:
    """Three are queued, seven park with what is missing, none is answered 402; as credit comes they go on in order."""
    five = fleet(credit=Usdc(3 * QUOTE + FLOOR))
    names = [f"job-{n}" for n in range(10)]
    for n in range(5):
        five.program(submit=names[2 * n : 2 * n + 2], work=PATIENCE_S)
    five.go()

    five.until(lambda: sorted(five.last().values()) == ["completed"] * 3 + ["parked"] * 7)
    parked = [
        line for line in five.heard if line["what"] == "parked" and five.last()[line["job"]] == "parked"
    ]
    assert {line["reason"] for line in parked} == {"funds"}
    assert all(0 < line["missing_atomic"] <= 7 * QUOTE for line in parked)
    assert five.queue_answers() == [200] * 3
    assert five.seller.account(WALLET).credit == FLOOR

    waiting = [job.id for job in five.jobs() if job.state == "parked"]
    five.seller.credit(WALLET, Usdc(2 * QUOTE))
    five.until(lambda: list(five.last().values()).count("completed") == 5)
    assert len(five.books()["jobs"]) == 5
    assert [five.last()[name] for name in waiting] == ["completed"] * 2 + ["parked"] * 5
    five.seller.credit(WALLET, Usdc(5 * QUOTE))
    five.until(lambda: list(five.last().values()) == ["completed"] * 10)

    assert five.queue_answers() == [200] * 10
    assert five.seller.account(WALLET).credit == FLOOR
    assert five.books()["payments"] == []
    tracks = {find_queue_id((five.folder / f"{name}.mp3").read_bytes()) for name in names}
    assert tracks == {job["queue_id"] for job in five.books()["jobs"]}


def test_programs_that_all_lack_credit_pay_one_top_up_and_share_it(fleet: Callable[..., Fleet]) -> None:
    """The others wait for the one under way; nothing of theirs is called unknown."""
    four = fleet(FaultRule("slow_settlement", value=1))
    for n in range(4):
        four.program(generate=[f"job-{n}"], max_top_up="5")
    four.go()
    four.until(lambda: four.said("track") + four.said("error") == 4)
    assert four.said("error") == 0, four.heard
    assert [payment["value"] for payment in four.books()["payments"]] == [usd("5")]
    assert len(four.books()["jobs"]) == 4
    assert set(four.queue_answers()) == {200}


def test_one_job_asked_for_by_three_programs_is_bought_once_and_given_to_all(
    fleet: Callable[..., Fleet],
) -> None:
    three = fleet(job_seconds=1)
    for _ in range(3):
        three.program(generate=["k"], max_top_up="5")
    three.go()
    three.until(lambda: three.said("track") + three.said("error") == 3)
    tracks = {(line["path"], line["sha256"]) for line in three.heard if line["what"] == "track"}
    assert (len(tracks), three.said("error")) == (1, 0), three.heard
    assert (len(three.books()["payments"]), len(three.books()["jobs"])) == (1, 1)


def batch(
    fleet: Callable[..., Fleet], *rules: FaultRule, programs: int, jobs: int, pace: float
) -> tuple[Fleet, list[dict[str, Any]]]:
    """Every program buys its jobs, one after the other, while time runs faster than ever; how each job ended."""
    clock = HurriedClock(time.time(), pace)
    crowd = fleet(*rules, clock=clock, limits=Limits.off())
    each = jobs // programs
    for n in range(programs):
        crowd.program(
            batch=[f"job-{n}-{number}" for number in range(each)], clock=[clock.began, pace],
            settings={"MAX_TOP_UP": "5", "MAX_TOP_UP_PER_DAY": "1000"},
        )  # fmt: skip
    crowd.go()
    crowd.until(lambda: crowd.said("ended") == jobs, 5 * PATIENCE_S)
    return crowd, [line for line in crowd.heard if line["what"] == "ended"]


def paid_in(crowd: Fleet) -> tuple[list[int], list[int]]:
    """Top-ups in the seller's books, and what left the wallet on the chain."""
    moved = [one.value for one in crowd.seller.chain.transfers if one.payer == WALLET.lower()]
    return [payment["value"] for payment in crowd.books()["payments"]], moved


def test_where_credit_never_shows_two_hundred_jobs_of_four_programs_cost_one_top_up(
    fleet: Callable[..., Fleet],
) -> None:
    """The owner would allow two hundred: the first ends top-ups for all the others, in every program."""
    crowd, ends = batch(fleet, FaultRule("never_credit", every=True), programs=4, jobs=200, pace=30)
    assert paid_in(crowd) == ([usd("5")], [usd("5")])
    assert Counter(line["code"] for line in ends).keys() <= {"PaymentRefused", "PaymentUnsettled"}
    assert crowd.books()["jobs"] == []
    with AudioClient(settings_for(crowd.api_url, crowd.folder / "state")) as client:
        assert client.ledger.verify() == []


def test_forty_jobs_of_four_programs_share_one_top_up(fleet: Callable[..., Fleet]) -> None:
    crowd, ends = batch(fleet, programs=4, jobs=40, pace=20)
    assert [line for line in ends if line["code"]] == []
    assert paid_in(crowd) == ([usd("5")], [usd("5")])
    assert len(crowd.books()["jobs"]) == 40
