"""JSON, compared with the standard library's `json`."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from cni_ovs.plugin import jsontext
from tests.support import standard_json

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=20)  # lone surrogates too: JSON can write them
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5)
)
ALPHABET = '{}[]:,"\\/ \t\n\r\x00\x1f0123456789-+.eEntfu\ufeffäNI\u2028𝄞'


@st.composite
def mutated(draw: DrawFn) -> str:
    """The text of a value with a few characters changed: mostly not JSON any more, but nearly."""
    text = json.dumps(draw(values), ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1])))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        what = draw(st.sampled_from(["insert", "replace", "delete", "cut", "repeat"]))
        extra = draw(st.text(ALPHABET, max_size=3))
        end = {"insert": at, "replace": at + len(extra), "delete": at + 1, "cut": len(text), "repeat": max(0, at - 5)}
        text = text[:at] + extra + text[end[what] :]
    return text


class Refused:
    """Stands for every reason to refuse a text."""

    def __repr__(self) -> str:
        return "refused"


def outcome(data: bytes) -> str:
    """What we make of it, in a form that tells 1 from 1.0 and from True."""
    try:
        return repr(jsontext.decode(data))
    except ValueError:
        return repr(Refused())


def expected(data: bytes) -> str:
    """What `json` makes of it, but for the constants and the numbers that JSON does not have."""
    try:
        return repr(standard_json.decode(data))
    except (ValueError, RecursionError):
        return repr(Refused())


@given(values)
def test_a_value_is_written_exactly_as_json_does(value: Any) -> None:
    assert jsontext.encode(value) == json.dumps(value)


@given(values)
def test_a_value_that_was_written_is_read_back(value: Any) -> None:
    assert repr(jsontext.decode(jsontext.encode(value).encode())) == repr(value)


@given(values, st.booleans(), st.sampled_from([None, 0, 2, "\t"]))
def test_a_value_is_read_in_every_form_that_json_writes(value: Any, ascii_only: bool, indent: int | str | None) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    assert outcome(data) == expected(data)


@given(mutated())
def test_a_damaged_text_is_taken_or_refused_as_json_does(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    assert outcome(data) == expected(data)


@given(st.text(ALPHABET, max_size=12))
def test_a_text_of_json_characters_is_taken_or_refused_as_json_does(text: str) -> None:
    data = text.encode()
    assert outcome(data) == expected(data)


@given(st.binary(max_size=40))
@example(b"\xff")
@example(b'"\xed\xa0\x80"')  # a surrogate in UTF-8
@example(b'"\xc0\x80"')
@example('{"a": 1}'.encode("utf-16"))
def test_bytes_are_taken_or_refused_as_json_does(data: bytes) -> None:
    assert outcome(data) == expected(data)


@pytest.mark.parametrize(
    "text",
    ["", " ", "{", "[", '"', '{"a"', '{"a":', '{"a":1', '{"a":1,', '{"a":1,}', "[1,]", "[,1]", "{1:2}", "{a:1}", "'a'"]
    + ["01", "+1", ".5", "1.", "1e", "0x1", "1_0", "-", "--1", "nul", "True", "undefined", "1 2", "{}{}", "[1]]", "//"]
    + ['"\n"', '"\\x"', '"\\u12"', '"\\u123g"', '"\x00"', "\ufeff{}", "\xa01", "1\x0b", "/**/1"],
)
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text is for a person, and json's own
        jsontext.decode(text.encode())


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_constants_that_only_python_knows_are_refused_by_name(constant: str) -> None:
    for text in (constant, f"[{constant}]", f'{{"a": {constant}}}'):
        with pytest.raises(ValueError, match=f"{constant} is not JSON"):
            jsontext.decode(text.encode())


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" + "0" * 400 + ".0"])
def test_what_is_read_can_be_written(number: str) -> None:
    # Such a number in `dns` or in an IPAM plugin's answer would be found when the result is printed: too late.
    for text in (number, f"[{number}]", f'{{"a": {number}}}'):
        try:
            value = jsontext.decode(text.encode())
        except ValueError:
            continue
        jsontext.encode(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have_are_not_written(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        jsontext.encode([value])


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, object(), 1j])
def test_objects_that_json_does_not_have_are_not_written(value: object) -> None:
    with pytest.raises(TypeError, match=type(value).__name__):
        jsontext.encode([value])


@pytest.mark.parametrize("count", [100_000, 3_000_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]"), ("[", "")])
def test_deep_nesting_is_refused(opening: str, closing: str, count: int) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - as above
        jsontext.decode((opening * count + "1" + closing * count).encode())


@pytest.mark.parametrize("depth", [1, 50, 200])
def test_ordinary_nesting_is_read_and_written(depth: int) -> None:
    text = "[" * depth + "]" * depth
    assert jsontext.encode(jsontext.decode(text.encode())) == text


def test_a_number_of_too_many_digits_is_refused() -> None:
    with pytest.raises(ValueError, match="digits"):
        jsontext.decode(b"9" * 5000)


def test_the_last_of_two_equal_keys_counts() -> None:
    assert jsontext.decode(b'{"a": 1, "b": 2, "a": 3}') == {"a": 3, "b": 2}


def test_an_embedded_zero_is_text() -> None:
    assert jsontext.decode(b'"a\\u0000b"') == "a\0b"


def test_a_large_text_is_read() -> None:
    value = {f"key{i}": ["x" * 100] * 10 for i in range(2000)}
    assert jsontext.decode(json.dumps(value).encode()) == value


@given(values, st.sampled_from(["", " ", "{}", "[", "x", '"', "1"]), st.sampled_from(["", " ", "\n\t\r "]))
def test_the_first_value_of_several_is_found_with_its_end(value: Any, rest: str, before: str) -> None:
    text = before + json.dumps([value])
    found, end = jsontext.decode_first(text + rest)
    assert (repr(found), end) == (repr([value]), len(text))


@given(values, st.data())
def test_an_object_that_is_cut_off_is_not_complete(value: Any, data: st.DataObject) -> None:
    text = json.dumps({"a": value})
    with pytest.raises(ValueError):  # noqa: PT011 - as above
        jsontext.decode_first(text[: data.draw(st.integers(0, len(text) - 1))])
