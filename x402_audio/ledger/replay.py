"""Proof: replay."""

from __future__ import annotations

from x402_audio.ledger.book import Finding
from x402_audio.ledger.chain_of_events import breaks
from x402_audio.ledger.database import View
from x402_audio.ledger.rows import SELECT_EVENT, event_from


def verify(view: View) -> list[Finding]:
    return list(breaks(event_from(row) for row in view.each(f"{SELECT_EVENT} ORDER BY seq")))
