"""The command `reconcile`: ledger, chain and seller beside each other, each difference named; once, or watched.

A skin over the client. A table by rich on a terminal, plain columns when piped, rows in the JSON.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from x402_audio.cli.output import Report, plain, record, short, table, when
from x402_audio.cli.parser import UsageError
from x402_audio.cli.records import hold_fields
from x402_audio.cli.stage import Stage
from x402_audio.errors import PaymentUnsettled, X402AudioError

if TYPE_CHECKING:
    from x402_audio.client import AudioClient
    from x402_audio.payment.reconcile import Agreement, ReconcileReport

EVERY_MIN_S: Final = 10.0
AGREEING_SHOWN: Final = 20
_HEAD: Final = ("", "what", "amount", "when", "ledger", "chain", "seller", "entry")
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
    if drawn and not _draw(report.rows):
        lines = [*_columns(report.rows), *lines]
    result = {
        "differences": [record(one) for one in report.differences], "settled": report.settled, "void": report.voided,
        "presumed": report.presumed, "open": [hold_fields(hold) for hold in still], "jobs": report.jobs,
        "unread": report.unread, "rows": [record(row) for row in report.rows], "frozen": report.frozen,
        "brake": report.brake,
    }  # fmt: skip
    if not still:
        quiet = not report.differences and not report.unread and report.frozen is None
        return Report(result, [*lines, "books, seller and chain agree"] if quiet else lines)
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


def _rows(rows: Sequence[Agreement]) -> list[list[str]]:
    """What does not agree, and the newest of what does."""
    agreeing = [row for row in rows if row.agrees]
    shown = {row.subject for row in agreeing[-AGREEING_SHOWN:]} | {
        row.subject for row in rows if not row.agrees
    }
    return [
        [
            "=" if row.agrees else "!", row.kind, str(row.amount), when(row.at), row.ledger, row.chain, row.seller,
            short(row.subject) if row.subject.startswith("0x") else row.subject,
        ]
        for row in rows
        if row.subject in shown
    ]  # fmt: skip


def _columns(rows: Sequence[Agreement]) -> list[str]:
    return table(_rows(rows), _HEAD) if rows else []


def _draw(rows: Sequence[Agreement]) -> bool:
    """The table on a terminal; False where there is none and columns are wanted."""
    if not sys.stdout.isatty():
        return False
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if rows:
        drawn = Table(*_HEAD, title="ledger · chain · seller")
        for cells in _rows(rows):
            drawn.add_row(*(Text(plain(cell)) for cell in cells), style="" if cells[0] == "=" else "bold red")
        Console().print(drawn)
    return True


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
