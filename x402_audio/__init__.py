"""x402_audio: buy audio with USDC on Base, one job at a time, within limits that hold.

Everything public is named here and loaded when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOMES = {
    "AudioClient": "client", "AsyncAudioClient": "client", "Outcome": "client",
    "Settings": "settings", "load_settings": "settings",
    "X402Auth": "payment.auth", "Receipt": "payment.auth", "receipt_of": "payment.auth",
    "PaymentPolicy": "payment.policy", "Prepaid": "payment.auth", "Budget": "budget", "Window": "budget",
    "LocalSigner": "protocol.signer", "Signer": "protocol.signer",
    "SqliteLedger": "ledger.sqlite", "Ledger": "ledger.book", "Limit": "ledger.book",
    "AudioRequest": "providers.provider", "Track": "providers.provider", "Provider": "providers.provider",
    "Usdc": "money", "Notice": "notices",
}  # fmt: skip
_ERRORS = (
    "X402AudioError", "ConfigurationError", "ClockError", "RequestInvalid", "SignerError", "ProtocolError",
    "PaymentRefused", "NoAcceptableRequirement", "AboveMaximum", "PayeeRefused", "ForeignOrigin", "Frozen",
    "OpenJobExists", "BudgetExceeded", "InsufficientBalance", "PaymentRejected", "PaymentUnsettled", "SellerError",
    "SellerUnreachable", "RateLimited", "SignInRejected", "ContentRejected", "ModelUnavailable", "JobError",
    "JobFailed", "JobExpired", "BadDownload", "JobTimedOut", "JobTakenOver", "JobParked", "JobUndecided", "LedgerError",
    "AlreadyResolved", "UnknownHold", "UnknownJob", "JobConflict", "LedgerBusy", "ChainError",
)  # fmt: skip
_HOMES.update(dict.fromkeys(_ERRORS, "errors"))

__all__ = ["__version__", *sorted(_HOMES)]

if TYPE_CHECKING:
    from x402_audio.budget import Budget, Window
    from x402_audio.client import AsyncAudioClient, AudioClient, Outcome
    from x402_audio.errors import *
    from x402_audio.ledger.book import Ledger, Limit
    from x402_audio.ledger.sqlite import SqliteLedger
    from x402_audio.money import Usdc
    from x402_audio.notices import Notice
    from x402_audio.payment.auth import Prepaid, Receipt, X402Auth, receipt_of
    from x402_audio.payment.policy import PaymentPolicy
    from x402_audio.protocol.signer import LocalSigner, Signer
    from x402_audio.providers.provider import AudioRequest, Provider, Track
    from x402_audio.settings import Settings, load_settings


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
