"""A patch merges into a document without decoding what it does not touch, so that untouched numbers keep their spelling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

Merge: TypeAlias = Callable[[bytes, bytes], bytes]
"""From a document and a patch, both canonical JSON objects, to the new document."""

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def shallow(document: bytes, patch: bytes) -> bytes:
    """Each member of the patch replaces the document's; `null` is a value."""
    return _object({**_read(document), **_read(patch)})


def rfc7396(document: bytes, patch: bytes) -> bytes:
    """JSON Merge Patch: objects merge deeply, and a member that is `null` is removed (RFC 7396)."""
    merged = _read(document)
    for key, value in _read(patch).items():
        if value == b"null":
            merged.pop(key, None)
        elif value.startswith(b"{"):
            before = merged.get(key, b"{}")
            merged[key] = rfc7396(before if before.startswith(b"{") else b"{}", value)
        else:
            merged[key] = value
    return _object(merged)


def _read(document: bytes) -> dict[str, bytes]:
    return {key: bytes(raw) for key, raw in _members(document).items()}


def _object(members: dict[str, bytes]) -> bytes:
    return b"{%b}" % b",".join(b"%b:%b" % (msgspec.json.encode(key), raw) for key, raw in members.items())
