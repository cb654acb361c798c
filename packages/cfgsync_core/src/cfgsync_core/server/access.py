"""Access to the routes. An operator is a caller on the server's own machine that uses one of the machine's own names and
is neither a web page nor behind a proxy."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Protocol

from ..errors import InvalidRequest
from .route import OPERATOR, Call, Reply, Route, refusal

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")
"""Headers that a proxy adds: behind one, every caller seems to be on this machine."""


def judged_headers(target: str, headers: CIMultiDictProxy[str]) -> Mapping[str, str]:
    """The headers by which a request is judged: the host of a target in absolute form replaces `Host` (RFC 9112, 3.2.2).

    Raises `InvalidRequest` (400) for two `Authorization`: a proxy before may have judged the other one.
    """
    if "Authorization" in headers and len(headers.getall("Authorization")) > 1:
        raise InvalidRequest(400, "Authorization: given twice")
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


class LocalOperators(Access):
    """An operator's route answers an operator; every other route answers anyone."""

    def before_body(self, route: Route, call: Call) -> Reply | None:
        why = why_no_operator(call.remote, call.headers, call.port)
        if why is None:
            call.principal = OPERATOR
        elif route.access == "operator":
            return refusal(403, "forbidden", why)
        return None

    async def answer(self, route: Route, call: Call) -> Reply:
        return await route.handler(call)


def why_no_operator(remote: str | None, headers: Mapping[str, str], port: int) -> str | None:
    """Why this caller is not an operator; None for an operator. `headers` ignores case; `port` is this server's."""
    if "Origin" in headers:
        return "operator routes refuse requests that a web page made (`Origin`)"
    if not _is_this_machine(remote):
        return "operator routes answer on the server's own machine only: run the command there"
    if any(name in headers for name in FORWARDED):
        return "operator routes refuse requests that came through a proxy: run the command on the server's machine"
    if not is_own_name(headers.get("Host", "")):
        return (
            "operator routes answer to this machine's own names and addresses only (`Host`):"
            f" use http://127.0.0.1:{port}"
        )
    return None


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


def _is_this_machine(remote: str | None) -> bool:
    try:
        address = ipaddress.ip_address((remote or "").partition("%")[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


@cache
def _own_name() -> str:
    return socket.gethostname().lower().rstrip(".")
