"""The judge over the books: after every commit, the tables against themselves, the limits, the seller and the chain."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.simulation.case import LIVE, SPENT, Case, Row
from tests.simulation.wire_rules import MAX_PER_PAYMENT
from x402_audio.money import Usdc

FIXED_FIELDS = (
    "kind", "amount", "nonce", "pay_to", "valid_after", "valid_before", "method", "resource", "body_digest", "job_id",
    "purchase",
)  # fmt: skip
MAX_PER_JOB = 1_000_000
PURSES = {"direct": ("jobs", "wallet"), "topup": ("top-ups", "wallet"), "credit": ("jobs", "credit")}
BACK_IN = ("jobs", "credit")
"""Purses a refund comes back to: it returns to the seller's credit, never to the wallet."""
TOLD = (
    "SELECT seq, at, why, data FROM event WHERE seq > ? ORDER BY seq",
    "SELECT * FROM fact", "SELECT * FROM payee", "SELECT * FROM suspension", "SELECT * FROM brake",
    "SELECT * FROM job", "SELECT * FROM hold",
)  # fmt: skip
_LOOSE_SECRETS = (
    "SELECT count(*) FROM secret WHERE hold_id NOT IN (SELECT id FROM hold WHERE state = 'signed')"
)


@dataclass
class BookRules:
    """Looks whenever a commit has changed the file."""

    case: Case
    _version: int = -1
    _seq: int = 0
    _time: float = 0.0
    _moved: int = 0
    _refunds: dict[str, int] = field(default_factory=dict)

    def after_step(self) -> None:
        case = self.case
        (version,) = case.all("PRAGMA data_version")[0]
        moved = len(case.world.door.seller.chain.transfers)
        if version == self._version and moved == self._moved:
            return
        self._version, self._moved = version, moved
        before, case.holds = case.holds, {row["id"]: row for row in case.rows()}
        for hold_id, row in case.holds.items():
            old = before.get(hold_id)
            self._same_fields(old, row)
            if (old or {}).get("state") != row["state"]:
                self._turned(row)
            if old is None:
                self._fits(row)
        nonces = Counter(row["nonce"].lower() for row in case.holds.values() if row["nonce"])
        case.demand("I5", all(times == 1 for times in nonces.values()), "a nonce is used a second time")
        self._totals()
        self._windows()
        self._one_payment_a_job()
        self._paid_jobs()
        self._refunded_once()
        self._bought_once()
        self._moved_and_booked()
        self._events()

    # --- one hold
    def _same_fields(self, old: Row | None, row: Row) -> None:
        if old is not None:
            same = all(old[name] == row[name] for name in FIXED_FIELDS)
            self.case.demand("I5", same, f"the fields of {row['id']} changed")

    def _turned(self, row: Row) -> None:
        """A hold has a new state: what witness could know that?"""
        case, plan = self.case, self.case.world.plan
        nonce = row["nonce"].lower()
        if row["state"] == "void" and row["kind"] == "credit":
            case.demand(
                "witness",
                not case.truth.stands(row["nonce"]),
                "a draw was freed and its charge stands at the seller",
            )
        if nonce not in case.left:
            return
        if row["state"] == "void":
            finality = 0.0 if case.world.healed else plan.finality_s
            dead_since = case.world.timeline.at - finality
            case.demand("witness", not case.truth.used(nonce), "a hold was freed and its money had moved")
            case.demand(
                "witness", plan.chain != "none", "an authorization was freed and no chain could say so"
            )
            case.demand(
                "P2",
                dead_since >= row["valid_before"],
                "an authorization was freed before a finalized block could say so",
            )
        if row["state"] == "settled" and not plan.lie:
            case.demand("witness", case.truth.used(nonce), "a hold was settled and no money had moved")

    def _fits(self, new: Row) -> None:
        """I2 at the moment of the reservation: later an overcharge, the seller's act, may pass a limit."""
        case = self.case
        if new["kind"] == "topup":
            case.demand("I2", new["amount"] <= case.most_top_up, f"a top-up of {new['amount']} was reserved")
        else:
            case.demand("I2", new["amount"] <= MAX_PER_PAYMENT, f"a payment of {new['amount']} was reserved")
        if new["job_id"] and new["kind"] != "topup":
            job = sum(
                (0 if row["state"] == "void" else row["amount"]) + row["overcharged"] - row["refunded"]
                for row in case.holds.values()
                if row["job_id"] == new["job_id"] and row["kind"] != "topup"
            )
            case.demand("I2", job <= MAX_PER_JOB, f"{job} for the job {new['job_id']}")
        if case.world.plan.max_total and new["kind"] != "credit":
            ever = sum(
                row["amount"]
                for row in case.holds.values()
                if row["kind"] != "credit" and row["state"] in (*LIVE, *SPENT)
            )
            most = int(Usdc.parse_usd(case.world.plan.max_total))
            case.demand("I2", ever <= most, f"{ever} left or may leave the wallet, {most} is allowed")

    # --- all of them
    def _totals(self) -> None:
        """The counters, summed over their buckets, against the holds; a refund is in no window."""
        case = self.case
        must: Counter[tuple[str, str]] = Counter()
        for row in case.holds.values():
            for purse in PURSES[row["kind"]]:
                if row["state"] in LIVE:
                    must[purse, "held"] += row["amount"]
                spent = row["overcharged"] + (row["amount"] if row["state"] in SPENT else 0)
                must[purse, "ever"] += spent - (row["refunded"] if purse in BACK_IN else 0)
                for window in ("hour", "day", "month"):
                    must[purse, window] += spent
        kept = case.all(
            "SELECT purse, period, sum(amount) FROM use WHERE scope = 'all' GROUP BY purse, period"
        )
        found = Counter({(purse, period): amount for purse, period, amount in kept})
        for key in must.keys() | found.keys():
            refund = (
                key[1] != "ever"
                and found[key] < must[key]
                and any(r["refunded"] for r in case.holds.values())
            )
            case.demand(
                "I11" if refund else "I1",
                found[key] == must[key],
                f"{key} is {found[key]} and must be {must[key]}",
            )

    def _windows(self) -> None:
        """What is at risk and what was spent within an hour, and top-ups within a day, by ledger time.

        A window is the ledger's: a machine whose clock is put right moves it by the error, as it moves everything.
        """
        case = self.case
        now = case.all("SELECT coalesce(max(at), 0) FROM event")[0][0]
        hour = day = 0
        for row in case.holds.values():
            spent_at = row["counted_at"] if row["state"] in SPENT else None
            length = 86_400 if row["kind"] == "topup" else 3600
            if row["state"] in LIVE or (spent_at is not None and spent_at > now - length):
                day += row["amount"] if row["kind"] == "topup" else 0
                hour += row["amount"] if row["kind"] != "topup" else 0
        for rule in ("I3", "P1"):
            case.demand(
                rule, hour <= case.most_an_hour, f"{hour} at risk or spent in an hour of {case.most_an_hour}"
            )
            case.demand(
                rule,
                day <= case.most_top_ups_a_day,
                f"top-ups of {day} in a day of {case.most_top_ups_a_day}",
            )

    def _one_payment_a_job(self) -> None:
        paying: Counter[str] = Counter()
        topping = 0
        for row in self.case.holds.values():
            blocks = row["state"] in (*LIVE, "presumed") or (
                row["state"] == "settled" and row["refunded"] < row["amount"]
            )
            if row["kind"] == "topup":
                topping += row["state"] in LIVE
            elif blocks and row["job_id"]:
                paying[row["job_id"]] += 1
        for job_id, times in paying.items():
            self.case.demand("I4", times == 1, f"{times} paying holds of {job_id}")
        self.case.demand("I4", topping <= 1, "two live top-ups of the wallet")

    def _paid_jobs(self) -> None:
        paid = {
            row["job_id"]
            for row in self.case.holds.values()
            if row["kind"] != "topup" and (row["state"] in SPENT or row["delivered_at"] is not None)
        }
        for job_id, state, queue_id in self.case.all("SELECT id, state, queue_id FROM job"):
            if state in ("queued", "ready", "saved", "completed"):
                self.case.demand(
                    "I7", queue_id and job_id in paid, f"{job_id} is {state} and nothing pays for it"
                )

    def _refunded_once(self) -> None:
        entries = Counter(row[0] for row in self.case.all("SELECT hold_id FROM entry WHERE kind = 'refund'"))
        for row in self.case.holds.values():
            given = row["refunded"]
            self.case.demand(
                "I11", given <= row["amount"] + row["overcharged"], f"{given} came back of {row['amount']}"
            )
            self.case.demand("I11", entries[row["id"]] == bool(given), f"{row['id']} was refunded twice")
            before = self._refunds.setdefault(row["id"], given) or given
            self.case.demand("I11", given == before, f"the refund of {row['id']} changed")
            self._refunds[row["id"]] = given

    def _bought_once(self) -> None:
        """The seller never has two charged jobs of one purchase."""
        case = self.case
        bought: Counter[str] = Counter()
        by_nonce = {row["nonce"]: row for row in case.holds.values()}
        for nonce, key in case.draws.items():
            if case.truth.job_of(nonce) is not None and case.truth.stands(nonce):
                delivered = by_nonce.get(nonce, {}).get("delivered_at") is not None
                bought[key] += not (case.world.plan.stranger and delivered)
        for key, times in bought.items():
            case.demand("P3", times <= 1, f"{key} was charged {times} times")

    def _moved_and_booked(self) -> None:
        """Whatever moved on chain stands in a hold of that amount which nobody believes unused."""
        booked = {row["nonce"].lower(): row for row in self.case.holds.values()}
        for nonce, value in self.case.truth.departed().items():
            row = booked.get(nonce.lower(), {})
            right = row.get("amount") == value and row.get("state") in ("signed", *SPENT)
            self.case.demand("P9", right, f"{value} left the wallet and its hold is {row.get('state')}")

    def _events(self) -> None:
        """What was just written: in order of time, and without a secret anywhere."""
        case = self.case
        new = case.all(TOLD[0], (self._seq,))
        for seq, at, _, _ in new:
            case.demand("I12", at >= self._time, f"event {seq} is older than the one before")
            self._seq, self._time = seq, at
        said = "\n".join(map(repr, [new, *(case.all(statement) for statement in TOLD[1:])]))
        case.demand(
            "P5", not any(secret in said for secret in case.secrets), "a secret stands outside its table"
        )
        case.demand("P5", not case.all(_LOOSE_SECRETS)[0][0], "a header is kept though its hold ended")
