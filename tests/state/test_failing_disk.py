"""A disk that fails at any write, sync, rename or making of a file: one clear line, no second payment, nothing lost."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import environment
from x402_audio.sandbox import Limits, SandboxSeller, SandboxServer

HERE = Path(__file__).parent
WRITE, SYNC, NAME, MAKE = 1, 2, 4, 8
ALL = WRITE | SYNC | NAME | MAKE
POINTS = 10
"""How many points of each walk are tried, drawn from a seed; one in a hundred of all there are."""
SECONDS_MAX = 100
Walk = dict[str, Any]


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The failing disk, compiled."""
    library = tmp_path_factory.mktemp("shim") / "fault.so"
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, "-o", library, HERE / "fault.c", "-ldl"], check=True, timeout=SECONDS_MAX)
    return library


class Walker:
    """A process that buys and resumes on failing disks, as ordered."""

    def __init__(self, shim: Path, mode: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.state.walker", mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=environment(LD_PRELOAD=str(shim)), text=True, cwd=HERE.parents[1],
        )  # fmt: skip

    def walk(self, point: int, number: int = errno.ENOSPC, kinds: int = ALL, named: str = "") -> Walk:
        """One purchase on a disk that fails so from that point on, of those whose files are named so."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(
            json.dumps({"point": point, "errno": number, "kinds": kinds, "named": named}) + "\n"
        )
        self._process.stdin.flush()
        told: Walk = json.loads(self._process.stdout.readline())
        return told

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        assert self._process.wait(SECONDS_MAX) == 0


@pytest.fixture(scope="module", params=["venice", "direct-v2"])
def walker(request: pytest.FixtureRequest, shim: Path) -> Iterator[Walker]:
    """A walker at a prepaid and at a direct seller."""
    started = Walker(shim, request.param)
    yield started
    started.close()


def check(walk: Walk) -> None:
    """What must be true wherever the disk failed."""
    where = json.dumps(walk["order"])
    first, then = walk["first"], walk["then"]
    assert "Traceback" not in first["err"] + then["err"], where
    assert first["code"] in (0, 2, 9), (where, first["told"])
    if first["code"]:
        error = first["told"]["error"]
        assert error["code"] in ("LedgerError", "ConfigurationError", "BadDownload"), (where, error)
        assert first["err"].count("error: ") == 1, where
        assert "\n" not in error["message"] and error["nextStep"] and error["owner"] == "human", (
            where,
            error,
        )
        if any(walk["bought"]):
            assert error["moneyMoved"] in ("yes", "unknown"), (where, error)
    assert then["code"] == 0, (where, then["told"])
    assert (walk["at_last"][0] <= 1, walk["at_last"][1], walk["findings"]) == (True, 1, []), where
    assert (walk["left"], walk["bytes"] > 0) == (["t.mp3"], True), where


def drawn(total: int, seed: int) -> Sequence[int]:
    """One point of each part of the walk, which are equally long."""
    dice = random.Random(seed)
    return [1 + int((part + dice.random()) * total / POINTS) for part in range(POINTS)]


def test_a_disk_that_fills_up_at_any_point_costs_nothing_but_time(walker: Walker) -> None:
    whole = walker.walk(0)
    assert (whole["first"]["code"], whole["at_last"]) == (0, [1, 1])
    last = range(whole["points"] - 4, whole["points"] + 1)
    walks = [walker.walk(point) for point in (*drawn(whole["points"], 1), *last)]
    for one in walks:
        check(one)
    assert {one["first"]["code"] for one in walks[-len(last) :]} == {0}, (
        "the track is there, whatever the books say"
    )
    assert {one["first"]["code"] for one in walks} >= {2}
    moved = {one["first"]["told"]["error"]["moneyMoved"] for one in walks if one["first"]["code"]}
    assert moved == {"no", "yes", "unknown"}, "the points drawn lie before, within and after the payment"


def test_a_disk_that_syncs_no_more_is_not_trusted(walker: Walker) -> None:
    for point in (3, 30, 60):
        told = walker.walk(point, errno.EIO, SYNC)
        check(told)
        assert told["first"]["code"]


@pytest.mark.parametrize(
    ("kind", "named", "number"),
    [(WRITE, ".part", errno.ENOSPC), (SYNC, ".part", errno.ENOSPC), (NAME, "/t.mp3", errno.ENOSPC), (MAKE, ".part", errno.EROFS)],
    ids=["write", "sync", "rename", "make"],
)  # fmt: skip
def test_a_track_that_cannot_be_written_says_so_and_stays_at_the_seller(
    kind: int, named: str, number: int, walker: Walker
) -> None:
    told = walker.walk(1, number, kind, named)
    check(told)
    error = told["first"]["told"]["error"]
    assert (told["first"]["code"], error["code"], error["moneyMoved"]) == (9, "BadDownload", "yes")
    assert f"t.mp3 cannot be written ({os.strerror(number)})" in error["message"]


@pytest.mark.parametrize(
    ("kind", "named", "number"),
    [(WRITE, "ledger.db-wal$", errno.ENOSPC), (SYNC, "ledger.db-wal$", errno.EIO), (MAKE, "ledger.db-wal$", errno.ENOSPC),
     (WRITE, "ledger.db-shm$", errno.ENOSPC), (MAKE, "ledger.db-shm$", errno.EACCES)],
    ids=["log written", "log synced", "log made", "memory written", "memory made"],
)  # fmt: skip
def test_books_whose_log_cannot_be_kept_buy_nothing(
    kind: int, named: str, number: int, walker: Walker
) -> None:
    told = walker.walk(1, number, kind, named)
    check(told)
    error = told["first"]["told"]["error"]
    assert (told["first"]["code"], error["code"], error["moneyMoved"]) == (2, "LedgerError", "no")
    assert told["bought"] == [0, 0]


@pytest.mark.parametrize(
    ("kind", "number"), [(WRITE, errno.ENOSPC), (SYNC, errno.EIO)], ids=["write", "sync"]
)
def test_a_log_that_cannot_be_taken_up_into_the_file_costs_nothing(
    kind: int, number: int, walker: Walker
) -> None:
    """Every commit is in the log, and stays there until the disk is well."""
    told = walker.walk(1, number, kind, "/ledger.db$")
    check(told)
    assert (told["points"] > 0, told["first"]["code"], told["at_last"]) == (True, 0, [1, 1])


@pytest.mark.parametrize("named", ["ledger.db-wal$", "ledger.db-shm$"])
def test_a_log_that_fails_anywhere_on_the_way_costs_nothing_but_time(named: str, walker: Walker) -> None:
    total = walker.walk(0, named=named)["points"]
    assert total > 5
    for number, kinds in ((errno.ENOSPC, ALL), (errno.EIO, SYNC | WRITE)):
        for point in range(1, total + 1, 5):
            check(walker.walk(point, number, kinds, named))


def test_a_folder_that_can_only_be_read_is_refused_before_anything_is_sent(walker: Walker) -> None:
    for number in (errno.EROFS, errno.EACCES):
        told = walker.walk(1, number, ALL)
        check(told)
        assert (told["bought"], told["first"]["told"]["error"]["moneyMoved"]) == ([0, 0], "no")


def test_files_that_may_not_grow_end_in_one_line_and_resume_brings_the_track(tmp_path: Path) -> None:
    seller = SandboxSeller(mode="direct-v2", job_seconds=0.02, limits=Limits.off())
    command = [sys.executable, "-m", "x402_audio"]
    buy = (
        "generate",
        "rain on a tin roof",
        "--model",
        "elevenlabs-music",
        "--duration",
        "60",
        "--job-id",
        "j1",
        "--poll-interval",
        "0.05",
        "--json",
    )

    def small() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (260_000, resource.RLIM_INFINITY))

    with SandboxServer(seller) as server:
        env = environment(X402_AUDIO_API_URL=server.api_url, X402_AUDIO_PRIVATE_KEY="0x" + "5a" * 32)
        how: dict[str, Any] = {
            "env": env,
            "cwd": tmp_path,
            "capture_output": True,
            "text": True,
            "timeout": SECONDS_MAX,
        }
        ended = subprocess.run([*command, *buy], preexec_fn=small, check=False, **how)
        error = json.loads(ended.stdout)["error"]
        assert (ended.returncode, error["code"], error["moneyMoved"]) == (9, "BadDownload", "yes")
        assert "File too large" in error["message"] and "Traceback" not in ended.stderr
        assert not [one for one in os.listdir(tmp_path) if one.endswith((".mp3", ".part"))]
        again = subprocess.run([*command, "resume", "j1"], check=True, **how)
        assert Path(again.stdout.strip()).stat().st_size > 260_000
        books: dict[str, Any] = seller.books()
        assert (len(books["payments"]), len(books["jobs"])) == (1, 1)
