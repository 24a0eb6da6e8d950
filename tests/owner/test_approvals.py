"""One approval is one payment: wanted by its own transaction, spent by the reserving one, bound to all it names."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import books
from tests.ledger.desk import (
    OTHER_SELLER,
    SteppedClock,
    counted_random,
    draw,
    limit,
    new_job,
    pay,
    top_up,
    wish,
)
from tests.ledger.test_proof import tamper
from x402_audio.errors import ApprovalWanted, BudgetExceeded, Frozen, PayeeRefused, PaymentRefused
from x402_audio.ledger.book import Approval, Limit, Payee, Reserve
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc

ROOT = Path(__file__).parents[2]
ABOVE = limit("jobs", "unasked", 50)
MINUTES_15 = 15 * 60


def asked(ledger: SqliteLedger, reserve: Reserve, *limits: Limit) -> Approval:
    with pytest.raises(ApprovalWanted) as refused:
        ledger.reserve(reserve, limits or [ABOVE])
    return ledger.approval(refused.value.approval_id)


def again(reserve: Reserve, **changed: Any) -> Reserve:
    """The same payment asked for once more: another nonce, as every try has."""
    return reserve._replace(**{"nonce": wish().nonce, **changed})


def state(ledger: SqliteLedger) -> list[str]:
    return [one.state for one in ledger.approvals()]


def rows(path: Path, statement: str) -> list[Any]:
    """The first column, read past the ledger."""
    return [row[0] for row in books.asked(path, statement)]


def test_at_the_threshold_nobody_is_asked_and_above_it_nothing_is_reserved(ledger: SqliteLedger) -> None:
    assert ledger.reserve(wish(50), [ABOVE]).state == "reserved"
    reserve = wish(51)
    wanted = asked(ledger, reserve)
    assert (wanted.state, wanted.amount, wanted.purse) == ("wanted", reserve.amount, "wallet")
    assert wanted.why == "$0.51 is above APPROVE_ABOVE $0.50 (environment)"
    assert len(ledger.holds()) == 1
    assert [one.address for one in ledger.payees()] == [wish().pay_to], "only the first payment's pin"


def test_a_refusal_leaves_no_pin_behind(ledger: SqliteLedger) -> None:
    asked(ledger, wish(51))
    assert (ledger.payees(), ledger.holds()) == ([], [])


def test_the_refusal_says_what_to_type(ledger: SqliteLedger) -> None:
    for reserve in (wish(60, job_id="jingle"), wish(60)):
        with pytest.raises(ApprovalWanted) as refused:
            ledger.reserve(reserve, [ABOVE])
        name = reserve.job_id or refused.value.approval_id
        assert refused.value.next_step == f"on a terminal, the owner may: x402-audio approve {name}"
        assert (refused.value.exit_code, refused.value.money_moved, refused.value.owner) == (3, "no", "human")


def test_asking_twice_is_one_question_and_another_price_is_another(ledger: SqliteLedger) -> None:
    reserve = wish(60)
    first = asked(ledger, reserve)
    assert asked(ledger, again(reserve)).id == first.id
    assert asked(ledger, again(reserve, amount=Usdc(610_000))).id != first.id
    assert state(ledger) == ["dropped", "wanted"]


def test_an_approval_lets_its_payment_through_once(ledger: SqliteLedger) -> None:
    reserve = wish(60)
    ledger.grant(asked(ledger, reserve).id)
    hold = ledger.reserve(again(reserve), [ABOVE])
    (spent,) = ledger.approvals()
    assert (spent.state, spent.hold_id) == ("spent", hold.id)
    ledger.void(hold.id, evidence="never sent", unsigned=True)
    assert asked(ledger, again(reserve)).id != spent.id
    with pytest.raises(PaymentRefused, match="one approval is one payment"):
        ledger.grant(spent.id)


def test_it_covers_a_lower_price_and_no_higher_one(ledger: SqliteLedger) -> None:
    reserve = wish(60)
    ledger.grant(asked(ledger, reserve).id)
    asked(ledger, again(reserve, amount=Usdc(600_001)))
    assert ledger.reserve(again(reserve, amount=Usdc(599_999)), [ABOVE]).state == "reserved"


def test_it_lives_fifteen_minutes(ledger: SqliteLedger, clock: SteppedClock) -> None:
    reserve = wish(60)
    wanted = asked(ledger, reserve)
    ledger.grant(wanted.id)
    clock.at += MINUTES_15 + 1
    asked(ledger, again(reserve))
    ledger.grant(wanted.id)
    clock.at += MINUTES_15 - 1
    assert ledger.reserve(again(reserve), [ABOVE]).state == "reserved"


@pytest.mark.parametrize(
    "other",
    [
        {"pay_to": OTHER_SELLER, "origin": "https://other.example"},
        {"origin": "https://other.example"},
        {"wallet": "0x" + "77" * 20},
        {"network": "eip155:84532"},
        {"environment": "sandbox"},
        {"body_digest": "another body"},
        {"resource": "https://seller.example/other"},
        {"method": "PUT"},
        {"model": "another"},
        {"job_id": "another"},
        {"purchase": "another"},
        {"kind": "account", "nonce": "", "pay_to": ""},
    ],
    ids="+".join,
)
def test_it_is_no_leave_for_anything_else(ledger: SqliteLedger, other: dict[str, Any]) -> None:
    reserve = wish(60)
    ledger.grant(asked(ledger, reserve).id)
    asked(ledger, again(reserve, **other))
    assert ledger.reserve(again(reserve), [ABOVE]).state == "reserved"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("purchase", "another"),
        ("job_id", "another"),
        ("kind", "account"),
        ("purse", "credit"),
        ("wallet", "0x" + "77" * 20),
        ("network", "eip155:84532"),
        ("environment", "sandbox"),
        ("origin", "https://other.example"),
        ("pay_to", OTHER_SELLER),
        ("request_digest", "00" * 32),
        ("model", "another"),
        ("amount", 599_999),
        ("expires_at", SteppedClock().now()),
        ("state", "spent"),
        ("state", "dropped"),
    ],
    ids=lambda value: str(value)[:22],
)
def test_one_that_differs_in_this_alone_is_not_spent(tmp_path: Path, column: str, value: str | int) -> None:
    path = tmp_path / "ledger.db"
    ledger = SqliteLedger(path, clock=SteppedClock(), random=counted_random())
    ledger.add_job(new_job())
    reserve = wish(60, job_id="jingle", model="music")
    ledger.grant(asked(ledger, reserve).id)
    (kept,) = rows(path, f"SELECT {column} FROM approval")
    tamper(path, f"UPDATE approval SET {column} = {value!r}")
    assert asked(ledger, again(reserve)).state == "wanted"
    assert ledger.holds() == []
    tamper(path, "DELETE FROM approval WHERE rowid > 1")
    tamper(path, f"UPDATE approval SET {column} = {kept!r}")
    assert ledger.reserve(again(reserve), [ABOVE]).state == "reserved", "nothing else was in the way"
    ledger.close()


def test_it_names_the_payee_unless_the_owner_allows_any(ledger: SqliteLedger) -> None:
    reserve = wish(60)
    ledger.grant(asked(ledger, reserve).id)
    asked(ledger, again(reserve, pay_to=OTHER_SELLER))
    ledger.set_payee(Payee(reserve.origin, reserve.network, "", "any", "owner"))
    reserve = wish(60)
    ledger.grant(asked(ledger, reserve).id)
    assert ledger.reserve(again(reserve, pay_to=OTHER_SELLER), [ABOVE]).pay_to == OTHER_SELLER


def test_it_raises_no_limit_frees_no_payee_and_looses_no_brake(ledger: SqliteLedger) -> None:
    reserve = wish(60)
    ledger.grant(asked(ledger, reserve).id)
    with pytest.raises(BudgetExceeded):
        ledger.reserve(again(reserve), [ABOVE, limit("jobs", "payment", 55)])
    ledger.set_payee(Payee(reserve.origin, reserve.network, OTHER_SELLER, "pinned", "owner"))
    with pytest.raises(PayeeRefused):
        ledger.reserve(again(reserve), [ABOVE])
    ledger.drop_payee(reserve.origin, reserve.network, OTHER_SELLER)
    ledger.freeze("a test")
    with pytest.raises(Frozen):
        ledger.reserve(again(reserve), [ABOVE])
    assert state(ledger) == ["granted"], "a refused payment spends no approval"
    ledger.unfreeze("a test")
    assert ledger.reserve(again(reserve), [ABOVE]).state == "reserved"


def test_top_ups_and_draws_are_asked_for_too(ledger: SqliteLedger) -> None:
    assert asked(ledger, top_up(500)).kind == "topup"
    first, second = top_up(500, purchase="topup:a"), top_up(500, purchase="topup:b")
    ledger.grant(asked(ledger, first).id)
    assert ledger.reserve(second, [ABOVE]).kind == "topup", "a command's top-up is known by seller and amount"
    for _ in range(2):
        ledger.record_reading(
            wish().wallet, wish().origin, Usdc(9_000_000), diem=None, minimum_top_up=Usdc(0)
        )
    assert asked(ledger, draw(60)).purse == "credit"


def test_the_smallest_threshold_counts_whoever_wrote_it(ledger: SqliteLedger) -> None:
    ledger.set_limit(limit("jobs", "unasked", 20, source="ledger"))
    assert "(ledger)" in asked(ledger, wish(30)).why
    assert "(flag)" in asked(ledger, wish(30), ABOVE, limit("jobs", "unasked", 10, source="flag")).why
    ledger.set_limit(limit("jobs", "unasked", 5, scope=f"payee:{OTHER_SELLER}", source="ledger"))
    assert f"payee:{OTHER_SELLER}" in asked(ledger, wish(10, origin="https://o", pay_to=OTHER_SELLER)).why


def test_what_was_asked_is_not_asked_any_more_once_the_job_is_paid_otherwise(ledger: SqliteLedger) -> None:
    ledger.add_job(new_job())
    job = ledger.claim("jingle", "me", 60)
    assert job is not None
    asked(ledger, wish(60, job_id="jingle", epoch=job.epoch))
    assert ledger.reserve(wish(40, job_id="jingle", epoch=job.epoch), [ABOVE]).state == "reserved"
    assert state(ledger) == ["dropped"]


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE approval SET state = 'granted', hold_id = NULL", "approval:"),
        ("UPDATE approval SET amount = 1", "approval:"),
        ("DELETE FROM approval", "approval:"),
        ("UPDATE mark SET at = 0", "mark:"),
        ("UPDATE hold SET size = '1 s'", "sized:"),
    ],
)
def test_the_proof_finds_what_another_tool_did_to_them(tmp_path: Path, statement: str, what: str) -> None:
    path = tmp_path / "ledger.db"
    ledger = SqliteLedger(path, clock=SteppedClock(), random=counted_random())
    reserve = wish(60, size="60 s")
    ledger.grant(asked(ledger, reserve).id)
    pay(ledger, again(reserve), ABOVE, limit("jobs", "day", 61))
    assert ledger.verify() == []
    ledger.close()
    tamper(path, statement)
    assert {one.subject[: len(what)] for one in ledger.verify()} == {what}
    ledger.close()


def test_the_proof_finds_a_payment_above_the_threshold_that_nobody_approved(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    forgetful = SqliteLedger(tmp_path / "other.db", clock=SteppedClock(), random=counted_random())
    monkeypatch.setattr("x402_audio.ledger.approvals.reasons", lambda *_: [])
    forgetful.reserve(wish(60), [ABOVE])
    assert [one.invariant for one in forgetful.verify()] == ["approval"]


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["ask", "grant", "pay", "void", "wait"]), max_size=25))
def test_whatever_happens_every_payment_above_it_has_an_approval_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    clock = SteppedClock()
    ledger = SqliteLedger(tmp_path_factory.mktemp("books") / "l.db", clock=clock, random=counted_random())
    granted = 0
    for step in steps:
        reserve = wish(60, purchase="the same")
        if step in ("ask", "pay"):
            with suppress(ApprovalWanted):
                ledger.reserve(reserve, [ABOVE])
        elif step == "grant":
            for one in ledger.approvals(states=("wanted",)):
                granted += ledger.grant(one.id).state == "granted"
        elif step == "void":
            for hold in ledger.holds(states=("reserved",)):
                ledger.void(hold.id, evidence="never sent", unsigned=True)
        else:
            clock.at += MINUTES_15 / 2
    spent = [one.hold_id for one in ledger.approvals(states=("spent",))]
    assert sorted(filter(None, spent)) == sorted(hold.id for hold in ledger.holds())
    assert len(spent) <= granted
    assert ledger.verify() == []
    ledger.close()


def test_of_many_processes_one_spends_an_approval(tmp_path: Path) -> None:
    """Each voids what it got and tries again, so that only the approval itself stands in the way of a second one."""
    path = tmp_path / "ledger.db"
    ledger = SqliteLedger(path)
    ids = [asked(ledger, wish(60, purchase=f"purchase {number}")).id for number in range(3)]
    programs = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.owner.taker", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            cwd=ROOT, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    for program in programs:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
    for one in ids:
        ledger.grant(one)
    said = [program.communicate("go\n", timeout=60)[0] for program in programs]
    taken = [hold for text in said for hold in json.loads(text)]
    spent = {one.hold_id for one in ledger.approvals(states=("spent",))}
    assert (len(taken), set(taken)) == (3, spent)
    assert len(ledger.holds()) == 3
    assert ledger.verify() == []
    ledger.close()
