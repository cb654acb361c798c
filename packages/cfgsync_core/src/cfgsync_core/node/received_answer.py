"""What came from a server, and what it was asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from ..store.contract import Version
from .trust.signature import Verify


class ReceivedAnswer(msgspec.Struct, frozen=True):
    """One answer: header names in lower case; `cut` when the body was over the limit and is incomplete."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    cut: bool = False


class RequestContext(msgspec.Struct, frozen=True):
    """The request. `known` is the digest sent in `If-None-Match`, `seen` the newest generation that this node ever got,
    and `seen_digest` the digest of its files then. With `verify`, files must be signed."""

    path: Literal["/register", "/node"]
    identifier: str
    known: str | None = None
    seen: Version | None = None
    seen_digest: str | None = None
    verify: Verify | None = None
