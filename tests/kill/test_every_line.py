"""The real command is killed at every commit, sync, rename and request of its walk, and resumed: nothing is paid twice.

An undisturbed walk is traced and its points counted. Then, for each of them, a new wallet with a new ledger walks the
same way, its process group is killed there with SIGKILL, and `resume` must end with one payment, one job and one good
file by the seller's own books. What a kill cannot show - that a sync came before a send - is read from the trace.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count, groupby
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from tests.kill.conftest import AT_ONCE
from tests.kill.preloaded import Preloaded
from tests.kill.tracer import Run, Step, run, unsynced_before
from x402_audio.clock import SystemClock, system_random
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.sandbox import Limits, SandboxSeller, SandboxServer
from x402_audio.sandbox.audio import find_queue_id

RESUMES_MAX = 3
PROMPT = "warm indie folk, 120 BPM"
SPENDING = {
    "topup": ["POST /api/v1/x402/top-up +payment", "POST /api/v1/audio/queue"],
    "direct-v1": ["POST /api/v1/audio/queue +payment"],
    "direct-v2": ["POST /api/v1/audio/queue +payment"],
}
"""The requests that can spend, in their order."""
WALKS = {"topup": "venice", "direct-v1": "direct-v1", "direct-v2": "direct-v2"}


class PatientSeller(SandboxSeller):
    """A seller whose job is ready at the second look: every walk has one waiting poll, however slow the machine."""

    def __init__(self, mode: str) -> None:
        super().__init__(mode=mode, job_seconds=3600, limits=Limits.off())

    def note_request(self, method: str, path: str, status: int, wallet: str, code: str) -> None:
        super().note_request(method, path, status, wallet, code)
        if path.endswith("/audio/retrieve"):
            with self.lock:
                for job in self.jobs.values():
                    job.ready_at = min(job.ready_at, self.now())


@dataclass
class Buyer:
    """One new wallet with a folder of its own, at one seller."""

    commands: Preloaded
    server: SandboxServer
    folder: Path
    key: int
    runs: list[Run] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir()

    @property
    def wallet(self) -> str:
        from eth_keys.datatypes import PrivateKey

        return PrivateKey(self.key.to_bytes(32, "big")).public_key.to_address()

    @property
    def track(self) -> Path:
        return self.folder / "tracks" / "t.mp3"

    def generate(self, *, traced: bool = False, kill: tuple[int, str] | None = None) -> Run:
        return self._run(self._order(), traced=traced, kill=kill)

    def generate_by_a_started_interpreter(self, shim: Path) -> Run:
        command = [sys.executable, "-m", "x402_audio", *self._order()]
        ended = run(command, folder=self.folder, environment=self._environment, shim=shim)
        self.runs.append(ended)
        return ended

    def resume(self) -> Run:
        return self._run(["resume", "k", "--poll-interval", "0.05", "--json"])

    def verify(self) -> Run:
        return self._run(["ledger", "verify", "--json"])

    def _order(self) -> list[str]:
        (self.folder / "tracks").mkdir(exist_ok=True)
        provider = "venice" if self.server.seller.mode == "venice" else "direct"
        return [
            "generate", PROMPT, "--model", "elevenlabs-music", "--duration", "60", "--max-price", "1",
            "--max-top-up", "5", "--job-id", "k", "--output", str(self.track), "--poll-interval", "0.05",
            "--provider", provider, "--api-url", self.server.api_url, "--json",
        ]  # fmt: skip

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "X402_AUDIO_PRIVATE_KEY": f"0x{self.key:064x}",
            "X402_AUDIO_STATE_DIR": str(self.folder / "state"),
            "X402_AUDIO_API_URL": self.server.api_url,
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }

    def _run(self, words: list[str], *, traced: bool = False, kill: tuple[int, str] | None = None) -> Run:
        ended = self.commands.run(
            words, folder=self.folder, environment=self._environment, traced=traced, kill=kill
        )
        self.runs.append(ended)
        return ended

    def story(self) -> str:
        """What every command of this buyer said, for the person who reads a failure."""
        return "\n".join(f"exit {ended.exit_code}: {ended.stdout}{ended.stderr}" for ended in self.runs)


@pytest.fixture
def quick_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: thousands of syncs are waited for, and SIGKILL spares memory and disk
    alike. That they come in time is read from the trace, not from the disk.
    """
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="x402-audio-kill-") as folder:
        yield Path(folder)


@pytest.fixture
def walk(
    request: pytest.FixtureRequest, quick_folder: Path, preloaded: Sequence[Preloaded]
) -> Iterator[Walk]:
    with ExitStack() as servers:
        yield Walk(
            request.param,
            quick_folder,
            [
                (commands, servers.enter_context(SandboxServer(PatientSeller(WALKS[request.param]))))
                for commands in preloaded
            ],
        )


class Walk:
    """One way to pay; makes buyers, each with its own key, ledger and output folder."""

    def __init__(self, name: str, folder: Path, places: Sequence[tuple[Preloaded, SandboxServer]]) -> None:
        """places: where one purchase can go on at a time; one seller each, or a job is ready at another's look."""
        self.name = name
        self._folder = folder
        self._places: SimpleQueue[tuple[Preloaded, SandboxServer]] = SimpleQueue()
        for place in places:
            self._places.put(place)
        self._keys = count((sorted(WALKS).index(name) + 1 << 32) + 1)
        self._lock = threading.Lock()

    @contextmanager
    def buyer(self, name: str) -> Iterator[Buyer]:
        """A new buyer, as soon as there is a place for it."""
        with self._lock:
            key = next(self._keys)
        commands, server = self._places.get()
        try:
            yield Buyer(commands, server, self._folder / name, key)
        finally:
            self._places.put((commands, server))


def kill_points(steps: Sequence[Step]) -> list[tuple[Step, str]]:
    """Before each point, and after those by which the seller or the disk learns something.

    After a sync is before the next point: between two points a process changes nothing but its memory. After a commit
    it changes the memory it shares with other programs on the ledger, so that is a point of its own.
    """
    return [
        (step, step.when)
        for step in steps
        if step.point
        and (step.when == "before" or step.kind in ("commit", "request", "body", "answer", "rename"))
    ]


@contextmanager
def books_of(buyer: Buyer) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(buyer.folder / "state" / "ledger.db", clock=SystemClock(), random=system_random)
    try:
        yield ledger
    finally:
        ledger.close()


def judge(buyer: Buyer) -> list[str]:
    """What is wrong by the seller's books, the file and our ledger; nothing, if all is well."""
    import soundfile

    wrong: list[str] = []
    books: dict[str, Any] = buyer.server.seller.books()
    payments = [payment for payment in books["payments"] if payment["from"].lower() == buyer.wallet]
    jobs = [job for job in books["jobs"] if job["wallet"].lower() == buyer.wallet]
    if len(payments) != 1:
        wrong.append(f"{len(payments)} payments")
    if len(jobs) != 1:
        wrong.append(f"{len(jobs)} jobs")
    if not buyer.track.exists():
        return [*wrong, "no file"]
    data = buyer.track.read_bytes()
    frames = soundfile.info(io.BytesIO(data)).duration
    if not 59 <= frames <= 61:
        wrong.append(f"a file of {frames} s")
    if jobs and find_queue_id(data) != jobs[0]["queue_id"]:
        wrong.append("another job's file")
    if left := [path.name for path in buyer.track.parent.iterdir() if path != buyer.track]:
        wrong.append(f"left over beside the file: {left}")
    with books_of(buyer) as ledger:
        wrong += [finding.text for finding in ledger.verify()]
    return wrong


def revive(buyer: Buyer) -> list[str]:
    """Resume until done; a job that was never stored is asked for again, under the same id.

    The only other ending allowed on the way is 8: a queue call may have been taken, the next resume asks the seller.
    """
    for _ in range(RESUMES_MAX):
        resumed = buyer.resume()
        if resumed.exit_code == 2:
            resumed = buyer.generate()
        if resumed.exit_code == 0:
            return []
        if resumed.exit_code != 8:
            return [f"resume ended with exit {resumed.exit_code}"]
    return [f"not done after {RESUMES_MAX} resumes"]


def kill_and_resume(walk: Walk, step: Step, when: str) -> list[str]:
    with walk.buyer(f"{walk.name}-{step.point}-{when}") as buyer:
        killed = buyer.generate(traced=True, kill=(step.point, when))
        if killed.exit_code != -signal.SIGKILL:
            wrong = ["it was not killed"]
        elif (killed.steps[-1].name, killed.steps[-1].when) != (step.name, when):
            wrong = [f"killed at {killed.steps[-1]}: not the same walk"]
        else:
            wrong = revive(buyer) + judge(buyer)
    if not wrong:
        shutil.rmtree(buyer.folder)
        return []
    return [f"{walk.name}, killed {when} point {step.point} ({step.name}): {wrong}\n{buyer.story()}"]


def undisturbed(walk: Walk) -> Run:
    with walk.buyer(f"{walk.name}-undisturbed") as buyer:
        done = buyer.generate(traced=True)
        assert done.exit_code == 0, buyer.story()
        assert judge(buyer) == []
        assert buyer.verify().exit_code == 0, buyer.story()
    return done


@pytest.mark.parametrize("walk", WALKS, indirect=True)
def test_killed_at_every_point_and_resumed_it_pays_once_and_delivers(
    walk: Walk, only_points: frozenset[int], tell: Callable[[str], None]
) -> None:
    done = undisturbed(walk)
    wanted = only_points or set(range(1, done.points + 1))
    kills = [at for at in kill_points(done.steps) if at[0].point in wanted]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        failed = [text for texts in pool.map(lambda at: kill_and_resume(walk, *at), kills) for text in texts]
    visited = {step.point for step, _ in kills}
    kinds = Counter(step.kind for step in {step.point: step for step, _ in kills}.values())
    kinds_in_words = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    resumed = len(kills) - len(failed)
    tell(f"{walk.name}: {len(visited)} points ({kinds_in_words}), {len(kills)} kills, {resumed} resumed")
    assert not failed, "\n\n".join(failed)
    assert visited == wanted
    if not only_points:
        names = {step.name for step, _ in kills}
        assert {"commit state/ledger.db-wal", "sync state/ledger.db"} <= names, (
            "commits, and what takes them up"
        )
        assert walk.name != "topup" or "truncate state/ledger.db-wal" in names, (
            "a header that is gone left the log"
        )


def _told_apart(steps: Sequence[Step]) -> list[tuple[int, str, str]]:
    """Every point, and what was written between them; in how many pieces an answer came is chance."""
    return [at for at, _ in groupby((step.point, step.when, step.name) for step in steps)]


@pytest.mark.parametrize("walk", WALKS, indirect=True)
def test_a_forked_command_takes_the_same_steps_as_a_started_one(walk: Walk, shim: Path) -> None:
    """So that it is the command of people that is killed, whatever the preloaded process has done before."""
    forked = undisturbed(walk)
    with walk.buyer("started") as buyer:
        started = buyer.generate_by_a_started_interpreter(shim)
    assert started.exit_code == 0, buyer.story()
    assert _told_apart(forked.steps) == _told_apart(started.steps)


def lasting(steps: Sequence[Step]) -> list[Step]:
    """Without the file of request rates: it holds no money, is never synced, and a lost one is made again."""
    return [step for step in steps if ".rates" not in step.subject]


@pytest.mark.parametrize("walk", WALKS, indirect=True)
def test_no_spending_byte_leaves_before_the_ledger_is_synced(walk: Walk) -> None:
    steps = lasting(undisturbed(walk).steps)

    def spends(step: Step) -> bool:
        return step.kind == "request" and step.subject in SPENDING[walk.name]

    sent = [at for at, step in enumerate(steps) if spends(step) and step.when == "before"]
    assert [steps[at].subject for at in sent] == SPENDING[walk.name]
    assert unsynced_before(steps, spends) == []
    for at in sent:
        since = max(index for index, step in enumerate(steps[:at]) if step.kind == "answer")
        commits = [step for step in steps[since:at] if step.kind == "commit" and step.when == "after"]
        assert commits, f"{steps[at].subject} left without a commit since the answer before it"


@pytest.mark.parametrize("walk", WALKS, indirect=True)
def test_what_is_about_to_be_spent_stands_signed_in_the_books(walk: Walk) -> None:
    steps = undisturbed(walk).steps
    for subject in SPENDING[walk.name]:
        point = next(step.point for step in steps if step.subject == subject)
        with walk.buyer(f"{walk.name}-{point}") as buyer:
            assert buyer.generate(traced=True, kill=(point, "before")).exit_code == -signal.SIGKILL
        with books_of(buyer) as ledger:
            (hold,) = ledger.holds(states=("signed",))
            assert hold.kind == "direct" or ledger.header_of(hold.id), (
                "its header follows from its fields, or is kept"
            )
        assert subject.removeprefix("POST ").removesuffix(" +payment") in hold.resource


@pytest.mark.parametrize("walk", WALKS, indirect=True)
def test_the_seller_is_told_to_delete_only_after_file_and_folder_are_synced(walk: Walk) -> None:
    steps = lasting(undisturbed(walk).steps)

    def is_complete(step: Step) -> bool:
        return step.kind == "request" and step.subject.endswith("/audio/complete")

    def first(kind: str, subject: str, *, after: int) -> int:
        found = [
            at for at, step in enumerate(steps)
            if at > after and step.kind == kind and step.subject == subject and step.when == "after"
        ]  # fmt: skip
        return found[0]

    renamed = first("rename", "tracks/t.mp3", after=-1)
    parts = [
        at
        for at, step in enumerate(steps[:renamed])
        if step.kind == "sync" and step.subject.startswith("tracks/")
    ]
    folder_synced = first("sync", "tracks", after=renamed)
    completed = next(at for at, step in enumerate(steps) if is_complete(step))
    assert parts, "the file was never synced under its first name"
    assert renamed < folder_synced < completed
    assert unsynced_before(steps, is_complete) == []


@pytest.mark.parametrize("walk", ["topup"], indirect=True)
def test_the_json_of_an_undisturbed_walk_names_the_file(walk: Walk) -> None:
    with walk.buyer("plain") as buyer:
        done = buyer.generate()
    assert done.exit_code == 0, buyer.story()
    assert json.loads(done.stdout)["result"]["path"] == str(buyer.track)
