"""Commands of the owner over the books: limits, the brake, payees, and the proof for the person who pays."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from x402_audio.cli.output import Report, as_json_text, record, table, when
from x402_audio.cli.owner import confirm
from x402_audio.cli.parser import UsageError
from x402_audio.cli.records import (
    OVER_TIME,
    allowance_fields,
    approval_fields,
    approval_lines,
    is_nearly_used,
    percent_used,
    standing,
)
from x402_audio.cli.stage import Stage
from x402_audio.errors import ConfigurationError, LedgerError
from x402_audio.ledger.book import Limit, Payee, Purse, Window
from x402_audio.ledger.limits import checked, name_of
from x402_audio.money import Usdc

if TYPE_CHECKING:
    from x402_audio.ledger.sqlite import SqliteLedger


# --- limits


def budget(stage: Stage) -> Report:
    """Every limit: spent, at risk, left, and when it comes back."""
    with stage.client(opens_key=False) as client:
        allowances = client.budget()
        frozen = client.ledger.frozen()
        stopped = client.ledger.suspensions()
        asked = standing(client.ledger)
        marks = client.ledger.marks()
    rows = [
        [
            name_of(one.limit),
            *([str(one.spent), str(one.held), str(one.left)] if one.limit.window in OVER_TIME else ["-"] * 3),
            when(one.returns_at),
            f"{percent_used(one)} % used" if is_nearly_used(one) else "",
        ]
        for one in allowances
    ]
    lines = table(rows, ("limit", "spent", "at risk", "left", "comes back", ""))
    if frozen is not None:
        lines.append(f"FROZEN: {frozen}")
    lines += approval_lines(asked)
    lines += [f"stopped: {what} at {origin}: {why}" for _, origin, what, why in stopped]
    result = {
        "limits": [allowance_fields(one) for one in allowances], "frozen": frozen,
        "approvals": [approval_fields(one) for one in asked],
        "marks": [{**record(one), "at": when(one.at)} for one in marks],
        "stopped": [{"wallet": w, "origin": o, "what": what, "why": why} for w, o, what, why in stopped],
    }  # fmt: skip
    return Report(result, lines)


def budget_set(stage: Stage) -> Report:
    """Set a limit of the ledger; raising one is the owner's act."""
    args = stage.args
    purse, window = cast(Purse, args.purse), cast(Window, args.window)
    wish = _checked(Limit(purse, window, Usdc.parse_usd(args.amount), args.scope, "ledger"))
    with stage.client(opens_key=False) as client:
        now = _standing(client.ledger.effective_limits([]), wish) or _standing(_defaults(stage), wish)
        if now is not None and wish.amount > now.amount:
            confirm(stage.output, client.ledger, f"raising {name_of(now)} to {wish.amount}", "raise")
        client.ledger.set_limit(wish)
        effective = _standing(client.ledger.effective_limits(client.settings.limits), wish)
    lines = [f"set: {name_of(wish)}"]
    if effective is not None and effective.amount < wish.amount:
        lines.append(f"a smaller one stands: {name_of(effective)}")
    return Report(record(wish), lines)


def budget_drop(stage: Stage) -> Report:
    """Take a limit out of the ledger: the owner's act."""
    args = stage.args
    wish = _checked(Limit(args.purse, args.window, Usdc(0), args.scope, "ledger"))
    with stage.client(opens_key=False) as client:
        now = _standing(client.ledger.effective_limits([]), wish)
        if now is None:
            raise UsageError("the ledger has no such limit", next_step="see: x402-audio budget")
        confirm(stage.output, client.ledger, f"dropping {name_of(now)}", "drop")
        client.ledger.drop_limit(wish.purse, wish.scope, wish.window)
    return Report(record(now), [f"dropped: {name_of(now)}"])


def _checked(limit: Limit) -> Limit:
    try:
        return checked(limit)
    except LedgerError as error:
        raise UsageError(error.message) from None


def _defaults(stage: Stage) -> list[Limit]:
    return [limit for limit in stage.settings.limits if limit.source == "default"]


def _standing(limits: Iterable[Limit], wish: Limit) -> Limit | None:
    key = (wish.purse, wish.window, wish.scope)
    return next((limit for limit in limits if (limit.purse, limit.window, limit.scope) == key), None)


# --- brake


def freeze(stage: Stage) -> Report:
    """Stop everything that can spend; needs nobody's leave."""
    with stage.client(opens_key=False) as client:
        client.ledger.freeze(stage.args.why)
    return Report({"frozen": stage.args.why}, ["frozen: nothing spends; what is paid can still be fetched"])


def unfreeze(stage: Stage) -> Report:
    """Loose the brake, or lift what was stopped at one seller: the owner's act."""
    origin = stage.args.origin and _origin(stage.args.origin)
    with stage.client(opens_key=False) as client:
        if not origin:
            why = client.ledger.frozen()
            if why is None:
                return Report({"frozen": None}, ["it was not frozen"])
            confirm(stage.output, client.ledger, f"unfreezing (frozen: {why})", "unfreeze")
            client.ledger.unfreeze("the owner, on a terminal")
            return Report({"frozen": None}, ["unfrozen"])
        stopped = [row for row in client.ledger.suspensions() if row[1] == origin]
        if not stopped:
            return Report({"lifted": []}, [f"nothing was stopped at {origin}"])
        confirm(
            stage.output,
            client.ledger,
            f"lifting what was stopped at {origin}: {'; '.join(row[3] for row in stopped)}",
            "lift",
        )
        for wallet, where, what, _ in stopped:
            client.ledger.lift(
                wallet, where, "top-ups" if what == "top-ups" else "seller", "the owner, on a terminal"
            )
    return Report({"lifted": [row[2] for row in stopped]}, [f"lifted at {origin}"])


# --- payees


def payees(stage: Stage) -> Report:
    """Who may be paid where."""
    with stage.client(opens_key=False) as client:
        rows = client.ledger.payees()
    lines = table([[row.origin, row.network, row.address or "any", row.state, row.how] for row in rows],
                  ("origin", "network", "address", "state", "how"))  # fmt: skip
    return Report({"payees": [record(row) for row in rows]}, lines if rows else ["no payees yet"])


def payees_pin(stage: Stage) -> Report:
    """One address and no other: the owner's act."""
    origin, address, network = _payee(stage)
    with stage.client(opens_key=False) as client:
        known = [row for row in client.ledger.payees() if (row.origin, row.network) == (origin, network)]
        instead = f", instead of {', '.join(row.address for row in known)}" if known else ""
        confirm(stage.output, client.ledger, f"pinning {address} for {origin}{instead}", "pin")
        pinned = Payee(origin, network, address, "pinned", "the owner, on a terminal")
        client.ledger.set_payee(pinned)
        for row in known:
            if row.address.lower() != address.lower():
                client.ledger.drop_payee(origin, network, row.address)
    return Report(record(pinned), [f"pinned: {address} at {origin}"])


def payees_allow(stage: Stage) -> Report:
    """One address more, or any: the owner's act."""
    origin, address, network = _payee(stage)
    allowed = Payee(
        origin, network, address, "any" if stage.args.any else "allowed", "the owner, on a terminal"
    )
    with stage.client(opens_key=False) as client:
        confirm(
            stage.output,
            client.ledger,
            f"allowing {address or 'any address'} to be paid at {origin}",
            "allow",
        )
        client.ledger.set_payee(allowed)
    return Report(record(allowed), [f"allowed: {address or 'any'} at {origin}"])


def payees_drop(stage: Stage) -> Report:
    """Forget what was pinned or allowed at an origin: the owner's act."""
    origin, address, network = _payee(stage)
    with stage.client(opens_key=False) as client:
        known = [
            row for row in client.ledger.payees()
            if (row.origin, row.network) == (origin, network) and address.lower() in ("", row.address.lower())
        ]  # fmt: skip
        if not known:
            raise UsageError(f"no such payee at {origin}", next_step="see: x402-audio payees")
        confirm(
            stage.output,
            client.ledger,
            f"forgetting {', '.join(row.address or 'any' for row in known)} at {origin}",
            "drop",
        )
        for row in known:
            client.ledger.drop_payee(origin, network, row.address)
    return Report({"dropped": [record(row) for row in known]}, [f"dropped at {origin}"])


def _payee(stage: Stage) -> tuple[str, str, str]:
    """(origin, EIP-55 address or '', CAIP-2 network)."""
    from x402_audio.protocol.address import checksum_address
    from x402_audio.protocol.networks import BASE, network_named

    try:
        address = checksum_address(stage.args.address) if stage.args.address else ""
    except ValueError as error:
        raise UsageError(str(error)) from None
    return _origin(stage.args.origin), address, (network_named(stage.settings.network) or BASE).caip2


def _origin(text: str) -> str:
    from x402_audio.settings import check_url, origin_of_url

    return origin_of_url(check_url("ORIGIN", text))


# --- proof


def verify(stage: Stage) -> Report:
    """Replay the events against the books."""
    ledger = _existing(stage)
    findings, heads = ledger.verify(), ledger.heads()
    ledger.close()
    result = {"ledger": ledger.path, "findings": [record(one) for one in findings], "heads": heads}
    if not findings:
        return Report(result, [f"sound: {ledger.path}"])
    lines = [f"{one.invariant} {one.subject}: {one.text}" for one in findings]
    return Report(result, lines, error=LedgerError(f"{len(findings)} things are wrong in {ledger.path}"))


def export(stage: Stage) -> Report:
    """Every authorization and draw as JSON."""
    from x402_audio.ledger.export import export_json

    ledger = _existing(stage)
    told = export_json(ledger)
    ledger.close()
    text = as_json_text(told)
    if stage.args.output is None:
        return Report(told, [text])
    path = _write_new(stage, text)
    return Report({"path": str(path)}, [str(path)])


def backup(stage: Stage) -> Report:
    """The whole ledger into a new file."""
    ledger = _existing(stage)
    path = Path(stage.args.path).absolute()
    ledger.backup(str(path))
    ledger.close()
    stage.output.say(
        "after restoring it, before anything else: x402-audio reconcile (it would buy again what it missed)"
    )
    return Report({"path": str(path)}, [str(path)])


def _existing(stage: Stage) -> SqliteLedger:
    from x402_audio.clock import SystemClock, system_random
    from x402_audio.ledger.sqlite import SqliteLedger

    return SqliteLedger(stage.settings.ledger, clock=SystemClock(), random=system_random, create=False)


def _write_new(stage: Stage, text: str) -> Path:
    from x402_audio.own_files import check_not_ours

    path = Path(stage.args.output).absolute()
    check_not_ours(path, stage.settings)
    how = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if stage.args.yes else os.O_EXCL)
    try:
        with os.fdopen(os.open(path, how, 0o600), "w") as file:
            file.write(text + "\n")
    except FileExistsError:
        raise ConfigurationError(
            f"{path} exists already", next_step="choose another --output, or give --yes"
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror}", next_step="choose another --output"
        ) from None
    return path
