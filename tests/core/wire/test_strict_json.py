"""Metadata has one spelling, whichever of the two ways made it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfgsync_core import InvalidRegistration
from cfgsync_core.wire import strict_json
from cfgsync_core.wire.registration import _parsed_ip, check_ip

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-20, 20) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def said(spell: object) -> str:
    try:
        return str(spell())  # type: ignore[operator]
    except ValueError as error:
        return f"refused: {error}"


def same_both_ways(data: bytes) -> None:
    assert said(lambda: strict_json.canonical_of(data)) == said(
        lambda: strict_json.canonical(strict_json.loads(data.decode()))
    )


@given(VALUES, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_the_quick_spelling_of_a_value_is_pythons(
    value: object, escaped: bool, indent: int | str | None
) -> None:
    same_both_ways(json.dumps(value, ensure_ascii=escaped, indent=indent).encode("utf-8", "replace"))


@given(st.text(alphabet='{}[]",:0123456789-+.eE tfnal\x01\x7f\u2028éNI', max_size=25))
def test_what_python_refuses_is_refused_in_the_same_words(text: str) -> None:
    same_both_ways(text.encode())


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":2}', b"-0", b"[-0]", b"01", b"999999999999999999", b"9223372036854775808", b'"\\ud800"',
        b'"a\nb"', '{"\U00010000":1,"\uffff":2}'.encode(), b"1 2", b"", b"\xef\xbb\xbf1", b"[" * 300 + b"]" * 300,
    ],
)  # fmt: skip
def test_the_corners_are_spelled_or_refused_alike(data: bytes) -> None:
    same_both_ways(data)


OCTETS = st.sampled_from(
    ["0", "00", "01", "9", "10", "99", "100", "199", "249", "255", "256", "300", " 1", "", "１"]
)


@given(st.lists(OCTETS, min_size=3, max_size=5), st.sampled_from(["", "\n", " "]))
def test_the_pattern_of_an_ipv4_address_takes_what_the_parser_takes(octets: list[str], end: str) -> None:
    text = ".".join(octets) + end

    def taken(check: object) -> str | None:
        try:
            return str(check(text))  # type: ignore[operator]
        except InvalidRegistration:
            return None

    assert taken(check_ip) == taken(_parsed_ip)
