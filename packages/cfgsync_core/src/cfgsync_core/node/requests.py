"""A node's requests: `/register`, `/node` and `/ack` are built here, for every transport."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from cfgsync_artifacts import CfgsyncError

from ..store.contract import NEVER, Version
from ..wire.acknowledgement import Acknowledgement, encode_acknowledgement
from ..wire.headers import (
    ACCEPT,
    ACCEPT_EXTENDED,
    GENERATION,
    JOIN_TOKEN,
    KEEPALIVE,
    NEXT_SECRET,
    TURN,
    VERSION,
)
from ..wire.limits import MAX_KEEPALIVE
from ..wire.protocol import encode_registration
from ..wire.registration import NodeRegistration

HOLD: Final = 20.0  # s; below the 30 s at which the server, and many a proxy, ends a silent request
PATIENCE: Final = 10.0  # s for an answer to begin, beyond what the server was asked to hold the request
CONNECT_WITHIN: Final = 5.0  # s for one connection: after a lost packet, trying again beats waiting
KEEPALIVE_SECONDS: Final = 60  # within which a watching node is heard of again
ACKNOWLEDGE_WITHIN: Final = 1.0  # s for an acknowledgement


Method: TypeAlias = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class Request(msgspec.Struct, frozen=True):
    """One request, whose answer must begin within `begin_within` seconds and be whole within `end_within`. `path` may have
    a query; a GET has no body."""

    path: str
    headers: dict[str, str]
    body: bytes
    begin_within: float
    end_within: float
    method: Method = "POST"

    def __repr__(self) -> str:
        """Without the headers, which may hold a secret."""
        return f"<{self.method} {self.path}, {len(self.body)} bytes>"


class Lost(CfgsyncError):
    """A request without an answer: no connection, no answer in time, or half of one. `hint`: what to do about a server that
    could not be verified, else ""."""

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.hint = hint


def register_request(
    node: NodeRegistration,
    secret: str | None,
    within: float,
    *,
    keepalive: int | None = None,
    join_token: str | None = None,
    next_secret: str | None = None,
) -> Request:
    """Register `node`; the whole answer is awaited for `within` seconds. `keepalive` promises that the node will be heard
    of again within so many seconds; without it, an earlier promise is withdrawn. `join_token` allows it to bind its name,
    and `next_secret` is the SHA-256 (hex) of the secret that will replace this one."""
    headers = _headers(secret, keepalive)
    if join_token is not None:
        headers[JOIN_TOKEN] = join_token
    if next_secret is not None:
        headers[NEXT_SECRET] = next_secret
    return Request("/register", headers, encode_registration(node), min(within, PATIENCE), within)


def node_request(
    node: NodeRegistration,
    secret: str | None,
    within: float,
    *,
    hold: float = 0.0,
    version: str | None = None,
    known: str | None = None,
    seen: Version | None = None,
    keepalive: int | None = None,
    turn: str | None = None,
) -> Request:
    """Ask for the files of `node`. The server may hold the request for `hold` whole seconds. `version` is the answer to
    the registration, `known` the digest of the node's files, `seen` the newest generation that it has seen; `keepalive` as for `register_request`. `turn` is the value
    of `Cfgsync-Turn`, None for a node that takes no turns."""
    headers = _headers(secret, keepalive)
    headers[ACCEPT] = ACCEPT_EXTENDED
    if version is not None:
        headers[VERSION] = version
    if known is not None:
        headers["If-None-Match"] = f'"{known}"'
    if seen not in (None, NEVER):
        headers[GENERATION] = str(seen)
    if turn is not None:
        headers[TURN] = turn
    held = max(int(hold), 0)
    if held:
        headers["Prefer"] = f"wait={held}"
    return Request("/node", headers, encode_registration(node), min(within, held + PATIENCE), within)


def acknowledge_request(
    acknowledgement: Acknowledgement, secret: str | None, within: float = ACKNOWLEDGE_WITHIN
) -> Request:
    """Acknowledge a generation. The answer changes nothing for the node, so a boot waits only briefly for it."""
    body = encode_acknowledgement(acknowledgement)
    return Request("/ack", _headers(secret), body, within, within)


def is_final(status: int) -> bool:
    """True when an acknowledgement with this answer is not sent again."""
    return status < 500 and status not in (408, 425, 429)


def promise_of(interval: float) -> int:
    """The seconds within which a watching node promises to be heard of again: it asks every `interval` seconds, and may be
    busy with a check or a reload of its program."""
    return min(max(int(4 * interval), KEEPALIVE_SECONDS), MAX_KEEPALIVE)


def _headers(secret: str | None, keepalive: int | None = None) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    if keepalive is not None:
        headers[KEEPALIVE] = str(keepalive)
    if secret is not None:
        headers["Authorization"] = f"Bearer {secret}"
    return headers
