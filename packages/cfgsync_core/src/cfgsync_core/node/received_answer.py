"""What came from a server, and what it was asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from ..store.contract import Version
from ..wire.protocol import CODE
from .signature import Verify

USE_TLS: Final = "give --server with https://"
RETRIED: Final = frozenset({404, 408, 425, 426, 429})
"""Statuses below 500 that are retried although cfgsync itself answers them; every 5xx is retried, too."""

CODES: Final = frozenset(
    {
        *CODE.values(),
        "invalid_request",
        "not_found",
        "method_not_allowed",
        "forbidden",
        "unauthorized",
        "identity_conflict",
    }
    | {"rate_limited"}
)
"""The codes in cfgsync's error bodies. An answer with another one, or without, is somebody else's."""

NOT_OURS: Final = "is this a cfgsync server? check the URL"


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
