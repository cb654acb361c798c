"""A route is one value: the requests it takes, their handler, their callers, and what `/openapi.json` says.

A feature exports its routes as a list; the server takes the lists and knows no path of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec

from ..wire.limits import MAX_BODY_BYTES

MAX_PAGE: Final = 1_000
"""Nodes in one page of an answer."""

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})

Caller: TypeAlias = Literal["public", "node", "reader", "writer", "operator"]
Role: TypeAlias = Literal["anyone", "node", "operator"]


class Principal(msgspec.Struct, frozen=True):
    """The caller of a route: an operator, the node that proved its `name` by its secret, or anyone."""

    role: Role
    name: str = ""


ANYONE: Final = Principal("anyone")
OPERATOR: Final = Principal("operator")


class Call(msgspec.Struct, gc=False):
    """One request. `names` are those of the path, decoded; `headers` ignores case; `value` is the decoded `body`.

    `remote` is the caller's address (None on a node's route, which does not ask for it) and `port` the server's own.
    `principal` is set by `Access` before the handler is called.
    """

    headers: Mapping[str, str] = NOTHING
    names: Mapping[str, str] = NOTHING
    query: Mapping[str, str] = NOTHING
    body: bytes = b""
    value: Any = None
    remote: str | None = None
    port: int = 0
    principal: Principal = ANYONE


Write: TypeAlias = Callable[[bytes], Awaitable[None]]


class WebSocket(Protocol):
    """Both directions of one WebSocket. A caller that has gone is a `ConnectionError` for `send`."""

    async def send(self, message: str | bytes) -> None:
        """Send one message and wait while the caller does not read."""

    async def receive(self) -> str | bytes | None:
        """The next message; None when the caller has closed."""


class Reply(msgspec.Struct, gc=False):
    """One answer: status, the body's bytes in pieces (a shared piece is one object for all nodes), headers.

    The body is JSON unless `headers` say otherwise. `stream` writes a body without an end instead, until it returns; a
    `ConnectionError` tells it that the reader has gone. `converse` holds a WebSocket, until it returns.
    """

    status: int
    chunks: tuple[bytes, ...] = ()
    headers: Mapping[str, str] = NOTHING
    stream: Callable[[Write], Awaitable[None]] | None = None
    converse: Callable[[WebSocket], Awaitable[None]] | None = None


Handler: TypeAlias = Callable[[Call], Awaitable[Reply]]


class Body(msgspec.Struct, frozen=True):
    """The body that a route takes: `decode` makes the call's `value` or raises `InvalidRequest`. What may be larger
    than `MAX_BODY_BYTES` is decoded in a thread."""

    decode: Callable[[bytes], Any]
    at_most: int = MAX_BODY_BYTES


class Response(msgspec.Struct, frozen=True):
    """What `/openapi.json` says of one status: one of the Structs `kinds` as JSON, or schemas by media type."""

    kinds: tuple[type[msgspec.Struct], ...] = ()
    description: str = "the answer"
    headers: Mapping[str, Mapping[str, Any]] = {}
    media: Mapping[str, Mapping[str, Any]] = {}


class Operation(msgspec.Struct, frozen=True):
    """What `/openapi.json` says of a route. `answers` are by status, `errors` the statuses of the common error body,
    `query` the JSON schema of each parameter, `headers` an example of each."""

    summary: str
    answers: Mapping[str, Response]
    errors: str = "400 503"
    body: type[msgspec.Struct] | None = None
    query: Mapping[str, Mapping[str, Any]] = {}
    headers: Mapping[str, str] = {}
    deprecated: bool = False


class Route(msgspec.Struct, frozen=True):
    """One method on one path, which may have names in it: `/status/{identifier}`.

    `name` is the route's label in the metrics; without one its requests are not counted. HEAD is answered like GET, but
    for an `endless` answer (a stream, a WebSocket). A route without `operation` is not in `/openapi.json`.
    """

    method: str
    path: str
    handler: Handler
    name: str = ""
    access: Caller = "public"
    body: Body | None = None
    operation: Operation | None = None
    endless: bool = False


def page_of(query: Mapping[str, str]) -> tuple[int, str]:
    """`limit` (1 to 1,000, also for another word) and `after` of a query."""
    limit = MAX_PAGE
    with suppress(ValueError):
        limit = max(1, min(int(query.get("limit", "")), MAX_PAGE))
    return limit, query.get("after", "")
