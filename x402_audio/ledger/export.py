"""The books as one JSON object for the person who pays: every authorization and draw, and the heads of the chains.

Reads the ledger through its contract; never touches a secret.
"""

from __future__ import annotations

from typing import Final

from x402_audio.ledger.book import PURSES, Hold, Ledger
from x402_audio.money import Usdc

SCHEMA_VERSION: Final = 1


def export_json(ledger: Ledger, wallet: str | None = None) -> dict[str, object]:
    """All holds of a wallet (or of all), oldest first; amounts as atomic text and decimal dollars.

    `heads` are the newest hashes of the event chains: kept elsewhere, they prove that nothing was changed since.
    """
    holds = ledger.holds(wallet=wallet)
    heads = ledger.heads()
    return {
        "schemaVersion": SCHEMA_VERSION,
        "exported_at": ledger.now(),
        "authorizations": [_row(hold) for hold in holds if hold.kind in ("direct", "topup")],
        "draws": [_row(hold) for hold in holds if hold.kind in ("credit", "account")],
        "heads": {
            name: head
            for name, head in heads.items()
            if wallet is None or name.lower() in ("", wallet.lower())
        },
    }


def _row(hold: Hold) -> dict[str, object]:
    row: dict[str, object] = {
        "id": hold.id,
        "kind": hold.kind,
        **_money("amount", hold.amount),
        "state": hold.state,
        "purse": PURSES[hold.kind][-1],
        "wallet": hold.wallet,
        "network": hold.network,
        "environment": hold.environment,
        "origin": hold.origin,
        "pay_to": hold.pay_to,
        "job_id": hold.job_id,
        "model": hold.model,
        "label": hold.label,
        "valid_before": hold.valid_before,
        "transaction": hold.transaction,
        "charge_id": hold.charge_id,
        "evidence": hold.evidence,
        "sends": hold.sends,
        "created_at": hold.created_at,
        "sent_at": hold.sent_at,
        "resolved_at": hold.resolved_at,
        **_money("refunded", hold.refunded),
        **_money("overcharged", hold.overcharged),
    }
    if hold.kind in ("direct", "topup"):
        row["nonce"] = hold.nonce
        row["asset"] = hold.asset
    return row


def _money(name: str, amount: Usdc) -> dict[str, str]:
    return {f"{name}_atomic": str(int(amount)), f"{name}_usd": amount.usd}
