"""JSON from strangers: bounded before it is parsed, one meaning only, numbers exact, whatever is thrown at it."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from x402_audio.jsontext import BODY_BYTES_MAX, DEPTH_MAX, read_json, read_json_object, write_json

scalars = st.none() | st.booleans() | st.integers(-(10**60), 10**60) | st.text(max_size=20)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_what_is_written_is_read_back(value: Any) -> None:
    text = write_json(value)
    assert read_json(text) == value
    assert read_json(json.dumps(value, indent=1).encode()) == value


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_any_text_is_read_or_is_a_value_error(text: bytes | str) -> None:
    try:
        read_json(text)
    except ValueError:
        return


@pytest.mark.parametrize(
    "number", ["0.1", "0.69", "6.6e-7", "1E5", "-0.0", "1.000000000000000000000000000001", "1e400", "1e-400"]
)
def test_numbers_keep_their_digits(number: str) -> None:
    value = read_json(number)
    assert isinstance(value, Decimal)
    assert value.as_tuple() == Decimal(number).as_tuple()


def test_whole_numbers_stay_whole() -> None:
    value = read_json(str(2**256))
    assert (type(value), value) == (int, 2**256)
    assert [type(each) for each in read_json_object('{"a":1,"b":true,"c":1.0}').values()] == [
        int,
        bool,
        Decimal,
    ]


@pytest.mark.parametrize(
    "word",
    ["NaN", "Infinity", "-Infinity", "nan", "inf", "+1", "01", ".5", "1.", "0x1", "1_0", "'a'", "undefined"],
)
def test_what_is_not_json_is_refused(word: str) -> None:
    for text in (word, f"[{word}]", f'{{"a":{word}}}'):
        with pytest.raises(ValueError):
            read_json(text)


@pytest.mark.parametrize(
    "number",
    ["1e99999999999999999999", "1e-99999999999999999999", "9" * 101, "0." + "1" * 100, "1e" + "9" * 99],
)
def test_a_number_beyond_reason_is_a_value_error(number: str) -> None:
    with pytest.raises(ValueError):
        read_json(number)


@pytest.mark.parametrize(
    "text", ['{"a":1,"a":2}', '{"a":1,"a":1}', '{"a":1,"\\u0061":2}', '[{"x":{"b":1,"b":1}}]', '{"":0,"":0}']
)
def test_a_key_twice_is_refused_wherever_it_stands(text: str) -> None:
    with pytest.raises(ValueError, match="twice"):
        read_json(text)


@pytest.mark.parametrize(("opens", "shuts"), [("[", "]"), ('{"a":', "}")])
def test_depth_is_allowed_up_to_its_bound(opens: str, shuts: str) -> None:
    assert read_json(opens * DEPTH_MAX + "1" + shuts * DEPTH_MAX)
    with pytest.raises(ValueError, match="deeper"):
        read_json(opens * (DEPTH_MAX + 1) + "1" + shuts * (DEPTH_MAX + 1))


def test_brackets_inside_text_are_no_depth() -> None:
    text = "[" * 500 + '\\"' + "{" * 500 + "\\\\"
    assert read_json(f'["{text}"]') == [json.loads(f'"{text}"')]
    assert read_json('{"]": "}"}') == {"]": "}"}


@pytest.mark.parametrize("trick", ['"\\"', '"\\\\"', '"', '"\\\\\\"', "\\"])
def test_depth_cannot_be_hidden_behind_quotes(trick: str) -> None:
    for text in (f"{trick}," + "[" * 2_000, "[" * 40 + trick, f"[{trick}{'[' * 2_000}"):
        with pytest.raises(ValueError):
            read_json(text)


def test_a_bomb_does_not_end_the_process_whatever_the_recursion_limit() -> None:
    """An import that lifts the limit to 100,000 would make a deep text end the process after the payment."""
    asked = (
        "import sys; sys.setrecursionlimit(100_000); from x402_audio.jsontext import read_json\n"
        "for text in ('[' * 60_000, '{\"a\":' * 12_000, '[' * 30_000 + ']' * 30_000):\n"
        "    try: read_json(text)\n"
        "    except ValueError: print('refused')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ended.stdout.split() == ["refused"] * 3


def test_size_is_bounded_in_bytes_before_anything_is_parsed() -> None:
    fits = json.dumps("x" * (BODY_BYTES_MAX - 2))
    assert len(fits) == BODY_BYTES_MAX
    assert read_json(fits) == read_json(fits.encode()) == "x" * (BODY_BYTES_MAX - 2)
    for text in (fits + " ", '"' + "\u00e9" * (BODY_BYTES_MAX // 2) + '"', b" " * (BODY_BYTES_MAX + 1)):
        with pytest.raises(ValueError, match="longer"):
            read_json(text)
    assert read_json("[1]" + " " * 10, bytes_max=13) == [1]


@pytest.mark.parametrize(
    "text", [b"\xff", b'"\xc3"', b'\xef\xbb\xbf{"a":1}', '{"a":1}'.encode("utf-16"), b'"\xed\xa0\x80"']
)
def test_bytes_that_are_not_plain_utf8_are_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        read_json(text)


@pytest.mark.parametrize("text", ["[]", '"a"', "1", "null", "true"])
def test_an_object_is_an_object(text: str) -> None:
    with pytest.raises(ValueError, match="object"):
        read_json_object(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal(1), {1, 2}, b"a"])
def test_what_has_no_json_form_is_not_written(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        write_json({"a": value})


def test_there_is_one_spelling() -> None:
    assert write_json({"b": [1, "\u00e9"], "a": None}) == '{"b":[1,"\u00e9"],"a":null}'
