"""`doctor` and `config`: what is set and where from, and whether the ground is sound, with the mend for what is not."""

from __future__ import annotations

import platform
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from x402_audio.cli.output import Report, money, table
from x402_audio.cli.records import approval_line, standing, to_approve
from x402_audio.cli.stage import Stage
from x402_audio.cli.wallet_commands import wallet_of
from x402_audio.errors import ChainError, ClockError, ConfigurationError, LedgerError, X402AudioError
from x402_audio.settings import LIMITS, Settings, limit_named

ASK_SECONDS: Final = 10
NO_RPC: Final = (
    "without RPC_URL a lost payment is presumed spent after 30 min instead of read from the chain, and USDC on chain"
    " is not checked before paying"
)
Colour = Literal["green", "red", "note"]


@dataclass(frozen=True, slots=True)
class Row:
    """One thing looked at. `mend` says what to do about a red one."""

    what: str
    colour: Colour
    text: str
    mend: str = ""


def doctor(stage: Stage) -> Report:
    """Look at everything a payment stands on."""
    rows = list(_rows(stage))
    red = [row for row in rows if row.colour == "red"]
    lines = table([[_mark(row.colour), row.what, row.text] for row in rows])
    lines += [f"to mend {row.what}: {row.mend}" for row in rows if row.mend]
    error = ConfigurationError(f"{len(red)} of {len(rows)} rows are red: {', '.join(row.what for row in red)}",
                               next_step=red[0].mend) if red else None  # fmt: skip
    told = [{"what": row.what, "colour": row.colour, "text": row.text, "mend": row.mend} for row in rows]
    return Report({"rows": told}, lines, error=error)


def _mark(colour: Colour) -> str:
    words = {"green": "ok", "red": "RED", "note": "--"}
    return words[colour]


def _rows(stage: Stage) -> Iterator[Row]:
    yield Row("Python", "green" if sys.version_info >= (3, 11) else "red", platform.python_version(), "")
    yield _sqlite()
    settings = stage.settings
    yield _state(settings)
    yield _wallet(stage)
    yield from _seller(stage)
    yield _rpc(settings)
    yield _limits(settings)
    if settings.max_top_up:
        yield Row("top-ups", "green", f"on, at most {settings.max_top_up} at once")
    else:
        yield Row(
            "top-ups", "note", "automatic top-ups are off", "set X402_AUDIO_MAX_TOP_UP or give --max-top-up"
        )
    if settings.notify_command:
        yield _notify(settings.notify_command[0])
    yield from _books(settings)


def _sqlite() -> Row:
    from x402_audio.ledger.database import refuse_raced_sqlite

    try:
        return Row("SQLite", "green", refuse_raced_sqlite())
    except LedgerError as error:
        return Row("SQLite", "red", error.message, error.next_step)


def _state(settings: Settings) -> Row:
    folder = settings.state_dir
    try:
        mode = stat.S_IMODE(folder.stat().st_mode)
    except FileNotFoundError:
        return Row("state folder", "note", f"{folder} will be made when needed")
    except OSError as error:
        return Row("state folder", "red", f"{folder}: {error.strerror}", "set X402_AUDIO_STATE_DIR")
    if mode & 0o077:
        return Row("state folder", "red", f"{folder} is open to others ({mode:o})", f"chmod 700 {folder}")
    return Row("state folder", "green", str(folder))


def _wallet(stage: Stage) -> Row:
    settings = stage.settings
    if settings.billing == "account":
        good = bool(settings.venice_api_key)
        return Row("account key", "green" if good else "red", f"for {settings.account_origin}" if good else "not set",
                   "" if good else "set X402_AUDIO_VENICE_API_KEY")  # fmt: skip
    try:
        wallet = wallet_of(stage)
    except X402AudioError as error:
        return Row("wallet", "red", error.message, error.next_step)
    if settings.keystore is not None and settings.keystore_password_file is None:
        return Row("wallet", "note", f"{wallet}, its password is asked for on a terminal",
                   "for unattended use set X402_AUDIO_KEYSTORE_PASSWORD_FILE")  # fmt: skip
    return Row("wallet", "green", wallet)


def _seller(stage: Stage) -> Iterator[Row]:
    """Reachable, the clock agrees, and which kind it is."""
    import httpx

    from x402_audio.payment.policy import check_clock

    api_url = stage.settings.api_url
    with stage.client(opens_key=False) as client:
        try:
            answer = client.http.get(f"{api_url}/models", timeout=ASK_SECONDS)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            yield Row(
                "seller",
                "red",
                f"{api_url}: {type(error).__name__}",
                "check the network and X402_AUDIO_API_URL",
            )
            return
        yield Row("seller", "green", f"{api_url} answers ({answer.status_code})")
        try:
            check_clock(answer.headers.get("date"), time.time())
            yield Row("clock", "green", "agrees with the seller's")
        except ClockError as error:
            yield Row("clock", "red", error.message, error.next_step)
        yield _try("seller kind", client.seller)


def _try(what: str, ask: Callable[[], str]) -> Row:
    try:
        return Row(what, "green", ask())
    except X402AudioError as error:
        return Row(what, "red", error.message, error.next_step)


def _rpc(settings: Settings) -> Row:
    if not settings.rpc_urls:
        return Row("chain", "note", NO_RPC, "set X402_AUDIO_RPC_URL")
    from x402_audio.payment.chain import ChainReader
    from x402_audio.protocol.networks import BASE, network_named

    network = network_named(settings.network) or BASE
    try:
        ChainReader(settings.rpc_urls, network).latest_time()
    except ChainError as error:
        return Row("chain", "red", error.message, error.next_step)
    return Row("chain", "green", f"{len(settings.rpc_urls)} RPC on {settings.network} ({network.chain_id})")


def _limits(settings: Settings) -> Row:
    told = (
        f"{name} {limit.amount}"
        for name in LIMITS
        if (limit := limit_named(settings.limits, name)) is not None
    )
    return Row("limits", "green", ", ".join(told))


def _notify(program: str) -> Row:
    """Only the program is named: its arguments may hold a token."""
    if shutil.which(program) is None:
        return Row(
            "notify command", "red", f"{program} is no program found here", "set X402_AUDIO_NOTIFY_COMMAND"
        )
    return Row("notify command", "green", program)


def _books(settings: Settings) -> Iterator[Row]:
    """Soundness, the brake, what was stopped, and what nobody knows yet."""
    from x402_audio.clock import SystemClock, system_random
    from x402_audio.ledger.sqlite import SqliteLedger

    if not settings.ledger.exists():
        yield Row("ledger", "note", f"{settings.ledger} will be made when needed")
        return
    try:
        ledger = SqliteLedger(settings.ledger, clock=SystemClock(), random=system_random, create=False)
    except X402AudioError as error:
        yield Row("ledger", "red", error.message, error.next_step)
        return
    findings, frozen, stopped = ledger.verify(), ledger.frozen(), ledger.suspensions()
    open_holds = ledger.holds(states=("signed",))
    asked, has_owner = standing(ledger), ledger.has_passphrase()
    journal = ledger.journal
    ledger.close()
    yield Row("ledger", "red" if findings else "green", f"{len(findings)} things wrong" if findings else ledger.path,
              "x402-audio ledger verify" if findings else "")  # fmt: skip
    yield Row("journal", "green", journal if journal == "WAL" else f"{journal}: as safe, slower")
    yield Row("brake", "red" if frozen else "green", f"frozen: {frozen}" if frozen else "not frozen",
              "on a terminal: x402-audio unfreeze" if frozen else "")  # fmt: skip
    yield Row("owner", "green" if has_owner else "note", "a passphrase guards what widens spending" if has_owner
              else "no passphrase is set", "" if has_owner else "on a terminal: x402-audio owner set")  # fmt: skip
    for one in asked:
        yield Row("owner", "note", approval_line(one), to_approve(one))
    for _, origin, what, why in stopped:
        lift = f"x402-audio reconcile; or, on a terminal: x402-audio unfreeze {origin}"
        yield Row("stopped", "red", f"{what} at {origin}: {why}", lift)
    yield Row("unknown payments", "red" if open_holds else "green", str(len(open_holds) or "none"),
              "x402-audio reconcile" if open_holds else "")  # fmt: skip


def config(stage: Stage) -> Report:
    """Every setting, its value and its source; secrets as set or not set."""
    settings = stage.settings
    values: dict[str, str] = {
        "PRIVATE_KEY": _set(settings.private_key), "KEYSTORE": _path(settings.keystore),
        "KEYSTORE_PASSWORD_FILE": _path(settings.keystore_password_file), "VENICE_API_KEY": _set(settings.venice_api_key),
        "PROVIDER": settings.provider, "API_URL": settings.api_url, "BILLING": settings.billing,
        "NETWORK": settings.network, "RPC_URL": ", ".join(_host(url) for url in settings.rpc_urls),
        "STATE_DIR": str(settings.state_dir), "LEDGER": str(settings.ledger), "LABEL": settings.label,
        "STORE_PROMPTS": "yes" if settings.store_prompts else "no", "PAYEES": ", ".join(sorted(settings.payees)),
        "HEADER_PROFILE": settings.header_profile, "NOTIFY_COMMAND": "".join(settings.notify_command[:1]),
    }  # fmt: skip
    for name in LIMITS:
        limit = limit_named(settings.limits, name)
        values[name] = "none" if limit is None else limit.amount.usd
    rows = [
        [name, value or "not set", settings.sources.get(name, "default")] for name, value in values.items()
    ]
    scoped = [limit for limit in settings.limits if limit.scope != "all"]
    rows += [[f"{one.purse} per {one.window} of {one.scope}", one.amount.usd, one.source] for one in scoped]
    result = {
        "environment": settings.environment,
        "settings": [{"name": name, "value": value, "source": source} for name, value, source in rows],
        "limits": [
            {"purse": one.purse, "window": one.window, "scope": one.scope, "source": one.source,
             **money("amount", one.amount)}
            for one in settings.limits
        ],
    }  # fmt: skip
    # The value comes last: a long path may run over the edge without pulling the other columns along.
    lines = table([[name, source, value] for name, value, source in rows], ("setting", "source", "value"))
    return Report(result, lines)


def _set(secret: object) -> str:
    return "set" if secret else "not set"


def _path(path: Path | None) -> str:
    return "" if path is None else str(path)


def _host(url: str) -> str:
    """An RPC's path is often its token."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" + ("/…" if parts.path.strip("/") else "")
