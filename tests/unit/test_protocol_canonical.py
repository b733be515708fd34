"""Canonical JSON: one spelling for one value, and nothing that readers disagree about."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge_agent.errors import DocumentError
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Frozen
from expunge_agent.protocol.canonical import U64

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


class Sized(Frozen, frozen=True):
    """A struct with a 64-bit number."""

    size: U64


@given(VALUES)
def test_what_is_written_reads_back_and_writes_the_same(value: object) -> None:
    data = canonical.dumps(value)
    assert canonical.parse(data) == value
    assert canonical.dumps(canonical.parse(data)) == data
    assert json.loads(data) == value


def test_the_example_of_rfc_8785_without_its_floats() -> None:
    """RFC 8785 §3.2.3: sorting by UTF-16 code units puts the emoji before U+FB33."""
    value = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7}
    assert canonical.dumps(value).decode() == (
        '{"\\r":2,"1":4,"\u0080":6,"\u00f6":7,"\u20ac":1,"\U0001f600":5,"\ufb33":3}'
    )


def test_strings_are_escaped_as_rfc_8785_says() -> None:
    """RFC 8785 §3.2.2.2."""
    assert canonical.dumps("\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/") == (
        b'"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'
    )


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}',
        '{"a":{"b":1,"b":1}}',
        "1.0",
        "1e3",
        "NaN",
        "Infinity",
        "9007199254740992",
        "-9007199254740992",
        "9" * 5000,
        '{"a":1',
        '"\\u0000"',
        '{"\\ud800":1}',
        '"\\udfff"',
        "",
        "\ufeff{}",
        "[" * 100 + "]" * 100,
        "[" * 100_000,
    ],
)
def test_ambiguous_documents_are_refused(text: str) -> None:
    with pytest.raises(DocumentError):
        canonical.parse(text.encode())


@pytest.mark.parametrize("data", [b"\xff", b'"\xed\xa0\x80"'])
def test_what_is_not_utf_8_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError):
        canonical.parse(data)


@pytest.mark.parametrize("value", [1.5, 2**53, "\ud800", "\0", {"a": float("nan")}])
def test_what_has_no_canonical_form_cannot_be_written(value: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        canonical.dumps(value)


@given(st.integers(0, 2**64 - 1))
def test_64_bit_numbers_travel_as_decimal_strings(number: int) -> None:
    data = canonical.dumps(Sized(size=U64(number)))
    assert json.loads(data) == {"size": str(number)}
    assert canonical.loads(data, Sized).size == number


@pytest.mark.parametrize(
    "text", ['"01"', '""', '"-1"', '"1.0"', '" 1"', '"١"', "1", '"18446744073709551616"', '"+1"']
)
def test_other_spellings_of_a_number_are_refused(text: str) -> None:
    with pytest.raises(DocumentError):
        canonical.loads(b'{"size":' + text.encode() + b"}", Sized)


def test_unknown_and_missing_keys_are_refused() -> None:
    for text in (b'{"size":"1","more":1}', b"{}"):
        with pytest.raises(DocumentError):
            canonical.loads(text, Sized)
