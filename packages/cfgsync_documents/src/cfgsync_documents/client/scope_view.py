"""The bindings of one scope as a View: what the server has is applied to them, written to the cache, and only then known."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from cfgsync_core import Version
from cfgsync_core.follow import Ask, Same, Steps, Whole

from ..document import Scope
from .binding import Binding
from .snapshot_file import CachedSnapshot, SnapshotFile
from .transport import Contents, ScopeTransport


class ScopeView:
    """`bindings` maps `namespace/key`. Those in `unsent` have a default that no server has confirmed: it is sent first."""

    def __init__(self, scope: Scope, transport: ScopeTransport, file: SnapshotFile | None) -> None:
        self.scope = scope
        self.bindings: dict[str, Binding[Any]] = {}
        self.unsent: set[str] = set()
        self.confirmed_at: float | None = None
        self._transport = transport
        self._file = file
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

    def bind(self, key: str) -> None:
        """Give a new binding what is known of its document."""
        if self._known is not None:
            self.bindings[key].apply(self._contents.get(key))

    def bind_cached(self, key: str) -> bool:
        """Give a binding what the cache has of it; False when that is nothing that can be used."""
        cached = None if self._file is None else self._file.read()
        if cached is None or key not in cached.documents:
            return False
        self.bindings[key].apply(cached.documents[key])
        return self.bindings[key].is_ready

    # ── a View ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def read(self, ask: Ask) -> Whole[Contents] | Same:
        """See `View`."""
        began = time.monotonic()
        if self.unsent:
            await self.send_defaults()
            ask = Ask(ask.known, ask.whole)
        answer = await self._transport.snapshot(self.scope, ask)
        self.confirmed_at = began
        return answer

    def same(self, whole: Whole[Contents]) -> bool:
        return whole.content == self._contents

    async def apply(self, news: Whole[Contents] | Steps | Same) -> None:
        if isinstance(news, Whole):
            for key, binding in self.bindings.items():
                binding.apply(news.content.get(key))
            if self._file is not None:
                cached = CachedSnapshot(str(news.version), self._good(news.content))
                await asyncio.to_thread(self._file.write, cached)
            self._contents = news.content
            self._known = news.version
        elif isinstance(news, Same):
            self._known = news.version
        self._moved.set()

    def _good(self, contents: Contents) -> dict[str, str]:
        """The documents for the cache: of one that could not be applied, the last that was."""
        kept = dict(contents)
        for key, binding in self.bindings.items():
            if binding.error and binding.good is not None:
                kept[key] = binding.good
            elif binding.error:
                kept.pop(key, None)
        return kept
