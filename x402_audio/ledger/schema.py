"""The tables of the SQLite ledger as SQL text. Knows no rule of money: only shapes, keys and what may never change.

Amounts are INTEGER atomic units, times REAL Unix seconds of ledger time. Addresses and nonces compare without case.

How to change the tables: TABLES is version 1 and stays as it is; add the next number to MIGRATIONS with the SQL that
leads there from the version before (`2: "CREATE TABLE approval (...) WITHOUT ROWID;"`). New ledgers run the same steps
as old ones, so there is one path only. A step is SQL alone and writes no event. A new table whose rows `verify` shall
prove wants a line in `replay._TABLES`; a new column of `hold` or `job` wants a default there for events that are older.
What a released version holds is never edited. See `migration.py` for how the steps are taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

APPLICATION_ID: Final = 0x78343032
"""`x402`, in the file's header."""

TABLES: Final = """
CREATE TABLE hold (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('direct', 'topup', 'credit', 'account')),
    state TEXT NOT NULL CHECK (state IN ('reserved', 'signed', 'settled', 'void', 'presumed')),
    wallet TEXT NOT NULL COLLATE NOCASE,
    network TEXT NOT NULL,
    asset TEXT NOT NULL COLLATE NOCASE,
    environment TEXT NOT NULL,
    origin TEXT NOT NULL,
    pay_to TEXT NOT NULL COLLATE NOCASE,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    nonce TEXT NOT NULL COLLATE NOCASE,
    valid_after INTEGER NOT NULL,
    valid_before INTEGER NOT NULL,
    method TEXT NOT NULL,
    resource TEXT NOT NULL,
    body_digest TEXT NOT NULL,
    purchase TEXT NOT NULL,
    envelope TEXT NOT NULL,
    job_id TEXT,
    model TEXT NOT NULL,
    label TEXT NOT NULL,
    sends INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL,
    sent_at REAL,
    delivered_at REAL,
    resolved_at REAL,
    "transaction" TEXT NOT NULL DEFAULT '',
    charge_id TEXT NOT NULL DEFAULT '',
    evidence TEXT NOT NULL DEFAULT '',
    refunded INTEGER NOT NULL DEFAULT 0 CHECK (refunded >= 0),
    overcharged INTEGER NOT NULL DEFAULT 0 CHECK (overcharged >= 0),
    late_charge INTEGER NOT NULL DEFAULT 0,
    counted_at REAL,
    lease_until REAL
);
CREATE UNIQUE INDEX hold_nonce ON hold (network, asset, wallet, nonce) WHERE nonce <> '';
CREATE UNIQUE INDEX hold_live_job ON hold (job_id)
    WHERE state IN ('reserved', 'signed') AND kind <> 'topup' AND job_id IS NOT NULL;
CREATE UNIQUE INDEX hold_live_topup ON hold (wallet) WHERE state IN ('reserved', 'signed') AND kind = 'topup';
CREATE UNIQUE INDEX hold_open_purchase ON hold (wallet, purchase)
    WHERE state IN ('reserved', 'signed') AND delivered_at IS NULL;
CREATE INDEX hold_job ON hold (job_id, created_at) WHERE job_id IS NOT NULL;
CREATE INDEX hold_state ON hold (state, created_at);
CREATE INDEX hold_wallet ON hold (wallet, created_at);
CREATE INDEX hold_undecided_draw ON hold (wallet, origin)
    WHERE kind = 'credit' AND state IN ('reserved', 'signed', 'presumed');
CREATE INDEX hold_draw ON hold (wallet, origin, resolved_at) WHERE kind = 'credit' AND state = 'settled';
CREATE INDEX hold_credited ON hold (wallet, origin, resolved_at) WHERE kind = 'topup' AND state = 'settled';
CREATE INDEX hold_payee ON hold (origin, pay_to, state) WHERE pay_to <> '';
CREATE TRIGGER hold_fields_never_change BEFORE UPDATE OF id, kind, wallet, network, asset, environment, origin, pay_to,
    amount, nonce, valid_after, valid_before, method, resource, body_digest, purchase, job_id, model, label, created_at,
    late_charge ON hold
BEGIN SELECT RAISE(ABORT, 'the fields of a hold never change'); END;
CREATE TRIGGER hold_never_goes BEFORE DELETE ON hold
BEGIN SELECT RAISE(ABORT, 'a hold is never deleted'); END;

CREATE TABLE entry (
    hold_id TEXT NOT NULL REFERENCES hold (id),
    kind TEXT NOT NULL CHECK (kind IN ('refund', 'overcharge')),
    charge_id TEXT NOT NULL,
    at REAL NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    PRIMARY KEY (hold_id, kind, charge_id)
) WITHOUT ROWID;
CREATE UNIQUE INDEX entry_one_refund ON entry (hold_id) WHERE kind = 'refund';

CREATE TABLE secret (hold_id TEXT PRIMARY KEY REFERENCES hold (id), bytes BLOB NOT NULL) WITHOUT ROWID;

CREATE TABLE use (
    purse TEXT NOT NULL,
    scope TEXT NOT NULL,
    period TEXT NOT NULL,
    start INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (purse, scope, period, start)
) WITHOUT ROWID;
CREATE TABLE tracked (scope TEXT PRIMARY KEY) WITHOUT ROWID;
INSERT INTO tracked VALUES ('all');
CREATE TABLE spending_limit (
    purse TEXT NOT NULL,
    scope TEXT NOT NULL,
    "window" TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (purse, scope, "window")
) WITHOUT ROWID;

CREATE TABLE job (
    id TEXT PRIMARY KEY,
    digest TEXT NOT NULL,
    wallet TEXT NOT NULL COLLATE NOCASE,
    network TEXT NOT NULL,
    environment TEXT NOT NULL,
    label TEXT NOT NULL,
    provider TEXT NOT NULL,
    api_url TEXT NOT NULL,
    origin TEXT NOT NULL,
    model TEXT NOT NULL,
    request TEXT NOT NULL,
    options TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'planned',
    parked_reason TEXT,
    resume_state TEXT,
    queue_id TEXT NOT NULL DEFAULT '',
    price INTEGER,
    missing INTEGER,
    due REAL NOT NULL,
    deadline REAL NOT NULL,
    epoch INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 1,
    last_error TEXT NOT NULL DEFAULT '',
    content_type TEXT NOT NULL DEFAULT '',
    file_sha256 TEXT NOT NULL DEFAULT '',
    file_bytes INTEGER NOT NULL DEFAULT 0,
    path TEXT NOT NULL DEFAULT '',
    refunded TEXT NOT NULL DEFAULT '',
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    queued_at REAL,
    owner TEXT NOT NULL DEFAULT '',
    lease_until REAL NOT NULL DEFAULT 0,
    lease_s REAL NOT NULL DEFAULT 0
);
CREATE INDEX job_unfinished ON job (created_at)
    WHERE state NOT IN ('completed', 'failed', 'cancelled', 'expired');
CREATE INDEX job_state ON job (state, created_at);
CREATE INDEX job_wallet ON job (wallet, created_at);
CREATE INDEX job_digest ON job (digest, created_at);

CREATE TABLE reading (
    wallet TEXT NOT NULL COLLATE NOCASE,
    origin TEXT NOT NULL,
    balance INTEGER NOT NULL,
    diem INTEGER,
    books INTEGER NOT NULL,
    trust TEXT NOT NULL,
    fallen_by INTEGER NOT NULL,
    read_at REAL NOT NULL,
    minimum_top_up INTEGER NOT NULL,
    PRIMARY KEY (wallet, origin)
) WITHOUT ROWID;
CREATE TABLE payee (
    origin TEXT NOT NULL,
    network TEXT NOT NULL,
    address TEXT NOT NULL COLLATE NOCASE,
    state TEXT NOT NULL CHECK (state IN ('provisional', 'pinned', 'allowed', 'any')),
    how TEXT NOT NULL,
    PRIMARY KEY (origin, network, address)
) WITHOUT ROWID;
CREATE TABLE suspension (
    wallet TEXT NOT NULL COLLATE NOCASE,
    origin TEXT NOT NULL,
    what TEXT NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (wallet, origin, what)
) WITHOUT ROWID;
CREATE TABLE brake (what TEXT PRIMARY KEY, why TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE seller (origin TEXT PRIMARY KEY, kind TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE fact (key TEXT PRIMARY KEY, value TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID;

CREATE TABLE event (
    seq INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    wallet TEXT NOT NULL COLLATE NOCASE,
    subject TEXT NOT NULL,
    "from" TEXT NOT NULL,
    "to" TEXT NOT NULL,
    amount INTEGER NOT NULL,
    why TEXT NOT NULL,
    data TEXT NOT NULL,
    previous_hash TEXT NOT NULL,
    hash TEXT NOT NULL
);
CREATE INDEX event_wallet ON event (wallet, seq);
CREATE INDEX event_subject ON event (subject, seq);
CREATE TRIGGER event_never_changes BEFORE UPDATE ON event
BEGIN SELECT RAISE(ABORT, 'an event never changes'); END;
CREATE TRIGGER event_never_goes BEFORE DELETE ON event
BEGIN SELECT RAISE(ABORT, 'an event is never deleted'); END;
"""

_OWNERS_CONTROLS: Final = """
CREATE TABLE owner (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    passphrase_hash TEXT NOT NULL,
    failures INTEGER NOT NULL,
    failed_at REAL NOT NULL
);
CREATE TABLE approval (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('wanted', 'granted', 'spent', 'dropped')),
    purchase TEXT NOT NULL,
    job_id TEXT,
    kind TEXT NOT NULL,
    purse TEXT NOT NULL,
    wallet TEXT NOT NULL COLLATE NOCASE,
    network TEXT NOT NULL,
    environment TEXT NOT NULL,
    origin TEXT NOT NULL,
    pay_to TEXT NOT NULL COLLATE NOCASE,
    request_digest TEXT NOT NULL,
    model TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    why TEXT NOT NULL,
    wanted_at REAL NOT NULL,
    expires_at REAL,
    hold_id TEXT REFERENCES hold (id) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX approval_open ON approval (purchase, state);
CREATE INDEX approval_state ON approval (state, wanted_at);
CREATE UNIQUE INDEX approval_hold ON approval (hold_id) WHERE hold_id IS NOT NULL;
CREATE TABLE sized (
    hold_id TEXT PRIMARY KEY REFERENCES hold (id),
    origin TEXT NOT NULL,
    model TEXT NOT NULL,
    size TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX sized_alike ON sized (origin, model, size);
CREATE INDEX hold_unanswered ON hold (wallet, purchase) WHERE delivered_at IS NULL AND state <> 'void';
CREATE INDEX hold_named ON hold (wallet, purchase) WHERE purchase >= 'named:' AND purchase < 'named;';
CREATE TABLE mark (
    purse TEXT NOT NULL,
    scope TEXT NOT NULL,
    "window" TEXT NOT NULL,
    amount INTEGER NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (purse, scope, "window")
) WITHOUT ROWID;
"""

_DIET: Final = """
ALTER TABLE hold ADD COLUMN size TEXT NOT NULL DEFAULT '';
UPDATE hold SET size = (SELECT sized.size FROM sized WHERE sized.hold_id = hold.id)
    WHERE id IN (SELECT hold_id FROM sized);
DROP TABLE sized;
DROP TRIGGER hold_fields_never_change;
CREATE TRIGGER hold_fields_never_change BEFORE UPDATE OF id, kind, wallet, network, asset, environment, origin, pay_to,
    amount, nonce, valid_after, valid_before, method, resource, body_digest, purchase, job_id, model, label, created_at,
    late_charge, size ON hold
BEGIN SELECT RAISE(ABORT, 'the fields of a hold never change'); END;
CREATE INDEX hold_price ON hold (origin, model, size, environment,
    CAST(coalesce(counted_at, delivered_at) / 432000 AS INTEGER), amount, coalesce(counted_at, delivered_at))
    WHERE size <> '' AND amount > 0 AND refunded = 0
    AND (state = 'settled' OR (state = 'signed' AND delivered_at IS NOT NULL));
DROP INDEX hold_state;
CREATE INDEX hold_doubtful ON hold (state)
    WHERE state = 'presumed' OR (state = 'signed' AND delivered_at IS NOT NULL);
DROP INDEX hold_wallet;
DROP INDEX hold_payee;
CREATE INDEX hold_payee ON hold (origin, pay_to) WHERE pay_to <> '';
DROP INDEX hold_unanswered;
CREATE INDEX hold_unanswered ON hold (wallet, purchase)
    WHERE delivered_at IS NULL AND state IN ('settled', 'presumed');
DROP INDEX hold_named;
CREATE INDEX hold_named ON hold (wallet, purchase) WHERE substr(purchase, 1, 6) = 'named:';
DROP INDEX job_unfinished;
CREATE INDEX job_unfinished ON job (created_at, digest)
    WHERE state NOT IN ('completed', 'failed', 'cancelled', 'expired');
CREATE INDEX job_queued ON job (wallet, due) WHERE state = 'queued';
DROP INDEX job_state;
DROP INDEX job_wallet;
DROP INDEX job_digest;
DROP INDEX event_subject;
CREATE INDEX event_reading ON event (subject, seq) WHERE substr(subject, 1, 8) = 'reading:';
"""
"""Fewer pages to write with every payment: an index is kept only for what is asked often, or in a reserving transaction.

What is undecided is found through `hold_open_purchase` and `hold_doubtful`, and rows come in order of time by their rowid:
nothing of the books is deleted, and ledger time never runs back.
"""

_SHORT_LOOKS: Final = """
CREATE INDEX hold_shown ON hold (wallet, origin, delivered_at) WHERE kind = 'topup' AND state = 'settled';
CREATE INDEX job_ended ON job (wallet, origin, updated_at)
    WHERE state IN ('completed', 'failed', 'expired') AND queued_at IS NOT NULL;
DROP INDEX hold_payee;
"""
"""Two looks that grew with the past: top-ups by when their credit showed, jobs by when they ended. Only a top-up and a
job's end write them; no payment does. Who else stands on a provisional pin is undecided, and found as such.
"""

_HEADS: Final = """
CREATE TABLE head (wallet TEXT PRIMARY KEY COLLATE NOCASE, hash TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO head SELECT wallet, hash FROM event WHERE seq IN (SELECT max(seq) FROM event GROUP BY wallet);
DROP INDEX event_wallet;
"""
"""Where each wallet's chain goes on, written when another wallet's event comes: one wallet's payments write no page for it.
The row of the newest event's wallet is old.
"""

MIGRATIONS: Final[Mapping[int, str]] = {2: _OWNERS_CONTROLS, 3: _DIET, 4: _SHORT_LOOKS, 5: _HEADS}
"""The steps after version 1, each a script of whole statements, by the version it leads to."""
SCHEMA_VERSION: Final = max(MIGRATIONS, default=1)
"""What this program reads and writes; in the file's header as `user_version`."""


def create_script() -> str:
    """A new ledger, made as an old one is brought forward: version 1 and every step after it, in one transaction."""
    return f"""
BEGIN IMMEDIATE;
PRAGMA application_id = {APPLICATION_ID};
{TABLES}
{"".join(MIGRATIONS[number] for number in range(2, SCHEMA_VERSION + 1))}
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""
