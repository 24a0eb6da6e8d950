"""Owner acts: widening what may be spent is typed by a person at a terminal, never given by a flag, setting or pipe."""

from __future__ import annotations

import sys

from x402_audio.cli.output import Output
from x402_audio.errors import PaymentRefused


def at_a_terminal() -> bool:
    """Whether a person can be asked: questions go to stderr, answers come from stdin."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(output: Output, act: str, word: str) -> None:
    """Have the owner type a word before an act. Raises PaymentRefused (exit 3) without a terminal or that word."""
    if not at_a_terminal():
        raise PaymentRefused(
            f"{act} is an act of the owner and needs a terminal; nothing was changed",
            next_step="the owner types the same command on a terminal",
        )
    output.say(f"{act}: type {word} to confirm")
    if sys.stdin.readline().strip() != word:
        raise PaymentRefused(
            "not confirmed; nothing was changed", next_step="repeat the command to be asked again"
        )


def ask_password(question: str, *, twice: bool = False) -> str:
    """A password typed unseen. Raises PaymentRefused when two entries differ."""
    from getpass import getpass

    password = getpass(f"{question}: ")
    if twice and getpass(f"{question}, again: ") != password:
        raise PaymentRefused("the two passwords differ; nothing was written", next_step="repeat the command")
    return password
