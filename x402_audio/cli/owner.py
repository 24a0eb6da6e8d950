"""Owner acts: widening what may be spent is typed by a person at a terminal, never given by a flag, setting or pipe.

Once the owner has set a passphrase every act wants it; until then a typed word confirms.
"""

from __future__ import annotations

import sys

from x402_audio.cli.output import Output
from x402_audio.errors import PaymentRefused
from x402_audio.ledger.book import Ledger
from x402_audio.secret import Secret


def at_a_terminal() -> bool:
    """Whether a person can be asked: questions go to stderr, answers come from stdin."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(output: Output, ledger: Ledger, act: str, word: str) -> None:
    """Have the owner type the passphrase, or a word where none is set, before an act.

    Raises PaymentRefused (exit 3) without a terminal, with a wrong passphrase or with another word.
    """
    need_terminal(act)
    if ledger.has_passphrase():
        output.say(f"{act}: an act of the owner")
        ledger.check_passphrase(ask_passphrase(output, "the owner's passphrase"))
        return
    output.say(f"{act}: type {word} to confirm")
    if sys.stdin.readline().strip() != word:
        raise PaymentRefused(
            "not confirmed; nothing was changed", next_step="repeat the command to be asked again"
        )


def need_terminal(act: str) -> None:
    """Raises PaymentRefused (exit 3) where no person can be asked."""
    if not at_a_terminal():
        raise PaymentRefused(
            f"{act} is an act of the owner and needs a terminal; nothing was changed",
            next_step="the owner types the same command on a terminal",
        )


def ask_passphrase(output: Output, question: str, *, twice: bool = False) -> Secret:
    """A passphrase typed unseen; it never appears in what this command prints."""
    typed = Secret(ask_password(question, twice=twice))
    output.hide(typed.reveal())
    return typed


def ask_password(question: str, *, twice: bool = False) -> str:
    """A password typed unseen. Raises PaymentRefused when two entries differ."""
    from getpass import getpass

    password = getpass(f"{question}: ")
    if not twice:
        return password
    same = getpass(f"{question}, again: ") == password
    if same:
        return password
    del password
    raise PaymentRefused("the two entries differ; nothing was written", next_step="repeat the command")
