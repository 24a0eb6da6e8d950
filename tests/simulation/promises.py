"""Every rule the judge can name: the invariants of the books (I), the promises to people (P), and what holds them up.

Only words. A rule that is not named here cannot be reported; the tests demand that each was looked at in their worlds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

RULES: Final[Mapping[str, str]] = {
    "I1": "totals equal the sums of their entries",
    "I2": "what is live, settled or presumed fits every limit when it is reserved",
    "I3": "in every rolling window what is live, however old, and what was settled fits the limit",
    "I4": "at most one live paying hold per job; a second only after the first is void or given back",
    "I5": "the fields of a signed hold never change, and a nonce is never used twice",
    "I6": "nothing is signed and nothing leaves without a committed hold of the very same fields",
    "I7": "a queued job has its queue_id and a hold that pays for it, written together",
    "I8": "the seller is told to delete only what is durable here",
    "I9": "nothing is sent, signed or waited for inside a transaction",
    "I10": "one lock order: no transaction inside another, no turn or place taken inside one",
    "I11": "a refund lowers its job's total once, at most by its charge, and never a window",
    "I12": "ledger time never runs back",
    "P1": "what left and has moved or still may is within the limits",
    "P2": "one purchase, one authorization: the same bytes for the same request, a new one only when the old is dead",
    "P3": "nothing paid is lost or paid twice, and every job ends",
    "P4": "only our network, USDC, domain, payee, amount and validity are signed, and only for the two paid routes",
    "P5": "no secret outside its table, and none kept when its hold ends",
    "P6": "the file that was saved is the one that was bought, whole",
    "P7": "every refusal is one line that says whether money moved, whose turn it is and what to do",
    "P8": "only the configured host is dialled",
    "P9": "every difference between books, seller and chain is booked or named",
    "witness": "nothing frees or settles a hold but who can know: the chain, the first answer, the seller's rows",
    "top-ups": "a top-up that cured nothing stops all others",
}
