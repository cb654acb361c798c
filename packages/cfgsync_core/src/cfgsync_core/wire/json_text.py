"""Decodes a JSON string to UTF-8 bytes piece by piece: in a `str`, one emoji makes every letter take four bytes.

A node holds a payload once, as bytes, so the size of a payload bounds its memory.
"""

from __future__ import annotations

import io
import re
from typing import Final

import msgspec

PIECE_BYTES: Final = 64 * 1024
"""A string up to this long is decoded as one."""

# No piece ends inside a UTF-8 sequence, an escape, or the two escapes of one character.
_PIECE: Final = re.compile(
    rb"(?:[^\\]{1,256}+[\x80-\xbf]*+|\\u[dD][89abAB]..\\u....|\\u....|\\.){1,256}+", re.DOTALL
)


def text_bytes(raw: msgspec.Raw) -> bytes:
    """The text of the JSON string `raw` in UTF-8. Raises `msgspec.DecodeError` for anything but a valid string,
    `UnicodeDecodeError` for text that is not UTF-8."""
    view = memoryview(raw)
    if len(view) <= PIECE_BYTES or view[0] != 0x22:
        return _decoded(view)
    text = io.BytesIO()
    for piece in _PIECE.finditer(view, 1, len(view) - 1):
        text.write(_decoded(b'"%b"' % piece[0]))
    return text.getvalue()


def _decoded(quoted: bytes | memoryview) -> bytes:
    return msgspec.json.decode(quoted, type=str).encode()
