"""What the durable books cost beside bare durable writes, how eight processes share them, and what a long past costs.

`ledger fsync-5ms`: what a direct payment books (`reserve` and `settle`, every limit in force) beside two bare one-row commits
(same SQLite, same journal mode, FULL), every sync lasting 5 ms. What is reserved is what the payment flow itself reserved
once, with another nonce and purchase each time; how many commits the whole flow takes is counted beside it. `ledger disk` is
the same on the disk as it is. `ledger million`: whole jobs in books with a past.
Ratios are of throughput: more is better. Syncs and writes are counted by a preloaded library (Linux, gcc).
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any, Final

import apsw
import httpx

from benchmarks.measure import JOURNAL, Row, row
from benchmarks.peers import ARMS, ROOT
from benchmarks.seller import demand
from x402_audio.clock import Clock, SystemClock, system_random
from x402_audio.flow import Call, Flow, Send
from x402_audio.ledger import spending
from x402_audio.ledger.book import Hold, Limit, NewJob, PayeeRule, Reserve
from x402_audio.ledger.database import Database
from x402_audio.ledger.limits import SETTINGS
from x402_audio.ledger.owner import this_owner
from x402_audio.ledger.schema import create_script
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc
from x402_audio.payment.direct import Bought, buy_direct
from x402_audio.payment.pay import Payer
from x402_audio.payment.policy import PaymentPolicy
from x402_audio.payment.session import SellerSession
from x402_audio.protocol.signer import LocalSigner
from x402_audio.providers.provider import Ask

NAMES: Final = (
    "ledger fsync-5ms 1-process", "ledger fsync-5ms 8-process", "ledger disk 1-process", "ledger disk 8-process",
    "ledger million",
)  # fmt: skip
GOAL: Final = 0.9
SYNC_MS: Final = 5
FLOOR: Final = "two bare one-row commits"
KEY: Final = "0x" + "5a" * 32
API: Final = "https://seller.example/api/v1"
ASK: Final = Ask(
    "POST", "/audio/queue", {"model": "elevenlabs-music", "prompt": "Warm indie folk"}, route="queue"
)
DEMAND: Final = demand(API + ASK.path)
LIMITS: Final = tuple(
    Limit(purse, window, Usdc(10**14), source="environment") for purse, window, _ in SETTINGS.values()
)
"""Every limit there is a setting for; none is in the way."""
YEAR_S: Final = 365 * 86_400
COUNTED: Final = ("syncs", "writes", "bytes")


# --- what is done over and over
class Buyer:
    """Pays, or does whole jobs, on one ledger; the seller answers from memory."""

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.ledger = SqliteLedger(path, clock=self.clock)
        self._payer = Payer(
            LocalSigner.from_hex(KEY), self.ledger, limits=LIMITS, clock=self.clock, random=system_random
        )
        self._session = SellerSession(API, clock=self.clock, random=system_random)

    def _buy(self, identity: str, **of_job: Any) -> Hold:
        policy = PaymentPolicy(max_amount="1")
        flow = buy_direct(
            self._payer, self._session, ASK, policy, identity=identity, model="elevenlabs-music", size="60 s", **of_job
        )  # fmt: skip
        hold = _drive(flow).hold
        assert hold is not None
        return hold

    def pay(self) -> None:
        """One direct payment, from the 402 to its settlement, by the payment flow."""
        self._settle(self._buy(f"auth:{os.urandom(32).hex()}"))

    def books(self) -> Callable[[], None]:
        """Books a payment as the flow does, and nothing else."""
        taken, reserve = list[tuple[Reserve, Sequence[Limit], PayeeRule | None]](), self.ledger.reserve

        def listening(wish: Reserve, limits: Sequence[Limit], payee: PayeeRule | None = None) -> Hold:
            taken.append((wish, limits, payee))
            return reserve(wish, limits, payee)

        self.ledger.reserve = listening
        self.pay()
        delattr(self.ledger, "reserve")
        [(wish, limits, payee)] = taken

        def act() -> None:
            fresh = {"nonce": "0x" + os.urandom(32).hex(), "purchase": f"auth:{os.urandom(32).hex()}"}
            self._settle(self.ledger.reserve(wish._replace(**fresh), limits, payee))

        return act

    def _settle(self, hold: Hold) -> None:
        self.ledger.settle(hold.id, evidence="seller's settlement response", transaction="0x" + "ab" * 32)

    def do_job(self) -> None:
        """One job from its beginning to its end, by the verbs the job room calls; it is found done at the third look."""
        ledger, token, now = self.ledger, os.urandom(16).hex(), self.clock.now()
        name = f"job-{token}"
        ledger.add_job(
            NewJob(
                id=name, digest=token * 2, wallet=self._payer.wallet, network="eip155:8453", environment="live", label="",
                provider="venice", api_url=API, origin=self._session.origin, model="elevenlabs-music",
                request=json.dumps(ASK.body), options="{}", deadline=now + 86_400,
            )
        )  # fmt: skip
        claimed = ledger.claim(name, this_owner(), 60.0)
        assert claimed is not None
        epoch = claimed.epoch
        ledger.move(name, epoch, "quoted", price=Usdc(250_000))
        hold = self._buy(f"job:{name}:1", job_id=name, epoch=epoch)
        ledger.queued(
            name, epoch, hold.id, queue_id=f"q-{token}", due=now, evidence="settlement response and queue_id",
            transaction="0x" + "ab" * 32,
        )  # fmt: skip
        for _ in range(2):
            ledger.waiting(self._payer.wallet)
            ledger.wake(name, epoch, now)
        ledger.move(name, epoch, "ready", content_type="audio/mpeg")
        ledger.move(name, epoch, "saved", path=f"{token}.mp3", file_sha256=token * 2, file_bytes=1_000_000)
        ledger.move(name, epoch, "completed")
        ledger.release(name, epoch)


def _drive(flow: Flow[Bought]) -> Bought:
    """As `flow.run`, with a seller in place of an HTTP client: what that takes is not the books'."""
    try:
        step = next(flow)
        while True:
            assert isinstance(step, Send | Call), "a direct purchase asks for nothing else"
            step = flow.send(_answer(step.request) if isinstance(step, Send) else step.function())
    except StopIteration as ended:
        bought: Bought = ended.value
        return bought


def _answer(request: httpx.Request) -> httpx.Response:
    if "payment-signature" not in httpx.Headers(request.headers.raw):
        return httpx.Response(402, headers={"payment-required": DEMAND}, request=request)
    return httpx.Response(200, content=b"{}", request=request)


def bare(path: Path) -> Callable[[], None]:
    """The floor: what nobody who commits before signing and after the answer can do without."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(30_000)
    connection.execute(f"""
        PRAGMA journal_mode = {JOURNAL}; PRAGMA synchronous = FULL;
        CREATE TABLE IF NOT EXISTS bare (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
    """).fetchall()  # to its end: a script stops at what answers

    def act() -> None:
        for _ in range(2):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO bare (text) VALUES (?)", ("x" * 100,))
            connection.execute("COMMIT")

    return act


ACTS: Final[Mapping[str, Callable[[Path], Callable[[], None]]]] = {
    "bare": bare,
    "pay": lambda path: Buyer(path).books(),
    "job": lambda path: Buyer(path).do_job,
}


# --- processes
def work(what: str, path: Path) -> None:
    """One process: for every number of seconds it is told, does its act until they are over, and says what that took."""
    act = ACTS[what](path)
    act()
    counters = (ctypes.c_ulong * len(COUNTED)).in_dll(ctypes.CDLL(None), "counted")
    print("ready", flush=True)
    for told in sys.stdin:
        end, done = time.monotonic() + float(told), 0
        before, cpu = list(counters), time.process_time()
        while time.monotonic() < end:
            act()
            done += 1
        took = {name: counters[n] - before[n] for n, name in enumerate(COUNTED)}
        ended = {"done": done, "cpu_us": (time.process_time() - cpu) * 1e6, "end": time.monotonic()}
        print(json.dumps(took | ended), flush=True)


class Workers:
    """Processes that do the same on one file, from one word to begin."""

    def __init__(self, what: str, path: Path, number: int, library: Path, sync_ms: int) -> None:
        command = [sys.executable, "-m", "benchmarks.ledger", what, str(path)]
        env = {**os.environ, "LD_PRELOAD": str(library), "SYNC_MS": str(sync_ms), "PYTHONPATH": str(ROOT)}
        pipe = subprocess.PIPE
        self._running = [
            subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env) for _ in range(number)
        ]
        for each in self._running:
            assert each.stdout is not None
            if each.stdout.readline() != "ready\n":
                raise SystemExit(f"a process of the benchmark ended: {what}")
        self.total: Counter[str] = Counter()

    def go(self, seconds: float) -> float:
        """How many a second they did together, the last one's end included."""
        begin = time.monotonic()
        for each in self._running:
            assert each.stdin is not None
            each.stdin.write(f"{seconds}\n")
            each.stdin.flush()
        told = []
        for each in self._running:
            assert each.stdout is not None
            told.append(json.loads(each.stdout.readline()))
        took = max(each.pop("end") for each in told) - begin
        for each in told:
            self.total.update(each)
        return float(sum(each["done"] for each in told) / took)

    def profile(self) -> str:
        """Per act."""
        each = {name: value / self.total["done"] for name, value in self.total.items()}
        return (
            f"{each['syncs']:.1f} syncs, {each['writes']:.1f} writes of {each['bytes'] / 1024:.0f} KB,"
            f" {each['cpu_us'] / 1000:.2f} ms of processor"
        )

    def close(self) -> None:
        for each in self._running:
            each.communicate()


@contextmanager
def syncs_library() -> Iterator[Path]:
    """The preloaded library, built for this run."""
    if shutil.which("gcc") is None or not sys.platform.startswith("linux"):
        raise SystemExit("syncs are counted and slowed by a preloaded library: Linux and gcc are needed")
    with TemporaryDirectory() as folder:
        library = Path(folder) / "syncs.so"
        subprocess.run(
            ["gcc", "-O2", "-shared", "-fPIC", "-o", library, ARMS / "syncs.c", "-ldl"], check=True
        )
        yield library


def against(
    name: str, ours: tuple[str, Path], floor: tuple[str, Path], *, library: Path, quick: bool, processes: int = 1,
    sync_ms: int = 0, goal: float | None = GOAL, floor_name: str = FLOOR, commits: bool = True,
) -> Row:  # fmt: skip
    """The row of two arms that take turns."""
    rounds, seconds = (3, 1.0) if quick else (7, 4.0 if processes == 1 else 8.0)
    with ExitStack() as stack:
        arms = {
            arm: stack.enter_context(closing(Workers(*what, processes, library, sync_ms)))
            for arm, what in (("floor", floor), ("ours", ours))
        }
        found = [{arm: workers.go(seconds) for arm, workers in arms.items()} for _ in range(rounds)]
        profile = "; ".join(f"{arm}: {workers.profile()}" for arm, workers in arms.items())
    if commits:
        profile = f"the whole flow: {commits_of_a_payment():.1f} commits a payment; {profile}"
    return row(
        name, found, goal=goal, bound="at least", floor_name=floor_name, unit="/s", profile=profile,
        remark="" if goal is not None else "No goal: where a sync costs little, what is left is the pages written and the work of the processor.",
    )  # fmt: skip


def commits_of_a_payment() -> float:
    """Of the payment flow, whichever room makes them; every transaction has a ledger time of its own."""
    with TemporaryDirectory() as folder:
        buyer = Buyer(Path(folder) / "ledger.db")
        for _ in range(10):
            buyer.pay()
        events = [event for event in buyer.ledger.events() if event.subject.startswith("hold:")]
        buyer.ledger.close()
    return len({event.at for event in events}) / len({event.subject for event in events})


# --- a long past
class LongAgo:
    """The clock of the jobs that a past is copied from."""

    def __init__(self) -> None:
        self._now = time.time() - YEAR_S - 3600

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return 0.0


def past(jobs: int) -> Path:
    """Books with so many past jobs, of one wallet over a year, kept for the next run: copies of one that was really done.

    Shapes, sizes, keys and counters are real; the copies' hashes are random, so `verify` would not take them.
    """
    shape = hashlib.sha256((create_script() + _PAST).encode()).hexdigest()[:12]
    folder = Path(gettempdir()) / f"x402-audio-benchmarks-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{jobs}-{shape}.db"
    if path.exists():
        return path
    print(f"making books with {jobs:,} past jobs, kept in {folder} for the next run", file=sys.stderr)
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    buyer = Buyer(draft, LongAgo())
    for _ in range(2):  # the first one also pins the payee
        buyer.do_job()
    buyer.ledger.close()
    with closing(apsw.Connection(str(draft))) as db:
        for setting in ("synchronous = OFF", "journal_mode = OFF", "cache_size = -2000000"):
            db.execute(f"PRAGMA {setting}").fetchall()
        db.execute("BEGIN")
        _copy(db, jobs)
        db.execute("COMMIT")
    _count(draft)
    draft.rename(path)
    return path


_PAST: Final = """
    WITH RECURSIVE each(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM each WHERE n < :jobs)
    INSERT INTO temp.past SELECT n,
        printf('h%012x', CAST((:began + n * :apart) * 1000 AS INTEGER)) || lower(hex(randomblob(10))),
        lower(hex(randomblob(16))), lower(hex(randomblob(32))), lower(hex(randomblob(32))), n * :apart FROM each
"""


def _copy(db: apsw.Connection, jobs: int) -> None:
    *ids, began = db.execute(
        "SELECT id, substr(job_id, 5), substr(nonce, 3), created_at FROM hold ORDER BY rowid DESC LIMIT 1"
    ).fetchall()[0]
    hold, token, _ = ids
    db.execute("CREATE TEMP TABLE past (n INTEGER PRIMARY KEY, hold, token, nonce, hash, later)")
    db.execute(_PAST, {"jobs": jobs, "began": began, "apart": YEAR_S / jobs})
    for table, of_one, value in (
        ("job", "id = ?", f"job-{token}"),
        ("hold", "id = ?", hold),
        ("event", f"subject IN ('hold:{hold}', ?)", f"job:job-{token}"),
    ):
        db.execute(f"CREATE TEMP TABLE one AS SELECT * FROM main.{table} WHERE {of_one}", (value,))
        columns = [
            _copied(name, kind) for _, name, kind, *_ in db.execute(f"PRAGMA main.table_info({table})")
        ]
        db.execute(
            f"INSERT INTO main.{table} SELECT {', '.join(columns)} FROM temp.past CROSS JOIN temp.one ORDER BY past.n, one.rowid",
            dict(zip(("hold", "token", "nonce"), ids, strict=True)),
        )
        db.execute("DROP TABLE temp.one")


def _copied(column: str, kind: str) -> str:
    """SQL that gives a copied job's column."""
    if column == "seq":
        return "one.seq + past.n * (SELECT count(*) FROM temp.one)"
    if column in ("hash", "previous_hash"):
        return "past.hash"
    if kind == "REAL":
        return f'one."{column}" + past.later'
    if kind != "TEXT":
        return f'one."{column}"'
    replaced = f'one."{column}"'
    for name in ("hold", "token", "nonce"):
        replaced = f"replace({replaced}, :{name}, past.{name})"
    return replaced


def _count(path: Path) -> None:
    """The limits' counters, as the holds say they must be."""
    database = Database(path, clock=SystemClock(), random=system_random, create=False)
    with database.transaction() as tx:
        tx.run("DELETE FROM use")
        for key, amount in spending.recount(tx, "all").items():
            tx.run("INSERT INTO use VALUES (?, 'all', ?, ?, ?)", (*key, amount))
    database.close()


def _read_once(path: Path) -> None:
    """Its pages in memory, where there is room, as of books at work: what a disk takes to read them is no part of a job."""
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass


def rows(*, quick: bool) -> Iterator[Row]:
    jobs = 100_000 if quick else 1_000_000
    with syncs_library() as library:
        for kind, sync_ms, goal in ((f"fsync-{SYNC_MS}ms", SYNC_MS, GOAL), ("disk", 0, None)):
            for processes in (1, 8):
                with TemporaryDirectory() as folder:
                    yield against(
                        f"ledger {kind} {processes}-process", ("pay", Path(folder) / "ledger.db"),
                        ("bare", Path(folder) / "bare.db"), library=library, quick=quick, processes=processes,
                        sync_ms=sync_ms, goal=goal,
                    )  # fmt: skip
        with TemporaryDirectory() as folder:
            books = past(jobs)
            _read_once(books)
            yield against(
                "ledger million", ("job", books), ("job", Path(folder) / "ledger.db"), library=library, quick=quick,
                floor_name="jobs in empty books", commits=False,
            )  # fmt: skip


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]))
