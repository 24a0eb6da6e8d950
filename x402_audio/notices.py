"""What happens, told while it happens, for a terminal, a log or a test. Never holds a secret; decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

NoticeKind = Literal[
    "seller",  # which kind of seller answers; data: provider, origin
    "price",  # data: price_atomic, model
    "credit",  # a balance reading; data: balance_atomic, available_atomic, needed_atomic
    "payment",  # about to leave; data: kind (direct|topup), amount_atomic, pay_to, nonce, resend (bool)
    "settled",  # data: kind, amount_atomic, transaction
    "queued",  # data: queue_id
    "progress",  # data: elapsed_s, average_s (None when unknown), next_poll_s
    "download",  # data: bytes, total (None when unknown)
    "saved",  # data: path, bytes, sha256
    "completed",
    "parked",  # data: reason, missing_atomic
    "warning",
    # what the owner should hear of; these are told to NOTIFY_COMMAND, too
    "limit",  # used to four fifths; data: purse, scope, window, limit_atomic
    "frozen",
    "stopped",  # a seller, or top-ups there; data: origin, what
    "overcharge",  # data: hold_id, amount_atomic
    "approval",  # the owner is asked; data: approval_id, amount_atomic, origin, pay_to, purse
    "unknown",  # a payment nobody knows the outcome of; data: hold_id, amount_atomic
]


@dataclass(frozen=True, slots=True)
class Notice:
    """One step of one job, as it happens. `text` is one line for people; `data` plain values for programs."""

    kind: NoticeKind
    text: str
    job_id: str = ""
    data: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)


OnNotice = Callable[[Notice], None]
"""Called in the thread that books, which may be an event loop's own: it must be quick, and never wait for that loop."""


def ignore(notice: Notice) -> None:
    """Nobody listens."""
