"""Jobs, holds, tracks and limits as the command line shows them: fields for programs, rows for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from x402_audio.cli.output import money, record, when
from x402_audio.jsontext import read_json_object
from x402_audio.ledger.book import Allowance, Approval, Hold, JobRecord, Ledger
from x402_audio.ledger.limits import name_of
from x402_audio.money import Usdc

if TYPE_CHECKING:
    from x402_audio.providers.provider import Track

ASKED_FOR_S = 86_400
_HIDDEN = ("request", "options", "epoch", "digest")
OVER_TIME = ("hour", "day", "month", "ever")


def job_fields(job: JobRecord, *, whole: bool = False) -> dict[str, object]:
    """A job for programs; `whole` adds the request and the wishes stored with it."""
    told = {
        name: value
        for name, value in record(job).items()
        if name not in _HIDDEN and not name.startswith("price")
    }
    told |= {"job_id": told.pop("id"), "sha256": told.pop("file_sha256"), "bytes": told.pop("file_bytes")}
    told |= money("price", job.price) | money("missing", job.missing)
    if job.missing is None:
        told.pop("missing", None)
    if whole:
        told |= {"request": _object(job.request), "options": _object(job.options), "digest": job.digest}
    return told


def job_row(job: JobRecord) -> list[str]:
    """A job for people: id, state, model, price, made, and what to know of it."""
    state = f"{job.state}({job.parked_reason})" if job.parked_reason else job.state
    about = job.path or job.last_error
    return [
        job.id,
        state,
        job.model,
        "" if job.price is None else str(job.price),
        when(job.created_at),
        about[:80],
    ]


def hold_fields(hold: Hold) -> dict[str, object]:
    """A payment or draw for programs. The nonce is public once sent; no header is among it."""
    return {
        "id": hold.id, "kind": hold.kind, "state": hold.state, "nonce": hold.nonce or None,
        **money("amount", hold.amount), "transaction": hold.transaction, "pay_to": hold.pay_to, "origin": hold.origin,
        "job_id": hold.job_id, "valid_before": hold.valid_before, "evidence": hold.evidence,
    }  # fmt: skip


def track_fields(track: Track, state: str) -> dict[str, object]:
    """A delivered file for programs."""
    return {
        "job_id": track.job_id, "state": state, "model": track.model,
        **money("price", track.price), **money("cost", track.cost),
        "payments": list(track.payments), "queue_id": track.queue_id, "path": track.path, "sha256": track.sha256,
        "bytes": track.bytes, "content_type": track.content_type,
        "duration_seconds": round(track.duration_seconds, 3), "completed": track.completed,
    }  # fmt: skip


def approval_fields(approval: Approval) -> dict[str, object]:
    """The owner's leave for one payment, asked or given, for programs."""
    told = {
        name: value for name, value in record(approval).items() if name not in ("purchase", "request_digest")
    }
    told["wanted_at"], told["expires_at"] = when(approval.wanted_at), when(approval.expires_at) or None
    return told


def standing(ledger: Ledger) -> list[Approval]:
    """What is asked of the owner since a day at most, and what was given and neither used nor expired."""
    now = ledger.now()
    known = ledger.approvals(states=("wanted", "granted"))
    return [
        one for one in known
        if (one.state == "wanted" and one.wanted_at > now - ASKED_FOR_S) or (one.expires_at or 0) > now
    ]  # fmt: skip


def approval_line(approval: Approval) -> str:
    """The same as one line for people."""
    what = f"{approval.amount} from {approval.purse} at {approval.origin} ({approval.job_id or approval.id})"
    if approval.state == "granted":
        return f"approved until {when(approval.expires_at)}, not yet paid: {what}"
    return f"asks the owner: {what}"


def approval_lines(approvals: Iterable[Approval]) -> list[str]:
    """A line for each, and under what is asked why, and what to type."""
    lines = []
    for one in approvals:
        lines.append(approval_line(one))
        if one.state == "wanted":
            lines += [f"  {one.why}", f"  {to_approve(one)}"]
    return lines


def to_approve(approval: Approval) -> str:
    """What the owner types; '' where nothing is asked any more."""
    name = approval.job_id or approval.id
    return f"on a terminal: x402-audio approve {name}" if approval.state == "wanted" else ""


def allowance_fields(allowance: Allowance) -> dict[str, object]:
    """One limit for programs: what it is, what is used, what is left, and when the oldest part returns."""
    from datetime import UTC, datetime

    limit = allowance.limit
    return {
        "purse": limit.purse, "window": limit.window, "scope": limit.scope, "source": limit.source,
        "name": name_of(limit), **money("limit", limit.amount), **money("spent", allowance.spent),
        **money("held", allowance.held), **money("left", allowance.left), "percent": percent_used(allowance),
        "nearly_used": is_nearly_used(allowance),
        "returns_at": None if allowance.returns_at is None
        else datetime.fromtimestamp(allowance.returns_at, UTC).isoformat(timespec="seconds"),
    }  # fmt: skip


def budget_left(allowances: Iterable[Allowance]) -> list[dict[str, object]]:
    """What is left of every limit over time."""
    return [allowance_fields(one) for one in allowances if one.limit.window in OVER_TIME]


def tightest(allowances: Iterable[Allowance]) -> str:
    """The limit on jobs with the least left, in words; '' when there is none."""
    mine = [one for one in allowances if one.limit.purse == "jobs" and one.limit.window in OVER_TIME]
    if not mine:
        return ""
    least = min(mine, key=lambda one: one.left)
    return f"{least.left} of {name_of(least.limit)}"


def percent_used(allowance: Allowance) -> int | None:
    """How much of a limit over time is used, whole percent rounded down; None for one that is no such limit."""
    if allowance.limit.window not in OVER_TIME or allowance.limit.amount == 0:
        return None
    return (allowance.spent + allowance.held) * 100 // allowance.limit.amount


def is_nearly_used(allowance: Allowance) -> bool:
    """Four fifths or more are used."""
    from x402_audio.ledger.spending import SOFT_PERCENT

    percent = percent_used(allowance)
    return percent is not None and percent >= SOFT_PERCENT


def usd_or_dash(amount: Usdc | None) -> str:
    return "-" if amount is None else str(amount)


def _object(text: str) -> object:
    try:
        return read_json_object(text, bytes_max=1 << 20) if text else None
    except ValueError:
        return text
