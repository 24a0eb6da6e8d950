"""The append-only log: one spelling of an event, and the hash that chains it to the one before.

One chain per wallet ('' for what concerns all). The chain finds damage and foreign edits; as proof it counts only
against a head hash kept elsewhere. Knows no store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from x402_audio.jsontext import write_text
from x402_audio.ledger.book import Event, Finding

TEXT_CHARS_MAX: Final = 1_000


def canonical(
    seq: int, at: float, wallet: str, subject: str, from_: str, to: str, amount: int, why: str, data: str
) -> str:
    """The text that is hashed: a JSON array in column order, as `write_json` spells it."""
    texts = ",".join(map(write_text, (wallet, subject, from_, to)))
    return f"[{seq},{float.__repr__(at)},{texts},{int(amount)},{write_text(why)},{write_text(data)}]"


def link(previous_hash: str, text: str) -> str:
    """sha256 over the previous hash and this event's canonical text, hex."""
    import hashlib  # a list of jobs hashes nothing, and the library behind it is large

    return hashlib.sha256((previous_hash + text).encode("utf-8")).hexdigest()


def hash_of(event: Event) -> str:
    """The hash an event must have by its own words."""
    text = canonical(
        event.seq,
        event.at,
        event.wallet,
        event.subject,
        event.from_,
        event.to,
        event.amount,
        event.why,
        event.data,
    )
    return link(event.previous_hash, text)


def plain(text: str) -> str:
    """Bounded text that any store and hash can take (lone surrogates replaced)."""
    text = text[:TEXT_CHARS_MAX]
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def digest(text: str) -> str:
    """sha256 of a text that must not stand in an event itself, hex."""
    import hashlib

    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def breaks(events: Iterable[Event]) -> Iterator[Finding]:
    """Where the chain, the numbering or the time (I12) is broken; events in order of `seq`."""
    heads: dict[str, str] = {}
    seq, at = 0, 0.0
    for event in events:
        subject = f"event:{event.seq}"
        if event.seq != seq + 1:
            yield Finding("chain", subject, f"event {seq + 1} is missing")
        if event.at < at:
            yield Finding("I12", subject, "ledger time ran back")
        wallet = event.wallet.lower()
        if event.previous_hash != heads.get(wallet, ""):
            yield Finding("chain", subject, "does not follow the event before it")
        if event.hash != hash_of(event):
            yield Finding("chain", subject, "was changed after it was written")
        heads[wallet] = event.hash
        seq, at = event.seq, event.at
