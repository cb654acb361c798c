"""`GET /v1/config/watch`: server-sent events of one scope. A `hint` says "look"; an event of a kind expires what is cached of it.

The events come from what changed between two states of the scope, so that another server's write makes them too. A program
that connects cannot know what it has missed: the first event expires every kind, and so does a state of another epoch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Final

import msgspec

from cfgsync_core import Unavailable
from cfgsync_core.log_events import event
from cfgsync_core.server import SSE_HEADERS, Call, Reply, Write

from ..document import Scope
from ..kinds import KINDS, busted_name, kind_version
from ..service.documents import Documents
from ..service.scope_mirror import NO_STATE, ScopeState

MAX_READERS: Final = 10_000
SPACING_SECONDS: Final = 0.05
"""The least time between two looks at a scope; changes in between are sent together."""
RETRY_SECONDS: Final = 1.0
PING_SECONDS: Final = 15.0

BUSTED: Final = "config.config.cache_busted.v1"
HELLO: Final = b"retry: 2000\n\n"
HINT: Final = b"event: hint\ndata: {}\n\n"
PING: Final = b": still here\n\n"

log = logging.getLogger("cfgsync.documents")


class _Reader:
    """One stream; pieces that it has not sent yet, each once."""

    def __init__(self) -> None:
        self.pieces: dict[bytes, None] = {}
        self.news = asyncio.Event()

    def give(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self.pieces[piece] = None
        self.news.set()


class _Feed:
    """The readers of one scope, and the task that looks at it while there is one."""

    def __init__(self) -> None:
        self.readers: set[_Reader] = set()
        self.is_open = asyncio.Event()
        self.state = NO_STATE
        self.task: asyncio.Task[None] | None = None


class KindStreams:
    """The open streams of a server's documents."""

    def __init__(
        self, documents: Documents, *, at_most: int = MAX_READERS, ping: float = PING_SECONDS
    ) -> None:
        self._documents = documents
        self._at_most = at_most
        self._ping = ping
        self._feeds: dict[Scope, _Feed] = {}

    def __len__(self) -> int:
        return sum(len(feed.readers) for feed in self._feeds.values())

    async def watch(self, call: Call) -> Reply:
        """The handler. Raises `Unavailable` for one stream too many, and while the server stops; `InvalidRequest`."""
        scope = Scope.checked(*scope_words(call))
        if self._documents.ending:
            raise Unavailable("this server is stopping")
        if len(self) >= self._at_most:
            raise Unavailable(f"{self._at_most} streams are open already")

        async def stream(write: Write) -> None:
            await self._stream(scope, write)

        return Reply(200, (), SSE_HEADERS, stream)

    async def _stream(self, scope: Scope, write: Write) -> None:
        """One stream, until its reader or the server ends it."""
        feed = self._feeds.get(scope)
        if feed is None:
            feed = self._feeds[scope] = _Feed()
            feed.task = asyncio.create_task(self._follow(scope, feed), name=f"cfgsync-kinds {scope}")
        reader = _Reader()
        feed.readers.add(reader)
        try:
            await write(HELLO)
            await feed.is_open.wait()  # what changes from now on is seen
            reader.give([_event(BUSTED, scope, None, feed.state), HINT])
            while not self._documents.ending:
                pieces = b"".join(reader.pieces) or PING
                reader.pieces.clear()
                reader.news.clear()
                await write(pieces)
                try:
                    async with asyncio.timeout(self._ping):
                        await reader.news.wait()
                except TimeoutError:
                    pass
        finally:
            feed.readers.discard(reader)
            if not feed.readers and self._feeds.get(scope) is feed:
                del self._feeds[scope]
                if feed.task is not None:
                    feed.task.cancel()

    async def _follow(self, scope: Scope, feed: _Feed) -> None:
        before: ScopeState | None = None
        has_failed = False
        while True:
            changed = self._documents.news(scope)
            try:
                now = await self._documents.state(scope)
                pieces = [] if before is None else list(_news(scope, before, now))
                has_failed = False
            except Exception as error:  # an unforeseen one, too, must not end the streams
                if not isinstance(error, Unavailable) and not has_failed:
                    words = "the changes of %s cannot be told; trying again"
                    log.error(words, scope, exc_info=error, extra=event("changes_untold", scope=str(scope)))
                    has_failed = True
                if not self._documents.ending:
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                now, pieces = before or NO_STATE, []
            before = feed.state = now
            feed.is_open.set()
            if pieces or self._documents.ending:
                for reader in feed.readers:
                    reader.give(pieces)
            if self._documents.ending:
                return
            await changed.wait()
            await asyncio.sleep(SPACING_SECONDS if pieces else 0)


def scope_words(call: Call) -> tuple[str, str]:
    """App and environment of a query."""
    return call.query.get("app") or "default", call.query.get("env") or "default"


def _news(scope: Scope, before: ScopeState, now: ScopeState) -> Iterator[bytes]:
    """The events from one state to the next."""
    if before.version == now.version:
        return
    keys = before.revisions.keys() | now.revisions.keys()
    changed = {key for key in keys if before.revisions.get(key) != now.revisions.get(key)}
    if KINDS in changed or before.version.epoch not in ("", now.version.epoch):
        yield _event(BUSTED, scope, None, now)
    else:
        for name, kind in now.kinds.items():
            if busted_name(scope, name).key in changed:
                yield _event(BUSTED, scope, name, now)
            elif any(map(kind.has, changed)):
                yield _event(f"config.{name}.updated.v1", scope, name, now)
    yield HINT


def _event(name: str, scope: Scope, kind: str | None, now: ScopeState) -> bytes:
    """The event of one kind, or with None of all: it has no value, but the versions that the kinds have now, which are a part of
    the keys of shared results. That of the scope is for the log only."""
    body = {
        "app": scope.app,
        "env": scope.environment,
        "kind": kind,
        "version": str(now.version),
        "kinds": {
            one: kind_version(one, rule, now.version.epoch, now.revisions)
            for one, rule in now.kinds.items()
            if kind in (None, one)
        },
    }
    line = "".join(name.splitlines())  # whatever it is, an event has one
    return b"event: %b\ndata: %b\n\n" % (line.encode(), msgspec.json.encode(body))
