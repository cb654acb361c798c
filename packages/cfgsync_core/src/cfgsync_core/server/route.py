"""Which path is which handler, how large its body may be, and who may call it: one table for everything that is not hot.

`POST /register` and `POST /node` are the hot routes; `server.py` knows them by heart. A route is only there when the
handler table has its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from ..wire.limits import MAX_BODY_BYTES, MAX_REPLACEMENT_BYTES


class Route(msgspec.Struct, frozen=True):
    """One path. `method` POST takes a JSON body of at most `max_body_bytes`, GET (and HEAD) none; an `operator` route
    answers loopback only, and no request that a page of another origin made (`protocol.md`, "Other routes"). A stream
    has no `head`: it would not end."""

    name: str
    method: Literal["GET", "POST"] = "GET"
    max_body_bytes: int = MAX_BODY_BYTES
    operator: bool = False
    head: bool = True


ROUTES: Final[Mapping[str, Route]] = {
    "/": Route("page"),
    "/livez": Route("livez"),
    "/healthz": Route("livez"),
    "/readyz": Route("readyz"),
    "/status": Route("status"),
    "/metrics": Route("metrics"),
    "/watch": Route("watch", head=False),
    "/ack": Route("ack", "POST"),
    "/admin/evict": Route("evict", "POST", operator=True),
    "/admin/renew": Route("renew", "POST", operator=True),
    "/admin/snapshot": Route("snapshot", operator=True),
    "/admin/generations": Route("generations", operator=True),
    "/node/replace": Route("replace", "POST", MAX_REPLACEMENT_BYTES, operator=True),
}
