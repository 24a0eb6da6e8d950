"""Commands for the life of jobs: list, show, resume, cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from x402_audio.cli.output import Report, as_json_text, error_fields, table, when, worst
from x402_audio.cli.records import hold_fields, job_fields, job_row, track_fields
from x402_audio.cli.stage import Stage
from x402_audio.errors import JobParked, X402AudioError

if TYPE_CHECKING:
    from x402_audio.client import AudioClient
    from x402_audio.ledger.book import JobRecord
    from x402_audio.providers.provider import Track

_HEAD: Final = ("job", "state", "model", "price", "made", "file or last error")
_MOMENTS: Final = ("due", "deadline", "created_at", "updated_at", "queued_at")
_EXIT_OF_PARKED: Final = {"funds": 4, "owner": 3, "time": 10, "unknown": 8, "human": 8}


def jobs(stage: Stage) -> Report:
    """Stored jobs, oldest first."""
    with stage.books() as ledger:
        found = ledger.jobs(unfinished=stage.args.unfinished)
    lines = table([job_row(job) for job in found], _HEAD) if found else ["no jobs"]
    return Report({"jobs": [job_fields(job) for job in found]}, lines)


def show(stage: Stage) -> Report:
    """One job and its payments."""
    with stage.books() as ledger:
        job = ledger.job(stage.args.id)
        holds = ledger.holds(job_id=job.id)
    fields = {**job_fields(job, whole=True), "payments": [hold_fields(hold) for hold in holds]}
    rows = [
        [name, _shown(name, value)]
        for name, value in fields.items()
        if name != "payments" and value not in (None, "")
    ]
    paid = [
        [hold.kind, hold.state, str(hold.amount), hold.pay_to, hold.transaction, hold.evidence]
        for hold in holds
    ]
    head = ("kind", "state", "amount", "payTo", "transaction", "evidence")
    return Report(fields, [*table(rows), *(table(paid, head) if paid else ["no payments"])])


def _shown(name: str, value: object) -> str:
    """A field for people: a moment as a date, an object as the JSON it is."""
    if name in _MOMENTS and isinstance(value, float | int):
        return when(value) if value else "-"
    return as_json_text(value) if isinstance(value, dict) else str(value)


def resume(stage: Stage) -> Report:
    """One job, or all unfinished ones of this wallet."""
    from x402_audio.cli.money_commands import track_report
    from x402_audio.cli.owner_commands import asking
    from x402_audio.cli.parser import UsageError

    args = stage.args
    if args.id is None:
        if args.use_suggestion or args.output or args.force:
            raise UsageError("--use-suggestion, --output and --force want the ID of one job")
        return _resume_all(stage)
    with stage.client() as client:
        track = asking(
            stage,
            client.ledger,
            lambda: client.resume(
                args.id, timeout=args.timeout, poll_interval=args.poll_interval, use_suggestion=args.use_suggestion,
                output=args.output, force=args.force or args.yes, wait_parked=args.wait,
            ),
            lambda job_id: client.resume(job_id, timeout=args.timeout),
        )  # fmt: skip
        return track_report(stage, client, track)


def _resume_all(stage: Stage) -> Report:
    args = stage.args
    with stage.client() as client:
        outcomes = client.work(
            timeout=args.timeout, poll_interval=args.poll_interval, until_idle=not args.wait
        )
        tracks = {one.job_id: one.track for one in outcomes if one.track is not None}
        errors: dict[str, X402AudioError] = {
            one.job_id: one.error for one in outcomes if one.error is not None and one.track is None
        }
        unfinished = client.jobs(unfinished=True)
        asked = {one.job_id for one in client.ledger.approvals(states=("wanted",))}
        for job in unfinished:
            if job.wallet.lower() != client.wallet.lower():
                stage.output.warn(f"{job.id} is left alone: it belongs to the wallet {job.wallet}")
            elif job.id not in errors and job.state == "parked":
                errors[job.id] = _parked(job, asked=job.id in asked)
        rows = [_outcome(client, job_id, tracks, errors) for job_id in [*tracks, *errors]]
    for job_id, error in errors.items():
        stage.output.say(f"{job_id}: {error.message} (exit {error.exit_code}; next: {error.next_step})")
    code = worst(error.exit_code for error in errors.values())
    first = next((error for error in errors.values() if error.exit_code == code), None)
    lines = [track.path for track in tracks.values()]
    return Report({"jobs": rows}, lines if rows else ["nothing to resume"], error=first, exit_code=code)


def _outcome(
    client: AudioClient, job_id: str, tracks: dict[str, Track], errors: dict[str, X402AudioError]
) -> dict[str, object]:
    state = client.job(job_id).state
    if job_id in tracks:
        return track_fields(tracks[job_id], state)
    error = errors[job_id]
    return {"job_id": job_id, "state": state, "exitCode": error.exit_code, "error": error_fields(error)}


def _parked(job: JobRecord, *, asked: bool = False) -> JobParked:
    """A job that waits for somebody, as an error with the exit code of its reason."""
    reason = job.parked_reason or "human"
    unknown = reason in ("unknown", "human")
    error = JobParked(
        f"parked({reason}): {job.last_error or 'it waits'}", job_id=job.id, queue_id=job.queue_id, reason=reason,
        money_moved="unknown" if unknown else "yes" if job.queue_id else "no", owner="reconcile" if unknown else "human",
        next_step="run: x402-audio reconcile" if unknown
        else f"on a terminal, the owner may: x402-audio approve {job.id}" if asked else f"x402-audio resume {job.id}",
    )  # fmt: skip
    vars(error)["exit_code"] = _EXIT_OF_PARKED[reason]
    return error


def cancel(stage: Stage) -> Report:
    """End a job that was not bought."""
    with stage.client() as client:
        job = client.cancel(stage.args.id)
    return Report(job_fields(job), [f"{job.id} is {job.state}"])
