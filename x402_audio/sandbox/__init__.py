"""A seller on 127.0.0.1 that checks sign-ins and payments for itself, to practise and to test against.

Shares no wire or money code with the client, so that one mistake cannot be made twice and agree with itself.
"""

from __future__ import annotations

from x402_audio.sandbox.books import Limits
from x402_audio.sandbox.faults import FaultPlan, FaultRule
from x402_audio.sandbox.seller import SandboxSeller
from x402_audio.sandbox.serve import SandboxServer, serve_forever

__all__ = ["FaultPlan", "FaultRule", "Limits", "SandboxSeller", "SandboxServer", "serve_forever"]
