"""Whatever a stranger writes, every reader keeps its promises (`readers.py`): typed, bounded, exact, and no secret back."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.books import books
from tests.hostile.readers import BUILT_IN, NOW, TARGETS, Target, answer, demand, offer
from tests.ledger.desk import SteppedClock, counted_random, limit, wish
from x402_audio.errors import SignerError, X402AudioError
from x402_audio.jsontext import Json, read_json
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import Usdc
from x402_audio.protocol import base64text
from x402_audio.protocol.echo import echo_json
from x402_audio.protocol.keystore import open_keystore
from x402_audio.protocol.payload import read_settlement
from x402_audio.protocol.requirements import read_payment_required
from x402_audio.providers.answers import retry_after_seconds, said, seller_error
from x402_audio.providers.catalog import ModelSpec
from x402_audio.providers.prices import read_pricing, write_pricing
from x402_audio.providers.venice import Venice
from x402_audio.reports import InspectReport
from x402_audio.settings import check_url

QUICK = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
SECRET = "eyJ4NDAyVmVyc2lvbiI6MiwicGF5bG9hZCI6eyJzaWduYXR1cmUiOiIweGFiY2RlZjAxMjM0NTY3ODkifX0"
TEXTS = st.sampled_from((
    "", " ", "\x1b[2J", "\u202e", "\n\nforged: line", "x" * 300, "é" * 200, "\ud800", "0x" + "0" * 40, "NaN", "-0", "1e309", SECRET,
    "../../etc/passwd", "<script>", "eip155:8453", "base", "exact", "QUEUED", "X402_SIGN_IN_EXPIRED", "insufficient_balance",
))  # fmt: skip
NUMBERS = st.sampled_from((
    0, -1, 1, 10**12, 2**256, 10**99, -(10**20), Decimal("6.6e-7"), Decimal("-0.0000066"), Decimal("1e400"), Decimal("1e-400"),
    Decimal("0.69000000000000000000000000000000000001"), Decimal("99999999999.9999999"),
))  # fmt: skip
NODES = st.one_of(
    TEXTS, NUMBERS, st.none(), st.booleans(), st.sampled_from(("[]", "{}", "[[[]]]")).map(json.loads)
)


@st.composite
def twisted(draw: st.DrawFn, target: Target) -> bytes:
    """A good answer with one to three of its members made strange; else bytes of it changed; else rubbish."""
    seed = draw(st.sampled_from(target.seeds))
    match draw(st.integers(0, 3)):
        case 0:
            return draw(st.one_of(st.binary(max_size=200), st.sampled_from(BUILT_IN)))
        case 1:
            place, count = draw(st.integers(0, max(0, len(seed) - 1))), draw(st.integers(0, 5))
            return seed[:place] + draw(st.binary(max_size=5)) + seed[place + count :]
    head, separator, body = seed.rpartition(b"\n\n")
    try:
        value: Any = json.loads(body, parse_float=Decimal)
    except ValueError:
        return seed
    for _ in range(draw(st.integers(1, 3))):
        value = _changed(draw, value)
    try:
        return head + separator + echo_json(value).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError):
        return seed


def _changed(draw: st.DrawFn, value: Any) -> Any:
    """The same JSON with one of its nodes replaced, left out, or one more put in."""
    nodes = list(_containers(value))
    if not nodes:
        return draw(NODES)
    node = draw(st.sampled_from(nodes))
    keys: list[Any] = list(node) if isinstance(node, dict) else list(range(len(node)))
    if not keys:
        return draw(NODES)
    key = draw(st.sampled_from(keys))
    if draw(st.integers(0, 4)) == 0 and isinstance(node, dict):
        del node[key]
    else:
        node[key] = draw(NODES)
    return value


def _containers(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from _containers(item)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_well_formed_is_read(name: str) -> None:
    """The seeds of each reader reach into it: at least one of them is accepted."""
    target = TARGETS[name]
    read = [target.try_out(seed) for seed in target.seeds]
    assert not all(isinstance(result, X402AudioError) for result in read)


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "track"])
def test_nothing_a_stranger_writes_breaks_a_reader(name: str) -> None:
    target = TARGETS[name]

    @QUICK
    @given(data=twisted(target))
    def hold(data: bytes) -> None:
        target.try_out(data)

    hold()


ODD = (
    "{}",
    "[]",
    '[{"a":[1]}]',
    "null",
    "true",
    "-1",
    "1e400",
    "0.5",
    "123456789012345678901234567890",
    '"\\u001b[2J"',
    '"x"',
    '""',
)


def _each_made_odd(body: bytes) -> Iterator[bytes]:
    """The same JSON as often as it has members (of the first sixty), each time one of them is something else."""
    for number in range(60):
        for odd in ODD:
            value: Any = json.loads(body, parse_float=Decimal)
            places = [
                (node, key)
                for node in _containers(value)
                for key in (list(node) if isinstance(node, dict) else range(len(node)))
            ]
            if number >= len(places):
                return
            node, key = places[number]
            node[key] = json.loads(odd, parse_float=Decimal)
            yield echo_json(value).encode()


@pytest.mark.parametrize("name", TARGETS)
def test_every_member_of_an_answer_may_be_anything(name: str) -> None:
    target = TARGETS[name]
    for seed in target.seeds[:2]:
        head, separator, body = seed.rpartition(b"\n\n")
        if body[:1] == b"{" and b"\n" not in body and len(body) < 6_000:
            for changed in _each_made_odd(body):
                target.try_out(head + separator + changed)


@settings(QUICK, max_examples=15)
@given(data=st.data())
def test_a_damaged_track_is_refused_by_a_typed_error(data: st.DataObject) -> None:
    target = TARGETS["track"]
    good = bytearray(data.draw(st.sampled_from(target.seeds)))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, min(len(good), 600) - 1))] = data.draw(st.integers(0, 255))
    target.try_out(bytes(good[: data.draw(st.integers(0, len(good)))]))


# --- what was found, each once
def test_a_figure_is_rounded_against_us_however_many_digits_it_has() -> None:
    tail = "0" * 40 + "1"
    assert Usdc.charge(Decimal(f"0.69{tail}")) == 690_001
    assert Usdc.credit(Decimal("0." + "9" * 60)) == 999_999
    assert Usdc.charge(Decimal("1e-760669514851080190")) == 1
    assert Usdc.credit(Decimal("-1e-760669514851080190")) == -1


def test_a_price_list_is_the_same_after_the_cache() -> None:
    """A figure longer than the cache reads, and two tiers with one end, were lost on the way."""
    tier: dict[str, Json] = {"min_seconds": 3, "max_seconds": 60, "usd": Decimal("0.69")}
    twice = read_pricing(
        {
            "durations": {
                "a": tier,
                "b": {**tier, "min_seconds": 61, "max_seconds": 61},
                "c": {**tier, "min_seconds": 1},
            }
        }
    )
    assert twice is not None and read_pricing(write_pricing(twice)) == twice
    assert read_pricing({"generation": {"usd": Decimal("0." + "1" * 60)}}) is None


def test_a_damaged_head_of_a_track_is_no_fault_of_ours() -> None:
    """The library asserts that as many frames come as the head promises; a head may promise anything."""
    wav = bytearray(TARGETS["track"].seeds[1])
    cut = bytes(wav[: len(wav) // 2])
    assert isinstance(TARGETS["track"].try_out(cut), X402AudioError)
    mp3 = TARGETS["track"].seeds[0]
    assert isinstance(TARGETS["track"].try_out(mp3[: len(mp3) // 3]), X402AudioError)


def test_an_error_body_is_not_written_out_many_times() -> None:
    """A long name above ten thousand leaves: only what is shown may be made."""
    name, leaves = "n" * 30_000, ["" for _ in range(6_000)]
    tracemalloc.start()
    words = said(answer(b"400\n\n" + json.dumps({"error": "no", "details": {name: leaves}}).encode()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(words.text) <= 160 and peak < 8 << 20


@pytest.mark.parametrize(
    "text",
    [
        "[" * 60_000,
        '{"a":' * 10_000,
        "[" * 32 + "1e9999999999999999999" + "]" * 32,
        '"' + "\\u0041" * 10_900 + '"',
    ],
)
def test_json_made_to_hurt_is_refused_or_read_at_once(text: str) -> None:
    began = time.process_time()
    with suppress(ValueError):
        read_json(text)
    assert time.process_time() - began < 2


def test_a_flood_of_brackets_costs_bounded_memory() -> None:
    text = b'{"data":[' + b"[]," * 100_000 + b"[]]}"
    tracemalloc.start()
    try:
        Venice().read_models(answer(b"200\n\n" + text))
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 32 << 20


# --- no secret comes back
def _say(place: str) -> str:
    """What our errors and records say when a seller echoes a secret in this place."""
    settled = {
        "success": False,
        "transaction": SECRET,
        "network": SECRET,
        "payer": SECRET,
        "errorReason": f"bad header {SECRET}",
    }
    bodies: dict[str, Any] = {
        "error": {"error": f"cannot read {SECRET}"}, "message": {"error": {"message": SECRET, "code": SECRET}},
        "details": {"error": "no", "details": {"header": {"_errors": [SECRET]}}}, "issues": {"error": "no", "issues": [{"message": SECRET, "path": [SECRET]}]},
        "code": {"code": SECRET}, "suggestion": {"suggested_prompt": f"say {SECRET}"},
    }  # fmt: skip
    if place == "settlement":
        return repr(read_settlement({"payment-response": base64text.encode(json.dumps(settled))}))
    if place == "terms":
        terms = demand(
            offer(scheme=SECRET),
            offer(network=SECRET),
            offer(asset=SECRET),
            offer(payTo=SECRET),
            error=SECRET,
        )
        read = read_payment_required({}, json.dumps(terms).encode())
        return repr((read.error, read.rejections))
    if place == "text":
        given = answer(b"500\ncontent-type: text/plain\n\n" + f"you sent {SECRET}".encode())
    else:
        given = answer(b"400\n\n" + json.dumps(bodies[place]).encode())
    error = seller_error(given, "quote", now=NOW)
    return repr(
        (str(error), error.details, said(given), Venice().read_queued(given), Venice().read_progress(given))
    )


@pytest.mark.parametrize(
    "place", ["error", "message", "details", "issues", "code", "suggestion", "text", "settlement", "terms"]
)
def test_a_secret_that_a_seller_echoes_is_masked(place: str) -> None:
    assert SECRET[:60] not in _say(place)


# --- times and round trips
@QUICK
@given(wish=st.one_of(st.text(max_size=60), st.from_regex(r"[0-9]{1,20}(\.[0-9]{1,12})?", fullmatch=True)))
def test_a_wait_is_nothing_or_up_to_an_hour(wish: str) -> None:
    for name in ("retry-after", "x-ratelimit-reset-requests"):
        seconds = retry_after_seconds({name: wish}, NOW)
        assert seconds is None or 0 <= seconds <= 3600


@QUICK
@given(units=st.integers(0, 10**17))
def test_an_amount_is_the_same_after_both_grammars(units: int) -> None:
    amount = Usdc(units)
    assert units == 0 or Usdc.from_atomic(str(units)) == amount
    assert Usdc.parse_usd(amount.usd) == amount
    assert Usdc.charge(Decimal(amount.usd)) == Usdc.credit(Decimal(amount.usd)) == amount


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "01",
        "+1",
        "-1",
        " 1",
        "1 ",
        "1.0",
        "1e3",
        "0x1",
        "\uff11",
        "\u0663",
        "1_000",
        "",
        "null",
        str(2**256),
        "9" * 79,
        "1\n",
    ],
)
def test_an_atomic_amount_is_plain_ascii_digits(text: str) -> None:
    with pytest.raises(ValueError):
        Usdc.from_atomic(text)


@pytest.mark.parametrize(
    "figure",
    ["NaN", "Infinity", "-Infinity", '"0.69"', "true", "null", "[0.69]", "1e400", "-0.01", "0", "100000.01"],
)
def test_no_odd_figure_is_a_quote(figure: str) -> None:
    with pytest.raises(X402AudioError):
        Venice().read_quote(answer(b'200\n\n{"quote":' + figure.encode() + b"}"))


@pytest.mark.parametrize("figure", ["NaN", "-1", '"5"', "true", "null", "1e12", "1000000.01", "[]"])
def test_no_odd_figure_is_a_balance(figure: str) -> None:
    body = '{"success":true,"data":{"walletAddress":"%s","balanceUsd":%s,"canConsume":true}}'
    with pytest.raises(X402AudioError):
        Venice().read_balance(
            answer(b"200\n\n" + (body % ("0x" + "5" * 40, figure)).encode()), "0x" + "5" * 40
        )


def test_a_key_that_stands_twice_makes_no_balance() -> None:
    data = '{"walletAddress":"0x%s","balanceUsd":1,"balanceUsd":99}' % ("5" * 40)
    with pytest.raises(X402AudioError):
        Venice().read_balance(answer(f'200\n\n{{"success":true,"data":{data}}}'.encode()), "0x" + "5" * 40)


def test_a_models_spec_keeps_its_figures_exactly() -> None:
    listed = TARGETS["models"].seeds[0].partition(b"\n\n")[2]
    specs = Venice().read_models(answer(b"200\n\n" + listed))
    assert specs and all(ModelSpec.from_json(spec.to_json()) == spec for spec in specs)


def test_header_bytes_no_charset_knows_do_no_harm() -> None:
    response = httpx.Response(200, headers=[(b"content-type", b"audio/\xff\x9b31m"), (b"date", b"\xff" * 40)])
    given = answer(b"200\n\n{}")
    given = type(given)(200, {k.lower(): v for k, v in response.headers.items()}, b"{}")
    assert retry_after_seconds(given.headers, NOW) is None
    assert Venice().read_completed(given) is False


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 200,
        "a = " + "[" * 60_000,
        "a = " + "1" * 5_000,
        "x" * 60_000 + " = 1",
        "[" + "y" * 60_000 + "]",
        "a\u009b = 1",
        "\x00",
    ],
)
def test_a_strangers_toml_is_refused_in_one_short_line(text: str) -> None:
    """Deep lists ended in a RecursionError, a long number in a plain ValueError, a long name in a line as long."""
    outcome = TARGETS["toml"].try_out(text.encode())
    assert outcome is None or len(str(outcome)) < 300


def test_a_strangers_file_cannot_flood_the_terminal() -> None:
    names = "\n".join(f"X402_AUDIO_{number}\x1b[2J={number}" for number in range(1_500))
    assert TARGETS["dotenv"].try_out(names.encode()) is None


@pytest.mark.parametrize("kind", ["{}", "[]", '[{"a":1}]', "null", "1e5"])
def test_a_models_type_of_another_kind_is_no_fault_of_ours(kind: str) -> None:
    """What has no hash was looked for in a set."""
    listed = f'200\n\n{{"data":[{{"id":"m","type":{kind},"model_spec":{{}}}}]}}'
    assert [spec.id for spec in Venice().read_models(answer(listed.encode()))] == ["m"]


@pytest.mark.parametrize(
    "data", ['{"set":[]}', '{"set":1}', '{"key":{}}', "{}", "[]", '{"set":{},"limits":[[1]],"entry":[]}']
)
def test_an_event_that_makes_no_sense_is_a_finding_and_no_crash(data: str, tmp_path: Path) -> None:
    """The proof of the books ended in an AttributeError where an event held a list."""
    ledger = SqliteLedger(tmp_path / "ledger.db", clock=SteppedClock(), random=counted_random())
    ledger.reserve(wish(), [])
    ledger.set_limit(limit("wallet", "day", 900))
    with books(ledger.path) as other:
        for (name,) in other.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            other.execute(f"DROP TRIGGER {name}")
        other.execute("UPDATE event SET data = ?", (data,))
        assert other.changes() > 1
    assert any(found.invariant == "events" for found in ledger.verify())
    ledger.close()


@pytest.mark.parametrize("member", ["number", "hash", "timestamp"])
def test_a_block_that_lacks_a_member_later_is_a_node_that_could_not_be_read(member: str) -> None:
    """The last look at a block let a KeyError out; what was asked with it stayed undecided without a word."""
    lines = TARGETS["node"].seeds[1].split(b"\n")
    blocks = [place for place, line in enumerate(lines) if b'"parentHash"' in line]
    for place in blocks:
        lame = json.loads(lines[place])
        del lame["result"][member]
        said = TARGETS["node"].try_out(
            b"\n".join(
                [*lines[:place], json.dumps(lame, separators=(",", ":")).encode(), *lines[place + 1 :]]
            )
        )
        assert "could not be read" in str(said)
    assert len(blocks) > 3


def test_a_keystore_with_any_member_odd_is_refused_as_none(tmp_path: Path) -> None:
    """The library asserts what a key derivation is called."""
    path = tmp_path / "key.json"
    path.write_bytes(TARGETS["keystore"].seeds[1].replace(b"hmac-sha256", b"sha256"))
    path.chmod(0o600)
    with pytest.raises(SignerError, match="no geth V3 keystore"):
        open_keystore(path, "a password")


@pytest.mark.parametrize("member", ["asset", "payTo"])
def test_an_address_that_begins_with_a_large_x_is_none(member: str) -> None:
    """Lower case made `0X…` the token of our table, though it is no address."""
    good = offer()
    spelled = {**good, member: str(good[member]).replace("0x", "0X")}
    read = TARGETS["terms"].try_out(b"402\n\n" + json.dumps(demand(spelled)).encode())
    assert isinstance(read, X402AudioError)


def test_a_scheme_in_large_letters_is_the_same_scheme() -> None:
    """What asks whether a URL begins with http:// found another one."""
    for url, meant in (
        ("hTTpS://a.example/v1/", "https://a.example/v1"),
        ("HTTP://127.0.0.1:8", "http://127.0.0.1:8"),
    ):
        assert check_url("API_URL", url) == meant
    assert TARGETS["environment"].try_out(b"X402_AUDIO_API_URL=httPs://a.example") is None


def test_what_inspect_shows_of_an_offer_is_short_and_printable() -> None:
    noise = "\x1b[2J\n" + "upto " * 900
    report = TARGETS["listing"].try_out(json.dumps(demand(offer(scheme=noise), offer(asset=noise))).encode())
    assert isinstance(report, InspectReport) and len(report.requirements) == 2
