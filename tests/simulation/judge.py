"""The independent judge: after every step, our books against what left, against the seller and against the chain.

It reads the ledger's tables with its own statements, never through the ledger's code, and knows the wire from the
letters alone. Each rule names the promise (P) or invariant (I) it stands for.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.simulation.driver import Process
from tests.simulation.sellers import ORIGIN, Letter
from tests.simulation.truth import Truth
from x402_audio.ledger.book import ENDED_JOBS
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc
from x402_audio.payment.reconcile import ReconcileReport
from x402_audio.protocol.exact import Authorization
from x402_audio.protocol.networks import Network
from x402_audio.protocol.signer import LocalSigner
from x402_audio.sandbox.audio import find_queue_id

if TYPE_CHECKING:
    from tests.simulation.world import World

PAYMENT = ("x-payment", "payment-signature", "x-402-payment")
SIGN_IN = ("sign-in-with-x", "x-sign-in-with-x")
MAX_PER_PAYMENT = 1_000_000
HOLD_COLUMNS = (
    "id", "kind", "state", "amount", "nonce", "pay_to", "valid_after", "valid_before", "method", "resource", "body_digest",
    "job_id", "purchase", "counted_at", "created_at", "delivered_at", "refunded", "overcharged", "sends", "charge_id",
)  # fmt: skip
_HOLDS = f"SELECT {', '.join(HOLD_COLUMNS)} FROM hold"
SIGNED_FIELDS = (
    "kind", "amount", "nonce", "pay_to", "valid_after", "valid_before", "resource", "body_digest", "job_id",
    "purchase",
)  # fmt: skip

Row = dict[str, Any]


class WatchedSigner:
    """The wallet; the judge looks over its shoulder."""

    def __init__(self, key: str, judge: Judge) -> None:
        self._inner = LocalSigner.from_hex(key)
        self._judge = judge

    @property
    def address(self) -> str:
        return self._inner.address

    def sign_authorization(self, network: Network, authorization: Authorization) -> bytes:
        self._judge.signing(authorization)
        return self._inner.sign_authorization(network, authorization)

    def sign_message(self, text: str) -> bytes:
        self._judge.signing_in(text)
        return self._inner.sign_message(text)


@dataclass(frozen=True, slots=True)
class Left:
    """An authorization that left, as the wire showed it. `key` is the purchase it paid for."""

    nonce: str
    kind: str
    key: str
    value: int
    valid_before: int
    at: float
    hold_id: str


@dataclass
class Judge:
    """Collects violations, the first of which ends the world."""

    world: World
    violations: list[str] = field(default_factory=list)
    left: dict[str, Left] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    draws: dict[str, str] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)
    reports: list[ReconcileReport] = field(default_factory=list)
    unshown: bool = False
    _heard: list[str] = field(default_factory=list)
    _holds: dict[str, Row] = field(default_factory=dict)
    _version: int = -1

    def __post_init__(self) -> None:
        world = self.world
        self.wallet = LocalSigner.from_hex("0x" + "5a" * 32).address
        self.secrets.add("5a" * 32)
        self.truth = Truth(world.door, world.timeline, self.wallet)
        self._books = sqlite3.connect(f"file:{world.ledger_path}?mode=ro", uri=True, isolation_level=None)
        self._most_an_hour = int(Usdc.parse_usd(world.plan.max_per_hour))
        self._most_top_up = int(Usdc.parse_usd(world.plan.max_top_up))
        self._most_top_ups_a_day = int(Usdc.parse_usd(world.plan.max_top_up_day))

    def close(self) -> None:
        self._books.close()

    def found(self, rule: str, text: str) -> None:
        self.violations.append(f"{rule}: {text}")
        self.world.trace.say(self.world.timeline.at, "JUDGE", f"{rule}: {text}")

    def heard(self, text: str) -> None:
        self._heard.append(text)

    # --- programs
    def watch(self, process: Process) -> None:
        """Hear how it ends."""
        inner = process.ended

        def ended(process: Process) -> None:
            self._ended(process)
            inner(process)

        process.ended = ended

    def _ended(self, process: Process) -> None:
        if process.error is not None:
            text = str(process.error)
            self.heard(f"{text} {vars(process.error)}")
            self.unshown = self.unshown or "its credit did not show" in text
            if not text.strip() or "\n" in text:
                self.found("P7", f"an error that is not one line: {text!r}")
        report = process.result
        if isinstance(report, ReconcileReport):
            self.reports.append(report)
            self.heard(repr(report))
            if not any(one.kind == "missing top-up" for one in report.differences):
                self.unshown = False
        elif process.result is not None:
            self.heard(repr(process.result))

    # --- what is signed and what leaves
    def signing(self, authorization: Authorization) -> None:
        nonce = "0x" + authorization.nonce.hex()
        hold = self._hold_of(nonce)
        if hold is None or not _may_be_signed(hold):
            self.found("I6", f"an authorization was signed without a committed hold ({nonce[:10]})")
            return
        asked = (
            authorization.to.lower(), int(authorization.value), authorization.valid_after,
            authorization.valid_before,
        )  # fmt: skip
        kept = (hold["pay_to"].lower(), hold["amount"], hold["valid_after"], hold["valid_before"])
        if asked != kept:
            self.found("I6", f"what was signed is not what was committed: {asked} {kept}")
        self._outside_transaction("signing")

    def signing_in(self, text: str) -> None:
        if "/audio/queue\n" not in text:
            return
        nonce = text.partition("\nNonce: ")[2].partition("\n")[0]
        hold = self._hold_of(nonce)
        if hold is None or not _may_be_signed(hold):
            self.found("I6", "a sign-in that can draw credit was signed without a committed hold")

    def leaving(self, process: Process, letter: Letter) -> None:
        """A request leaves, with everything it carries."""
        self._outside_transaction("sending")
        if not letter.url.startswith(f"{ORIGIN}/"):
            self.found("P8", f"a request to {letter.url}")
        for name in (*PAYMENT, *SIGN_IN):
            if value := letter.header(name):
                self.secrets.add(value[-80:].rstrip("="))
        payment, sign_in = letter.header(*PAYMENT), letter.header(*SIGN_IN)
        if payment:
            self._payment_leaves(process, letter, payment)
        if sign_in and letter.path.endswith("/audio/queue"):
            self._draw_leaves(process, letter, sign_in)
        if letter.path.endswith("/audio/complete"):
            self._complete_leaves(letter)

    def _payment_leaves(self, process: Process, letter: Letter, header: str) -> None:
        told = json.loads(base64.b64decode(header + "=" * (-len(header) % 4)))["payload"]["authorization"]
        nonce, hold = told["nonce"].lower(), self._hold_of(told["nonce"])
        if not letter.path.endswith(("/audio/queue", "/x402/top-up")):
            self.found("P4", f"a payment was sent to {letter.path}")
        if hold is None or not hold["sends"]:
            self.found("I6", f"a payment left whose hold is not committed as signed ({nonce[:10]})")
            return
        if hold["state"] == "void" and self.truth.live(nonce, int(told["validBefore"])):
            # A program that slept between its commit and its send cannot know what others decided meanwhile: what
            # it sends may be settled by now (the same bytes), but not freed, unless it is dead paper.
            self.found("5", "a payment left that was freed and may still move money")
        digest = hashlib.sha256(letter.body).hexdigest()
        if (hold["method"], hold["resource"], hold["body_digest"]) != (letter.method, letter.url, digest):
            self.found("P2", "a stored payment was sent with another request than it was made for")
        fields = (told["to"].lower(), int(told["value"]), int(told["validBefore"]))
        if fields != (hold["pay_to"].lower(), hold["amount"], hold["valid_before"]):
            self.found("I5", "a payment left with other fields than its hold's")
        if nonce in self.left:
            return
        key = hold["job_id"] or process.purpose
        new = Left(
            nonce, hold["kind"], key, fields[1], fields[2], self.world.timeline.at, hold["id"]
        )  # fmt: skip
        self._one_authorization(new, hold)
        self.left[nonce] = new
        self._true_risk(new)

    def _one_authorization(self, new: Left, hold: Row) -> None:
        """P2: no other authorization of this purchase (or top-up of this wallet) is alive, none has paid for it."""
        for other in self.left.values():
            if other.kind != new.kind or (other.key != new.key and new.kind == "direct"):
                continue
            before = self._holds.get(other.hold_id) or self._hold_of(other.nonce) or {}
            if self.truth.live(other.nonce, other.valid_before):
                self.found("P2", f"a second live authorization ({new.kind} of {new.key})")
            elif new.kind == "direct" and self.truth.stands(other.nonce):
                delivered = self.world.plan.stranger and before.get("delivered_at") is not None
                if not delivered:
                    self.found("P2", f"{new.key} is paid a second time")
            elif new.kind == "topup" and other.key == new.key and hold["job_id"]:
                if before.get("state") != "void":
                    self.found("P2", f"a second top-up for {new.key}")
            elif new.kind == "topup" and before.get("state") in ("reserved", "signed"):
                self.found("P2", "a second top-up while the first is undecided")
        if new.kind == "topup" and self.unshown:
            self.found(
                "3.2", "a top-up after one whose credit did not show, and before anything was reconciled"
            )

    def _true_risk(self, new: Left) -> None:
        """P1 by the wire alone: what left within the hour and has moved or still may."""
        now = self.world.timeline.at
        if new.kind == "topup":
            return
        risk = sum(
            one.value
            for one in self.left.values()
            if one.kind == "direct"
            and one.at > now - 3600
            and (self.truth.used(one.nonce) or now < one.valid_before)
        )
        if risk > self._most_an_hour:
            self.found("P1", f"{risk} left within an hour, {self._most_an_hour} is allowed")

    def _draw_leaves(self, process: Process, letter: Letter, header: str) -> None:
        message = json.loads(base64.b64decode(header + "=" * (-len(header) % 4)))["message"]
        nonce = message.partition("\nNonce: ")[2].partition("\n")[0]
        hold = self._hold_of(nonce)
        if hold is None or hold["state"] != "signed":
            self.found("I6", "a sign-in that can draw credit left without a committed signed hold")
            return
        kept = self._books.execute("SELECT bytes FROM secret WHERE hold_id = ?", (hold["id"],)).fetchone()
        if kept is None or bytes(kept[0]).decode() != header:
            self.found("I6", "a sign-in left that is not the stored one")
        if hold["body_digest"] != hashlib.sha256(letter.body).hexdigest():
            self.found("P2", "a stored sign-in was sent with another body than it was made for")
        key = hold["job_id"] or process.purpose
        for other, owner in self.draws.items():
            if owner != key or other == nonce:
                continue
            before = self._hold_of(other) or {}
            if before.get("state") in ("reserved", "signed"):
                self.found("P2", f"a new sign-in for {key} while the old one is undecided")
        self.draws[nonce] = key

    def _complete_leaves(self, letter: Letter) -> None:
        """I8, P6: the seller may delete its copy only when ours is whole and cannot be lost any more."""
        queue_id = json.loads(letter.body)["queue_id"]
        row = self._books.execute(
            "SELECT path, file_sha256, state FROM job WHERE queue_id = ?", (queue_id,)
        ).fetchone()
        if row is None:
            self.found("I8", f"complete was sent for {queue_id}, which no job of ours has")
            return
        safe = self.world.disk.safe(Path(row[0]).name) if row[0] else None
        if safe is None or hashlib.sha256(safe).hexdigest() != row[1]:
            self.found("I8", "complete was sent and the file is not safe on the disk")
        elif find_queue_id(safe) != queue_id:
            self.found("I8", "the file that was saved is another job's")

    def _outside_transaction(self, what: str) -> None:
        process = self.world.machine.running
        connection = getattr(process.ledger._database, "_connection", None) if process is not None else None
        if connection is not None and connection.in_transaction:
            self.found("I9", f"{what} inside a transaction")

    # --- the books after a step
    def after_step(self) -> None:
        (version,) = self._books.execute("PRAGMA data_version").fetchone()
        if version == self._version:
            return
        self._version = version
        before, self._holds = self._holds, {row["id"]: row for row in self._rows()}
        for hold_id, row in self._holds.items():
            old = before.get(hold_id)
            signed_before = old if old is not None and old["state"] != "reserved" else row
            if any(signed_before[name] != row[name] for name in SIGNED_FIELDS):
                self.found("I5", f"the fields of {hold_id} changed after it was signed")
            if (old or {}).get("state") != row["state"]:
                self._turned(row)
        self._within_limits()
        self._bought_once()

    def _turned(self, row: Row) -> None:
        """A hold has a new state: what witness could know that?"""
        plan, nonce = self.world.plan, row["nonce"].lower()
        if row["state"] == "void" and row["kind"] == "credit" and self.truth.stands(row["nonce"]):
            self.found("5", "a draw was freed and its charge stands at the seller")
        if nonce not in self.left:
            return
        if row["state"] == "void":
            finality = 0.0 if self.world.healed else plan.finality_s
            if self.truth.used(nonce):
                self.found("5", "a hold was freed and its money had moved")
            elif plan.chain == "none":
                self.found("5", "a signed authorization was freed and no chain was there to say so")
            elif self.world.timeline.at - finality < row["valid_before"]:
                self.found("5", "a signed authorization was freed before a finalized block could say so")
        if row["state"] == "settled" and not plan.lie and not self.truth.used(nonce):
            self.found("books", "a hold was settled and no money had moved")

    def _within_limits(self) -> None:
        """P1, I2, I3: what is at risk and what was spent, from the rows alone."""
        now = self.world.timeline.at + min(0.0, self.world.plan.clock_error_s)
        hour = day = 0
        for row in self._holds.values():
            amount, live = row["amount"], row["state"] in ("reserved", "signed")
            spent_at = row["counted_at"] if row["state"] in ("settled", "presumed") else None
            if row["kind"] == "topup":
                if live or (spent_at is not None and spent_at > now - 86_400):
                    day += amount
                if live and amount > self._most_top_up:
                    self.found("P1", f"a top-up of {amount}, {self._most_top_up} is allowed")
                continue
            if live or (spent_at is not None and spent_at > now - 3600):
                hour += amount
            if live and amount > MAX_PER_PAYMENT:
                self.found("P1", f"a payment of {amount}")
        if hour > self._most_an_hour:
            self.found("P1", f"{hour} at risk or spent within an hour, {self._most_an_hour} is allowed")
        if day > self._most_top_ups_a_day:
            self.found("P1", f"top-ups of {day} within a day, {self._most_top_ups_a_day} are allowed")

    def _bought_once(self) -> None:
        """P3: the seller never has two charged jobs of one purchase."""
        bought: dict[str, int] = {}
        for nonce, key in self.draws.items():
            job = self.truth.job_of(nonce)
            if job is not None and self.truth.stands(nonce):
                row = next((row for row in self._holds.values() if row["nonce"] == nonce), {})
                if not (self.world.plan.stranger and row.get("delivered_at") is not None):
                    bought[key] = bought.get(key, 0) + 1
        for key, times in bought.items():
            if times > 1:
                self.found("P3", f"{key} was charged {times} times")

    # --- the end
    def job_states(self) -> dict[str, str]:
        return dict(self._books.execute("SELECT id, state FROM job").fetchall())

    def ends(self) -> list[str]:
        """How each job stands, a parked one with its reason."""
        rows = self._books.execute("SELECT state, parked_reason FROM job").fetchall()
        return [f"parked({reason})" if reason else str(state) for state, reason in rows]

    def open_holds(self) -> bool:
        return any(row["state"] in ("reserved", "signed") for row in self._rows())

    def at_end(self) -> None:
        """Everything was healed, hours have passed: each purchase and each cent has its place."""
        self.after_step()
        ledger = SqliteLedger(self.world.ledger_path, clock=self.world.timeline)
        for finding in ledger.verify():
            self.found(finding.invariant, f"{finding.subject} {finding.text}")
        ledger.close()
        holds = {row["nonce"].lower(): row for row in self._rows() if row["nonce"]}
        self._every_cent(holds)
        self._every_job(holds)
        self._every_difference(holds)
        self._no_secret()

    def _every_cent(self, holds: dict[str, Row]) -> None:
        for nonce, value in self.truth.departed().items():
            hold = holds.get(nonce.lower())
            if hold is None or hold["amount"] != value:
                self.found("P9", f"{value} left the wallet and no hold says so")
            elif hold["state"] not in ("settled", "presumed", "signed"):
                self.found("P9", f"{value} left the wallet and its hold is {hold['state']}")
        for nonce in self.draws:
            hold = holds.get(nonce.lower(), {})
            if self.truth.stands(nonce) and hold.get("state") not in ("settled", "presumed", "signed"):
                self.found("P9", f"a charge stands at the seller and its hold is {hold.get('state')}")
        if self.world.plan.chain != "none":
            for nonce, left in self.left.items():
                if holds[nonce]["state"] in ("signed", "presumed"):
                    self.found(
                        "P3", f"a {left.kind} is still {holds[nonce]['state']} though the chain can tell"
                    )

    def _every_job(self, holds: dict[str, Row]) -> None:
        plan, world = self.world.plan, self.world
        rows = self._books.execute(
            "SELECT id, state, parked_reason, last_error, queue_id, path, file_sha256 FROM job"
        ).fetchall()
        for job_id, state, parked, last_error, queue_id, path, sha256 in rows:
            world.trace.say(world.timeline.at, job_id, f"is {state} {parked or ''} {last_error}")
            if state == "completed":
                there = world.disk.safe(Path(path).name)
                if (
                    there is None
                    or hashlib.sha256(there).hexdigest() != sha256
                    or find_queue_id(there) != queue_id
                ):
                    self.found("P3", f"{job_id} is completed and its file is not there")
                continue
            if state not in (*ENDED_JOBS, "parked"):
                self.found("P3", f"{job_id} is still {state} after everything was healed")
            elif state != "cancelled" and not last_error and not parked:
                self.found("P7", f"{job_id} is {state} and nobody says why")
            mine = [row for row in holds.values() if row["job_id"] == job_id and row["kind"] != "topup"]
            stands = [row for row in mine if self.truth.stands(row["nonce"])]
            if stands and plan.honest and plan.kind == "credit" and state in ENDED_JOBS:
                self.found("P3", f"{job_id} is paid, {state}, and was not delivered: {last_error}")
            seller = world.door.seller
            poor = plan.credit and seller.account(self.wallet).credit < seller.floor and parked == "funds"
            if stands and state == "parked" and parked not in ("human", "time", "unknown") and not poor:
                self.found("P3", f"{job_id} is paid and parked for {parked}: {last_error}")

    def _every_difference(self, holds: dict[str, Row]) -> None:
        """P9: what the seller did beyond the agreement stands in our books or in the last report."""
        last = self.reports[-1].differences if self.reports else ()
        named = {(one.kind, one.subject) for report in self.reports for one in report.differences}
        for nonce, hold in holds.items():
            job = self.truth.job_of(hold["nonce"])
            if job is None or hold["state"] != "settled" or hold["kind"] != "credit":
                continue
            over = max(0, job.charged - hold["amount"])
            if over > 100 and hold["overcharged"] != over:
                self.found("P9", f"an overcharge of {over} is booked as {hold['overcharged']} ({nonce[:8]})")
            if job.refunded and not hold["refunded"]:
                self.found("P9", f"a refund of {int(job.refunded)} is not booked")
        unshown = [
            payment.value
            for (_, nonce), payment in self.world.door.seller.payments.items()
            if not payment.credited and holds.get(nonce, {}).get("state") == "settled"
        ]
        named_missing = [one.amount for one in last if one.kind == "missing top-up"]
        if sorted(unshown) != sorted(named_missing):
            self.found("P9", f"top-ups never credited: {unshown}, the last report names {named_missing}")
        if self.world.plan.credit and not self.world.plan.stranger and self.draws:
            foreign = self.truth.foreign_charges(
                min(row["created_at"] for row in holds.values()),
                frozenset(row["charge_id"] for row in holds.values()),
            )
            told = {subject for kind, subject in named if kind == "unknown charge"}
            if foreign > 100 and not told and not any(kind == "balance" for kind, _ in named):
                self.found("P9", f"another program's charges of {foreign} are in no report")

    def _no_secret(self) -> None:
        """P5: not in what was told, not in the books outside the one table, rows gone when the hold ends."""
        tables = ("hold", "job", "event", "fact", "entry", "payee", "suspension")
        said = "\n".join(self._heard)
        for table in tables:
            said += "\n".join(map(repr, self._books.execute(f"SELECT * FROM {table}").fetchall()))
        for secret in self.secrets:
            if secret in said:
                self.found("P5", "a secret stands outside its table")
        live = "SELECT count(*) FROM secret WHERE hold_id NOT IN (SELECT id FROM hold WHERE state = 'signed')"
        if self._books.execute(live).fetchone()[0]:
            self.found("P5", "a header is kept though its hold ended")

    # --- the tables
    def _rows(self) -> list[Row]:
        return [dict(zip(HOLD_COLUMNS, row, strict=True)) for row in self._books.execute(_HOLDS).fetchall()]

    def _hold_of(self, nonce: str) -> Row | None:
        row = self._books.execute(f"{_HOLDS} WHERE nonce = ? COLLATE NOCASE", (nonce,)).fetchone()
        return dict(zip(HOLD_COLUMNS, row, strict=True)) if row else None


def _may_be_signed(hold: Row) -> bool:
    """A hold that is live, or was freed by its lease before it was ever signed.

    A program that slept between its reservation and its signature cannot know that another freed the hold meanwhile.
    What it signs then is paper nobody can send: `depart` refuses, and the rule of what leaves asks for a signed hold.
    """
    return hold["state"] in ("reserved", "signed") or (hold["state"] == "void" and hold["sends"] == 0)
