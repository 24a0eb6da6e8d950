"""The export: every authorization and draw in words a stranger can add up, and no secret."""

from __future__ import annotations

import json

from tests.ledger.desk import DOLLAR, ORIGIN, SELLER, WALLET, draw, new_job, pay, signed, top_up, wish
from x402_audio.ledger.export import export_json
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc


def test_an_export_lists_every_authorization_and_draw(ledger: SqliteLedger) -> None:
    for _ in range(2):
        ledger.record_reading(WALLET, ORIGIN, Usdc(9_000_000), diem=None, minimum_top_up=Usdc(0))
    ledger.add_job(new_job())
    asked = wish(69, job_id="jingle")
    direct = ledger.settle(signed(ledger, asked), evidence="receipt", transaction="0xabc")
    signed(ledger, top_up(500))
    drawn = pay(ledger, draw(100))
    ledger.refund(drawn, DOLLAR, charge_id="r", why="failed")
    told = json.loads(json.dumps(export_json(ledger)))
    assert {key: told["authorizations"][0][key] for key in (
        "nonce", "amount_atomic", "amount_usd", "state", "purse", "origin", "pay_to", "job_id", "valid_before",
        "transaction",
    )} == {
        "nonce": asked.nonce, "amount_atomic": "690000", "amount_usd": "0.69", "state": "settled", "purse": "wallet",
        "origin": ORIGIN, "pay_to": SELLER, "job_id": "jingle", "valid_before": direct.valid_before,
        "transaction": "0xabc",
    }  # fmt: skip
    assert [one["purse"] for one in told["authorizations"]] == ["wallet", "wallet"]
    assert [(one["id"], one["purse"], one["refunded_usd"]) for one in told["draws"]] == [
        (drawn, "credit", "1.00")
    ]
    assert "nonce" not in told["draws"][0]
    assert told["heads"] == ledger.heads()


def test_an_export_of_one_wallet_holds_only_its_own(ledger: SqliteLedger) -> None:
    other = "0x" + "77" * 20
    pay(ledger, wish())
    pay(ledger, wish(wallet=other))
    told = export_json(ledger, other)
    assert [one["wallet"] for one in json.loads(json.dumps(told["authorizations"]))] == [other]
    assert set(json.loads(json.dumps(told["heads"]))) == {"", other}


def test_an_export_has_no_secret(ledger: SqliteLedger) -> None:
    ledger.depart(ledger.reserve(draw(0, kind="account", nonce="send-once"), []).id, b"a secret header")
    told = json.dumps(export_json(ledger))
    assert "secret header" not in told
    assert "send-once" not in told
