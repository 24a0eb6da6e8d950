"""Proof: any change of the books from outside is found, and nothing secret is in what the proof shows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.books import asked, books
from tests.ledger.desk import (
    DOLLAR,
    NOON,
    ORIGIN,
    WALLET,
    SteppedClock,
    counted_random,
    draw,
    limit,
    new_job,
    pay,
    signed,
    top_up,
    wish,
)
from x402_audio.clock import system_random
from x402_audio.ledger.book import Payee, Reserve
from x402_audio.ledger.chain_of_events import canonical, digest, link
from x402_audio.ledger.rows import SELECT_EVENT
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc


def busy_ledger(path: Path, clock: SteppedClock) -> SqliteLedger:
    """Books in which every table has rows."""
    ledger = SqliteLedger(path, clock=clock, random=counted_random())
    bounds = [
        limit("jobs", "day", 5_000),
        limit("jobs", "job", 500),
        limit("jobs", "hour", 9_000, scope="model:m"),
    ]
    ledger.set_limit(limit("wallet", "ever", 90_000))
    ledger.set_payee(Payee(ORIGIN, "eip155:1", "0x" + "99" * 20, "allowed", "owner"))
    ledger.remember_seller(ORIGIN, "direct")
    for _ in range(2):
        ledger.record_reading(WALLET, ORIGIN, Usdc(9_000_000), diem=None, minimum_top_up=Usdc(5_000_000))
    ledger.add_job(new_job(request='{"prompt":"a secret melody"}', options='{"output":"melody"}'))
    job = ledger.claim("jingle", "me", 60)
    assert job is not None
    hold = signed(ledger, draw(100, job_id="jingle", model="m"), *bounds)
    ledger.queued("jingle", job.epoch, hold, queue_id="q", due=NOON, evidence="200")
    first = pay(ledger, wish(100, model="m"), *bounds)
    ledger.refund(first, DOLLAR, charge_id="r", why="failed")
    clock.at += 4_000
    ledger.overcharge(pay(ledger, wish(100), *bounds), Usdc(5), charge_id="c", why="took more")
    ledger.lift(WALLET, ORIGIN, "seller", "explained")
    ledger.presume(signed(ledger, wish(100), *bounds), why="no witness")
    ledger.void(signed(ledger, wish(100), *bounds), evidence="unused")
    signed(ledger, top_up(500))
    ledger.suspend(WALLET, ORIGIN, "top-ups", "never showed")
    ledger.freeze("stop")
    assert ledger.verify() == []
    return ledger


def tamper(path: Path, *statements: str) -> None:
    with books(path) as other:
        for name, kind in other.execute(
            "SELECT name, type FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            other.execute(f"DROP {kind} {name}")
        for statement in statements:
            other.execute(statement)
            assert other.changes(), statement


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE event SET why = 'nothing' WHERE seq = 5",
        "UPDATE event SET amount = amount + 1 WHERE seq = 9",
        "UPDATE event SET at = at - 1 WHERE seq = 9",
        "UPDATE event SET data = '{}' WHERE seq = 9",
        "UPDATE event SET hash = previous_hash WHERE seq = 9",
        "DELETE FROM event WHERE seq = 9",
        "DELETE FROM event WHERE seq = (SELECT max(seq) FROM event)",
        "UPDATE event SET seq = 1000 WHERE seq = (SELECT max(seq) FROM event)",
        "UPDATE head SET hash = '' WHERE wallet <> ''",
        "DELETE FROM head WHERE wallet <> ''",
        "INSERT INTO head VALUES ('0x00', '')",
        "UPDATE hold SET amount = amount - 1 WHERE state = 'settled'",
        "UPDATE hold SET state = 'void' WHERE state = 'settled'",
        "UPDATE hold SET pay_to = '0x00' WHERE state = 'signed'",
        "UPDATE hold SET envelope = '{}' WHERE state = 'signed'",
        "UPDATE hold SET counted_at = counted_at - 90000 WHERE state = 'settled'",
        "UPDATE hold SET refunded = 7 WHERE state = 'settled' AND refunded = 0",
        "DELETE FROM entry WHERE kind = 'overcharge'",
        "UPDATE entry SET amount = amount + 1 WHERE kind = 'refund'",
        "UPDATE use SET amount = 0 WHERE purse = 'jobs' AND period = 'day'",
        "DELETE FROM use WHERE purse = 'wallet' AND period = 'held'",
        "INSERT INTO use VALUES ('jobs', 'all', 'ever', 7, -5)",
        "DELETE FROM use WHERE scope = 'model:m'",
        "UPDATE spending_limit SET amount = amount * 10",
        "DELETE FROM spending_limit",
        "UPDATE job SET state = 'completed'",
        "UPDATE job SET queue_id = 'another'",
        "UPDATE job SET request = '{}'",
        "UPDATE job SET options = ''",
        "DELETE FROM job",
        "UPDATE payee SET address = '0x00'",
        "UPDATE payee SET state = 'any'",
        "DELETE FROM brake",
        "DELETE FROM suspension",
        "INSERT INTO suspension VALUES ('0x00', 'https://x', 'seller', 'y')",
        "UPDATE seller SET kind = 'venice'",
        "UPDATE reading SET balance = balance + 1",
        "UPDATE reading SET read_at = read_at + 1",
        "INSERT INTO secret SELECT id, x'00' FROM hold WHERE state = 'settled' LIMIT 1",
    ],
)
def test_any_row_changed_from_outside_is_found(path: Path, clock: SteppedClock, statement: str) -> None:
    ledger = busy_ledger(path, clock)
    ledger.close()
    tamper(path, statement)
    found = ledger.verify()
    assert found
    assert all("\n" not in one.text for one in found)


def test_an_envelope_replaced_by_its_own_digest_is_found(path: Path, clock: SteppedClock) -> None:
    envelope = '{"version":2}'
    with closing(SqliteLedger(path, clock=clock, random=counted_random())) as ledger:
        hold = ledger.reserve(wish(envelope=envelope), ())
        assert ledger.verify() == []
        with books(path) as other:
            other.execute("UPDATE hold SET envelope = ?", (digest(envelope),))
        assert [one.subject for one in ledger.verify()] == [f"hold:{hold.id}"]


@pytest.mark.parametrize(
    ("before", "after"),
    [('"late_charge":false', '"late_charge":false,"counted_at":5.0'), ('"model":"",', "")],
)
def test_a_first_event_that_says_more_or_less_is_found_though_its_chain_was_made_anew(
    path: Path, clock: SteppedClock, before: str, after: str
) -> None:
    with closing(SqliteLedger(path, clock=clock, random=counted_random())) as ledger:
        ledger.presume(signed(ledger, wish()), why="no witness")
        with books(path) as other:
            other.execute("DROP TRIGGER event_never_changes")
            head = ""
            rows: list[Any] = other.execute(f"{SELECT_EVENT} WHERE wallet <> '' ORDER BY seq").fetchall()
            for row in rows:
                seq, at, wallet, subject, from_, to, amount, why, said = row[:9]
                data = said if from_ else said.replace(before, after)
                assert from_ or data != said
                text = canonical(seq, at, wallet, subject, from_, to, amount, why, data)
                previous, head = head, link(head, text)
                values = (data, previous, head, seq)
                other.execute("UPDATE event SET data = ?, previous_hash = ?, hash = ? WHERE seq = ?", values)
        assert {one.invariant for one in ledger.verify()} & {"I6", "events"}


def test_a_clock_with_numbers_of_its_own_kind_leaves_the_proof_as_it_is(path: Path) -> None:
    class Odd(float):
        def __repr__(self) -> str:
            return f"Odd({float(self)})"

    with closing(SqliteLedger(path, clock=SteppedClock(Odd(NOON)), random=counted_random())) as ledger:
        pay(ledger, wish())
        assert ledger.verify() == []


def test_an_answer_taken_back_after_its_payment_was_void_leaves_the_proof_clean(ledger: SqliteLedger) -> None:
    hold = signed(ledger, wish())
    ledger.deliver(hold, "answered")
    ledger.void(hold, evidence="never used")
    assert ledger.take_back(hold, "its asker was gone").state == "void"
    assert ledger.verify() == []


def test_a_damaged_page_is_found(path: Path, clock: SteppedClock) -> None:
    ledger = busy_ledger(path, clock)
    ledger.close()
    ((page,),) = asked(path, "SELECT rootpage FROM sqlite_master WHERE name = 'hold_job'")
    ((size,),) = asked(path, "PRAGMA page_size")
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\0" * size)
    assert [one.invariant for one in ledger.verify()] == ["file"]


def test_the_store_itself_refuses_to_change_what_was_committed(ledger: SqliteLedger, path: Path) -> None:
    pay(ledger, wish())
    with books(path) as other:
        for statement in ("UPDATE hold SET amount = 1", "UPDATE hold SET nonce = 'x'", "DELETE FROM hold", "DELETE FROM event",
                          "UPDATE event SET why = 'x'"):  # fmt: skip
            with pytest.raises(apsw.ConstraintError):
                other.execute(statement)


def test_every_wallet_has_a_chain_and_heads_move_with_it(ledger: SqliteLedger) -> None:
    pay(ledger, wish())
    before = ledger.heads()
    other = "0x" + "77" * 20
    pay(ledger, wish(wallet=other))
    after = ledger.heads()
    assert set(after) == {"", WALLET, other}
    assert after[WALLET] == before[WALLET]
    assert ledger.events(wallet=other)[0].previous_hash == ""
    assert ledger.events(wallet=other)[-1].hash == after[other]


def test_chains_that_take_turns_in_several_programs_each_go_on_where_they_ended(
    path: Path, clock: SteppedClock
) -> None:
    programs = [SqliteLedger(path, clock=clock, random=system_random) for _ in range(2)]
    wallets = [WALLET, "0x" + "77" * 20, "0x" + "77" * 20, WALLET.upper().replace("X", "x"), "0x" + "99" * 20]
    for turn in range(20):
        ledger = programs[turn // 3 % 2]
        pay(ledger, wish(1, wallet=wallets[turn % 5]))
        if turn % 4 == 0:
            ledger.freeze("stop")
            ledger.unfreeze("go on")
    assert [ledger.verify() for ledger in programs] == [[], []]
    assert len(programs[0].heads()) == 4
    for ledger in programs:
        ledger.close()


@pytest.mark.parametrize("looks", range(4))
def test_a_program_that_opens_the_books_again_follows_what_others_wrote_meanwhile(
    path: Path, clock: SteppedClock, looks: int
) -> None:
    one, other = (SqliteLedger(path, clock=clock, random=system_random) for _ in range(2))
    one.remember_seller(ORIGIN, "direct")
    one.close()
    for number in range(looks):
        assert len(one.events()) == number + 1
        other.remember_seller(f"{ORIGIN}/{number}", "direct")
    one.remember_seller(ORIGIN, "venice")
    assert (one.verify(), len(one.events())) == ([], looks + 2)
    one.close()
    other.close()


def test_events_hold_neither_prompts_nor_secrets(path: Path, clock: SteppedClock) -> None:
    ledger = busy_ledger(path, clock)
    ledger.unfreeze("go")
    ledger.depart(ledger.reserve(wish(), []).id, b"X-PAYMENT secret header")
    job = ledger.job("jingle")
    ledger.move("jingle", job.epoch, "failed", last_error="the seller suggests: a secret melody")
    told = repr(ledger.events())
    assert "melody" not in told
    assert "secret header" not in told
    assert b"secret header".hex() not in told


def test_words_from_strangers_cannot_break_the_books(ledger: SqliteLedger) -> None:
    hold = signed(ledger, wish())
    ledger.settle(hold, evidence="\ud800 lone " + "x" * 5_000)
    ledger.freeze("zero \0 and \u2028")
    ledger.unfreeze("go")
    assert len(ledger.hold(hold).evidence) <= 1_000


@pytest.mark.parametrize("again", [lambda: wish(job_id="one"), top_up])
def test_a_second_payment_where_one_may_be_is_found(
    path: Path, clock: SteppedClock, again: Callable[[], Reserve]
) -> None:
    ledger = SqliteLedger(path, clock=clock, random=counted_random())
    signed(ledger, again())
    ledger.close()
    tamper(path, "UPDATE hold SET state = 'void'")
    signed(ledger, again())
    assert "I4" in {one.invariant for one in ledger.verify()}


def test_spending_past_a_limit_is_found(path: Path, clock: SteppedClock) -> None:
    ledger = SqliteLedger(path, clock=clock, random=counted_random())
    bounds = [limit("jobs", "hour", 100), limit("jobs", "ever", 100)]
    pay(ledger, wish(100), *bounds)
    ledger.close()
    tamper(path, "UPDATE use SET amount = 0")
    pay(ledger, wish(100), *bounds)
    ledger.close()
    tamper(path, "UPDATE use SET amount = 2000000 WHERE period <> 'held'")
    assert [one.invariant for one in ledger.verify()] == ["I3", "I2"]
