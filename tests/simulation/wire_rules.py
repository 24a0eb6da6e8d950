"""The judge at the door: what is signed and what leaves, letter by letter. Knows the wire from the letters alone."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.simulation.case import LIVE, Case, Left, Row
from tests.simulation.driver import Process
from tests.simulation.sellers import ORIGIN, Letter
from x402_audio.protocol.exact import Authorization
from x402_audio.protocol.networks import Network
from x402_audio.protocol.signer import LocalSigner
from x402_audio.sandbox.audio import find_queue_id

PAYMENT = ("x-payment", "payment-signature", "x-402-payment")
SIGN_IN = ("sign-in-with-x", "x-sign-in-with-x")
PAID_ROUTES = ("/audio/queue", "/x402/top-up")
MAX_PER_PAYMENT = 1_000_000
VALIDITY_MAX_S = 3600
DOMAIN = ("eip155:8453", "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", 8453, "USD Coin", "2")


@dataclass
class WireRules:
    """Asked by the signer and by the network."""

    case: Case

    # --- what is signed
    def signing(self, network: Network, authorization: Authorization) -> None:
        case, nonce = self.case, "0x" + authorization.nonce.hex()
        self.outside_transaction("signing")
        domain = (
            network.caip2, network.usdc, network.chain_id, network.domain_name, network.domain_version,
        )  # fmt: skip
        case.demand("P4", domain == DOMAIN, f"signed for {domain}")
        hold = case.hold_of(nonce)
        if hold is None or not _may_be_signed(hold):
            case.demand("I6", False, f"an authorization was signed without a committed hold ({nonce[:10]})")
            return
        asked = (
            authorization.to.lower(), int(authorization.value), authorization.valid_after, authorization.valid_before,
        )  # fmt: skip
        kept = (hold["pay_to"].lower(), hold["amount"], hold["valid_after"], hold["valid_before"])
        case.demand("I6", asked == kept, f"what was signed is not what was committed: {asked} {kept}")
        clock = case.world.timeline.at + case.world.plan.clock_error_s
        case.demand(
            "P4",
            authorization.valid_before <= clock + VALIDITY_MAX_S,
            "an authorization is valid for too long",
        )
        payees = {row[0].lower() for row in case.all("SELECT address FROM payee")}
        case.demand(
            "P4", authorization.to.lower() in payees or hold["state"] == "void", "the payee is not pinned"
        )

    def signing_in(self, text: str) -> None:
        if "/audio/queue\n" not in text:
            return
        hold = self.case.hold_of(_nonce_in(text))
        self.case.demand(
            "I6", hold is not None and _may_be_signed(hold), "a sign-in that can draw credit has no hold"
        )

    # --- what leaves
    def leaving(self, process: Process, letter: Letter) -> None:
        """A request leaves, with everything it carries."""
        self.outside_transaction("sending")
        self.case.demand("P8", letter.url.startswith(f"{ORIGIN}/"), f"a request to {letter.url}")
        for name in (*PAYMENT, *SIGN_IN):
            if value := letter.header(name):
                self.case.secrets.add(value[-80:].rstrip("="))
        payment, sign_in = letter.header(*PAYMENT), letter.header(*SIGN_IN)
        if payment:
            self._payment_leaves(process, letter, payment)
        if sign_in and letter.path.endswith("/audio/queue"):
            self._draw_leaves(process, letter, sign_in)
        if letter.path.endswith("/audio/complete"):
            self._complete_leaves(letter)

    def _payment_leaves(self, process: Process, letter: Letter, header: str) -> None:
        case, told = self.case, _decoded(header)["payload"]["authorization"]
        nonce, hold = told["nonce"].lower(), self.case.hold_of(told["nonce"])
        case.demand("P4", letter.path.endswith(PAID_ROUTES), f"a payment was sent to {letter.path}")
        if hold is None or not hold["sends"]:
            case.demand("I6", False, f"a payment left whose hold is not committed as signed ({nonce[:10]})")
            return
        # A program that slept between its commit and its send cannot know what others decided meanwhile: what it
        # sends may be settled by now (the same bytes), but not freed, unless it is dead paper.
        live = case.truth.live(nonce, int(told["validBefore"]))
        case.demand(
            "witness", hold["state"] != "void" or not live, "what was freed left and may still move money"
        )
        same = (hold["method"], hold["resource"], hold["body_digest"]) == _request_of(letter)
        case.demand("P2", same, "a stored payment was sent with another request than it was made for")
        fields = (told["to"].lower(), int(told["value"]), int(told["validBefore"]))
        kept = (hold["pay_to"].lower(), hold["amount"], hold["valid_before"])
        case.demand("I5", fields == kept, "a payment left with other fields than its hold's")
        if nonce in case.left:
            return
        key = hold["job_id"] or process.purpose
        new = Left(nonce, hold["kind"], key, fields[1], fields[2], case.world.timeline.at, hold["id"])
        self._one_authorization(new, hold)
        case.left[nonce] = new
        self._true_risk(new)

    def _one_authorization(self, new: Left, hold: Row) -> None:
        """No other authorization of this purchase (or top-up of this wallet) is alive, none has paid for it."""
        case = self.case
        case.demand("P2", True)
        for other in case.left.values():
            if other.kind != new.kind or (other.key != new.key and new.kind == "direct"):
                continue
            before = case.holds.get(other.hold_id) or case.hold_of(other.nonce) or {}
            if case.truth.live(other.nonce, other.valid_before):
                case.demand("P2", False, f"a second live authorization ({new.kind} of {new.key})")
            elif new.kind == "direct" and case.truth.stands(other.nonce):
                delivered = case.world.plan.stranger and before.get("delivered_at") is not None
                case.demand("P2", delivered, f"{new.key} is paid a second time")
            elif new.kind == "topup" and other.key == new.key and hold["job_id"]:
                case.demand("P2", before.get("state") == "void", f"a second top-up for {new.key}")
            elif new.kind == "topup":
                case.demand(
                    "P2", before.get("state") not in LIVE, "a second top-up before the first is decided"
                )
        if new.kind == "topup":
            case.demand("top-ups", not case.unshown, "a top-up after one whose credit did not show")

    def _true_risk(self, new: Left) -> None:
        """By the wire alone: what left within the hour and has moved or still may.

        An hour is the machine's own: a slow clock that is put right makes one of them so much shorter.
        """
        case, now = self.case, self.case.world.timeline.at
        put_right = max(0.0, -case.world.plan.clock_error_s)
        if new.kind == "topup":
            case.demand("P1", new.value <= case.most_top_up, f"a top-up of {new.value} left")
            return
        case.demand("P1", new.value <= MAX_PER_PAYMENT, f"a payment of {new.value} left")
        risk = sum(
            one.value
            for one in case.left.values()
            if one.kind == "direct"
            and one.at > now - 3600 + put_right
            and (case.truth.used(one.nonce) or now < one.valid_before)
        )
        case.demand(
            "P1", risk <= case.most_an_hour, f"{risk} left within an hour, {case.most_an_hour} is allowed"
        )

    def _draw_leaves(self, process: Process, letter: Letter, header: str) -> None:
        case = self.case
        nonce = _nonce_in(_decoded(header)["message"])
        hold = case.hold_of(nonce)
        if hold is None or not hold["sends"]:
            case.demand("I6", False, "a sign-in that can draw credit left without a committed signed hold")
            return
        stored = case.all("SELECT bytes FROM secret WHERE hold_id = ?", (hold["id"],))
        if hold["state"] == "signed":
            case.demand(
                "I6", stored and bytes(stored[0][0]).decode() == header, "a sign-in left that is not stored"
            )
        same = hold["body_digest"] == hashlib.sha256(letter.body).hexdigest()
        case.demand("P2", same, "a stored sign-in was sent with another body than it was made for")
        key = hold["job_id"] or process.purpose
        others = [other for other, owner in case.draws.items() if owner == key and other != nonce]
        undecided = [other for other in others if (case.hold_of(other) or {}).get("state") in LIVE]
        case.demand("P2", not undecided, f"a new sign-in for {key} while the old one is undecided")
        case.draws[nonce] = key

    def _complete_leaves(self, letter: Letter) -> None:
        """The seller may delete its copy only when ours is whole and cannot be lost any more."""
        case, queue_id = self.case, json.loads(letter.body)["queue_id"]
        found = case.all("SELECT path, file_sha256 FROM job WHERE queue_id = ?", (queue_id,))
        if not case.demand("I8", found, f"complete was sent for {queue_id}, which no job of ours has"):
            return
        path, sha256 = found[0]
        safe = case.world.disk.safe(Path(path).name) if path else None
        durable = safe is not None and hashlib.sha256(safe).hexdigest() == sha256
        if case.demand("I8", durable, "complete was sent and the file is not safe on the disk"):
            case.demand(
                "P6", safe and find_queue_id(safe) == queue_id, "the file that was saved is another job's"
            )

    def outside_transaction(self, what: str, process: Process | None = None) -> None:
        process = process or self.case.world.machine.running
        connection = getattr(process.ledger._database, "_connection", None) if process is not None else None
        inside = connection is not None and connection.in_transaction
        self.case.demand("I9", not inside, f"{what} inside a transaction")


class WatchedSigner:
    """The wallet; the judge looks over its shoulder."""

    def __init__(self, key: str, rules: WireRules) -> None:
        self._inner = LocalSigner.from_hex(key)
        self._rules = rules
        self.in_process = not rules.case.world.plan.signer_afar

    @property
    def address(self) -> str:
        return self._inner.address

    def sign_authorization(self, network: Network, authorization: Authorization) -> bytes:
        self._rules.signing(network, authorization)
        return self._inner.sign_authorization(network, authorization)

    def sign_message(self, text: str) -> bytes:
        self._rules.signing_in(text)
        return self._inner.sign_message(text)


def _may_be_signed(hold: Row) -> bool:
    """Whether the books hold these fields for a payment that is not over.

    A settled payment nobody answered is shown again: the same fields, signed to the same bytes. And one that its lease
    freed before it was ever signed: a program that slept between its reservation and its signature cannot know. What
    it signs then is paper nobody can send: `depart` refuses, and the rule of what leaves asks for a departed hold.
    """
    return bool(hold["state"] != "void" or hold["sends"] == 0)


def _decoded(header: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(base64.b64decode(header + "=" * (-len(header) % 4)))
    return told


def _nonce_in(message: str) -> str:
    return message.partition("\nNonce: ")[2].partition("\n")[0]


def _request_of(letter: Letter) -> tuple[str, str, str]:
    return letter.method, letter.url, hashlib.sha256(letter.body).hexdigest()
