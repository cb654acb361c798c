"""A route is one value: its method and path, its handler, its callers, and its description in `/openapi.json`.

A feature exports its routes as a list; the server takes the list and knows no path of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec

from cfgsync_artifacts import CfgsyncError

from ..log_events import event
from ..text import plain
from ..wire.limits import MAX_BODY_BYTES, MAX_PAGE_NODES
from ..wire.protocol import CODE, STATUS, encode_error

log = logging.getLogger("cfgsync")

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})

Caller: TypeAlias = Literal["public", "node", "reader", "writer", "reader or writer", "operator"]
Role: TypeAlias = Literal["anyone", "node", "reader", "writer", "operator"]


class Principal(msgspec.Struct, frozen=True):
    """The caller of a route: an operator, a reader of file contents, a writer of documents, the node that proved its `name`
    with its secret, or anyone. `name` is also that of an operator's, a reader's or a writer's token."""

    role: Role
    name: str = ""


CONTENTS: Final = ("operator", "reader")
"""The callers that may see what is in a file, what a program wrote, and what a node registered."""

ANYONE: Final = Principal("anyone")
READER: Final = Principal("reader")
OPERATOR: Final = Principal("operator")


class Call(msgspec.Struct, gc=False):
    """One request. `names` are those of the path, decoded; `headers` ignores case; `value` is the decoded `body`.

    `peer` is the user at the other end of a Unix socket; None over TCP, and on a node's route. `Access` sets `principal`.
    `address` is the client's over TCP, for logs only (a proxy may have written it), `scheme` that of the client's URL, as a trusted
    proxy says it, else "https" where TLS ends here, else "" (unknown), and `listens` the URLs of the server's addresses; on a
    node's route none is set, but for the address of a node that registers.
    """

    headers: Mapping[str, str] = NOTHING
    names: Mapping[str, str] = NOTHING
    query: Mapping[str, str] = NOTHING
    body: bytes = b""
    value: Any = None
    peer: int | None = None
    principal: Principal = ANYONE
    address: str = ""
    scheme: Literal["", "http", "https"] = ""
    listens: tuple[str, ...] = ()

    @property
    def caller_address(self) -> str:
        """Where the call comes from, for a log."""
        return "admin socket" if self.peer is not None else plain(self.address, 60)

    def __repr__(self) -> str:
        """Without headers and body, which may hold a secret."""
        return f"<Call names={dict(self.names)!r} principal={self.principal!r}>"


Write: TypeAlias = Callable[[bytes], Awaitable[None]]


class RightEnded(ConnectionError):
    """The caller may read no more, so its stream ends; a WebSocket is closed with 1008 and these words."""


class WebSocket(Protocol):
    """One WebSocket. `send` raises `ConnectionError` when the caller has gone."""

    async def send(self, message: str | bytes) -> None:
        """Send one message and wait while the caller does not read."""

    async def receive(self) -> str | bytes | None:
        """The next message; None when the caller has closed."""


class Reply(msgspec.Struct, gc=False):
    """One answer: status, the body in pieces (a shared piece is one object for all nodes), headers.

    The body is JSON unless `headers` name another type. `stream` writes a body without an end instead and gets a
    `ConnectionError` when the reader has gone; `converse` uses a WebSocket. The connection closes when they return.
    """

    status: int
    chunks: tuple[bytes, ...] = ()
    headers: Mapping[str, str] = NOTHING
    stream: Callable[[Write], Awaitable[None]] | None = None
    converse: Callable[[WebSocket], Awaitable[None]] | None = None


Handler: TypeAlias = Callable[[Call], Awaitable[Reply]]


class Body(msgspec.Struct, frozen=True):
    """The body that a route takes: `decode` makes the call's `value` or raises `InvalidRequest`; above `MAX_BODY_BYTES` it
    runs in a thread. A `form` is what a browser sends without a script; else the body is JSON."""

    decode: Callable[[bytes], Any]
    at_most: int = MAX_BODY_BYTES
    form: bool = False


class Response(msgspec.Struct, frozen=True):
    """One status in `/openapi.json`: one of the Structs `kinds` as JSON, or schemas by media type."""

    kinds: tuple[type[msgspec.Struct], ...] = ()
    description: str = "the answer"
    headers: Mapping[str, Mapping[str, Any]] = {}
    media: Mapping[str, Mapping[str, Any]] = {}


class Operation(msgspec.Struct, frozen=True):
    """A route in `/openapi.json`: `answers` by status, `errors` the statuses with the common error body, `query` the JSON
    schema of each parameter, `names` those of the path that are more than text, `headers` an example or the schema of each."""

    summary: str
    answers: Mapping[str, Response]
    errors: str = "400 503"
    body: type[msgspec.Struct] | None = None
    query: Mapping[str, Mapping[str, Any]] = {}
    headers: Mapping[str, str | Mapping[str, Any]] = {}
    names: Mapping[str, Mapping[str, Any]] = {}
    deprecated: bool = False


class Route(msgspec.Struct, frozen=True):
    """One method on one path, which may have names in it: `/status/{identifier}`.

    `name` is the route's label in the metrics; without it requests are not counted. GET also answers HEAD, unless the
    answer is `endless` (a stream, a WebSocket). A route without `operation` is not in `/openapi.json`. `scope` names the scope
    (`app/env`) that a call reads or writes: a token that has scopes permits the calls in them, and no others. `errors` writes an
    error reply, which has the common error body, in the form of the route's surface.
    """

    method: str
    path: str
    handler: Handler
    name: str = ""
    access: Caller = "public"
    body: Body | None = None
    operation: Operation | None = None
    endless: bool = False
    scope: Callable[[Call], str] | None = None
    errors: Callable[[Reply], Reply] | None = None


def page_of(query: Mapping[str, str]) -> tuple[int, str]:
    """`limit` (1 to 1,000, which is the default) and `after` of a query."""
    limit = MAX_PAGE_NODES
    with suppress(ValueError):
        limit = max(1, min(int(query.get("limit", "")), MAX_PAGE_NODES))
    return limit, query.get("after", "")


RETRY_AFTER_SECONDS: Final = 1


def refusal(
    status: int, code: str, message: str, headers: Mapping[str, str] = NOTHING, *, hint: str = ""
) -> Reply:
    """An error reply, with the error body that all routes share; `hint` is what to do about it."""
    body = encode_error(code, message, hint=hint) if hint else encode_error(code, message)
    return Reply(status, (body,), headers)


def unavailable(message: str) -> Reply:
    """503: the same request may be sent again soon."""
    return refusal(503, "unavailable", message, {"Retry-After": str(RETRY_AFTER_SECONDS)})


def failure(error: BaseException) -> Reply:
    """The reply to an exception: its status if it has one, else 500 without details."""
    for kind, status in STATUS.items():
        if isinstance(error, kind) and isinstance(error, CfgsyncError):
            if status == 503:
                return unavailable(str(error))
            return refusal(status, CODE[status], str(error))
    log.error("a request failed: %s", type(error).__name__, exc_info=error, extra=event("request_failed"))
    return refusal(500, "internal", "the server failed; its log says why")
