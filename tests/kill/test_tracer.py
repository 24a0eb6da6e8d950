"""The tracer sees what a small known command does, and kills it exactly where it is told.

Without this a tracer that misses a commit would make every kill test green.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.kill.tracer import Run, Step, run, unsynced_before

COMMAND = """
import apsw, http.client, os, sys
books = apsw.Connection("books.db")
books.pragma("journal_mode", sys.argv[2])
books.pragma("synchronous", "full")
books.execute("CREATE TABLE t (x)")
books.execute("INSERT INTO t VALUES (1)")
if sys.argv[3:] == ["taken-up"]:
    books.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
seller = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
seller.request("POST", "/x402/top-up?q=hidden", body=b"{}", headers={"Payment-Signature": "hidden"})
seller.getresponse().read()
with open("track.part", "wb") as part:
    part.write(b"x" * 100)
    part.flush()
    os.fsync(part.fileno())
os.replace("track.part", "track.mp3")
folder = os.open(".", os.O_RDONLY)
if sys.argv[3:] != ["careless"]:
    os.fsync(folder)
seller.request("POST", "/audio/complete", body=b"{}")
seller.getresponse().read()
"""
SYNCED = ["sync books.db-journal", "sync", "sync books.db-journal", "sync books.db"]
COMMIT = {
    "truncate": [*SYNCED, "commit books.db-journal", "sync books.db-journal"],
    "wal": ["commit books.db-wal"],
}
TAKEN_UP = ["commit books.db-wal", "truncate books.db", "sync books.db", "truncate books.db-wal"]
"""A checkpoint: the log synced once more, its pages written into the file and synced, then it is emptied."""
CLOSED = [
    "commit books.db-wal",
    "truncate books.db",
    "sync books.db",
    "unlink books.db-shm",
    "unlink books.db-wal",
]


class _Seller(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Seller)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def _run(
    shim: Path, folder: Path, port: int, *more: str, journal: str = "wal", kill: tuple[int, str] | None = None
) -> Run:
    folder.mkdir()
    command = [sys.executable, "-c", COMMAND, str(port), journal, *more]
    return run(command, folder=folder, environment={}, shim=shim, kill=kill)


def _is_complete(step: Step) -> bool:
    return step.subject == "POST /audio/complete"


@pytest.mark.parametrize("journal", ["wal", "truncate"])
def test_every_commit_sync_rename_request_and_answer_is_a_point(
    shim: Path, tmp_path: Path, port: int, journal: str
) -> None:
    done = _run(shim, tmp_path / "walk", port, journal=journal)
    assert done.exit_code == 0, done.stderr
    points = [
        step.name for step in done.steps if step.point and (step.when == "before" or step.kind == "answer")
    ]
    paid = ["request POST /x402/top-up +payment", "body", "answer 200"]
    saved = ["sync track.part", "rename track.mp3", "sync"]
    completed = ["request POST /audio/complete", "body", "answer 200"]
    last = [*COMMIT[journal], *paid, *saved, *completed, *(CLOSED if journal == "wal" else [])]
    assert points[-len(last) :] == last
    assert done.points == len(points)
    assert unsynced_before(done.steps, _is_complete) == []


def test_what_is_taken_up_from_the_log_is_a_point_and_left_unsynced_nowhere(
    shim: Path, tmp_path: Path, port: int
) -> None:
    done = _run(shim, tmp_path / "walk", port, "taken-up")
    points = [step.name for step in done.steps if step.point and step.when == "before"]
    at = points.index("request POST /x402/top-up +payment")
    assert points[at - len(TAKEN_UP) - 1 : at] == [*COMMIT["wal"], *TAKEN_UP]
    assert unsynced_before(done.steps, lambda step: step.kind == "request") == []


def test_nothing_but_method_and_path_of_a_request_is_written_down(
    shim: Path, tmp_path: Path, port: int
) -> None:
    _run(shim, tmp_path / "walk", port)
    assert "hidden" not in (tmp_path / "walk.trace").read_text()


def test_a_folder_left_unsynced_is_named(shim: Path, tmp_path: Path, port: int) -> None:
    done = _run(shim, tmp_path / "walk", port, "careless")
    assert unsynced_before(done.steps, _is_complete) == ["POST /audio/complete: the folder"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_command_dies_at_the_point_named_and_does_nothing_more(
    shim: Path, tmp_path: Path, port: int, when: str
) -> None:
    whole = _run(shim, tmp_path / "whole", port)
    rename = next(step.point for step in whole.steps if step.kind == "rename")
    killed = _run(shim, tmp_path / "killed", port, kill=(rename, when))
    assert killed.exit_code == -signal.SIGKILL
    assert (killed.steps[-1].kind, killed.steps[-1].when) == ("rename", when)
    assert (tmp_path / "killed" / "track.mp3").exists() == (when == "after")
