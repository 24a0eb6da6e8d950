"""Proof: the events replayed from the first, checked against the invariants, and compared with every table.

A second reading of the books: windows are summed exactly here, not in buckets. Changes nothing.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, Final

from x402_audio.errors import X402AudioError
from x402_audio.jsontext import read_json_object
from x402_audio.ledger import limits as rules
from x402_audio.ledger.approvals import APPROVAL_COLUMNS, SELECT_APPROVAL
from x402_audio.ledger.book import ENDED_JOBS, LIVE, PURSES, Event, Finding, Purse
from x402_audio.ledger.chain_of_events import breaks, digest
from x402_audio.ledger.credit import is_given_back
from x402_audio.ledger.database import View
from x402_audio.ledger.holds import CHANGING, ENVELOPE, SAID_AT_BIRTH, born
from x402_audio.ledger.jobs_book import HASHED, PAID_STATES, UNEVENTED, may_go
from x402_audio.ledger.limits import Facts
from x402_audio.ledger.rows import (
    HOLD_COLUMNS,
    JOB_COLUMNS,
    SELECT_EVENT,
    SELECT_HEADS,
    SELECT_HOLD,
    SELECT_JOB,
    event_from,
)

Fields = dict[str, Any]
Key = tuple[Any, ...]

_DATA_BYTES_MAX: Final = 1 << 22
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_NEXT: Final = {
    "reserved": {"signed", "settled", "void"},
    "signed": {"signed", "settled", "void", "presumed"},
    "presumed": {"presumed", "settled", "void"},
    "settled": {"settled"},
    "void": set[str](),
}
_NEXT_APPROVAL: Final = {
    "": {"wanted"},
    "wanted": {"granted", "dropped"},
    "granted": {"granted", "spent"},
    "spent": set[str](),
    "dropped": set[str](),
}
_TABLES: Final = {
    "limit": ('SELECT purse, scope, "window", amount FROM spending_limit', 3),
    "payee": ("SELECT origin, network, lower(address), state, how FROM payee", 3),
    "suspension": ("SELECT lower(wallet), origin, what, why FROM suspension", 3),
    "freeze": ("SELECT what, why FROM brake", 1),
    "seller": ("SELECT origin, kind FROM seller", 1),
    "owner": ("SELECT one, passphrase_hash, failures, failed_at FROM owner", 1),
    "mark": ('SELECT purse, scope, "window", amount, at FROM mark', 3),
    "sized": ("SELECT id, origin, model, size FROM hold WHERE +size <> ''", 1),
    "reading": (
        "SELECT lower(wallet), origin, balance, diem, books, trust, fallen_by, read_at, minimum_top_up FROM reading",
        2,
    ),
    "entry": ("SELECT hold_id, kind, charge_id, at, amount FROM entry", 3),
}
_USE: Final = "SELECT purse, scope, period, start, amount FROM use"
_TRACKED: Final = "SELECT scope FROM tracked"
_SECRETS: Final = "SELECT hold_id FROM secret"
_NEWEST_WALLET: Final = "SELECT wallet FROM event ORDER BY seq DESC LIMIT 1"
_KEPT_HEADS: Final = "SELECT wallet, hash FROM head"
_INTEGRITY: Final = "PRAGMA integrity_check(1)"


def verify(view: View) -> list[Finding]:
    """Everything that is wrong; an empty list is clean."""
    (sound,) = view.one(_INTEGRITY) or ("no answer",)
    if sound != "ok":
        return [Finding("file", "database", f"SQLite finds it damaged: {sound}")]
    findings = list(breaks(_events(view)))
    replay = Replay()
    for event in _events(view):
        replay.feed(event)
    return findings + replay.findings + list(_compare(view, replay))


class Rolling:
    """Spending within the last `length_s` seconds, exact: amounts with the moments they count at."""

    def __init__(self, length_s: int) -> None:
        self._length_s = length_s
        self._moments: deque[tuple[float, int]] = deque()
        self._total = 0

    def add(self, at: float, amount: int, now: float) -> None:
        if at <= now - self._length_s:
            return
        self._total += amount
        late = bool(self._moments) and self._moments[-1][0] > at
        self._moments.append((at, amount))
        if late:
            self._moments = deque(sorted(self._moments))

    def total(self, now: float) -> int:
        while self._moments and self._moments[0][0] <= now - self._length_s:
            self._total -= self._moments.popleft()[1]
        return self._total


class Replay:
    """The state that the events lead to, and what was wrong on the way."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.holds: dict[str, Fields] = {}
        self.jobs: dict[str, Fields] = {}
        self.approvals: dict[str, Fields] = {}
        self.tables: dict[str, dict[Key, tuple[Any, ...]]] = {name: {} for name in _TABLES}
        self.use: Counter[tuple[str, str, str, int]] = Counter()
        self._rolling: dict[tuple[str, str, str], Rolling] = {}
        self._nonces: set[Key] = set()
        self._of_job: dict[str, list[str]] = {}
        self._topups: dict[str, set[str]] = {}

    def feed(self, event: Event) -> None:
        """Take the next event."""
        kind, _, name = event.subject.partition(":")
        try:
            data = read_json_object(event.data, bytes_max=_DATA_BYTES_MAX)
            if kind == "hold":
                self._hold(event, name, data)
            elif kind == "job":
                self._job(event, name, data)
            elif kind == "approval":
                self._approval(event, name, data)
            else:
                self._row(event, kind, name, data)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, X402AudioError) as error:
            self._found("events", event.subject, f"event {event.seq} makes no sense: {type(error).__name__}")

    # --- holds
    def _hold(self, event: Event, hold_id: str, data: Fields) -> None:
        changed = {name: _number(value) for name, value in data["set"].items()}
        if ENVELOPE in changed:
            changed[ENVELOPE] = _digest_of(str(changed[ENVELOPE]))
        old = self.holds.get(hold_id)
        if event.from_ != ("" if old is None else old["state"]):
            self._found("I5", event.subject, f"event {event.seq} does not start from the state before it")
        if old is None:
            if "id" not in changed and changed.keys() != SAID_AT_BIRTH:
                self._found("I6", event.subject, f"event {event.seq} says more or less than a first event")
            new = born(hold_id, event) | changed  # older events say every column
            self._begin(event, hold_id, {name: new[name] for name in HOLD_COLUMNS})
            self._count(event, None, self.holds[hold_id])
            self._within_limits(event, self.holds[hold_id], data["limits"])
            self._approved(event, self.holds[hold_id], data)
            if data.get("size") and changed["kind"] != "topup":
                self.tables["sized"][hold_id,] = (changed["origin"], changed["model"], data["size"])
            return
        if not changed.keys() <= set(CHANGING) or event.to not in _NEXT[old["state"]]:
            self._found("I5", event.subject, f"event {event.seq} changes what never changes")
        new = old | changed
        if new["state"] != event.to:
            self._found("I5", event.subject, f"event {event.seq} names another state than its data")
        if "entry" in data:
            self._entry(event, hold_id, old, data["entry"])
        self.holds[hold_id] = new
        self._count(event, old, new, event.amount if data.get("entry", [""])[0] == "overcharge" else 0)
        if new["kind"] == "topup" and new["state"] not in LIVE:
            self._topups.get(new["wallet"].lower(), set()).discard(hold_id)

    def _begin(self, event: Event, hold_id: str, new: Fields) -> None:
        begins = ("signed", 1) if new["kind"] == "direct" and new["state"] == "signed" else ("reserved", 0)
        if (new["state"], new["sends"]) != begins or new["id"] != hold_id or event.to != new["state"]:
            self._found("I6", event.subject, "was signed before it was committed")
        authorization = new["kind"] in ("direct", "topup")
        if authorization and not (new["nonce"] and new["pay_to"] and new["valid_before"] and new["amount"]):
            self._found("I6", event.subject, "lacks fields that were signed")
        nonce = (new["network"], new["asset"].lower(), new["wallet"].lower(), new["nonce"].lower())
        if new["nonce"] and nonce in self._nonces:
            self._found("I5", event.subject, "uses a nonce a second time")
        self._nonces.add(nonce)
        if new["kind"] == "topup":
            live = self._topups.setdefault(new["wallet"].lower(), set())
            if live:
                self._found("I4", event.subject, "a second live top-up of the wallet")
            live.add(hold_id)
        elif new["job_id"] is not None:
            if self._blocked(new["job_id"]):
                self._found(
                    "I4", event.subject, "a second payment of a job whose first is not void or refunded"
                )
            self._of_job.setdefault(new["job_id"], []).append(hold_id)
        self.holds[hold_id] = new

    def _blocked(self, job_id: str) -> bool:
        holds = (self.holds[hold_id] for hold_id in self._of_job.get(job_id, ()))
        return any(
            one["state"] in (*LIVE, "presumed")
            or (one["state"] == "settled" and not is_given_back(one["amount"], one["refunded"]))
            for one in holds
        )

    def _entry(self, event: Event, hold_id: str, old: Fields, entry: list[str]) -> None:
        kind, charge_id = entry
        if kind == "refund" and (old["refunded"] or event.amount > old["amount"] + old["overcharged"]):
            self._found("I11", event.subject, "was refunded twice or by more than its charge")
        self.tables["entry"][hold_id, kind, charge_id] = (event.at, int(event.amount))

    def _count(self, event: Event, old: Fields | None, new: Fields, overcharge: int = 0) -> None:
        before = None if old is None else _facts(old)
        after = _facts(new, ((event.at, overcharge),) if overcharge else ())
        scopes = rules.scopes_of(
            origin=new["origin"], pay_to=new["pay_to"], model=new["model"], label=new["label"]
        )
        moments = Counter(dict(_moments(after)))
        if before is not None:
            moments.subtract(dict(_moments(before)))
        for purse in PURSES[new["kind"]]:
            for (period, start), amount in rules.difference(before, after, purse).items():
                for scope in scopes:
                    self.use[purse, scope, period, start] += amount
            for at, amount in moments.items():
                for scope in scopes if amount else ():
                    for window in rules.LENGTH_S:
                        self._window(purse, scope, window).add(at, amount, event.at)

    def _within_limits(self, event: Event, new: Fields, checked: list[list[Any]]) -> None:
        for purse, scope, window, bound, _source in checked:
            if window == "unasked":
                continue
            used = self._used(event.at, new, purse, scope, window)
            if used > bound:
                invariant = "I3" if window in rules.LENGTH_S else "I2"
                self._found(
                    invariant, event.subject, f"{used} in use of {bound}: {purse} per {window}, {scope}"
                )

    def _approved(self, event: Event, new: Fields, data: Fields) -> None:
        """What is above a threshold was paid under an approval of its own."""
        asks = [bound for _, _, window, bound, _ in data["limits"] if window == "unasked"]
        given = self.approvals.get(data.get("approval", ""))
        if given is None:
            if any(new["amount"] > bound for bound in asks):
                self._found("approval", event.subject, "was above the owner's threshold without an approval")
            return
        bound_to = {
            name: given[name] for name in ("job_id", "kind", "network", "environment", "origin", "model")
        }
        if (
            given["state"] != "spent"
            or given["hold_id"] != new["id"]
            or given["amount"] < new["amount"]
            or given["wallet"].lower() != new["wallet"].lower()
            or given["pay_to"].lower() not in ("", new["pay_to"].lower())
            or any(new[name] != value for name, value in bound_to.items())
        ):
            self._found("approval", event.subject, "was paid under an approval of another payment")

    def _approval(self, event: Event, approval_id: str, data: Fields) -> None:
        old = self.approvals.get(approval_id)
        changed = {name: _number(value) for name, value in data["set"].items()}
        new = changed if old is None else old | changed
        before = "" if old is None else old["state"]
        if event.from_ != before or event.to != new["state"] or event.to not in _NEXT_APPROVAL[before]:
            self._found("approval", event.subject, f"event {event.seq} does not follow the approval's state")
        if old is not None and not changed.keys() <= {"state", "expires_at", "hold_id"}:
            self._found("approval", event.subject, f"event {event.seq} changes what never changes")
        if event.to == "spent" and not (old and old["expires_at"] and event.at < old["expires_at"]):
            self._found("approval", event.subject, f"event {event.seq} spends an approval that had expired")
        self.approvals[approval_id] = new

    def _used(self, at: float, new: Fields, purse: Purse, scope: str, window: str) -> int:
        if window == "payment":
            return int(new["amount"])
        if window == "job":
            holds = (
                [new] if new["job_id"] is None else [self.holds[one] for one in self._of_job[new["job_id"]]]
            )
            return sum(
                (0 if one["state"] == "void" else one["amount"]) + one["overcharged"] - one["refunded"]
                for one in holds
            )
        held = self.use[purse, scope, "held", 0]
        if window in rules.LENGTH_S:
            return held + self._window(purse, scope, window).total(at)
        return held + self.use[purse, scope, window, rules.month_start(at) if window == "month" else 0]

    def _window(self, purse: str, scope: str, window: str) -> Rolling:
        key = (purse, scope, window)
        if key not in self._rolling:
            self._rolling[key] = Rolling(rules.LENGTH_S[window])
        return self._rolling[key]

    # --- jobs and the rest
    def _job(self, event: Event, job_id: str, data: Fields) -> None:
        old = self.jobs.get(job_id)
        changed = {name: _number(value) for name, value in data["set"].items()}
        new = changed if old is None else old | changed
        if event.from_ != ("" if old is None else old["state"]) or event.to != new["state"]:
            self._found("jobs", event.subject, f"event {event.seq} does not follow the job's state")
        if old is not None and not self._may_go(old, event.to, job_id):
            self._found("jobs", event.subject, f"cannot go from {old['state']} to {event.to}")
        if event.to in PAID_STATES and not (new["queue_id"] and self._paid(job_id)):
            self._found("I7", event.subject, f"is {event.to} without a settled hold and a queue_id")
        self.jobs[job_id] = new

    def _may_go(self, old: Fields, to: str, job_id: str) -> bool:
        state = old["state"]
        if to == "planned" and state in ENDED_JOBS - {"completed"}:
            return not self._blocked(job_id)
        return to == "queued" or may_go(state, old["resume_state"], to)

    def _paid(self, job_id: str) -> bool:
        return any(self.holds[one]["state"] == "settled" for one in self._of_job.get(job_id, ()))

    def _row(self, event: Event, kind: str, name: str, data: Fields) -> None:
        keys: dict[str, tuple[Key, tuple[Any, ...]]] = {
            "limit": (tuple(data.get("key", ())), (int(event.amount),)),
            "payee": (
                (name, data.get("network"), str(data.get("address", "")).lower()),
                (event.to, event.why),
            ),
            "suspension": ((event.wallet.lower(), name, data.get("what")), (event.why,)),
            "freeze": (("freeze",), (event.why,)),
            "owner": ((1,), self._owner_row(data.get("set", {}))),
            "mark": (tuple(data.get("key", ())), (int(event.amount), event.at)),
            "seller": ((name,), (event.to,)),
            "reading": (
                (event.wallet.lower(), name),
                tuple(_number(one) for one in data.get("set", {}).values()),
            ),
        }
        key, row = keys[kind]
        if event.to:
            self.tables[kind][key] = row
        else:
            del self.tables[kind][key]

    def _owner_row(self, changed: Fields) -> tuple[Any, ...]:
        known = self.tables["owner"].get((1,), ("",))[0]
        return changed.get("hash", known), changed.get("failures"), _number(changed.get("failed_at"))

    def _found(self, invariant: str, subject: str, text: str) -> None:
        self.findings.append(Finding(invariant, subject, text))


def _compare(view: View, replay: Replay) -> Iterator[Finding]:
    yield from _compare_rows("hold", HOLD_COLUMNS, view.all(SELECT_HOLD), replay.holds)
    yield from _compare_rows("job", JOB_COLUMNS, view.all(SELECT_JOB), replay.jobs)
    yield from _compare_rows("approval", APPROVAL_COLUMNS, view.all(SELECT_APPROVAL), replay.approvals)
    for name, (statement, width) in _TABLES.items():
        rows = {row[:width]: row[width:] for row in view.all(statement)}
        if name == "owner":  # an event knows the hash by its digest
            rows = {key: (digest(str(row[0])), *row[1:]) for key, row in rows.items()}
        for key in rows.keys() | replay.tables[name].keys():
            if rows.get(key) != replay.tables[name].get(key):
                yield Finding("I1", f"{name}:{'|'.join(map(str, key))}", "is not what its events say")
    tracked = {scope for (scope,) in view.all(_TRACKED)} | {"all"}
    kept = {row[:4]: row[4] for row in view.all(_USE)}
    due = {key: amount for key, amount in replay.use.items() if key[1] in tracked}
    for counter in kept.keys() | due.keys():
        if kept.get(counter, 0) != due.get(counter, 0):
            yield Finding("I1", f"use:{'|'.join(map(str, counter))}", "is not the sum of its entries")
    yield from _compare_heads(view)
    for (hold_id,) in view.all(_SECRETS):
        if replay.holds.get(hold_id, {}).get("state") != "signed":
            yield Finding("secret", f"hold:{hold_id}", "has a stored header though it is not live")


def _compare_heads(view: View) -> Iterator[Finding]:
    """Where each chain goes on: of the newest event's wallet the event itself says it."""
    ends = {wallet.lower(): end for wallet, end in view.all(SELECT_HEADS)}
    newest = view.one(_NEWEST_WALLET)
    kept = {wallet.lower(): end for wallet, end in view.all(_KEPT_HEADS)}
    for each in (kept.keys() | ends.keys()) - ({newest[0].lower()} if newest else set()):
        if kept.get(each) != ends.get(each):
            yield Finding("chain", f"head:{each}", "is not where its events end")


def _compare_rows(
    kind: str, columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]], replayed: dict[str, Fields]
) -> Iterator[Finding]:
    seen = set[str]()
    for values in rows:
        row = dict(zip(columns, values, strict=True))
        seen.add(row["id"])
        should = replayed.get(row["id"], {})
        wrong = [
            name for name in columns if name not in UNEVENTED and not _same(name, row[name], should.get(name))
        ]
        if wrong:
            yield Finding("I1", f"{kind}:{row['id']}", f"{', '.join(wrong)} not as its events say")
    for missing in replayed.keys() - seen:
        yield Finding("I1", f"{kind}:{missing}", "is gone though its events are there")


def _same(name: str, value: object, should: object) -> bool:
    if name == ENVELOPE:
        return digest(str(value)) == should
    if name in HASHED:
        return (name == "request" and not value) or digest(str(value)) == should
    return value == should


def _facts(row: Fields, overcharges: tuple[tuple[float, int], ...] = ()) -> Facts:
    return Facts(row["state"], row["amount"], row["counted_at"], row["refunded"], overcharges)


def _moments(facts: Facts) -> Iterator[tuple[float, int]]:
    if facts.state in ("settled", "presumed") and facts.counted_at is not None:
        yield facts.counted_at, facts.amount
    yield from facts.overcharges


def _events(view: View) -> Iterator[Event]:
    return map(event_from, view.each(f"{SELECT_EVENT} ORDER BY seq"))


def _digest_of(envelope: str) -> str:
    """An envelope as newer events say it; older ones say its text, a JSON object or nothing."""
    return envelope if _DIGEST.fullmatch(envelope) else digest(envelope)


def _number(value: object) -> object:
    return float(value) if isinstance(value, Decimal) else value
