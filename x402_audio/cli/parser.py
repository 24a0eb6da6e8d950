"""The words of the command line: commands, flags and their help. Imports nothing but the standard library and money.

Each command names the function that does it as `room:function`, imported when it is run. Knows no settings.
"""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, NoReturn, Protocol

from x402_audio import __version__
from x402_audio.errors import ConfigurationError, Owner
from x402_audio.money import Usdc

PROGRAM: Final = "x402-audio"
_KEY_LIKE: Final = re.compile(r"(0x)?[0-9a-fA-F]{40,}")
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_NONCE: Final = re.compile(r"0x[0-9a-fA-F]{64}", re.ASCII)
_EXITS: Final = (
    "exit codes: 0 done; 2 usage or configuration; 3 refused by a limit or the owner; 4 not enough funds; 5 nothing"
    " offered that can be paid; 6 signer; 7 network or seller, nothing at risk; 8 payment unknown, run reconcile;"
    " 9 money moved, not delivered; 10 still running; 130 interrupted, state kept"
)
SANDBOX_MODES: Final = ("venice", "direct-v1", "direct-v2")

BACKUP_WARNING: Final = (
    "The whole ledger into a new file, secrets included. A restored backup is an old copy of the books: it does not know"
    " what was bought after it was made and would buy it again. After restoring one run x402-audio reconcile before"
    " anything else, with RPC_URL set; what was paid directly to a seller shows on the chain alone."
)


class UsageError(ConfigurationError):
    """The command line cannot be read; nothing was done."""

    owner: Owner = "agent"


class Parser(argparse.ArgumentParser):
    """Raises UsageError where argparse would print and leave, and never repeats what may be a key.

    It is made when something is first asked of it, and `fill` adds its words then: of all commands one is run.
    """

    def __init__(self, *, fill: Callable[[Parser], None], **how: Any) -> None:
        self._unmade: tuple[Callable[[Parser], None], dict[str, Any]] | None = (fill, how)

    def __getattr__(self, name: str) -> Any:
        unmade = self.__dict__.get("_unmade")
        if unmade is None:
            raise AttributeError(name)
        (fill, how), self._unmade = unmade, None
        super().__init__(formatter_class=_formatter, **how)
        fill(self)
        return getattr(self, name)

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments"):
            options = re.findall(r"(?<=\s)--?[A-Za-z][\w-]*", message)
            message = f"unknown option {options[0]}" if options else "more words than this command takes"
        raise UsageError(_KEY_LIKE.sub("…", message), next_step=f"see: {self.prog} --help")


def _formatter(prog: str) -> argparse.HelpFormatter:
    """As wide as the terminal. Argparse would ask `shutil`, with all its archives, for every word it is told of."""
    try:
        columns = int(os.environ.get("COLUMNS") or os.get_terminal_size().columns)
    except (OSError, ValueError):
        columns = 0
    return argparse.HelpFormatter(prog, width=(columns or 80) - 2)


class Commands(Protocol):
    """Where argparse takes new commands."""

    def add_parser(self, name: str, **how: Any) -> Parser: ...


@cache
def build_parser() -> Parser:
    """Every command of this version, with the global flags before and after it."""
    return Parser(
        prog=PROGRAM, description="Buy music and sound with USDC on Base, and never pay twice.", epilog=_EXITS,
        allow_abbrev=False, fill=_program,
    )  # fmt: skip


def _program(parser: Parser) -> None:
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    _add_globals(parser, top=True)
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser, prog=PROGRAM)
    _add_buying(commands)
    _add_jobs(commands)
    _add_funds(commands)
    _add_owner(commands)
    _add_wallet_and_books(commands)
    _add_practice(commands)


def _add_globals(parser: argparse.ArgumentParser, *, top: bool = False) -> None:
    group = parser.add_argument_group("everywhere")
    for names, how, text in (
        (("--json",), "store_true", "one JSON object on stdout, text on stderr"),
        (("--api-url",), "URL", "the seller's API"),
        (("--provider",), "KIND", "kind of seller: auto, venice or direct"),
        (("--ledger",), "PATH", "the file with the books"),
        (("--env-file",), "FILE", "settings to trust instead of ./.env"),
        (("--label",), "NAME", "whose spending this is"),
        (("--sandbox",), "store_true", "use the running `x402-audio sandbox`, not your settings"),
        (("--yes",), "store_true", "answer yes to questions about files (never about money)"),
        (("--quiet", "-q"), "store_true", "no progress"),
        (("--verbose", "-v"), "store_true", "say every step, one line each"),
    ):
        if how == "store_true":
            group.add_argument(*names, action=how, default=False if top else argparse.SUPPRESS, help=text)
        else:
            group.add_argument(*names, metavar=how, default=None if top else argparse.SUPPRESS, help=text)


def _command(
    commands: Commands,
    name: str,
    run: str,
    text: str,
    *takes: Callable[[Parser], None],
    description: str | None = None,
) -> None:
    """A command that is done by `run`. takes: what adds the words that are its own."""

    def fill(parser: Parser) -> None:
        parser.set_defaults(run=run)
        for add in (_add_globals, *takes):
            add(parser)

    described = description or text[:1].upper() + text[1:] + "."
    commands.add_parser(name, help=text, description=described, allow_abbrev=False, fill=fill)


def _group(parser: Parser) -> Commands:
    return parser.add_subparsers(title="commands", metavar="", parser_class=Parser, prog=parser.prog)


def _add_audio(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="what it shall sound like")
    parser.add_argument("--prompt-file", metavar="FILE|-", help="read the prompt from a file or stdin")
    parser.add_argument("--model", metavar="ID", required=True, help="see: x402-audio models")
    parser.add_argument("--duration", metavar="S", type=whole_seconds, help="length in seconds")
    parser.add_argument("--lyrics", metavar="TEXT|@FILE", help="the words, or a file with them")
    for name in ("instrumental", "loop", "lyrics-optimizer"):
        parser.add_argument(
            f"--{name}", action="store_const", const=True, help="ask for it, where the model can"
        )
    parser.add_argument("--voice", metavar="NAME", help="one of the model's voices")
    parser.add_argument("--language", metavar="CODE", help="two letters, like en")
    parser.add_argument("--speed", metavar="X", help="like 1.25")


def _add_purchase(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-price", metavar="USD", type=usd, help="most this job may cost")
    parser.add_argument("--max-top-up", metavar="USD", type=usd, help="most one automatic top-up may be")
    parser.add_argument("--max-total", metavar="USD", type=usd, help="most that may ever leave the wallet")
    parser.add_argument("--payee", metavar="ADDRESS", type=address, help="pay nobody else")
    parser.add_argument("--job-id", metavar="ID", help="the same id is the same purchase, never a second one")
    parser.add_argument("--again", action="store_true", help="buy although an equal job is open")
    _add_file(parser)
    parser.add_argument("--keep-remote", action="store_true", help="do not let the seller delete its copy")


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="PATH", help="where the file goes (default: <job-id>.<type>)")
    parser.add_argument("--force", action="store_true", help="replace an existing file")


def _add_waiting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout", metavar="S", type=seconds, default=900.0, help="end the waiting, not the job"
    )
    parser.add_argument("--poll-interval", metavar="S", type=seconds, help="ask this often (2 s or more)")


def _add_buying(commands: Commands) -> None:
    _command(
        commands, "generate", "money_commands:generate", "buy one track, wait for it and save it",
        _add_audio, _add_purchase, _add_waiting, _generate,
    )  # fmt: skip
    _command(
        commands, "submit", "money_commands:submit", "store a job for a later `resume`", _add_audio, _add_purchase
    )  # fmt: skip
    _command(
        commands, "quote", "money_commands:quote", "the price of a request; buys nothing", _add_audio
    )  # fmt: skip
    _command(
        commands, "models", "money_commands:models", "what the seller's models can do and cost", _models
    )  # fmt: skip


def _generate(generate: Parser) -> None:
    generate.add_argument("--detach", action="store_true", help="store the job and do not wait; see: resume")
    generate.add_argument("--dry-run", action="store_true", help="say what it would cost; buy nothing")


def _models(models: Parser) -> None:
    models.add_argument("model", nargs="?", metavar="ID", help="everything about one model")


def _add_jobs(commands: Commands) -> None:
    _command(commands, "jobs", "job_commands:jobs", "the jobs of this wallet", _jobs)
    _command(
        commands, "resume", "job_commands:resume", "take up a job where it stopped, or all unfinished ones",
        _resume, _add_waiting, _add_file,
    )  # fmt: skip
    _command(commands, "cancel", "job_commands:cancel", "end a job that has not been bought", _add_id)
    _command(
        commands, "reconcile", "reconcile_command:reconcile", "hold the books against the seller and the chain",
        _reconcile, description="Settles what was unknown, names every difference. Exit 8 while something stays unknown.",
    )  # fmt: skip


def _add_id(parser: Parser) -> None:
    parser.add_argument("id", metavar="ID")


def _jobs(jobs: Parser) -> None:
    jobs.add_argument("--unfinished", action="store_true", help="only those that still want something")
    _command(_group(jobs), "show", "job_commands:show", "everything about one job", _add_id)


def _resume(resume: Parser) -> None:
    resume.add_argument("id", nargs="?", metavar="ID")
    resume.add_argument(
        "--use-suggestion", action="store_true", help="buy with the prompt the seller suggested"
    )
    resume.add_argument("--wait", action="store_true", help="wait for funds, too")


def _reconcile(reconcile: Parser) -> None:
    reconcile.add_argument("--watch", action="store_true", help="again and again, until Ctrl-C")
    reconcile.add_argument(
        "--every", metavar="S", type=seconds, default=60.0, help="seconds between two passes (default 60)"
    )


def _add_funds(commands: Commands) -> None:
    _command(commands, "balance", "money_commands:balance", "credit at the seller and USDC on chain")
    _command(commands, "top-up", "money_commands:top_up", "pay credit in at the seller", _top_up)
    _command(
        commands, "transactions", "money_commands:transactions", "the seller's own ledger", _transactions
    )
    _command(
        commands, "inspect", "money_commands:inspect", "read a 402: what would be paid, why or why not; cannot sign",
        _inspect,
    )  # fmt: skip


def _top_up(top_up: Parser) -> None:
    top_up.add_argument("amount", metavar="USD", type=usd)


def _transactions(rows: Parser) -> None:
    rows.add_argument("--limit", metavar="N", type=count, default=50)
    rows.add_argument("--offset", metavar="N", type=count, default=0)


def _inspect(inspect: Parser) -> None:
    inspect.add_argument("target", metavar="URL|FILE")
    inspect.add_argument("--method", choices=("GET", "POST"), default="GET")


def _add_owner(commands: Commands) -> None:
    _command(
        commands, "budget", "ledger_commands:budget", "what may be spent, was, is at risk, comes back", _budget
    )  # fmt: skip
    _command(
        commands, "approve", "owner_commands:approve", "let one payment through, once (owner, on a terminal)", _approve
    )  # fmt: skip
    _command(commands, "owner", "owner_commands:owner", "whose leave is needed to spend more", _owner)
    _command(commands, "freeze", "ledger_commands:freeze", "stop everything that spends", _freeze)
    _command(
        commands, "unfreeze", "ledger_commands:unfreeze", "let it spend again (owner, on a terminal)", _unfreeze
    )  # fmt: skip
    _command(commands, "payees", "ledger_commands:payees", "who may be paid where", _payees)


def _budget(budget: Parser) -> None:
    changes = _group(budget)
    _command(
        changes, "set", "ledger_commands:budget_set", "set a limit in the ledger (raising one: owner, on a terminal)",
        _add_limit, _add_amount,
    )  # fmt: skip
    _command(
        changes, "drop", "ledger_commands:budget_drop", "take a limit out of the ledger (owner, on a terminal)",
        _add_limit,
    )  # fmt: skip


def _add_limit(change: Parser) -> None:
    change.add_argument("--purse", required=True, choices=("jobs", "top-ups", "wallet", "credit", "account"))
    change.add_argument(
        "--window",
        required=True,
        choices=("payment", "job", "hour", "day", "month", "ever", "unasked"),
        help="unasked: above this the owner is asked first",
    )
    change.add_argument(
        "--scope", default="all", metavar="KIND:NAME", help="origin:, payee:, model: or label:"
    )


def _add_amount(change: Parser) -> None:
    change.add_argument("--amount", required=True, metavar="USD", type=usd)


def _approve(approve: Parser) -> None:
    approve.add_argument(
        "id", nargs="?", metavar="ID", help="a job or an approval; without one: what is asked for"
    )


def _owner(owner: Parser) -> None:
    _command(_group(owner), "set", "owner_commands:owner_set", "set or change the passphrase (on a terminal)")


def _freeze(freeze: Parser) -> None:
    freeze.add_argument("--why", default="by command", metavar="TEXT")


def _unfreeze(unfreeze: Parser) -> None:
    unfreeze.add_argument(
        "origin", nargs="?", metavar="ORIGIN", help="lift what was stopped at one seller instead"
    )


def _payees(payees: Parser) -> None:
    rules = _group(payees)
    _command(rules, "list", "ledger_commands:payees", "who may be paid where")
    _command(
        rules, "pin", "ledger_commands:payees_pin", "this address and no other (owner, on a terminal)",
        _add_origin, _add_address,
    )  # fmt: skip
    _command(
        rules, "allow", "ledger_commands:payees_allow", "one address more, or any (owner, on a terminal)",
        _add_origin, _add_address_or_any,
    )  # fmt: skip
    _command(
        rules, "drop", "ledger_commands:payees_drop", "forget a payee (owner, on a terminal)",
        _add_origin, _add_some_address,
    )  # fmt: skip


def _add_origin(change: Parser) -> None:
    change.add_argument("origin", metavar="ORIGIN")


def _add_address(pin: Parser) -> None:
    pin.add_argument("address", metavar="ADDRESS", type=address)


def _add_some_address(drop: Parser) -> None:
    drop.add_argument("address", nargs="?", metavar="ADDRESS", type=address)


def _add_address_or_any(allow: Parser) -> None:
    one = allow.add_mutually_exclusive_group(required=True)
    one.add_argument("address", nargs="?", metavar="ADDRESS", type=address)
    one.add_argument("--any", action="store_true", help="the seller has an address per payment")


def _add_wallet_and_books(commands: Commands) -> None:
    _command(commands, "wallet", "wallet_commands:address", "the wallet that pays", _wallet)
    _command(commands, "config", "doctor:config", "the effective settings and where each comes from")
    _command(commands, "doctor", "doctor:doctor", "a table of green and red, with the mend")
    _command(commands, "ledger", "ledger_commands:verify", "proof for the person who pays", _ledger)


def _wallet(wallet: Parser) -> None:
    verbs = _group(wallet)
    _command(verbs, "new", "wallet_commands:new", "make a key, kept in an encrypted keystore")
    _command(
        verbs,
        "import",
        "wallet_commands:bring",
        "put a key you have (asked for, or on stdin) into a keystore",
    )
    _command(verbs, "address", "wallet_commands:address", "the wallet's address")
    _command(verbs, "balance", "wallet_commands:balance", "its USDC on chain (needs RPC_URL)")
    _command(
        verbs, "cancel", "wallet_commands:cancel", "cancel an open authorization on chain (owner, on a terminal)",
        _add_nonce,
        description="Costs gas in ETH. The amount stays counted until the cancellation is final; reconcile frees it then.",
    )  # fmt: skip


def _add_nonce(cancel: Parser) -> None:
    cancel.add_argument("nonce", metavar="NONCE", type=nonce, help="of the authorization; see: ledger export")


def _ledger(ledger: Parser) -> None:
    acts = _group(ledger)
    _command(
        acts, "export", "ledger_commands:export", "every authorization and draw, never a secret", _export
    )  # fmt: skip
    _command(acts, "verify", "ledger_commands:verify", "replay the events against the books")
    _command(
        acts, "backup", "ledger_commands:backup", "the whole ledger into a new file, secrets included",
        _backup, description=BACKUP_WARNING,
    )  # fmt: skip


def _export(export: Parser) -> None:
    export.add_argument("--format", choices=("json",), default="json")
    export.add_argument("--output", metavar="PATH", help="a file instead of stdout")


def _backup(backup: Parser) -> None:
    backup.add_argument("path", metavar="PATH")


def _add_practice(commands: Commands) -> None:
    _command(
        commands, "sandbox", "sandbox_commands:sandbox", "a seller on this machine that checks for real", _sandbox
    )  # fmt: skip
    _command(
        commands, "demo", "sandbox_commands:demo", "the whole walk against it: no funds, no network", _demo
    )  # fmt: skip


def _sandbox(sandbox: Parser) -> None:
    sandbox.add_argument("--port", metavar="N", type=count, default=0)
    sandbox.add_argument("--mode", choices=SANDBOX_MODES, default="venice")
    sandbox.add_argument("--state", metavar="DIR", help="where its key and books go (default: a new folder)")
    sandbox.add_argument("--job-seconds", metavar="S", type=seconds, default=2.0)


def _demo(demo: Parser) -> None:
    demo.add_argument("--seller", choices=SANDBOX_MODES, default="venice")
    demo.add_argument("--output", metavar="PATH", default="x402-audio-demo.mp3")


def _typed(check: Callable[[str], bool], wanted: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not check(text):
            raise argparse.ArgumentTypeError(wanted)
        return text

    return read


def usd(text: str) -> str:
    """Dollars as a person types them, kept as text."""
    try:
        Usdc.parse_usd(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text.strip()


address = _typed(lambda text: bool(_ADDRESS.fullmatch(text)), "an address is 0x and 40 hexadecimal digits")


nonce = _typed(lambda text: bool(_NONCE.fullmatch(text)), "a nonce is 0x and 64 hexadecimal digits")


def seconds(text: str) -> float:
    """A positive number of seconds."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= 31 * 86_400:
        raise argparse.ArgumentTypeError("a positive number of seconds")
    return number


def whole_seconds(text: str) -> int:
    """A positive whole number of seconds."""
    if not text.isascii() or not text.isdigit() or len(text) > 6 or int(text) == 0:
        raise argparse.ArgumentTypeError("a whole number of seconds")
    return int(text)


def count(text: str) -> int:
    """A whole number from 0."""
    if not text.isascii() or not text.isdigit() or len(text) > 6:
        raise argparse.ArgumentTypeError("a whole number")
    return int(text)


def wants_json(words: Sequence[str]) -> bool:
    """Whether `--json` stands among the words, for when they cannot be parsed."""
    given = words[: words.index("--")] if "--" in words else words
    return "--json" in given
