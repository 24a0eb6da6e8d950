"""Shows a job while it runs: price, payment, progress with the seller's own estimate, file. Decides nothing.

A bar on a terminal, single lines where asked for, silence when piped. Remembers what was told, so that an interruption
can say which job it was and whether money may have moved.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from x402_audio.cli.output import Output, plain, short
from x402_audio.errors import MoneyMoved
from x402_audio.money import Usdc

if TYPE_CHECKING:
    from rich.progress import Progress

    from x402_audio.notices import Notice

Mode = Literal["silent", "lines", "bar"]


class Terminal:
    """Listens to notices. `say` takes one line; the bar, if any, is on stderr."""

    def __init__(
        self, output: Output, mode: Mode | None = None, say: Callable[[str], None] | None = None
    ) -> None:
        self._output = output
        self._mode: Mode = mode or _mode_of(output)
        self._say = say or output.say
        self._bar: Progress | None = None
        self._told_progress = ""
        self.job_id = ""
        self.money_moved: MoneyMoved = "no"

    def __call__(self, notice: Notice) -> None:
        self.job_id = notice.job_id or self.job_id
        if notice.kind in ("payment", "queued", "settled") and self.money_moved == "no":
            self.money_moved = "unknown"
        if notice.kind in ("settled", "queued"):
            self.money_moved = "yes"
        if notice.kind in ("warning", "limit", "stopped", "overcharge"):
            self._output.warn(notice.text)
        elif notice.kind in ("frozen", "approval", "unknown"):
            return  # said where the command ends
        elif self._mode == "bar":
            self._draw(notice)
        elif self._mode == "lines":
            line = _line(notice).rstrip()
            if line and line != self._told_progress:
                self._say(line)
            self._told_progress = line if notice.kind == "progress" else ""

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _draw(self, notice: Notice) -> None:
        if notice.kind in ("progress", "download"):
            self._advance(notice)
            return
        if notice.kind in ("saved", "parked", "completed"):
            self.close()
        line = _line(notice)
        if line:
            (
                self._bar.console.print(plain(line), markup=False, highlight=False)
                if self._bar
                else self._say(line)
            )

    def _advance(self, notice: Notice) -> None:
        if self._bar is None:
            self._bar = _new_bar()
            self._bar.start()
            self._bar.add_task("making", total=None)
        task = self._bar.tasks[0]
        if notice.kind == "download":
            done, total = _number(notice, "bytes"), _number(notice, "total")
            self._bar.update(task.id, description="loading", total=total, completed=done or 0.0)
            return
        average, elapsed = _number(notice, "average_s"), _number(notice, "elapsed_s")
        estimate = f"making (about {average:.0f} s)" if average else "making"
        self._bar.update(
            task.id, description=estimate, total=average, completed=min(elapsed or 0.0, average or 0.0)
        )


def _mode_of(output: Output) -> Mode:
    if output.verbose:
        return "lines"
    return "bar" if sys.stderr.isatty() and not output.quiet and not output.as_json else "silent"


def _new_bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _line(notice: Notice) -> str:
    """One step as one line, '' for what people need not see."""
    data = notice.data
    match notice.kind:
        case "seller":
            return f"seller     {notice.text}"
        case "price":
            return f"price      {_usd(data.get('price_atomic'))} for {data.get('model', '')}"
        case "credit":
            return f"credit     {_usd(data.get('balance_atomic'))}"
        case "payment":
            word = "top-up" if data.get("kind") == "topup" else "payment"
            again = ", the same one again" if data.get("resend") else ""
            return (
                f"{word:<10} {_usd(data.get('amount_atomic'))} to {short(str(data.get('pay_to', '')))}{again}"
            )
        case "settled":
            transaction = str(data.get("transaction") or "")
            return f"settled    {_usd(data.get('amount_atomic'))}{f' in {short(transaction)}' if transaction else ''}"
        case "queued":
            return f"queued     {data.get('queue_id', '')}"
        case "progress":
            average, elapsed = _number(notice, "average_s"), _number(notice, "elapsed_s")
            told = "" if elapsed is None else f" {elapsed:.0f} s"
            return f"making    {told}" + ("" if average is None else f" of about {average:.0f} s")
        case "saved":
            return f"saved      {data.get('bytes', '?')} bytes, sha256 {str(data.get('sha256', ''))[:12]}"
        case "parked":
            return f"parked     {notice.text}"
        case "download":
            return ""
    return f"{notice.kind:<10} {notice.text}" if notice.text != notice.kind else ""


def _number(notice: Notice, name: str) -> float | None:
    value = notice.data.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _usd(atomic: object) -> str:
    return str(Usdc(atomic)) if isinstance(atomic, int) and not isinstance(atomic, bool) else "?"
