"""Commands that ask for prices and funds, and the one that buys: generate. A skin over the client, no rules of its own."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from x402_audio.cli.output import Report, money, record, table, when
from x402_audio.cli.owner_commands import asking
from x402_audio.cli.parser import UsageError
from x402_audio.cli.records import (
    budget_left,
    hold_fields,
    job_fields,
    tightest,
    track_fields,
    usd_or_dash,
)
from x402_audio.cli.stage import Stage
from x402_audio.errors import AboveMaximum, BudgetExceeded, ConfigurationError, LedgerError, RequestInvalid
from x402_audio.money import Usdc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from x402_audio.client import AudioClient
    from x402_audio.ledger.book import Allowance, JobState
    from x402_audio.providers.catalog import ModelSpec
    from x402_audio.providers.provider import Track
    from x402_audio.reports import InspectReport, QuoteReport
    from x402_audio.verbs import AudioWishes, JobWishes

TEXT_BYTES_MAX: Final = 256 * 1024
DOCUMENT_BYTES_MAX: Final = 64 * 1024
SPEECH_NOTE: Final = (
    "for short speech the seller's synchronous endpoint (POST /audio/speech) is quicker and cheaper; this tool buys"
    " queued jobs: music, sound, long speech"
)


def generate(stage: Stage) -> Report:
    """Buy one track and wait for its file."""
    if stage.args.dry_run:
        return _dry_run(stage)
    if stage.args.detach:
        return submit(stage)
    prompt = _prompt(stage)
    wishes = _job_wishes(stage)
    with stage.client() as client:
        args = stage.args
        track = asking(
            stage,
            client.ledger,
            lambda: client.generate(prompt, model=args.model, timeout=args.timeout, **wishes),
            lambda job_id: client.resume(job_id, timeout=args.timeout),
        )
        return track_report(stage, client, track)


def submit(stage: Stage) -> Report:
    """Store a job; nothing is paid."""
    prompt = _prompt(stage)
    with stage.client() as client:
        job = client.submit(prompt, model=stage.args.model, **_job_wishes(stage))
    stage.output.say(f"stored, nothing paid; go on with: x402-audio resume {job.id}")
    return Report(job_fields(job), [job.id])


def track_report(stage: Stage, client: AudioClient, track: Track, *, says: bool = True) -> Report:
    """How a purchase ended: file, cost, budget left (on stderr if it `says`). stdout gets the path alone."""
    for warning in track.warnings:
        stage.output.warn(warning)
    allowances, state = _what_the_books_say(stage, client, track)
    shown = (
        not stage.output.as_json and not stage.output.quiet and (sys.stderr.isatty() or stage.output.verbose)
    )
    if says and shown:
        stage.output.say(f"cost       {track.cost}")
        stage.output.say(f"left       {tightest(allowances)}")
    result = track_fields(track, state)
    return Report({**result, "budget_left": budget_left(allowances)}, [track.path])


def _what_the_books_say(
    stage: Stage, client: AudioClient, track: Track
) -> tuple[Sequence[Allowance], JobState]:
    """Budget and state after a purchase: books that fail now take nothing from a track that is there."""
    try:
        return client.budget(), client.job(track.job_id).state
    except LedgerError as error:
        stage.output.warn(f"the track is there, but its books could not be read again: {error.message}")
        return (), "completed" if track.completed else "saved"


def _dry_run(stage: Stage) -> Report:
    """What it would cost and whether it would be bought; nothing is stored, signed or paid."""
    from x402_audio.jobs.download import check_writable
    from x402_audio.own_files import check_not_ours
    from x402_audio.providers.catalog import check_request
    from x402_audio.providers.provider import AudioRequest

    args, prompt = stage.args, _prompt(stage)
    wishes = _audio_wishes(stage)
    if args.output:
        check_not_ours(Path(args.output).absolute(), stage.settings)
        check_writable(Path(args.output).absolute(), force=args.force or args.yes)
    with stage.client() as client:
        spec = next((spec for spec in client.models() if spec.id == args.model), None)
        if spec is not None:
            check_request(AudioRequest(prompt=prompt, model=args.model, **wishes), spec)
        quote = client.quote(prompt, model=args.model, **wishes)
        _check_limits(stage, client, quote)
    return Report({"dry_run": True, **_quote_fields(quote)}, ["nothing was bought", *_quote_lines(quote)])


def _check_limits(stage: Stage, client: AudioClient, quote: QuoteReport) -> None:
    """Refuse as the purchase would be: the caller's maximum, then every limit over the jobs."""
    if quote.price is None:
        return
    most = stage.args.max_price and Usdc.parse_usd(stage.args.max_price)
    if most is not None and quote.price > most:
        raise AboveMaximum(f"{quote.price} is asked, at most {most} is allowed")
    settings = client.settings
    scopes = ("all", f"model:{quote.model}", f"label:{settings.label}")
    for one in client.ledger.allowances(settings.limits_with(max_price=most)):
        if one.limit.purse == "jobs" and one.limit.scope in scopes and one.left < quote.price:
            raise BudgetExceeded(
                f"{quote.price} would not fit: {one.left} left of the limit per {one.limit.window} ({one.limit.source})",
                limit=one.limit.window, amount=int(one.limit.amount), spent=int(one.spent), held=int(one.held),
                needed=int(quote.price), next_step="see: x402-audio budget",
            )  # fmt: skip


def quote(stage: Stage) -> Report:
    """The price of a request."""
    prompt = _prompt(stage, needed=False)
    with stage.client() as client:
        report = client.quote(prompt, model=stage.args.model, **_audio_wishes(stage))
    return Report(_quote_fields(report), _quote_lines(report))


def _quote_fields(report: QuoteReport) -> dict[str, object]:
    return {
        "model": report.model, **money("price", report.price), **money("listed", report.local), "source": report.source,
        **money("needed", report.needed), **money("credit", report.credit),
        **money("would_top_up", report.would_top_up), "notes": list(report.warnings),
    }  # fmt: skip


def _floor(report: QuoteReport) -> str:
    """Why more credit is needed than the price."""
    if report.price is None or report.needed is None or report.needed <= report.price:
        return ""
    return f" (the seller wants {report.needed - report.price} to stay)"


def _quote_lines(report: QuoteReport) -> list[str]:
    rows = [["price", usd_or_dash(report.price) if report.price is not None else "named by the seller's 402"]]
    if report.local is not None and report.local != report.price:
        rows.append(["listed", str(report.local)])
    if report.credit is not None:
        rows.append(["credit", f"{report.credit}, needed {usd_or_dash(report.needed)}{_floor(report)}"])
    if report.would_top_up is not None:
        rows.append(["top-up", f"{report.would_top_up} would be paid in first"])
    return [*table(rows), *(f"note   {text}" for text in report.warnings)]


def models(stage: Stage) -> Report:
    """The seller's models, or one of them."""
    wanted = stage.args.model
    with stage.client() as client:
        specs = client.models()
    if wanted is None:
        rows = [[spec.id, _price_of(spec), _length_of(spec), _abilities_of(spec)] for spec in specs]
        lines = table(rows, ("model", "price", "seconds", "can"))
        if sys.stdout.isatty():
            lines += ["", SPEECH_NOTE]
        else:
            stage.output.say(SPEECH_NOTE)
        return Report({"models": [_model_fields(spec) for spec in specs], "note": SPEECH_NOTE}, lines)
    spec = next((spec for spec in specs if spec.id == wanted), None)
    if spec is None:
        raise RequestInvalid(
            f"this seller has no model {wanted!r}",
            field="model",
            value=wanted,
            allowed="see: x402-audio models",
        )
    told = _model_fields(spec)
    return Report(told, table([[name, _words(value)] for name, value in told.items() if value is not None]))


def _model_fields(spec: ModelSpec) -> dict[str, object]:
    fields = {name: value for name, value in record(spec).items() if value is not None and name != "pricing"}
    return {"id": spec.id, "price": _price_of(spec), **fields}


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _price_of(spec: ModelSpec) -> str:
    from x402_audio.providers.prices import Durations, Generation, PerSecond, PerThousandCharacters

    match spec.pricing:
        case Generation(usd):
            return f"{_listed(usd)} a track"
        case PerSecond(usd):
            return f"{_listed(usd)} a second"
        case PerThousandCharacters(usd):
            return f"{_listed(usd)} per 1000 characters"
        case Durations(tiers) if tiers:
            low, high = min(tier.usd for tier in tiers), max(tier.usd for tier in tiers)
            return f"{_listed(low)} - {_listed(high)} by length"
    return "ask: x402-audio quote"


def _listed(usd: Decimal) -> Usdc:
    """A listed figure to read, the noise of binary fractions rounded away; nobody pays it."""
    return Usdc(int((usd * 1_000_000).to_integral_value()))


def _length_of(spec: ModelSpec) -> str:
    if spec.duration_options:
        return ", ".join(map(str, spec.duration_options))
    if spec.min_duration is None and spec.max_duration is None:
        return "-"
    return f"{spec.min_duration or 1}-{spec.max_duration or '?'}"


def _abilities_of(spec: ModelSpec) -> str:
    can = {
        "lyrics": spec.supports_lyrics, "instrumental": spec.supports_force_instrumental, "loop": spec.supports_loop,
        "speed": spec.supports_speed, "language": spec.supports_language_code, "voices": bool(spec.voices) or None,
    }  # fmt: skip
    return ", ".join(name for name, able in can.items() if able) or "-"


def balance(stage: Stage) -> Report:
    """Credit at the seller and USDC on chain."""
    with stage.client() as client:
        report = client.balance()
    for warning in report.warnings:
        stage.output.warn(warning)
    rows = [["wallet", report.wallet], ["seller", f"{report.seller} at {report.origin}"]]
    if report.credit is not None:
        rows += [["credit", str(report.credit)], ["for new jobs", usd_or_dash(report.available)]]
        rows += [["reading", f"{report.trust}, {when(report.read_at)}"]]
    if report.diem is not None:
        rows.append(["DIEM", str(report.diem)])
    if report.minimum_top_up is not None:
        rows.append(["smallest top-up", str(report.minimum_top_up)])
    chain = str(report.usdc_on_chain) if report.usdc_on_chain is not None else "not read (RPC_URL)"
    rows.append(["USDC on chain", chain])
    rows += [[name, str(value)] for name, value in (report.account or {}).items()]
    fields = {name: value for name, value in record(report).items() if name != "warnings"}
    for name in ("credit", "available", "diem", "minimum_top_up", "usdc_on_chain"):
        fields.pop(name, None)
        fields |= money(name, getattr(report, name))
    return Report(fields, table(rows))


def top_up(stage: Stage) -> Report:
    """Pay credit in, once."""
    with stage.client() as client:
        amount = stage.args.amount
        hold = asking(stage, client.ledger, lambda: client.top_up(amount), lambda _: client.top_up(amount))
    in_transaction = f" in {hold.transaction}" if hold.transaction else ""
    return Report(hold_fields(hold), [f"topped up {hold.amount}{in_transaction}"])


def transactions(stage: Stage) -> Report:
    """The seller's own ledger."""
    with stage.client() as client:
        page = client.transactions(limit=stage.args.limit, offset=stage.args.offset)
    rows = [[when(row.created_at), row.type, str(row.amount), row.model, row.request_id] for row in page.rows]
    lines = table(rows, ("when", "what", "amount", "model", "request")) if rows else ["no transactions"]
    result = {"transactions": [record(row) for row in page.rows], "has_more": page.has_more}
    return Report({**result, **money("balance", page.balance)}, lines)


def inspect(stage: Stage) -> Report:
    """What a 402 asks for; unsigned."""
    target = stage.args.target
    if target.startswith(("http://", "https://")):
        try:
            good = bool(urlsplit(target).hostname) and target.isprintable() and " " not in target
        except ValueError:
            good = False
        if not good:
            raise UsageError("that is not a URL")
        with stage.client(opens_key=False) as client:
            report = client.inspect(target, method=stage.args.method)
    else:
        report = _inspect_file(stage, target)
    rows = [
        [
            f"#{row.index}",
            usd_or_dash(row.amount),
            row.pay_to,
            row.network,
            "yes" if row.payable else "no",
            row.reason,
        ]
        for row in report.requirements
    ]
    lines = table(rows, ("", "amount", "payTo", "network", "payable", "why")) if rows else []
    return Report(
        {**record(report), "requirements": [record(row) for row in report.requirements]},
        [*lines, *([report.note] if report.note else [])] or ["nothing is offered"],
    )


def _inspect_file(stage: Stage, name: str) -> InspectReport:
    from x402_audio.payment.inspect import inspect_document
    from x402_audio.payment.policy import PaymentPolicy
    from x402_audio.protocol.networks import BASE, network_named

    document = _read(name, DOCUMENT_BYTES_MAX)
    settings = stage.settings
    network = network_named(settings.network) or BASE
    return inspect_document(document, PaymentPolicy(network=network, allowed_payees=settings.payees))


# --- the request


def _prompt(stage: Stage, *, needed: bool = True) -> str:
    args = stage.args
    if args.prompt is not None and args.prompt_file is not None:
        raise UsageError("give PROMPT or --prompt-file, not both")
    if args.prompt_file is not None:
        return _text(args.prompt_file)
    if args.prompt is None and needed:
        raise UsageError("PROMPT is missing", next_step="say what it shall sound like, or give --prompt-file")
    return args.prompt or ""


def _audio_wishes(stage: Stage) -> AudioWishes:
    args = stage.args
    lyrics = args.lyrics
    if lyrics is not None and lyrics.startswith("@"):
        lyrics = _text(lyrics[1:])
    if args.speed is not None and not _is_decimal(args.speed):
        raise UsageError("--speed is a number like 1.25")
    return {
        "duration_seconds": args.duration, "lyrics": lyrics, "instrumental": args.instrumental, "voice": args.voice,
        "language": args.language, "speed": args.speed, "loop": args.loop, "lyrics_optimizer": args.lyrics_optimizer,
    }  # fmt: skip


def _job_wishes(stage: Stage) -> JobWishes:
    args = stage.args
    return {
        **_audio_wishes(stage), "max_price": args.max_price, "max_top_up": args.max_top_up, "max_total": args.max_total,
        "payee": args.payee, "job_id": args.job_id, "again": args.again, "output": args.output,
        "force": args.force or args.yes, "keep_remote": args.keep_remote,
        "poll_interval": getattr(args, "poll_interval", None),
    }  # fmt: skip


def _is_decimal(text: str) -> bool:
    try:
        return Decimal(text).is_finite()
    except ArithmeticError:
        return False


def _text(name: str) -> str:
    """The text of a file or, for `-`, of stdin; the last line end is not part of it."""
    try:
        return _read(name, TEXT_BYTES_MAX).decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise UsageError(f"{name} is not UTF-8 text") from None


def _read(name: str, bytes_max: int) -> bytes:
    try:
        if name == "-":
            data = sys.stdin.buffer.read(bytes_max + 1)
        else:
            with open(name, "rb") as file:
                data = file.read(bytes_max + 1)
    except OSError as error:
        raise ConfigurationError(
            f"{name} cannot be read: {error.strerror}", next_step="check the file's name"
        ) from None
    if len(data) > bytes_max:
        raise ConfigurationError(f"{name} is larger than {bytes_max} bytes")
    return data
