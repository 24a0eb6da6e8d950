"""Every refusal and failure says: did money move, whose turn it is, whether to try again, what to type next."""

from __future__ import annotations

import copy
import pickle
from typing import get_args

import pytest

from x402_audio import errors
from x402_audio.errors import MoneyMoved, Owner, Retry, X402AudioError

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, X402AudioError) and kind is not X402AudioError
]
EXIT_CODES = {
    2: {"ConfigurationError", "ClockError", "RequestInvalid", "LedgerError", "AlreadyResolved", "UnknownHold", "UnknownJob", "UnknownApproval", "JobConflict"},
    3: {"PaymentRefused", "AboveMaximum", "PayeeRefused", "ForeignOrigin", "Frozen", "ApprovalWanted", "OpenJobExists", "BudgetExceeded"},
    4: {"InsufficientBalance"},
    5: {"NoAcceptableRequirement"},
    6: {"SignerError"},
    7: {
        "ProtocolError", "SellerError", "SellerUnreachable", "RateLimited", "SignInRejected", "ContentRejected",
        "ModelUnavailable", "LedgerBusy", "ChainError",
    },
    8: {"PaymentRejected", "PaymentUnsettled", "JobUndecided"},
    9: {"JobError", "JobFailed", "JobExpired", "BadDownload"},
    10: {"JobTimedOut", "JobTakenOver", "JobParked"},
}  # fmt: skip
"""The contract with those who script the command."""
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


@kinds
def test_every_kind_answers_the_four_questions(kind: type[X402AudioError]) -> None:
    error = kind("it went wrong")
    assert error.money_moved in get_args(MoneyMoved)
    assert error.owner in get_args(Owner)
    assert error.retry in get_args(Retry)
    assert isinstance(error.next_step, str)
    assert "\n" not in error.next_step
    assert (str(error), error.code) == ("it went wrong", kind.__name__)


@kinds
def test_every_kind_that_stands_alone_says_what_to_do_next(kind: type[X402AudioError]) -> None:
    """Of the others the one who raises it says so: a job's next step names the job."""
    told_by_the_raiser = {
        "OpenJobExists", "JobError", "JobFailed", "JobTimedOut", "JobParked", "JobUndecided",
    }  # fmt: skip
    own = kind.next_step
    assert own or kind.__name__ in told_by_the_raiser


@kinds
def test_the_exit_codes_are_those_scripts_rely_on(kind: type[X402AudioError]) -> None:
    assert kind.__name__ in EXIT_CODES[kind.exit_code]


def test_no_exit_code_is_promised_for_an_error_that_is_not_there() -> None:
    assert {kind.__name__ for kind in KINDS} == set().union(*EXIT_CODES.values())


@kinds
def test_only_what_is_at_risk_says_so(kind: type[X402AudioError]) -> None:
    unknown = {"PaymentRejected", "PaymentUnsettled", "JobTakenOver", "JobUndecided"}
    yes = {"JobError", "JobFailed", "JobExpired", "BadDownload", "JobTimedOut", "JobParked"}
    expected = "unknown" if kind.__name__ in unknown else "yes" if kind.__name__ in yes else "no"
    assert kind("x").money_moved == expected


@kinds
def test_an_unknown_payment_is_never_to_be_retried_under_another_key(kind: type[X402AudioError]) -> None:
    error = kind("x")
    if error.money_moved != "no":
        assert error.retry in ("same_id", "never")
    if kind.__name__ in ("PaymentRejected", "PaymentUnsettled"):
        assert "money may have moved" in error.next_step
        assert "reconcile" in error.next_step


@kinds
def test_what_is_said_when_raising_wins_over_the_kinds_own_words(kind: type[X402AudioError]) -> None:
    error = kind(
        "x", next_step="do this", money_moved="yes", owner="human", retry="never", hold_id="h-1", amount=5
    )
    assert (error.next_step, error.money_moved, error.owner, error.retry) == (
        "do this",
        "yes",
        "human",
        "never",
    )
    assert error.details == {"hold_id": "h-1", "amount": 5}
    assert vars(error)["hold_id"] == "h-1"
    assert kind("y").next_step == kind.next_step, "only this one"


@kinds
def test_an_error_survives_another_process(kind: type[X402AudioError]) -> None:
    error = kind("it went wrong", money_moved="unknown", next_step="look", hold_id="h-1")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is kind
        assert (str(other), other.money_moved, other.next_step) == ("it went wrong", "unknown", "look")
        assert (other.details, vars(other)["hold_id"]) == ({"hold_id": "h-1"}, "h-1")


def test_the_tree_in_the_docstring_names_every_kind() -> None:
    tree = errors.__doc__ or ""
    assert [kind.__name__ for kind in KINDS if kind.__name__ not in tree] == []


def test_the_root_is_never_raised_itself_but_catches_all() -> None:
    assert all(issubclass(kind, X402AudioError) and issubclass(kind, Exception) for kind in KINDS)
