"""The seller behind the simulated network: the practice seller's own routes, called without a socket, and its lies.

It checks every signature for itself and its books are the truth the judge looks at. A lie changes what it answers, when
it takes money, or what it shows, never what it remembers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from email.utils import formatdate
from functools import cache
from random import Random
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.simulation.plan import Plan
from tests.simulation.timeline import Timeline
from x402_audio.jsontext import Json
from x402_audio.money import ZERO, Usdc
from x402_audio.sandbox import SandboxSeller
from x402_audio.sandbox.answers import Answer, Request, header_json, json_answer, read_header_json
from x402_audio.sandbox.direct_routes import DirectRoutes
from x402_audio.sandbox.venice_routes import PAYMENT_HEADERS, VeniceRoutes
from x402_audio.sandbox.verify import Authorization, PaymentFault, read_authorization

ORIGIN = "https://seller.example"
API_URL = f"{ORIGIN}/api/v1"
MODEL = "elevenlabs-music"
SECONDS = 3
PRICE = Usdc(690_000)
FUNDS = {"credit": Usdc(20_000_000), "top-up": ZERO, "little": Usdc(1_600_000)}
NONSENSE = ("NaN", "-1.00", '"9.99"', "1e30", "0.00", "4.4")


@dataclass(frozen=True, slots=True)
class Letter:
    """One request as it left, secrets and all."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    @property
    def route(self) -> str:
        """The path within the API, without anybody's address."""
        return self.path.removeprefix("/api/v1").partition("/0x")[0]

    def header(self, *names: str) -> str:
        return next((value for name, value in self.headers if name.lower() in names), "")

    def stripped(self) -> Letter:
        """As a careless proxy passes it on: without payment and sign-in."""
        secret = (*PAYMENT_HEADERS, "sign-in-with-x", "x-sign-in-with-x", "authorization")
        return replace(self, headers=tuple(pair for pair in self.headers if pair[0].lower() not in secret))


@cache
def _one_model() -> dict[str, Json]:
    listing = SandboxSeller().catalog.listing
    data = listing["data"]
    assert isinstance(data, list)
    return {**listing, "data": [row for row in data if isinstance(row, dict) and row["id"] == MODEL]}


class Door:
    """Where letters arrive. `lying` is put out when the world is healed."""

    def __init__(self, plan: Plan, timeline: Timeline, dice: Random) -> None:
        mode = "venice" if plan.credit else "direct-v1" if plan.kind.endswith("v1") else "direct-v2"
        self._plan = plan
        self._timeline = timeline
        self._dice = dice
        self.lie = plan.lie
        self.seller = SandboxSeller(
            mode=mode, clock=timeline, random=dice.randbytes, job_seconds=dice.choice((0.5, 4.0, 40.0, 700.0) if plan.lie == "charges at the end" else (0.5, 4.0, 40.0)),
            starting_credit=FUNDS[plan.funds] if plan.credit else ZERO,
            charge_when="end" if plan.lie == "charges at the end" else "queue",
        )  # fmt: skip
        self.seller.catalog.listing = _one_model()
        self._routes = VeniceRoutes(self.seller) if mode == "venice" else DirectRoutes(self.seller)

    def arrive(self, letter: Letter) -> Answer:
        """What the seller does with a letter, and its answer, true or not."""
        parts = urlsplit(letter.url)
        request = Request(
            method=letter.method, path=parts.path, query=dict(parse_qsl(parts.query)),
            headers={name.lower(): value for name, value in letter.headers}, body=letter.body, origin=ORIGIN,
            peer="192.0.2.1",
        )  # fmt: skip
        lie = self.lie if self.lie and self._dice.random() < 0.7 else ""
        answer = _LIES.get(lie, _truth)(self, request)
        self.seller.note_request(request.method, request.path, answer.status, request.wallet, answer.code)
        when = formatdate(self._timeline.now(), usegmt=True)
        return replace(answer, headers=(*answer.headers, ("Date", when)))

    def truth(self, request: Request, **faults: Json) -> Answer:
        """What an honest seller answers, under faults of the practice seller's own."""
        request.faults = faults
        answer = self._routes.answer(request)
        for leave in request.on_end:
            leave()
        return answer

    def payment_of(self, request: Request) -> Authorization | None:
        """The authorization of a paid request that is good and not used yet."""
        header = request.header(*PAYMENT_HEADERS)
        if not header:
            return None
        try:
            authorization = read_authorization(read_header_json(header)["payload"])
            self.seller.verify(authorization)
        except (KeyError, ValueError, PaymentFault):
            return None
        return None if self.seller.payment(authorization) is not None else authorization

    def take_later(self, authorization: Authorization, request: Request) -> None:
        """Settle what was handed over long after the answer, while it still can be."""

        def take() -> None:
            try:
                self.seller.verify(authorization)
                if self.seller.begin_settlement(authorization):
                    payment = self.seller.settle(authorization, request.path)
                    if self._plan.credit:
                        account = self.seller.account(payment.payer)
                        account.enter("TOP_UP", payment.value, self.seller.now(), None, None)
            except PaymentFault:
                return

        self._timeline.later(self._dice.choice((5.0, 60.0, 200.0, 280.0)), take)

    def choose(self, *values: Any) -> Any:
        return self._dice.choice(values)


def _truth(door: Door, request: Request) -> Answer:
    return door.truth(request)


def _with(**faults: Json) -> Callable[[Door, Request], Answer]:
    """The practice seller's own fault, at the routes it is about."""

    def lie(door: Door, request: Request) -> Answer:
        about = {"never_credit": "/x402/top-up", "no_receipt": "", "raw_balance": "/x402/balance"}
        name = next(iter(faults))
        route = about.get(name, "/audio/queue")
        return door.truth(request, **(faults if route in request.path else {}))

    return lie


def _loses_media(door: Door, request: Request) -> Answer:
    faults: dict[str, Json] = {"expire_media": None} if request.path.endswith("/audio/retrieve") else {}
    return door.truth(request, **faults)


def _balance_nonsense(door: Door, request: Request) -> Answer:
    return door.truth(request, raw_balance=door.choose(*NONSENSE))


def _rows_twice(door: Door, request: Request) -> Answer:
    answer = door.truth(request)
    if "/x402/transactions/" not in request.path or answer.status != 200:
        return answer
    told = json.loads(answer.body)
    rows = told["data"]["transactions"]
    told["data"]["transactions"] = [copy for row in rows for copy in (row, {**row, "id": row["id"] + "b"})]
    return replace(answer, body=json.dumps(told).encode())


def _paid(request: Request) -> bool:
    return bool(request.header(*PAYMENT_HEADERS))


def _says_402(door: Door, request: Request) -> Answer:
    answer = door.truth(request)
    if not _paid(request):
        return answer
    result = {
        "success": False,
        "errorReason": "transaction_failed",
        "transaction": "",
        "network": "eip155:8453",
    }
    said = ("PAYMENT-RESPONSE", header_json(result)), ("X-PAYMENT-RESPONSE", header_json(result))
    return json_answer(402, {"x402Version": 2, "error": "transaction_failed", "accepts": []}, *said)


def _says_top_up_failed(door: Door, request: Request) -> Answer:
    answer = door.truth(request)
    if not _paid(request):
        return answer
    return json_answer(
        door.choose(402, 400, 403, 500), {"error": "SETTLEMENT_FAILED", "message": "could not be settled"}
    )


def _takes_later(door: Door, request: Request) -> Answer:
    authorization = door.payment_of(request)
    if authorization is None:
        return door.truth(request)
    door.take_later(authorization, request)
    return json_answer(402, {"x402Version": 2, "error": "transaction_failed", "accepts": []})


def _success_false(door: Door, request: Request) -> Answer:
    answer = door.truth(request)
    receipts = ("payment-response", "x-payment-response")
    headers = tuple(
        (
            name,
            header_json({**read_header_json(value), "success": False}) if name.lower() in receipts else value,
        )
        for name, value in answer.headers
    )
    return replace(answer, headers=headers)


def _no_receipt(door: Door, request: Request) -> Answer:
    answer = door.truth(request)
    receipts = ("payment-response", "x-payment-response")
    return replace(answer, headers=tuple(pair for pair in answer.headers if pair[0].lower() not in receipts))


def _paid_though_not(door: Door, request: Request) -> Answer:
    """Delivers and shows a receipt, and takes the money later or never."""
    authorization = door.payment_of(request)
    if authorization is None or not request.path.endswith("/audio/queue"):
        return door.truth(request)
    if door.choose(True, False):
        door.take_later(authorization, request)
    order = door.seller.catalog.order(json.loads(request.body))
    job = door.seller.open_job(order, None, payer=authorization.payer)
    receipt = {"success": True, "transaction": "0x" + "ab" * 32, "network": "eip155:8453"}
    told = {"model": MODEL, "queue_id": job.queue_id, "status": "QUEUED"}
    name = "X-PAYMENT-RESPONSE" if door.seller.mode == "direct-v1" else "PAYMENT-RESPONSE"
    return json_answer(200, told, (name, header_json(receipt)))


def _wrong_terms(door: Door, request: Request) -> Answer:
    amount = "amount" if door.seller.mode == "direct-v2" else "maxAmountRequired"
    wrong: dict[str, Json] = door.choose(
        {amount: "9000000"}, {"payTo": "0x" + "0" * 40}, {"payTo": "0x" + "77" * 20}, {"network": "eip155:1"},
        {"asset": "0x" + "55" * 20}, {"maxTimeoutSeconds": 3}, {"scheme": "upto"},
    )  # fmt: skip
    return door.truth(request, wrong_terms=wrong)


_LIES: dict[str, Callable[[Door, Request], Answer]] = {
    "never credits": _with(never_credit=None),
    "overcharges": _with(overcharge="0.50"),
    "shows rows twice": _rows_twice,
    "balance nonsense": _balance_nonsense,
    "charges and fails": _with(charge_without_delivery=None),
    "fails and refunds": _with(fail_job=None),
    "refuses content": _with(refuse_content=None),
    "says a top-up failed": _says_top_up_failed,
    "late top-up": _takes_later,
    "loses the media": _loses_media,
    "no receipt": _no_receipt,
    "says 402 though paid": _says_402,
    "takes the money later": _takes_later,
    "says success false though paid": _success_false,
    "says paid though not": _paid_though_not,
    "wrong terms": _wrong_terms,
}
