"""What a finished download costs beside a bare httpx stream into a file that also hashes and syncs.

Ours is the real `jobs/download` flow: part file, size, hash, decoding of the beginning, fsync, rename, sync of the
folder. The track (50 MB of WAV noise) is sent by a process of its own; processor time is that of the receiving one.
`download memory` is how far the resident memory of a fresh process grew at most, in pieces of the track.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from benchmarks.measure import Row, cpu_us, row
from x402_audio.clock import SystemClock
from x402_audio.flow import Flow, run, send
from x402_audio.jobs.download import Saved, save_stream

NAMES: Final = ("download", "download memory")
TRACK_BYTES: Final = 50_000_000
FLOOR: Final = "bare stream, hash, fsync"


def track() -> bytes:
    """A WAV file of noise, stereo, 16 bit."""
    sound = os.urandom(TRACK_BYTES - 44)
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", TRACK_BYTES - 8, b"WAVE", b"fmt ", 16, 1, 2, 44_100, 176_400, 4, 16,
                       b"data", len(sound))  # fmt: skip
    return head + sound


def serve() -> None:
    """Send the track to whoever connects, one after the other."""
    body = track()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: audio/wav\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(
            f"http://127.0.0.1:{server.getsockname()[1]}/track", hashlib.sha256(body).hexdigest(), flush=True
        )
        while True:
            connection, _ = server.accept()
            with connection:
                while connection.recv(65536):
                    connection.sendall(head)
                    connection.sendall(body)


@contextmanager
def open_server() -> Iterator[tuple[str, str]]:
    """Its URL and the track's sha256, while it serves."""
    command = [sys.executable, "-m", "benchmarks.download", "serve"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    ) as process:
        try:
            assert process.stdout is not None
            url, sha256 = process.stdout.readline().split()
            yield url, sha256
        finally:
            process.terminate()


def bare(http: httpx.Client, url: str, target: Path) -> str:
    """The floor: no part file, no check of what it is."""
    digest = hashlib.sha256()
    with http.stream("GET", url) as response, target.open("wb") as file:
        for data in response.iter_raw():
            digest.update(data)
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def ours(http: httpx.Client, url: str, target: Path) -> str:
    def download() -> Flow[Saved]:
        response = yield from send(http.build_request("GET", url), stream=True)
        return (
            yield from save_stream(
                response, target, job_id="one", force=True, clock=SystemClock(), alive=lambda: None
            )
        )

    return run(download(), http, lambda _: None).sha256


ARMS: Final[Mapping[str, Callable[[httpx.Client, str, Path], str]]] = {"floor": bare, "ours": ours}


def rows(*, quick: bool) -> Iterator[Row]:
    rounds = 3 if quick else 15
    with tempfile.TemporaryDirectory() as folder, open_server() as (url, sha256):
        target = Path(folder) / "track.wav"

        def cost(act: Callable[[httpx.Client, str, Path], str]) -> float:
            start = cpu_us()
            assert act(http, url, target) == sha256
            return (cpu_us() - start) / 1000

        with httpx.Client(trust_env=False) as http:
            found = [{name: cost(act) for name, act in ARMS.items()} for _ in range(rounds + 1)][1:]
        yield row("download", found, goal=1.2, floor_name=FLOOR, unit="ms")
        grown = [{name: _grown_mb(name, url) for name in ARMS} for _ in range(3)]
    yield row(
        "download memory", [{**each, "track": TRACK_BYTES / 1e6} for each in grown], floor="track", floor_name="the track",
        goal=0.2, unit="MB", remark=f"peak growth; the bare stream grew by {grown[0]['floor']:.1f} MB",
    )  # fmt: skip


def _grown_mb(arm: str, url: str) -> float:
    command = [sys.executable, "-m", "benchmarks.download", arm, url]
    ended = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    grown: float = json.loads(ended.stdout)
    return grown


def grow(arm: str, url: str) -> float:
    """Megabytes by which the peak of this process grew over one download; imports are done before."""
    import soundfile

    assert soundfile.__libsndfile_version__
    with tempfile.TemporaryDirectory() as folder, httpx.Client(trust_env=False) as http:
        before = _peak_kb()
        ARMS[arm](http, url, Path(folder) / "track.wav")
        return (_peak_kb() - before) / 1024


def _peak_kb() -> int:
    """Most memory this process ever had resident (Linux); `getrusage` would tell of the process it was forked from."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        print(json.dumps(grow(sys.argv[1], sys.argv[2])))
