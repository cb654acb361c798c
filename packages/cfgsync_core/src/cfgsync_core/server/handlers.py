"""What each route answers, with no HTTP library in it: a decoded call goes in, a reply comes out.

The table `handlers()` is where a wrapper (identity, metrics) is put around a route, composed in `runtime/serve.py`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import msgspec

from cfgsync_artifacts import CfgsyncError

from ..errors import InvalidRegistration, InvalidRequest
from ..log_events import event
from ..store.contract import Version
from ..wire.acknowledgement import Acknowledgement, decode_acknowledgement
from ..wire.headers import GENERATION, VERSION
from ..wire.protocol import (
    CODE,
    STATUS,
    Missing,
    NotReady,
    Ready,
    encode_error,
    encode_missing,
    encode_not_ready,
)
from ..wire.registration import NodeRegistration, check_identifier
from ..wire.request_body import RequestBody
from ..wire.source import AcknowledgingSource, MembershipSource, NodeConfigSource, SharedSource
from ..wire.status import StatusSource

log = logging.getLogger("cfgsync")

RETRY_AFTER_SECONDS = 1


class Call(msgspec.Struct, gc=False):
    """One decoded request. `registration` is there on `/register` only; `bearer` is the node's secret; `wait` seconds;
    `etags` what the node has; `extended` whether it understands modes and base64; `limit` and `after` page `/status`;
    `version` is what `Cfgsync-Version` says, not decoded: only a source that shares its store asks for it; `body` is what
    a POST of `routes.ROUTES` brought, for its handler to decode, and `query` the target's words. `operator` says that the
    asker is one, and `own_name` that it called this machine by a name of its own (`asker.py`); `accept` is the header."""

    identifier: str = ""
    registration: NodeRegistration | None = None
    bearer: str | None = None
    wait: float = 0.0
    etags: tuple[str, ...] = ()
    extended: bool = False
    version: str | None = None
    limit: int = 1_000
    after: str = ""
    body: bytes = b""
    query: Mapping[str, str] = {}
    acknowledgement: Acknowledgement | None = None
    operator: bool = False
    own_name: bool = False
    accept: str = ""

    def acknowledged(self) -> Acknowledgement:
        """What the body of `/ack` says, decoded once, also when a wrapper asks first. Raises `InvalidRequest`."""
        if self.acknowledgement is None:
            self.acknowledgement = decode_acknowledgement(self.body)
            self.identifier = self.acknowledgement.identifier
        return self.acknowledgement

    def named(self) -> str:
        """The identifier in the body of an operator route. Raises `InvalidRequest`."""
        if not self.identifier:
            try:
                self.identifier = check_identifier(_named.decode(self.body).identifier)
            except InvalidRegistration as error:
                raise InvalidRequest(422, str(error)) from error
        return self.identifier


class Named(msgspec.Struct, frozen=True):
    """Which node an operator means."""

    identifier: str


_named = RequestBody(Named)


Write: TypeAlias = Callable[[bytes], Awaitable[None]]


class Reply(msgspec.Struct, gc=False):
    """One answer: status, the body's bytes in pieces (a shared piece is one object for all nodes), headers. The body is
    JSON unless `headers` say otherwise. `stream` writes a body without an end instead, until it returns; it may be told
    by `ConnectionError` that the reader has gone."""

    status: int
    chunks: tuple[bytes, ...] = ()
    headers: Mapping[str, str] = {}
    stream: Callable[[Write], Awaitable[None]] | None = None


Handler: TypeAlias = Callable[[Call], Awaitable[Reply]]


def refusal(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Reply:
    """An error reply in the one shape of every error."""
    return Reply(status, (encode_error(code, message),), headers or {})


def failure(error: BaseException) -> Reply:
    """The reply to an exception: a status for those that mean something to a node, 500 without a word for the rest."""
    for kind, status in STATUS.items():
        if isinstance(error, kind) and isinstance(error, CfgsyncError):
            later = {"Retry-After": str(RETRY_AFTER_SECONDS)} if status == 503 else None
            return refusal(status, CODE[status], str(error), later)
    log.error("a request failed: %s", type(error).__name__, exc_info=error, extra=event("request_failed"))
    return refusal(500, "internal", "the server failed; its log says why")


def evicted(identifier: str) -> Reply:
    """200: the node has left."""
    return Reply(200, (msgspec.json.encode(Named(identifier)),))


def no_such_node(identifier: str) -> Reply:
    """404 with the identifier in it, which tells it from a route that is not there."""
    message = f"no node {identifier} is registered"
    return Reply(404, (encode_error("not_found", message, identifier=identifier),))


class CfgsyncServerState:
    """A source as a table of routes. `status` is the same source when it can also explain itself."""

    def __init__(self, source: NodeConfigSource, status: StatusSource | None = None) -> None:
        self._source = source
        self._shared = source if isinstance(source, SharedSource) and source.shares_store else None
        self._status = (
            status if status is not None else (source if isinstance(source, StatusSource) else None)
        )

    def handlers(self) -> dict[str, Handler]:
        """Route name to handler: `register`, `node`, `livez`, `readyz`, and for a source that can `status`, `ack`, `evict`."""
        table: dict[str, Handler] = {
            "register": self.register,
            "node": self.node,
            "livez": self.livez,
            "readyz": self.readyz,
        }
        if self._status is not None:
            table["status"] = self.status
        if isinstance(self._source, AcknowledgingSource):
            table["ack"] = self.ack
        if isinstance(self._source, MembershipSource):
            table["evict"] = self.evict
        return table

    async def register(self, call: Call) -> Reply:
        assert call.registration is not None  # decoded by the route
        answer = await self._source.register(call.registration)
        if isinstance(answer, Missing):
            return Reply(STATUS[Missing], (encode_missing(call.identifier, answer),))
        return Reply(202, (), {VERSION: str(answer)} if answer.epoch else {})

    async def node(self, call: Call) -> Reply:
        known = call.etags[0] if call.etags else None
        if self._shared is None:
            answer = await self._source.resolve(call.identifier, known=known, wait=call.wait)
        else:
            answer = await self._shared.resolve(
                call.identifier, known=known, wait=call.wait, at_least=_version(call.version)
            )
        applied = {"Preference-Applied": f"wait={call.wait:g}"} if call.wait else {}
        if isinstance(answer, Ready):
            payload = answer.payload
            headers = {"ETag": f'"{payload.digest}"', **applied}
            if answer.generation is not None:
                headers[GENERATION] = answer.generation
            if payload.digest in call.etags or "*" in call.etags:
                return Reply(304, (), headers)
            if payload.extended is not None and not call.extended:
                return refusal(
                    406,
                    "not_acceptable",
                    f"file {payload.extended} has a mode or an encoding: ask with `Cfgsync-Accept: base64, mode`",
                )
            return Reply(STATUS[Ready], payload.chunks, headers)
        if isinstance(answer, NotReady):
            later = answer.retry_after
            if later:
                applied["Retry-After"] = str(math.ceil(later))
            return Reply(STATUS[NotReady], (encode_not_ready(call.identifier, answer),), applied)
        return Reply(STATUS[Missing], (encode_missing(call.identifier, answer),), applied)

    async def ack(self, call: Call) -> Reply:
        acknowledgement = call.acknowledged()
        assert isinstance(self._source, AcknowledgingSource)  # the route is only there with one
        answer = await self._source.acknowledge(acknowledgement)
        if answer is not None:
            return Reply(STATUS[NotReady], (encode_not_ready(call.identifier, answer),))
        return Reply(204)

    async def evict(self, call: Call) -> Reply:
        identifier = call.named()
        assert isinstance(self._source, MembershipSource)  # the route is only there with one
        if not await self._source.evict(identifier):
            return no_such_node(identifier)
        return evicted(identifier)

    async def livez(self, call: Call) -> Reply:
        return Reply(200, (b'{"status":"alive"}',))

    async def readyz(self, call: Call) -> Reply:
        if self._status is not None:
            await self._status.ping()
        return Reply(200, (b'{"status":"ready"}',))

    async def status(self, call: Call) -> Reply:
        assert self._status is not None  # the route is only there with one
        words = (
            self._status.node(call.identifier)
            if call.identifier
            else self._status.fleet(call.limit, call.after)
        )
        return Reply(200, (msgspec.json.encode(words),))


def _version(text: str | None) -> Version | None:
    """What `Cfgsync-Version` says. One that is none was not ours to begin with, and asks for nothing."""
    if text is None:
        return None
    try:
        return Version.parse(text)
    except ValueError:
        return None
