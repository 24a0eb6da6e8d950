"""`sandbox` and `demo`: a seller on this machine that checks for real, and the whole walk against it.

Fresh keys and books of their own; neither the environment nor `.env` is asked.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from x402_audio.cli.money_commands import track_report
from x402_audio.cli.output import Report, short
from x402_audio.cli.records import tightest
from x402_audio.cli.stage import SANDBOX_FILE, Stage, sandbox_folder, sandbox_settings
from x402_audio.cli.terminal import Terminal
from x402_audio.clock import system_random
from x402_audio.errors import ConfigurationError, PaymentUnsettled
from x402_audio.jobs.download import check_writable
from x402_audio.jsontext import write_json

if TYPE_CHECKING:
    from x402_audio.sandbox import SandboxServer

DEMO_PROMPT: Final = "Warm indie folk with fingerpicked guitar, 120 BPM"
DEMO_MODEL: Final = "elevenlabs-music"
DEMO_SECONDS: Final = 60
DEMO_PRICE: Final = "1"
DEMO_TOP_UP: Final = "5"


def sandbox(stage: Stage) -> Report:
    """Serve until interrupted; say where, and what to type."""
    args = stage.args
    state = (
        Path(args.state).expanduser().absolute() if args.state else sandbox_folder() / system_random(4).hex()
    )
    with _serving(args.mode, args.job_seconds, args.port) as server:
        told = _leave_word(server, state, args.mode)
        try:
            stage.output.report(_invitation(server, told))
            threading.Event().wait()
        except KeyboardInterrupt:
            stage.output.say("the sandbox is closed; its books stay in " + str(state))
        finally:
            _take_back(told)
    return Report({}, told=True)


@contextmanager
def _serving(mode: str, job_seconds: float, port: int = 0) -> Iterator[SandboxServer]:
    from x402_audio.sandbox import SandboxSeller, SandboxServer

    try:
        server = SandboxServer(SandboxSeller(mode=mode, job_seconds=job_seconds), port=port)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or "no such port"
        raise ConfigurationError(
            f"port {port} cannot be opened: {why}", next_step="choose another --port"
        ) from None
    with server:
        yield server


def _invitation(server: SandboxServer, told: dict[str, str]) -> Report:
    from x402_audio.protocol.signer import LocalSigner

    wallet = LocalSigner.from_hex(Path(told["key_file"]).read_text().strip()).address
    command = (
        f'x402-audio --sandbox generate "{DEMO_PROMPT}" --model {DEMO_MODEL} --duration {DEMO_SECONDS}'
        f" --max-price {DEMO_PRICE}" + (f" --max-top-up {DEMO_TOP_UP}" if told["mode"] == "venice" else "")
    )
    lines = [
        f"seller   {server.api_url} ({told['mode']})", f"chain    {server.rpc_url}",
        f"wallet   {wallet} (made for this sandbox; its money is not real)", f"state    {told['state']}",
        "", "in another terminal:", f"  {command}", "", "Ctrl-C ends it",
    ]  # fmt: skip
    result = {"api_url": server.api_url, "rpc_url": server.rpc_url, "mode": told["mode"], "wallet": wallet,
              "state": told["state"], "command": command}  # fmt: skip
    return Report(result, lines)


def _leave_word(server: SandboxServer, state: Path, mode: str) -> dict[str, str]:
    """Write key and addresses, for us alone to read, where `--sandbox` looks."""
    try:
        for folder in (sandbox_folder().parent, sandbox_folder(), state):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key_file = state / "key"
        told = {
            "api_url": server.api_url, "rpc_url": server.rpc_url, "mode": mode, "state": str(state),
            "key_file": str(key_file), "pid": str(os.getpid()),
        }  # fmt: skip
        _write(key_file, "0x" + system_random(32).hex())
        for folder in {state, sandbox_folder()}:
            _write(folder / SANDBOX_FILE, write_json(told))
    except OSError as error:
        raise ConfigurationError(
            f"{error.filename}: {error.strerror}", next_step="choose another --state"
        ) from None
    return told


def _write(path: Path, text: str) -> None:
    """A new file of mode 0600 in the place of an older one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text + "\n")
    os.replace(beside, path)


def _take_back(told: dict[str, str]) -> None:
    """Remove the word of this sandbox, not of a later one."""
    text = write_json(told) + "\n"
    for path in {Path(told["state"]) / SANDBOX_FILE, sandbox_folder() / SANDBOX_FILE}:
        if path.is_file() and path.read_text() == text:
            path.unlink()


def demo(stage: Stage) -> Report:
    """One track from price to file, paid to a seller in this process."""
    args = stage.args
    check_writable(Path(args.output).absolute(), force=True)

    def say(line: str) -> None:
        print(line, flush=True)

    if not stage.output.as_json:
        stage.terminal = Terminal(stage.output, "lines", say)
    with (
        tempfile.TemporaryDirectory(prefix="x402-audio-demo-") as folder,
        _serving(args.seller, 3.0) as server,
    ):
        state = Path(folder) / "state"
        running = {
            "key": "0x" + system_random(32).hex(), "api_url": server.api_url, "rpc_url": server.rpc_url,
            "state": str(state),
        }  # fmt: skip
        stage.use(sandbox_settings(running, {}))
        with stage.client() as client:
            if not stage.output.as_json:
                say("A seller on this machine, a wallet made a moment ago, no funds, no network.")
                say(f"wallet     {short(client.wallet)}")
            track = client.generate(
                DEMO_PROMPT, model=DEMO_MODEL, duration_seconds=DEMO_SECONDS, max_price=DEMO_PRICE,
                max_top_up=DEMO_TOP_UP, output=args.output, force=True,
            )  # fmt: skip
            report = track_report(stage, client, track, says=False)
            left = tightest(client.budget())
        seen = _books(server)
    lines = [
        f"cost       {track.cost}", f"left       {left}", f"file       {track.path}",
        f"The seller's own books: {_count(seen['payments'], 'payment')}, {_count(seen['jobs'], 'job')}.",
    ]  # fmt: skip
    result = {
        **report.result,
        "seller": args.seller,
        "seller_payments": seen["payments"],
        "seller_jobs": seen["jobs"],
    }
    if (seen["payments"], seen["jobs"]) != (1, 1):
        wrong = PaymentUnsettled("the seller's books do not show one payment and one job", hold_id="", nonce="",
                                 valid_before=0, next_step="please report this; no real money was involved")  # fmt: skip
        return Report(result, lines, error=wrong)
    return Report(result, lines)


def _books(server: SandboxServer) -> dict[str, int]:
    books: dict[str, Any] = server.seller.books()
    return {name: len(books[name]) for name in ("payments", "jobs")}


def _count(number: int, word: str) -> str:
    return f"{'one' if number == 1 else number} {word}{'' if number == 1 else 's'}"
