"""The command `reconcile`: ledger, chain and seller beside each other, each difference named; once, or watched.

A skin over the client. A table by rich on a terminal, plain columns when piped, rows in the JSON.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from shutil import get_terminal_size
from textwrap import wrap
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from x402_audio.cli.output import Report, plain, record, table, when
from x402_audio.cli.parser import UsageError
from x402_audio.cli.records import hold_fields
from x402_audio.cli.stage import Stage
from x402_audio.errors import PaymentUnsettled, X402AudioError

if TYPE_CHECKING:
    from x402_audio.client import AudioClient
    from x402_audio.payment.reconcile import Agreement, ReconcileReport

EVERY_MIN_S: Final = 10.0
AGREEING_SHOWN: Final = 20
_HEAD: Final = ("what", "amount", "when", "ledger", "chain", "seller", "difference")
_LEAST: Final = (6, 7, 16, 11, 7, 8, 10)
"""Characters of the longest word in each column: its width where the terminal has less than `NARROW`."""
NARROW: Final = 100
_OURS: Final = ("direct", "topup", "credit", "account")
_BRAKE: Final = {
    "frozen": "FROZEN: {}",
    "kept": "still FROZEN: {}",
    "lifted": "no longer frozen: every entry is named, and no waiting job can have made one",
}


def reconcile(stage: Stage) -> Report:
    """One pass of books against seller and chain, or one after the other until Ctrl-C."""
    if stage.args.watch:
        return _watch(stage)
    with stage.client() as client:
        report = _pass(client)
    for text in report.result["unread"] if isinstance(report.result["unread"], tuple) else ():
        stage.output.warn(f"could not read {text}")
    return report


def _pass(client: AudioClient, *, drawn: bool = True) -> Report:
    report = client.reconcile()
    still = [client.ledger.hold(hold_id) for hold_id in report.open]
    lines = [*_told(report), *(f"still unknown: {h.id} {h.amount} to {h.pay_to} ({h.kind})" for h in still)]
    if drawn and sys.stdout.isatty():
        _draw(report)
    elif drawn:
        lines = [*_columns(report), *lines]
    result = {
        "differences": [record(one) for one in report.differences], "settled": report.settled, "void": report.voided,
        "presumed": report.presumed, "open": [hold_fields(hold) for hold in still], "jobs": report.jobs,
        "unread": report.unread, "rows": [record(row) for row in report.rows], "frozen": report.frozen,
        "brake": report.brake,
    }  # fmt: skip
    if not (still or report.differences or report.unread or report.frozen is not None):
        lines.append("books, seller and chain agree")
    if drawn and sys.stdout.isatty():
        lines = _wrapped(lines)
    if not still:
        return Report(result, lines)
    first = still[0]
    unknown = PaymentUnsettled(
        f"{len(still)} payment(s) are still unknown", hold_id=first.id, nonce=first.nonce, valid_before=first.valid_before,
        next_step="start no other purchase; run x402-audio reconcile again later",
    )  # fmt: skip
    return Report(result, lines, error=unknown)


def _told(report: ReconcileReport) -> Iterator[str]:
    """What was found and decided, one line each."""
    for one in report.differences:
        yield f"{one.kind}: {one.amount} ({one.subject}) {one.text}"
    for word, ids in (("settled", report.settled), ("void", report.voided), ("presumed", report.presumed)):
        yield from (f"{word}: {hold_id}" for hold_id in ids)
    yield from (f"moved on: {job_id}" for job_id in report.jobs)
    if report.brake:
        yield _BRAKE[report.brake].format(report.frozen)


# --- the table


def _rows(report: ReconcileReport) -> Iterator[tuple[Agreement, str]]:
    """What does not agree, and the newest of what does; each with what differs, by kind and amount."""
    agreeing = [row for row in report.rows if row.agrees]
    old = {row.subject for row in agreeing[:-AGREEING_SHOWN]}
    for row in report.rows:
        named = (
            f"{one.kind} {one.amount}"
            for one in report.differences
            if one.subject == row.subject and (row.kind in _OURS or row.kind == one.kind)
        )
        if not row.agrees or row.subject not in old:
            yield row, ", ".join(named)


def _columns(report: ReconcileReport) -> list[str]:
    """Plain columns for pipes; the last names the entry in full."""
    rows = [
        [
            "=" if row.agrees else "!", row.kind, str(row.amount), when(row.at), row.ledger, row.chain, row.seller,
            differs, row.subject,
        ]
        for row, differs in _rows(report)
    ]  # fmt: skip
    return table(rows, ("", *_HEAD, "entry")) if rows else []


def _draw(report: ReconcileReport) -> None:
    """The table on a terminal: as wide as that is, words unbroken; the lines under it name the entries."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    drawn = Table(
        title="ledger · chain · seller", title_style="", box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False,
        show_edge=False,
    )  # fmt: skip
    for name, least in zip(_HEAD, _LEAST, strict=True):
        width = least if console.width < NARROW and name != "difference" else None
        drawn.add_column(name, width=width, no_wrap=name in ("what", "amount", "when"))
    for row, differs in _rows(report):
        what = row.kind if row.kind in _OURS else "-"
        moment = when(row.at).rpartition(":")[0]
        cells = (what, str(row.amount), moment, row.ledger, row.chain, row.seller, differs)
        drawn.add_row(*(Text(plain(cell)) for cell in cells), style="" if row.agrees else "bold red")
    if drawn.row_count:
        console.print(drawn)


def _wrapped(lines: Sequence[str]) -> list[str]:
    """Lines no wider than the terminal, broken between words."""
    width = max(get_terminal_size().columns, 40)
    return [
        part
        for line in lines
        for part in wrap(
            plain(line), width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
    ]


# --- watching


def _watch(stage: Stage) -> Report:
    """Pass after pass; a line only for what was not so before, or with --json one object a pass. Ends by Ctrl-C."""
    every = _pace(stage)
    known: set[str] = set()
    with stage.client() as client:
        while True:
            try:
                report = _pass(client, drawn=False)
            except X402AudioError as error:
                report = Report({}, [f"could not read: {error.message}"], error=error)
            if stage.output.as_json:
                stage.output.report(report)
            else:
                unread = report.result.get("unread")
                lines = [
                    *report.lines,
                    *(f"could not read {text}" for text in (unread if isinstance(unread, tuple) else ())),
                ]
                now = f"{when(time.time())}  "
                for line in lines:
                    if line not in known:
                        print(plain(now + line), flush=True)
                known = set(lines)
            time.sleep(every)


def _pace(stage: Stage) -> float:
    every: float = stage.args.every
    host = urlsplit(stage.settings.api_url).hostname or ""
    if every < EVERY_MIN_S and not (host.startswith("127.") or host == "::1"):
        raise UsageError(f"--every is {EVERY_MIN_S:.0f} s or more (less only for loopback sellers)")
    return every
