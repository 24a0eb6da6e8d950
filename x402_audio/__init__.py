"""x402_audio: buy audio with USDC on Base, one job at a time, within limits that hold.

Everything public is named here and loaded when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from x402_audio.budget import (
        Budget as Budget,
    )
    from x402_audio.budget import (
        Window as Window,
    )
    from x402_audio.client import (
        AsyncAudioClient as AsyncAudioClient,
    )
    from x402_audio.client import (
        AudioClient as AudioClient,
    )
    from x402_audio.errors import (
        AboveMaximum as AboveMaximum,
    )
    from x402_audio.errors import (
        AlreadyResolved as AlreadyResolved,
    )
    from x402_audio.errors import (
        ApprovalWanted as ApprovalWanted,
    )
    from x402_audio.errors import (
        BadDownload as BadDownload,
    )
    from x402_audio.errors import (
        BudgetExceeded as BudgetExceeded,
    )
    from x402_audio.errors import (
        ChainError as ChainError,
    )
    from x402_audio.errors import (
        ClockError as ClockError,
    )
    from x402_audio.errors import (
        ConfigurationError as ConfigurationError,
    )
    from x402_audio.errors import (
        ContentRejected as ContentRejected,
    )
    from x402_audio.errors import (
        ForeignOrigin as ForeignOrigin,
    )
    from x402_audio.errors import (
        Frozen as Frozen,
    )
    from x402_audio.errors import (
        InsufficientBalance as InsufficientBalance,
    )
    from x402_audio.errors import (
        JobConflict as JobConflict,
    )
    from x402_audio.errors import (
        JobError as JobError,
    )
    from x402_audio.errors import (
        JobExpired as JobExpired,
    )
    from x402_audio.errors import (
        JobFailed as JobFailed,
    )
    from x402_audio.errors import (
        JobParked as JobParked,
    )
    from x402_audio.errors import (
        JobTakenOver as JobTakenOver,
    )
    from x402_audio.errors import (
        JobTimedOut as JobTimedOut,
    )
    from x402_audio.errors import (
        JobUndecided as JobUndecided,
    )
    from x402_audio.errors import (
        LedgerBusy as LedgerBusy,
    )
    from x402_audio.errors import (
        LedgerError as LedgerError,
    )
    from x402_audio.errors import (
        ModelUnavailable as ModelUnavailable,
    )
    from x402_audio.errors import (
        NoAcceptableRequirement as NoAcceptableRequirement,
    )
    from x402_audio.errors import (
        OpenJobExists as OpenJobExists,
    )
    from x402_audio.errors import (
        PayeeRefused as PayeeRefused,
    )
    from x402_audio.errors import (
        PaymentRefused as PaymentRefused,
    )
    from x402_audio.errors import (
        PaymentRejected as PaymentRejected,
    )
    from x402_audio.errors import (
        PaymentUnsettled as PaymentUnsettled,
    )
    from x402_audio.errors import (
        ProtocolError as ProtocolError,
    )
    from x402_audio.errors import (
        RateLimited as RateLimited,
    )
    from x402_audio.errors import (
        RequestInvalid as RequestInvalid,
    )
    from x402_audio.errors import (
        SellerError as SellerError,
    )
    from x402_audio.errors import (
        SellerUnreachable as SellerUnreachable,
    )
    from x402_audio.errors import (
        SignerError as SignerError,
    )
    from x402_audio.errors import (
        SignInRejected as SignInRejected,
    )
    from x402_audio.errors import (
        UnknownApproval as UnknownApproval,
    )
    from x402_audio.errors import (
        UnknownHold as UnknownHold,
    )
    from x402_audio.errors import (
        UnknownJob as UnknownJob,
    )
    from x402_audio.errors import (
        X402AudioError as X402AudioError,
    )
    from x402_audio.ledger.book import (
        Ledger as Ledger,
    )
    from x402_audio.ledger.book import (
        Limit as Limit,
    )
    from x402_audio.ledger.sqlite import (
        SqliteLedger as SqliteLedger,
    )
    from x402_audio.money import (
        Usdc as Usdc,
    )
    from x402_audio.notices import (
        Notice as Notice,
    )
    from x402_audio.payment.auth import (
        Prepaid as Prepaid,
    )
    from x402_audio.payment.auth import (
        Receipt as Receipt,
    )
    from x402_audio.payment.auth import (
        X402Auth as X402Auth,
    )
    from x402_audio.payment.auth import (
        receipt_of as receipt_of,
    )
    from x402_audio.payment.policy import (
        PaymentPolicy as PaymentPolicy,
    )
    from x402_audio.protocol.signer import (
        LocalSigner as LocalSigner,
    )
    from x402_audio.protocol.signer import (
        Signer as Signer,
    )
    from x402_audio.providers.provider import (
        AudioRequest as AudioRequest,
    )
    from x402_audio.providers.provider import (
        Provider as Provider,
    )
    from x402_audio.providers.provider import (
        Track as Track,
    )
    from x402_audio.reports import (
        Outcome as Outcome,
    )
    from x402_audio.settings import (
        Settings as Settings,
    )
    from x402_audio.settings import (
        load_settings as load_settings,
    )

__version__ = "0.1.0"

_HOMES = {
    "Budget": "budget",
    "Window": "budget",
    "AsyncAudioClient": "client",
    "AudioClient": "client",
    "Outcome": "reports",
    "AboveMaximum": "errors",
    "AlreadyResolved": "errors",
    "ApprovalWanted": "errors",
    "BadDownload": "errors",
    "BudgetExceeded": "errors",
    "ChainError": "errors",
    "ClockError": "errors",
    "ConfigurationError": "errors",
    "ContentRejected": "errors",
    "ForeignOrigin": "errors",
    "Frozen": "errors",
    "InsufficientBalance": "errors",
    "JobConflict": "errors",
    "JobError": "errors",
    "JobExpired": "errors",
    "JobFailed": "errors",
    "JobParked": "errors",
    "JobTakenOver": "errors",
    "JobTimedOut": "errors",
    "JobUndecided": "errors",
    "LedgerBusy": "errors",
    "LedgerError": "errors",
    "ModelUnavailable": "errors",
    "NoAcceptableRequirement": "errors",
    "OpenJobExists": "errors",
    "PayeeRefused": "errors",
    "PaymentRefused": "errors",
    "PaymentRejected": "errors",
    "PaymentUnsettled": "errors",
    "ProtocolError": "errors",
    "RateLimited": "errors",
    "RequestInvalid": "errors",
    "SellerError": "errors",
    "SellerUnreachable": "errors",
    "SignInRejected": "errors",
    "SignerError": "errors",
    "UnknownApproval": "errors",
    "UnknownHold": "errors",
    "UnknownJob": "errors",
    "X402AudioError": "errors",
    "Ledger": "ledger.book",
    "Limit": "ledger.book",
    "SqliteLedger": "ledger.sqlite",
    "Usdc": "money",
    "Notice": "notices",
    "Prepaid": "payment.auth",
    "Receipt": "payment.auth",
    "X402Auth": "payment.auth",
    "receipt_of": "payment.auth",
    "PaymentPolicy": "payment.policy",
    "LocalSigner": "protocol.signer",
    "Signer": "protocol.signer",
    "AudioRequest": "providers.provider",
    "Provider": "providers.provider",
    "Track": "providers.provider",
    "Settings": "settings",
    "load_settings": "settings",
}

__all__ = [
    "AboveMaximum",
    "AlreadyResolved",
    "ApprovalWanted",
    "AsyncAudioClient",
    "AudioClient",
    "AudioRequest",
    "BadDownload",
    "Budget",
    "BudgetExceeded",
    "ChainError",
    "ClockError",
    "ConfigurationError",
    "ContentRejected",
    "ForeignOrigin",
    "Frozen",
    "InsufficientBalance",
    "JobConflict",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobParked",
    "JobTakenOver",
    "JobTimedOut",
    "JobUndecided",
    "Ledger",
    "LedgerBusy",
    "LedgerError",
    "Limit",
    "LocalSigner",
    "ModelUnavailable",
    "NoAcceptableRequirement",
    "Notice",
    "OpenJobExists",
    "Outcome",
    "PayeeRefused",
    "PaymentPolicy",
    "PaymentRefused",
    "PaymentRejected",
    "PaymentUnsettled",
    "Prepaid",
    "ProtocolError",
    "Provider",
    "RateLimited",
    "Receipt",
    "RequestInvalid",
    "SellerError",
    "SellerUnreachable",
    "Settings",
    "SignInRejected",
    "Signer",
    "SignerError",
    "SqliteLedger",
    "Track",
    "UnknownApproval",
    "UnknownHold",
    "UnknownJob",
    "Usdc",
    "Window",
    "X402AudioError",
    "X402Auth",
    "__version__",
    "load_settings",
    "receipt_of",
]


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
