"""The owner's passphrase: hashed, typed and never given otherwise, counted when wrong, shown nowhere."""

from __future__ import annotations

import os
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.books import asked
from tests.cli.conftest import CommandLine
from tests.ledger.desk import SteppedClock
from tests.owner.screen import Owner
from x402_audio.errors import PaymentRefused
from x402_audio.ledger import passphrase
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.secret import Secret

WORDS = "correct horse battery"
OTHER = "staple correct horse"
WRONG = "hunter2hunter2hunter2"
NOW, NEW, AGAIN = "passphrase now: ", "new passphrase of the owner: ", "owner, again: "
ASKED = "the owner's passphrase: "
RAISE = ("budget", "set", "--purse", "jobs", "--window", "day", "--amount", "50")


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process hashing costs little; commands at a terminal hash as they always do."""
    import argon2

    monkeypatch.setattr(argon2, "PasswordHasher", _Cheap)


class _Cheap:
    def __init__(self) -> None:
        from argon2 import low_level

        self._low = low_level

    def hash(self, text: str) -> str:
        salt = os.urandom(16)
        return self._low.hash_secret(text.encode(), salt, 1, 8, 1, 16, self._low.Type.ID).decode()

    def verify(self, kept: str, text: str) -> bool:
        return self._low.verify_secret(kept.encode(), text.encode(), self._low.Type.ID)


def refused(ledger: SqliteLedger, typed: str) -> PaymentRefused:
    with pytest.raises(PaymentRefused) as caught:
        ledger.check_passphrase(Secret(typed))
    return caught.value


def tries(ledger: SqliteLedger) -> list[str]:
    return [event.to for event in ledger.events(subject="owner")]


def test_it_is_kept_as_an_argon2id_hash_and_nowhere_else(ledger: SqliteLedger, path: Path) -> None:
    assert not ledger.has_passphrase()
    ledger.set_passphrase(Secret(WORDS))
    assert ledger.has_passphrase()
    ledger.check_passphrase(Secret(WORDS))
    ledger.close()
    kept = path.read_bytes()
    assert b"$argon2id$" in kept
    assert WORDS.encode() not in kept
    assert not any("argon2" in event.data for event in ledger.events())


def test_changing_it_needs_the_old_one(ledger: SqliteLedger) -> None:
    ledger.set_passphrase(Secret(WORDS))
    for old in (None, Secret(WRONG)):
        with pytest.raises(PaymentRefused):
            ledger.set_passphrase(Secret(OTHER), old)
    ledger.set_passphrase(Secret(OTHER), Secret(WORDS))
    ledger.check_passphrase(Secret(OTHER))
    assert "not the owner's" in refused(ledger, WORDS).message


def test_a_short_one_is_refused(ledger: SqliteLedger) -> None:
    with pytest.raises(PaymentRefused, match="at least 8"):
        ledger.set_passphrase(Secret("1234567"))
    assert not ledger.has_passphrase()


def test_wrong_ones_are_counted_and_after_five_each_try_has_to_wait(
    ledger: SqliteLedger, clock: SteppedClock
) -> None:
    ledger.set_passphrase(Secret(WORDS))
    for _ in range(5):
        assert "not the owner's" in refused(ledger, WRONG).message
    assert tries(ledger) == ["set", *["tried"] * 5]
    assert "5 wrong passphrases in a row: the next try is in" in refused(ledger, WORDS).message
    clock.at += 31
    refused(ledger, WRONG)
    clock.at += 31
    assert "6 wrong" in refused(ledger, WORDS).message, "each wrong one doubles the wait"
    clock.at += 31
    ledger.check_passphrase(Secret(WORDS))
    assert "not the owner's" in refused(ledger, WRONG).message, "the right one begins the count anew"


def test_many_who_try_at_once_have_no_more_tries(path: Path, ledger: SqliteLedger) -> None:
    ledger.set_passphrase(Secret(WORDS))

    def guess(number: int) -> str:
        return refused(ledger, f"{WRONG}{number}").message

    with ThreadPoolExecutor(12) as pool:
        said = list(pool.map(guess, range(12)))
    assert sum("not the owner's" in one for one in said) == passphrase.TRIES_FREE


def test_the_proof_finds_a_hash_that_was_put_in_by_another_tool(ledger: SqliteLedger, path: Path) -> None:
    ledger.set_passphrase(Secret(WORDS))
    ((kept,),) = asked(path, "SELECT passphrase_hash FROM owner")
    asked(path, "UPDATE owner SET passphrase_hash = 'mine'")
    assert [one.subject for one in ledger.verify()] == ["owner:1"]
    with pytest.raises(Exception, match="cannot be read") as unreadable:
        ledger.check_passphrase(Secret(WORDS))
    assert WORDS not in shown(unreadable.value)
    asked(path, "UPDATE owner SET passphrase_hash = ?", (kept,))


def shown(error: BaseException) -> str:
    """What a report with the locals of every frame would say."""
    told: list[str] = []
    seen: BaseException | None = error
    while seen is not None:
        told.append("".join(traceback.TracebackException.from_exception(seen, capture_locals=True).format()))
        seen = seen.__cause__ or seen.__context__
    return "\n".join(told)


@pytest.mark.parametrize("hasher", ["cheap", "real"])
def test_no_frame_of_a_refusal_holds_it(
    ledger: SqliteLedger, hasher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if hasher == "real":
        monkeypatch.undo()
    ledger.set_passphrase(Secret(WORDS))
    with pytest.raises(PaymentRefused) as first:
        ledger.check_passphrase(Secret(WRONG))
    with pytest.raises(PaymentRefused) as second:
        ledger.set_passphrase(Secret(OTHER), Secret(WRONG))
    for told in (shown(first.value), shown(second.value)):
        assert not any(text in told for text in (WORDS, OTHER, WRONG, "argon2id"))


def test_at_a_terminal_it_is_set_asked_for_and_changed(owner: Owner, cli: CommandLine) -> None:
    set_now = owner.type(("owner", "set"), (NEW, WORDS), (AGAIN, WORDS))
    assert (set_now.code, cli("owner", "--json").json["result"]) == (0, {"passphrase": True, "warnings": []})
    done = owner.type((*RAISE, "--json"), (ASKED, WORDS))
    assert done.code == 0 and done.json["result"]["amount_usd"] == "50.00"
    wrong = owner.type((*RAISE[:-1], "60"), (ASKED, WRONG))
    assert wrong.code == 3
    assert wrong.err.count("error: ") == 1 and "money moved: no" in wrong.err
    changed = owner.type(("owner", "set"), (NOW, WORDS), (NEW, OTHER), (AGAIN, OTHER))
    assert changed.out.strip() == "changed"
    for ended in (set_now, done, wrong, changed):
        assert not any(text in ended.out + ended.err for text in (WORDS, OTHER, WRONG))


def test_the_word_that_used_to_confirm_does_not_any_more(owner: Owner, cli: CommandLine) -> None:
    _set(WORDS)
    assert owner.type(RAISE, (ASKED, "raise")).code == 3
    assert "jobs/day" not in str(cli("budget", "--json").json["result"]["marks"])
    day = [one for one in cli("budget", "--json").json["result"]["limits"] if one["window"] == "day"]
    assert {one["limit_usd"] for one in day} == {"5.00", "0.00"}


@pytest.mark.parametrize("words", [RAISE, ("owner", "set"), ("approve", "j1"), ("unfreeze",)], ids=" ".join)
def test_no_pipe_flag_or_variable_stands_for_it(
    words: tuple[str, ...], cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(WORDS)
    _ask_for("j1")
    cli("freeze")
    for name in ("X402_AUDIO_PASSPHRASE", "X402_AUDIO_OWNER", "OWNER_PASSPHRASE"):
        monkeypatch.setenv(name, WORDS)
    with open("answers", "w+") as answers:
        answers.write(f"{WORDS}\n" * 4)
        answers.seek(0)
        monkeypatch.setattr("sys.stdin", answers)
        ended = cli(*words, "--yes")
    assert ended.code == 3
    assert "needs a terminal" in ended.err
    assert WORDS not in ended.out + ended.err
    for flag in ("--passphrase", "--owner-passphrase"):
        assert cli(*words, flag, WORDS).code == 2


def _own_ledger() -> SqliteLedger:
    return SqliteLedger(Path(os.environ["X402_AUDIO_STATE_DIR"]) / "ledger.db")


def _set(text: str) -> None:
    """Through the ledger: what the terminal does is tested once."""
    Path(os.environ["X402_AUDIO_STATE_DIR"]).mkdir(mode=0o700, exist_ok=True)
    ledger = _own_ledger()
    ledger.set_passphrase(Secret(text))
    ledger.close()


def _ask_for(job_id: str) -> None:
    from tests.ledger.desk import limit, wish
    from x402_audio.errors import ApprovalWanted

    ledger = _own_ledger()
    with pytest.raises(ApprovalWanted):
        ledger.reserve(wish(100, job_id=job_id), [limit("jobs", "unasked", 50)])
    ledger.close()
