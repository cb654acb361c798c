"""A patch merges into a document without decoding what it does not touch, so that untouched numbers keep their spelling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

Merge: TypeAlias = Callable[[bytes, bytes], bytes]
"""From a document and a patch, both canonical JSON objects, to the new document."""

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode: Final = msgspec.json.Encoder().encode


def shallow(document: bytes, patch: bytes) -> bytes:
    """Each member of the patch replaces the document's; `null` is a value."""
    return _encode({**_members(document), **_members(patch)})


def rfc7396(document: bytes, patch: bytes) -> bytes:
    """JSON Merge Patch: objects merge deeply, and a member that is `null` is removed (RFC 7396)."""
    merged = _members(document)
    for key, raw in _members(patch).items():
        value = bytes(raw)
        if value == b"null":
            merged.pop(key, None)
        elif value.startswith(b"{"):
            before = bytes(merged.get(key, b"{}"))
            merged[key] = msgspec.Raw(rfc7396(before if before.startswith(b"{") else b"{}", value))
        else:
            merged[key] = raw
    return _encode(merged)
