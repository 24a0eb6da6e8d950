"""Reading a 402 without a signer: what would be paid, and why not the others."""

from __future__ import annotations

from typing import Any

import pytest

from tests.payment.till import WALLET
from x402_audio.errors import ProtocolError
from x402_audio.jsontext import write_json
from x402_audio.payment.inspect import inspect_answer, inspect_document
from x402_audio.payment.policy import PaymentPolicy

URL = "https://seller.example/audio"
GOOD: dict[str, Any] = {
    "scheme": "exact", "network": "eip155:8453", "amount": "690000", "maxTimeoutSeconds": 300,
    "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C", "asset": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
}  # fmt: skip


def document(*entries: dict[str, Any]) -> bytes:
    return write_json({"x402Version": 2, "accepts": list(entries)}).encode()


def test_an_answer_that_is_no_402_asks_for_nothing() -> None:
    report = inspect_answer(URL, 200, {}, b"{}", PaymentPolicy())
    assert (report.version, report.requirements, report.chosen) == (None, (), None)
    assert "no payment is asked" in report.note


def test_every_way_is_shown_with_its_reason_in_its_order() -> None:
    ways = (
        {**GOOD, "scheme": "upto"}, {**GOOD, "amount": "700000"}, GOOD, {**GOOD, "payTo": WALLET}, {**GOOD, "amount": "01"},
        {**GOOD, "amount": "9000000"},
    )  # fmt: skip
    report = inspect_answer(URL, 402, {}, document(*ways), PaymentPolicy(max_amount="1"), payer=WALLET)
    shown = [(row.index, row.payable, row.reason.partition(":")[0]) for row in report.requirements]
    assert (report.version, report.chosen) == (2, 2)
    assert shown == [
        (0, False, "scheme"), (1, True, "could be paid, another is cheaper"), (2, True, "would be paid"),
        (3, False, "own_address"), (4, False, "amount"), (5, False, "amount"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"scheme": "upto"}, "scheme"),
        ({"amount": "9000000"}, "amount"),
        ({"payTo": WALLET}, "own_address"),
        ({"amount": "1.0"}, "amount"),
    ],
)
def test_a_refused_offer_says_why_and_names_nothing_to_pay(changed: dict[str, Any], reason: str) -> None:
    report = inspect_answer(
        URL, 402, {}, document({**GOOD, **changed}), PaymentPolicy(max_amount="1"), payer=WALLET
    )
    assert report.chosen is None
    assert report.note
    assert [(row.payable, row.reason.partition(":")[0]) for row in report.requirements] == [(False, reason)]


def test_a_402_kept_in_a_file_is_read_the_same_way() -> None:
    report = inspect_document(document(GOOD), PaymentPolicy())
    assert (report.chosen, report.requirements[0].amount) == (0, 690_000)


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_what_holds_no_terms_is_a_protocol_error(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        inspect_document(text, PaymentPolicy())
