"""Reads a 402 and says what would be paid, and why or why not. Cannot sign: it is handed no signer."""

from __future__ import annotations

from collections.abc import Mapping

from x402_audio.errors import PaymentRefused
from x402_audio.payment.policy import PaymentPolicy, choose_requirement, why_not
from x402_audio.protocol.address import ZERO_ADDRESS
from x402_audio.protocol.requirements import Rejection, printable, read_payment_required
from x402_audio.reports import InspectedRequirement, InspectReport


def inspect_answer(
    url: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    policy: PaymentPolicy,
    *,
    payer: str = ZERO_ADDRESS,
) -> InspectReport:
    """What this answer asks for. Raises ProtocolError when it cannot be read as terms."""
    if status != 402:
        return InspectReport(url, status, None, (), None, f"the answer is {status}: no payment is asked")
    terms = read_payment_required(headers, body)
    reasons = {rejection.index: rejection for rejection in terms.rejections}
    reasons |= {each.index: why for each in terms.requirements if (why := why_not(each, policy, payer=payer))}
    chosen: int | None = None
    note = ""
    try:
        chosen = choose_requirement(terms, policy, payer=payer).index
    except PaymentRefused as error:
        note = error.message
    rows = [
        InspectedRequirement(
            index=entry.index, scheme=printable(entry.scheme), network=entry.network, asset=printable(entry.asset), pay_to=entry.pay_to,
            amount=entry.amount, payable=_payable(entry.index, reasons), reason=_reason(entry.index, reasons, chosen),
        )
        for entry in terms.requirements
    ]  # fmt: skip
    rows += [
        InspectedRequirement(
            rejection.index, "", "", "", "", None, False, f"{rejection.reason}: {rejection.detail}"
        )
        for rejection in terms.rejections
        if rejection.index not in {entry.index for entry in terms.requirements}
    ]
    return InspectReport(
        url, status, terms.version, tuple(sorted(rows, key=lambda row: row.index)), chosen, note
    )


def inspect_document(document: bytes, policy: PaymentPolicy) -> InspectReport:
    """The same for the body of a 402 kept in a file."""
    return inspect_answer("", 402, {}, document, policy)


def _payable(index: int, reasons: Mapping[int, Rejection]) -> bool:
    return index not in reasons


def _reason(index: int, reasons: Mapping[int, Rejection], chosen: int | None) -> str:
    if index in reasons:
        return f"{reasons[index].reason}: {reasons[index].detail}"
    return "would be paid" if index == chosen else "could be paid, another is cheaper"
