"""Commands of the owner alone: the passphrase, and leave for single payments. What is asked is said before it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from x402_audio.cli.output import Report, table, when
from x402_audio.cli.owner import ask_passphrase, at_a_terminal, confirm, need_terminal
from x402_audio.cli.parser import UsageError
from x402_audio.cli.records import approval_fields, approval_lines, standing
from x402_audio.cli.stage import Stage
from x402_audio.errors import ApprovalWanted, PaymentRefused, UnknownApproval
from x402_audio.ledger.book import Approval, Ledger

T = TypeVar("T")


def owner(stage: Stage) -> Report:
    """Whether a passphrase is set."""
    with stage.client(opens_key=False) as client:
        has = client.ledger.has_passphrase()
    lines = ["a passphrase is set" if has else "no passphrase is set; on a terminal: x402-audio owner set"]
    return Report({"passphrase": has}, lines)


def owner_set(stage: Stage) -> Report:
    """Set the owner's passphrase, or change it with the old one."""
    with stage.client(opens_key=False) as client:
        need_terminal("setting the owner's passphrase")
        had = client.ledger.has_passphrase()
        old = ask_passphrase(stage.output, "the owner's passphrase now") if had else None
        new = ask_passphrase(stage.output, "new passphrase of the owner", twice=True)
        client.ledger.set_passphrase(new, old)
    return Report(
        {"passphrase": True}, ["changed" if had else "set: from now on every act of the owner wants it"]
    )


def approve(stage: Stage) -> Report:
    """Let one payment through, once, or list what is asked for."""
    with stage.client(opens_key=False) as client:
        if stage.args.id is None:
            asked = standing(client.ledger)
            rows = [approval_fields(one) for one in asked]
            return Report({"approvals": rows}, approval_lines(asked) or ["nothing is asked"])
        given = give(stage, client.ledger, _named(client.ledger, stage.args.id))
    go_on = f"x402-audio resume {given.job_id}" if given.job_id else "repeat the same purchase"
    return Report(approval_fields(given), [f"approved until {when(given.expires_at)}, once; go on: {go_on}"])


def asking(stage: Stage, ledger: Ledger, act: Callable[[], T], again: Callable[[str], T]) -> T:
    """Do it; where the owner is asked first and sits at this terminal, ask, and take it up `again` (the job's id)."""
    todo = act
    while True:
        try:
            return todo()
        except ApprovalWanted as error:
            stage.terminal.close()
            if not at_a_terminal():
                raise
            wanted = ledger.approval(error.approval_id)
            try:
                give(stage, ledger, wanted)
            except PaymentRefused as refused:
                stage.output.say(refused.message)
                raise error from None
        todo = _taken_up(again, wanted)


def _taken_up(again: Callable[[str], T], wanted: Approval) -> Callable[[], T]:
    return lambda: again(wanted.job_id or "")


def give(stage: Stage, ledger: Ledger, wanted: Approval) -> Approval:
    """Show what is asked, have the owner confirm it, and grant it. Raises PaymentRefused."""
    need_terminal(f"approving a payment of {wanted.amount}")
    rows = [
        ["price", str(wanted.amount)], ["why", wanted.why], ["purse", wanted.purse], ["seller", wanted.origin],
        ["payee", wanted.pay_to or ("any, as its owner allowed" if wanted.purse == "wallet" else "the seller")],
        ["job", wanted.job_id or "-"], ["model", wanted.model or "-"], ["wallet", f"{wanted.wallet} on {wanted.network}"],
    ]  # fmt: skip
    for line in table(rows):
        stage.output.say(line)
    confirm(stage.output, ledger, f"approving {wanted.amount} once", "approve")
    return ledger.grant(wanted.id)


def _named(ledger: Ledger, name: str) -> Approval:
    """The newest one asked for a job, else the approval of that id. Raises UsageError."""
    of_job = ledger.approvals(job_id=name, states=("wanted", "granted"))
    if of_job:
        return max(of_job, key=lambda one: (one.state == "wanted", one.wanted_at))
    try:
        return ledger.approval(name)
    except UnknownApproval:
        raise UsageError(f"nothing is asked for {name}", next_step="see: x402-audio approve") from None
