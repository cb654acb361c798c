"""A JSON string becomes the bytes of its text, however long it is and however it is spelled."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from cfgsync_core.wire.json_text import PIECE_BYTES, text_bytes

UNICODE = some.text(some.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@given(some.lists(UNICODE, min_size=1, max_size=6), some.booleans(), some.integers(1, 300))
def test_a_long_string_is_the_same_text_however_it_is_spelled(
    words: list[str], ascii_only: bool, shift: int
) -> None:
    text = "".join(words)
    long = "x" * shift + text * (3 * PIECE_BYTES // len(text))
    raw = msgspec.Raw(json.dumps(long, ensure_ascii=ascii_only).encode())
    assert text_bytes(raw) == long.encode()


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize(
    "broken",
    [
        rb'"%b\x"',
        rb'"%b\u12"',
        rb'"%b\ud83d"',
        rb'"%b\ud83d\ud83d"',
        rb'"%b\ude00 "',
        b'"%b\xff"',
        b'"%b\xf0\x9f\x99"',
        b'"%b\x80\x80\x80"',
        b'"%b\x01"',
        b"[%b]",
    ],
)
def test_what_is_no_text_is_refused(broken: bytes, long: bool) -> None:
    filler = b"1" * (3 * PIECE_BYTES if long else 1)
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        text_bytes(msgspec.Raw(broken % filler))
