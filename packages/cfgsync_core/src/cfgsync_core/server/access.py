"""Access to the routes. An operator is a caller on the admin socket that the kernel names as root or as the server's user.

Over TCP no address and no name makes a caller an operator, only a token (in the runtime): behind a proxy on the server's machine that adds no header (the default of
nginx and haproxy), every caller has a loopback address and this machine's name in `Host`.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import struct
from collections.abc import Collection, Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Protocol

from ..errors import InvalidRequest
from ..wire.headers import JOIN_TOKEN
from .route import OPERATOR, Call, Reply, Route, refusal

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")
"""Headers that some proxies add."""
_FORWARDED = frozenset(map(str.lower, FORWARDED))

NO_SOCKET = (
    "operator routes answer on the server's admin socket only: run the command on its machine, as its user or root, or with"
    " an operator token (--token-file FILE)"
)
_PEER = "the admin socket answers root and the server's user only"
_ORIGIN = "operator routes refuse requests that a web page made (`Origin`)"


def judged_headers(target: str, headers: CIMultiDictProxy[str]) -> Mapping[str, str]:
    """The headers by which a request is judged: the host of a target in absolute form replaces `Host` (RFC 9112, 3.2.2).

    Raises `InvalidRequest` (400) for two `Authorization` or two join tokens: a proxy before may have judged the other one.
    """
    for name in ("Authorization", JOIN_TOKEN):
        if name in headers and len(headers.getall(name)) > 1:
            raise InvalidRequest(400, f"{name}: given twice")
    if target.startswith("/") or "://" not in target:
        return headers
    authority = re.split(r"[/?#]", target.partition("://")[2], maxsplit=1)[0]
    own = headers.copy()
    own["Host"] = authority.rpartition("@")[2]
    return own


class Access(Protocol):
    """The rule for all routes of one server. It sets `call.principal`."""

    def before_body(self, route: Route, call: Call) -> Reply | None:
        """A refusal before the body is read, or None. Not called for a node's route: its name is in the body."""

    async def answer(self, route: Route, call: Call) -> Reply:
        """The reply of `route.handler` to a call whose body is decoded, or a refusal."""

    def answered(self, route: Route, call: Call, reply: Reply | None) -> None:
        """Called once for each call, also for one that was refused or has failed; `reply` is None when its caller went away
        before. Not called for a node's route."""


class LocalOperators(Access):
    """An operator's route answers an operator; every other route answers anyone."""

    def before_body(self, route: Route, call: Call) -> Reply | None:
        why = why_no_operator(call)
        if why is None:
            call.principal = OPERATOR
        elif route.access == "operator":
            return refusal(403, "forbidden", why)
        return None

    async def answer(self, route: Route, call: Call) -> Reply:
        return await route.handler(call)

    def answered(self, route: Route, call: Call, reply: Reply | None) -> None:
        pass


def why_no_operator(call: Call) -> str | None:
    """Why this caller is not an operator; None for an operator."""
    if "Origin" in call.headers:
        return _ORIGIN
    if call.peer is None:
        return NO_SOCKET
    return None if call.peer in (0, os.geteuid()) else _PEER


def peer_user(connected: socket.socket) -> int:
    """The user at the other end of a Unix socket, as the kernel knows it; for a client, the one that began to listen."""
    _, user, _ = struct.unpack("iII", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(user)


def why_not_here(headers: Mapping[str, str], origins: Collection[str] = ()) -> str | None:
    """Why a request over TCP may not come from a program on this machine, or from a web page of `origins`, which is all that
    headers can tell; None otherwise. For what a server on loopback opens to such programs. `headers` ignores case."""
    if "Origin" in headers and headers["Origin"] not in origins:
        return _ORIGIN
    if not _FORWARDED.isdisjoint(map(str.lower, headers)):
        return "this is not for requests that came through a proxy"
    if not is_own_name(headers.get("Host", "")):
        return "this answers to the machine's own names and addresses only (`Host`): use http://127.0.0.1, with its port"
    return None


@lru_cache(256)
def is_own_name(host: str) -> bool:
    """True for a `Host` that no foreign name server can point at this machine: an address, `localhost`, a name without
    a dot (which cannot be bought on the internet), the machine's own name.

    A page whose name was pointed at this machine after it was loaded (DNS rebinding) has the same origin for the
    browser; only the name in `Host` shows the difference.
    """
    name = host.strip().lower()
    if name.startswith("["):
        return _is_address(name[1:].partition("]")[0])
    name = name.partition(":")[0].rstrip(".")
    return "." not in name or name.endswith(".localhost") or _is_address(name) or name == _own_name()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


@cache
def _own_name() -> str:
    return socket.gethostname().lower().rstrip(".")
