"""Runs one command line: words in, one command run, its end told with an exit code.

Never a traceback: a fault of ours is one line naming its kind and place. Importing this imports no third-party package.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import cast

from x402_audio.cli.output import Interrupted, Output, Report, UnexpectedError
from x402_audio.cli.parser import PROGRAM, UsageError, build_parser, wants_json
from x402_audio.cli.stage import Stage
from x402_audio.errors import MoneyMoved, X402AudioError

Command = Callable[[Stage], Report]
_ENDING = [
    number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None
]


def run(words: Sequence[str]) -> int:
    """Run one command line; its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    parser = build_parser()
    try:
        args = parser.parse_args(words)
        if args.run is None:
            raise UsageError("no command was given", next_step=f"see: {PROGRAM} --help")
    except X402AudioError as error:
        return Output(as_json=wants_json(words)).fail(error)
    except SystemExit as ended:
        return int(ended.code or 0)
    return _run(args)


def _run(args: argparse.Namespace) -> int:
    output = Output(as_json=args.json, quiet=args.quiet, verbose=args.verbose)
    stage = Stage(args, output)
    try:
        with _signals_interrupt():
            try:
                return output.report(_command(args.run)(stage))
            except KeyboardInterrupt:
                return output.fail(_interrupted(stage))
    except X402AudioError as error:
        return output.fail(error)
    except Exception as error:
        return output.fail(_unexpected(stage, error))
    finally:
        stage.terminal.close()


def _command(name: str) -> Command:
    """The function behind a command, imported now: `room:function`."""
    room, _, function = name.partition(":")
    return cast(Command, getattr(import_module(f"x402_audio.cli.{room}"), function))


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """SIGTERM and a lost terminal end a command as Ctrl-C does: books closed, one line said, and that undisturbed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    heard: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        heard.append(number)
        if len(heard) == 1:
            raise KeyboardInterrupt

    ours = [one for one in _ENDING if signal.getsignal(one) is not signal.SIG_IGN]  # nohup stays nohup
    before = [(number, signal.signal(number, interrupt)) for number in ours]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _interrupted(stage: Stage) -> Interrupted:
    job_id, moved = _known(stage)
    again = f"{PROGRAM} resume {job_id}" if job_id else "repeat the command"
    return Interrupted(
        f"interrupted; the state is kept, {'resume with ' if job_id else ''}{again}", money_moved=moved, next_step=again,
        job_id=job_id or None,
    )  # fmt: skip


def _known(stage: Stage) -> tuple[str, MoneyMoved]:
    """The job of a command that ends badly, and what is known of its money, best by the books."""
    job_id = stage.terminal.job_id or _job_of(stage.args)
    known = stage.money_of(job_id) if job_id else "no"
    return job_id, stage.terminal.money_moved if known == "no" else known


def _job_of(args: argparse.Namespace) -> str:
    """The job a command line names."""
    if args.run == "job_commands:resume":
        return args.id or ""
    return getattr(args, "job_id", None) or ""


def _unexpected(stage: Stage, error: Exception) -> UnexpectedError:
    """Kind and place only. Where money may have moved it is exit 8, and the books know more than we do."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "x402_audio" in Path(frame.filename).parts] or frames
    where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "nowhere"
    text = f"a fault in x402_audio: {type(error).__name__} at {where}"
    job_id, moved = _known(stage)
    if moved == "no":
        return UnexpectedError(text, next_step="nothing was bought; please report this line")
    told = UnexpectedErrorAfterPayment(text, money_moved="unknown", owner="reconcile", retry="same_id")
    told.next_step = f"money may have moved: run {PROGRAM} reconcile, then {PROGRAM} resume {job_id}".rstrip()
    return told


class UnexpectedErrorAfterPayment(UnexpectedError):
    """A fault of ours while money may have been on its way."""

    exit_code = 8
