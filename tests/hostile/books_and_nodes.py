"""Readers of what lies on a disk or comes from a node: events of a ledger, keystores, JSON-RPC answers.

The same face as in `readers.py`, bytes in; what they begin with is made by our own books and our own practice chain.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from itertools import cycle
from pathlib import Path
from threading import RLock
from typing import Any, Final

import httpx

from tests.ledger.desk import SteppedClock, counted_random, limit, new_job, top_up, wish
from x402_audio.errors import ChainError
from x402_audio.jsontext import read_json_object
from x402_audio.ledger.book import Event
from x402_audio.ledger.replay import Replay
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc
from x402_audio.payment.chain import ChainReader
from x402_audio.payment.rpc import RpcNode
from x402_audio.protocol.keystore import keystore_address, open_keystore
from x402_audio.protocol.networks import BASE
from x402_audio.sandbox.chain import Chain
from x402_audio.sandbox.rpc import ChainRpc
from x402_audio.sandbox.verify import NETWORKS

WALLET: Final = "0x52908400098527886e0f7030069857d2e4169ee7"
PAYEE: Final = "0x209693bc6afc0c5328ba36faf03c514ef312287c"
NONCE: Final = "0x" + "5a" * 32
NOW: Final = 1_790_000_000.0
ASKED_MAX: Final = 40
WORK_MAX: Final = 4_096


# --- a node
def node(data: bytes) -> object:
    """The lines are a node's answers in turn, over and over; `"id":0` stands for the number that was asked with."""
    answers = cycle(data.split(b"\n")[:ASKED_MAX])
    outcomes: list[object] = []
    for read in (_verdict, _departures, _balance):
        reader = ChainReader(["http://127.0.0.1:1/a-key-in-the-path"], BASE)
        _behind(reader, answers)
        try:
            outcomes.append(read(reader))
        except ChainError as error:
            outcomes.append(str(error))
        finally:
            reader.close()
    assert "a-key" not in str(outcomes)
    return outcomes


def _behind(reader: ChainReader, answers: Iterator[bytes]) -> None:
    asked = 0

    def say(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        if asked > ASKED_MAX:
            raise httpx.ConnectError("enough")
        number = str(json.loads(request.content)["id"]).encode()
        return _answer(next(answers).replace(b'"id":0', b'"id":' + number))

    rpc: RpcNode = reader._rpc[0]
    rpc._http = httpx.Client(transport=httpx.MockTransport(say))


def _verdict(reader: ChainReader) -> object:
    found = reader.authorization(
        WALLET, NONCE, int(NOW) - 600, since=NOW - 900, pay_to=PAYEE, value=Usdc(690_000)
    )
    assert found.state in ("open", "used", "cancelled", "expired")
    return found.state, found.evidence


def _departures(reader: ChainReader) -> object:
    found = reader.departures(WALLET, since=NOW - 900)
    return [(row.nonce, row.payee, row.value, row.transaction, row.block) for row in found.rows]


def _balance(reader: ChainReader) -> object:
    held = reader.usdc_balance(WALLET)
    assert type(held) is Usdc and 0 <= held < 2**256
    return held


def node_seeds() -> tuple[bytes, ...]:
    """What our practice chain answers of an authorization that was used, and of one that was not."""
    return tuple(_recorded(nonce) for nonce in (NONCE, "0x" + "5b" * 32))


def _recorded(nonce: str) -> bytes:
    network = NETWORKS["base"]
    clock = SteppedClock(NOW - 700)
    chain = Chain(network, clock, wallet_usdc=Usdc(20_000_000), pay_to=PAYEE)
    chain.transfer(WALLET, PAYEE, 690_000, nonce)
    clock.at = NOW
    rpc, said = ChainRpc(chain, RLock()), list[bytes]()

    def say(request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content)
        text = rpc.answer(json.dumps({**asked, "id": 0}).encode())
        said.append(json.dumps(json.loads(text), separators=(",", ":")).encode())
        return _answer(said[-1].replace(b'"id":0', f'"id":{asked["id"]}'.encode()))

    for read in (_verdict, _departures, _balance):
        reader = ChainReader(["http://127.0.0.1:1/"], BASE)
        reader._rpc[0]._http = httpx.Client(transport=httpx.MockTransport(say))
        read(reader)
        reader.close()
    return b"\n".join(said)


def _answer(text: bytes) -> httpx.Response:
    return httpx.Response(200, stream=httpx.ByteStream(text))


# --- events
def events(data: bytes) -> object:
    """Each line an event somebody wrote into the table, told as verify tells it."""
    replay = Replay()
    for seq, line in enumerate(data.split(b"\n")[:40], 1):
        with suppress(ValueError):
            row = read_json_object(line)
            texts = [row.get(name, "") for name in ("wallet", "subject", "from_", "to", "why", "data")]
            amount, at = row.get("amount"), row.get("at")
            if all(isinstance(text, str) for text in texts) and type(amount) is int and type(at) is int:
                wallet, subject, from_, to, why, told = map(str, texts)
                replay.feed(
                    Event(seq, float(at), wallet, subject, from_, to, Usdc(amount), why, told, "", "")
                )
    return [(found.invariant, found.text) for found in replay.findings]


@cache
def event_seeds() -> tuple[bytes, ...]:
    """What our own books write of a payment that settles, and of one that is given back."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = SqliteLedger(Path(folder) / "ledger.db", clock=SteppedClock(), random=counted_random())
        paid = ledger.reserve(wish(), [])
        ledger.depart(paid.id, b"header")
        ledger.settle(paid.id, evidence="seen", transaction="0x" + "ab" * 32)
        ledger.refund(paid.id, Usdc(10), charge_id="c", why="back")
        ledger.void(
            ledger.reserve(wish(nonce=NONCE, purchase="two"), []).id, evidence="unsigned", unsigned=True
        )
        ledger.set_limit(limit("wallet", "day", 1000))
        ledger.add_job(new_job())
        ledger.reserve(top_up(), [limit("wallet", "hour", 900)])
        lost = ledger.depart(ledger.reserve(wish(job_id="jingle"), []).id, b"header")
        ledger.presume(lost.id, why="nobody knows")
        ledger.suspend(WALLET, "https://seller.example", "top-ups", "no credit came")
        ledger.freeze("stop")
        rows = [_line(event) for event in ledger.events()]
        ledger.close()
    return tuple("\n".join(rows[first:]).encode() for first in (0, len(rows) // 2, -3))


def _line(event: Event) -> str:
    row: dict[str, Any] = {**asdict(event), "at": int(event.at), "amount": int(event.amount)}
    return json.dumps({name: row[name] for name in row if name not in ("seq", "previous_hash", "hash")})


# --- keys at rest
def keystore(data: bytes) -> object:
    """The address a file names; and where it asks for little work, the key in it."""
    path = _folder() / "key.json"
    path.write_bytes(data)
    path.chmod(0o600)
    named = keystore_address(path)
    return named if _is_costly(data) else open_keystore(path, "a password").address


def _is_costly(data: bytes) -> bool:
    """A second of honest work is no finding: the bound on it has tests of its own."""
    stored = read_json_object(data)
    crypto = stored.get("crypto", stored.get("Crypto"))
    costs = crypto.get("kdfparams") if isinstance(crypto, dict) else None
    wanted = costs.values() if isinstance(costs, dict) else ()
    return any(type(cost) is int and abs(cost) > WORK_MAX for cost in wanted)


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="x402-audio-kept-"))


@cache
def keystore_seeds() -> tuple[bytes, ...]:
    """A key under a password, in both ways of geth, at little cost."""
    from sys import getrecursionlimit, setrecursionlimit

    depth = getrecursionlimit()
    from eth_account import Account

    setrecursionlimit(depth)
    key = bytes.fromhex("5a" * 32)
    return tuple(
        json.dumps(Account.encrypt(key, "a password", kdf=kdf, iterations=2)).encode()
        for kdf in ("scrypt", "pbkdf2")
    )
