"""The documents say what is: every error, every command, every link and every named test in them exists."""

from __future__ import annotations

import re
import shlex
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest

from x402_audio import errors
from x402_audio.cli.output import Interrupted, UnexpectedError
from x402_audio.cli.parser import PROGRAM, UsageError, build_parser
from x402_audio.cli.run import UnexpectedErrorAfterPayment
from x402_audio.errors import X402AudioError

ROOT = Path(__file__).parents[1]
DOCS = [
    ROOT / name
    for name in ("README.md", "SECURITY.md", *(f"docs/{one.name}" for one in (ROOT / "docs").glob("*.md")))
]
WORDS = {
    "ID": "intro",
    "ORIGIN": "https://api.venice.ai",
    "NONCE": "0x" + "0" * 64,
    "USD": "5",
    "PATH": "x.db",
}
"""What stands for something of yours in a command."""
BUILT = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, X402AudioError) and kind is not X402AudioError
]
OF_THE_COMMAND_LINE = [UsageError, Interrupted, UnexpectedError, UnexpectedErrorAfterPayment]
documents = pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)


def rows(text: str) -> Iterator[list[str]]:
    """The cells of each row whose first names something."""
    for line in text.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def joined(text: str) -> str:
    """Lines that a backslash continues, as one."""
    return re.sub(r"\\\n\s*", "", text)


def commands(text: str) -> Iterator[str]:
    """Every command line of this program in the blocks."""
    for line in joined(text).splitlines():
        if match := re.match(rf"\s*\$ (?:.*; )?({PROGRAM} .*)", line):
            yield match.group(1)


def named(text: str) -> Iterator[str]:
    """Every command that stands between backquotes, perhaps without what it wants."""
    return (one for one in re.findall(r"`([^`\n]+)`", text) if one.startswith(f"{PROGRAM} "))


def read(line: str) -> Namespace:
    """A command line as the program itself reads it."""
    words = [WORDS.get(word, word) for word in shlex.split(line, comments=True)[1:]]
    words = [word for word in words if word not in ("…", "&")]
    try:
        args = build_parser().parse_args(words)
    except SystemExit as ended:
        code = ended.code
    else:
        assert args.run, line
        return args
    assert code == 0, line  # --help and --version
    return Namespace(run="")


def anchor(heading: str) -> str:
    """The name a heading is linked by."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("kind", [*BUILT, *OF_THE_COMMAND_LINE], ids=lambda kind: kind.__name__)
def test_every_error_is_in_the_table_with_its_own_answers(kind: type[X402AudioError]) -> None:
    told = {row[0].strip("`"): row for row in rows((ROOT / "docs/errors.md").read_text())}
    _, what, *answers = told[kind.__name__]
    expected = [kind.money_moved, kind.owner, kind.retry, kind.next_step or "the error names it"]
    assert answers == [*expected, str(kind.exit_code)]
    assert what.endswith(".")


def test_the_table_names_no_error_that_is_not_there() -> None:
    known = {kind.__name__ for kind in (*BUILT, *OF_THE_COMMAND_LINE)}
    assert {row[0].strip("`") for row in rows((ROOT / "docs/errors.md").read_text())} == known


@documents
def test_every_command_that_is_named_can_be_typed(document: Path) -> None:
    for line in commands(document.read_text()):
        read(line)
    for line in named(document.read_text()):
        try:
            read(line)
        except UsageError as error:
            told = error.message
        else:
            continue
        assert told.startswith("the following arguments are required"), line


def test_the_runbook_has_commands_for_each_trouble() -> None:
    parts = re.split(r"^## ", (ROOT / "docs/runbook.md").read_text(), flags=re.MULTILINE)[1:]
    acts = {part.partition("\n")[0]: {*commands(part), *named(part)} for part in parts}
    wanted = (
        "Payment unknown",
        "Money moved, nothing delivered",
        "Frozen",
        "A lost or leaked key",
        "Moving machines",
        "The books refuse",
    )
    for trouble in wanted:
        assert acts[trouble], trouble


def test_what_the_books_are_said_to_refuse_with_is_what_they_say() -> None:
    source = "".join(path.read_text() for path in (ROOT / "x402_audio/ledger").glob("*.py"))
    of_sqlite = "database or disk is full, attempt to write a readonly database"
    part = (ROOT / "docs/runbook.md").read_text().partition("## The books refuse")[2].partition("## ")[0]
    told = [words for row in rows(part) for words in re.findall(r"`([^`]+)`", row[0])]
    assert len(told) > 10
    for words in told:
        assert words in source or words in of_sqlite, words


@documents
def test_every_next_step_the_books_offer_is_a_command(document: Path) -> None:
    for offered in re.findall(
        rf"next: (?:on a terminal, the owner may: |run: )?({PROGRAM} [^·]+)·", document.read_text()
    ):
        read(offered)


@documents
def test_every_link_leads_somewhere(document: Path) -> None:
    text = document.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        path, _, heading = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), target
        if heading:
            assert heading in {
                anchor(one) for one in re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            }, target


@documents
def test_every_file_of_ours_that_is_named_exists(document: Path) -> None:
    for path in re.findall(
        r"`((?:tests|x402_audio|docs|scripts|benchmarks)/[\w./-]*)`", document.read_text()
    ):
        assert (ROOT / path).exists(), path


def test_the_readme_leads_to_the_four_pages() -> None:
    text = (ROOT / "README.md").read_text()
    for page in ("SECURITY.md", "docs/threat-model.md", "docs/runbook.md", "docs/errors.md"):
        assert f"]({page})" in text


@pytest.mark.parametrize("page", ["README.md", "SECURITY.md", "docs/threat-model.md", "docs/runbook.md"])
def test_each_page_says_that_nothing_was_run_live(page: str) -> None:
    assert re.search(r"(never run|[Nn]othing was run|None was run) live", (ROOT / page).read_text())


def test_what_the_readme_says_is_not_in_this_version_is_not() -> None:
    (listed,) = re.findall(
        r"^Not in this version: (.+?)\n\n", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    missing = re.findall(r"`([a-z][a-z -]*)`", listed)
    assert missing
    for words in missing:
        with pytest.raises((UsageError, AssertionError)):
            read(f"{PROGRAM} {words}")
