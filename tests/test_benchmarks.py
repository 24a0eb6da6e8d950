"""The benchmarks' own words: every row that is asked for has a module that gives it, and a record is only reported against."""

from __future__ import annotations

import dataclasses
import json
from base64 import b64encode
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks import __main__ as command
from benchmarks import record
from benchmarks.ledger import Buyer
from benchmarks.measure import Row, row
from benchmarks.memory_ledger import MemoryLedger
from benchmarks.paid_call import auth_on
from benchmarks.seller import demand
from benchmarks.waiting import arm

ASKED_FOR = (
    "signing payment", "signing payment sdk", "signing sign-in", "paid-call memory", "paid-call memory sdk",
    "paid-call memory @x402/fetch", "paid-call memory x402-fetch", "paid-call sqlite", "paid-call sync",
    "ledger fsync-5ms 1-process", "ledger fsync-5ms 8-process", "ledger million", "waiting kb-per-job",
    "polling retrieves", "polling lateness", "polling full-rate", "polling retrieves wrong-estimate x0.3",
    "polling lateness wrong-estimate x0.3", "polling retrieves wrong-estimate x3", "polling lateness wrong-estimate x3",
    "download", "start version", "start jobs", "start generate", "start generate sdk",
)  # fmt: skip
SLOWER = row("start jobs", [{"ours": 1.2, "floor": 1.0}], goal=1.0, profile="12 syncs")
FASTER = row("ledger million", [{"ours": 1.0, "floor": 1.0}], goal=0.9, bound="at least")


def promised() -> list[str]:
    return [name for module in command.NAMES for name in import_module(f"benchmarks.{module}").NAMES]


def kept(*rows: Row, **changed: Any) -> dict[str, Any]:
    goals = [each.name for each in rows]
    return {
        "machine": {"cores": "2"},
        "goals": goals,
        "rows": [{**each.to_json(), **changed} for each in rows],
    }


def test_every_row_that_is_asked_for_is_promised_by_one_module() -> None:
    assert sorted(set(ASKED_FOR) - set(promised())) == []
    assert len(promised()) == len(set(promised()))


def test_a_paid_call_goes_through_on_the_books_in_memory() -> None:
    def seller(request: httpx.Request) -> httpx.Response:
        if "payment-signature" in httpx.Headers(request.headers.raw):
            settled = {"success": True, "transaction": "0x" + "ab" * 32, "network": "eip155:8453"}
            head = b64encode(json.dumps(settled).encode()).decode()
            return httpx.Response(200, headers={"payment-response": head}, stream=httpx.ByteStream(b"{}"))
        return httpx.Response(402, headers={"payment-required": demand(str(request.url))})

    with httpx.Client(auth=auth_on(MemoryLedger()), transport=httpx.MockTransport(seller)) as paying:
        for _ in range(2):
            assert paying.post("https://seller.example/audio", json={}).status_code == 200


def test_the_payments_and_jobs_that_are_measured_leave_sound_books(tmp_path: Path) -> None:
    buyer = Buyer(tmp_path / "ledger.db")
    books_one = buyer.books()
    buyer.do_job()
    books_one()
    assert buyer.ledger.verify() == []
    assert [hold.state for hold in buyer.ledger.holds()] == ["settled"] * 3
    assert [job.state for job in buyer.ledger.jobs()] == ["completed"]
    buyer.ledger.close()


def test_the_jobs_that_are_waited_for_are_asked_for() -> None:
    assert arm(5)["polls"] > 100


def test_a_module_that_gives_fewer_rows_than_it_promises_is_found_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def rows(*, quick: bool) -> Iterator[Row]:
        del quick
        yield SLOWER

    start = import_module("benchmarks.start")
    monkeypatch.setattr(start, "rows", rows)
    monkeypatch.setattr("sys.argv", ["benchmarks", "start", "--quick"])
    with pytest.raises(AssertionError, match="start version"):
        command.main()
    monkeypatch.setattr(start, "NAMES", ("start jobs",))
    assert command.main() == 0
    assert "MISSED" in capsys.readouterr().err


def test_a_ratio_that_fell_behind_its_record_is_named_in_either_direction() -> None:
    assert [*record.worse_than(kept(SLOWER), [SLOWER])] == []
    assert "start jobs" in "".join(record.worse_than(kept(SLOWER, ratio=1.0), [SLOWER]))
    assert "ledger million" in "".join(record.worse_than(kept(FASTER, ratio=1.2), [FASTER]))
    assert [*record.worse_than(kept(FASTER, ratio=0.5), [FASTER])] == []


def test_a_peer_that_became_slower_is_not_ours_to_name() -> None:
    peer = dataclasses.replace(SLOWER, peer="x402 (Python)")
    assert [*record.worse_than(kept(peer, ratio=1.0), [peer])] == []


def test_the_page_tells_the_machine_the_goals_and_why_one_is_missed() -> None:
    text = record.page(kept(SLOWER, FASTER), {"start jobs": "Because it reads."})
    assert "- cores: 2" in text
    assert "| `start jobs` | 1.20 | 1.20 to 1.20 | at most 1 | **no** |" in text
    assert "| `ledger million` | 1.00 | 1.00 to 1.00 | at least 0.9 | yes |" in text
    _, why = text.split("## What is missed, and why")
    assert why.strip().split("\n\n") == [
        "### start jobs", "Because it reads.", "Profile: 12 syncs.",
    ]  # fmt: skip
