"""The owner's door, for tests and the demonstration: books, credit, faults, release, and the chain.

Plain JSON on the loopback. Shows no header and no key, because the seller keeps none.
"""

from __future__ import annotations

from x402_audio.jsontext import Json, read_json_object
from x402_audio.money import Usdc
from x402_audio.sandbox.answers import Answer, Request, json_answer
from x402_audio.sandbox.faults import FaultPlan
from x402_audio.sandbox.rpc import ChainFaults
from x402_audio.sandbox.seller import SandboxSeller
from x402_audio.sandbox.verify import is_address


class Admin:
    """What stands under `/sandbox/`."""

    def __init__(self, seller: SandboxSeller) -> None:
        self._seller = seller

    def answer(self, request: Request) -> Answer:
        """Answer one request; 400 for anything that cannot be read."""
        route = (request.method, request.path)
        if route == ("GET", "/sandbox/books"):
            return json_answer(200, self._seller.books())
        if route == ("POST", "/sandbox/release"):
            self._seller.release_stream.set()
            return json_answer(200, {"released": True})
        if route not in (("POST", "/sandbox/credit"), ("POST", "/sandbox/faults")):
            return json_answer(404, {"error": "Not found"})
        try:
            body = read_json_object(request.body)
            if request.path == "/sandbox/credit":
                return self._credit(body)
            return self._faults(body)
        except ValueError as error:
            return json_answer(400, {"error": str(error)})

    def chain(self, request: Request) -> Answer:
        """JSON-RPC."""
        if request.method != "POST":
            return json_answer(405, {"error": "Method not allowed"})
        return Answer(200, self._seller.rpc.answer(request.body).encode())

    def _credit(self, body: dict[str, Json]) -> Answer:
        wallet, usd, model = body.get("wallet"), body.get("usd"), body.get("model", "elevenlabs-music")
        if not is_address(wallet) or not isinstance(usd, str) or not isinstance(model, str):
            raise ValueError('write {"wallet": "0x...", "usd": "1.00"}')
        amount = Usdc.parse_usd(usd.removeprefix("-"))
        self._seller.credit(str(wallet), -amount if usd.startswith("-") else amount, model=model)
        return json_answer(200, {"credit_atomic": int(self._seller.account(str(wallet)).credit)})

    def _faults(self, body: dict[str, Json]) -> Answer:
        """`rules` replaces the plan, `chain` the faults of the chain; what is not named stays."""
        if "rules" in body:
            self._seller.faults.replace(FaultPlan.read_rules(body["rules"]))
        wrong = body.get("chain")
        if isinstance(wrong, dict):
            chain_id = wrong.get("chain_id")
            self._seller.rpc.faults = ChainFaults(
                chain_id=chain_id if isinstance(chain_id, int) else None,
                lag_seconds=float(str(wrong.get("lag_seconds", 0))),
                finality_seconds=float(str(wrong.get("finality_seconds", 0))),
                error=str(wrong.get("error", "")),
            )
        return json_answer(200, {"ok": True})
