"""The bindings of one scope as a View: what the server has is applied to them, written to the cache, and only then known."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, TypeAlias

from cfgsync_artifacts import CfgsyncError
from cfgsync_core import Version
from cfgsync_core.follow import Ask, Reconciler, Same, Steps, Whole
from cfgsync_core.log_events import event
from cfgsync_core.text import error_text

from ..document import Scope
from .binding import Binding, ConfigWatch
from .snapshot_file import CachedSnapshot, SnapshotFile
from .transport import Contents, ScopeTransport

SubscribeToScope: TypeAlias = Callable[[str, str], AbstractAsyncContextManager[AsyncIterator[None]]]
"""Called with app and environment: opens a subscription that yields when the scope may have changed."""

ABSENT: Final = (None, 0)
"""JSON and revision of a document that is absent."""

log = logging.getLogger("cfgsync.documents")


class ScopeView:
    """`bindings` maps `namespace/key`. Those in `unsent` have a default that no server has confirmed: it is sent first."""

    def __init__(self, scope: Scope, transport: ScopeTransport, file: SnapshotFile | None) -> None:
        self.scope = scope
        self.bindings: dict[str, Binding[Any]] = {}
        self.watches: list[ConfigWatch] = []
        self.unsent: set[str] = set()
        self.confirmed_at: float | None = None
        """When the last read that was answered began (monotonic seconds), `read_at` when it was answered."""
        self.read_at: float | None = None
        self.hinted_at: float | None = None
        self.started_from = ""
        """The version of the cached values in use, until the server answers."""
        self._cached_at = 0.0
        self._transport = transport
        self._file = file
        self._saving = asyncio.Lock()
        self._unsaved = ""
        self._known: Version | None = None
        self._contents: Contents = {}
        self._moved = asyncio.Event()

    @property
    def known(self) -> Version | None:
        return self._known

    async def send_defaults(self) -> int:
        """Send what was not sent; the scope's revision. Raises `Unavailable`, `ConfigRefused`."""
        sent = {key: self.bindings[key].definition for key in self.unsent if key in self.bindings}
        revision = await self._transport.sync_defaults(
            self.scope, [(one.namespace, one.key, one.default_json()) for one in sent.values()]
        )
        self.unsent -= set(sent)
        return revision

    async def reached(self, revision: int) -> None:
        """Return when a snapshot of this revision, or a later one, was applied."""
        while self._known is None or self._known.revision < revision:
            self._moved.clear()
            await self._moved.wait()

    async def bind(self, key: str) -> None:
        """Give a new binding what is known of its document."""
        if self._known is not None:
            self.bindings[key].apply(self._contents.get(key, ABSENT)[0])
            await self._save(self._known, self._contents)

    def bind_cached(self, key: str) -> bool:
        """Give a binding what the cache has of it; False when that is nothing that can be used."""
        cached = None if self._file is None else self._file.read()
        if cached is None or key not in cached.documents:
            return False
        self.started_from, self._cached_at = cached.version, cached.written_at
        self.bindings[key].apply(cached.documents[key])
        return self.bindings[key].is_ready

    def age(self) -> float | None:
        """Seconds since a server confirmed the values; of cached ones, since they were written, by the wall clock."""
        if self.confirmed_at is not None:
            return time.monotonic() - self.confirmed_at
        return max(time.time() - self._cached_at, 0.0) if self._cached_at else None

    def watch(self, watch: ConfigWatch) -> None:
        """Call it with the document's value, now if it is known, and with each later one."""
        self.watches.append(watch)
        if self._known is not None:
            watch.apply(*self._contents.get(watch.key, ABSENT))

    @asynccontextmanager
    async def hinted(self, subscribe: SubscribeToScope) -> AsyncIterator[AsyncIterator[None]]:
        """A subscription to hints that keeps the time of the last one."""

        async def timed(hints: AsyncIterator[None]) -> AsyncIterator[None]:
            async for hint in hints:
                self.hinted_at = time.monotonic()
                yield hint

        async with subscribe(*self.scope) as hints:
            yield timed(hints)

    # ── a View ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def read(self, ask: Ask) -> Whole[Contents] | Same:
        """See `View`."""
        began = time.monotonic()
        if self.unsent:
            await self.send_defaults()
            ask = Ask(ask.known, ask.whole)
        answer = await self._transport.snapshot(self.scope, ask)
        self.confirmed_at, self.read_at = began, time.monotonic()
        if ask.hold and isinstance(answer, Whole):
            self.hinted_at = self.read_at
        return answer

    def same(self, whole: Whole[Contents]) -> bool:
        return whole.content == self._contents

    async def apply(self, news: Whole[Contents] | Steps | Same) -> None:
        if isinstance(news, Whole):
            for key, binding in self.bindings.items():
                binding.apply(news.content.get(key, ABSENT)[0])
            for watch in tuple(self.watches):
                watch.apply(*news.content.get(watch.key, ABSENT))
            self._contents = news.content  # for a binding that is made during the next line
            await self._save(news.version, news.content)
            self._known = news.version
        elif isinstance(news, Same):
            self._known = news.version
        self._moved.set()

    async def _save(self, version: Version, contents: Contents) -> None:
        """Write the cache. A disk that refuses it is logged, and takes no value away."""
        if self._file is None:
            return
        try:
            async with self._saving:
                good = {key: binding.good for key, binding in self.bindings.items() if binding.is_ready}
                await asyncio.to_thread(_write, self._file, str(version), contents, good)
            self._unsaved = ""
        except (OSError, CfgsyncError) as error:
            if error_text(error) != self._unsaved:
                log.warning(
                    "the documents of %s cannot be cached in %s: %s",
                    self.scope,
                    self._file.path,
                    error_text(error),
                    extra=event("cache_unavailable", path=str(self._file.path)),
                )
            self._unsaved = error_text(error)


class FollowedScope:
    """One scope: its view, and the loop that keeps it in step."""

    def __init__(self, view: ScopeView, interval: float, hints: SubscribeToScope | None) -> None:
        self.view = view
        self.turn = asyncio.Lock()
        self.reader: Reconciler[Contents] = Reconciler(
            view,
            interval=interval,
            subscribe=None if hints is None else lambda: view.hinted(hints),
            held_reads=hints is None,
            resets=True,
            name=f"documents {view.scope}",
        )
        self.is_running = False

    async def start(self) -> None:
        if not self.is_running:
            self.is_running = True
            await self.reader.__aenter__()


def _write(file: SnapshotFile, version: str, contents: Contents, good: dict[str, str | None]) -> None:
    """The cache holds what bindings have applied, None for a default in a deleted document's place. What no binding of this
    program could apply keeps the value that was cached before."""
    before = file.read()
    kept = {key: json for key, json in before.documents.items() if key in contents} if before else {}
    file.write(CachedSnapshot(version, kept | good, time.time()))
