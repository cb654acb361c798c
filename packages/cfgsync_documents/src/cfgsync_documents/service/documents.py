"""The verbs of documents over one store: a write is durable on return, and a read never answers an older state than one
that was committed before it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Final, NamedTuple, Self
from weakref import WeakValueDictionary

from cfgsync_core import NEVER, Conflict, InvalidRequest, RevisionedStore, Unavailable, Version
from cfgsync_core.follow import BucketMirror, OtherServers

from ..document import MAX_DOCUMENT_BYTES, By, Document, DocumentName, Scope
from ..errors import DocumentConflict, NotAnObject
from ..merge import Merge
from .rules import Checker, Rules
from .scope_mirror import NO_STATE, Committed, ScopeMirror, ScopeState

INDEX: Final = "config-scopes"
"""The bucket whose keys are the scopes that were ever written."""
PATCH_SECONDS: Final = 10.0
PAUSE_SECONDS: Final = 0.1
"""At most, drawn at random, between two tries of a patch that another server's write has overtaken."""


class ScopeSnapshot(NamedTuple):
    """One consistent state of a scope."""

    version: Version
    documents: list[Document]


class Documents:
    """`async with Documents(store) as documents: await documents.set(name, b"{}", by="ana")`.

    `others`: other servers commit to the same store. A scope is read when it is first used. `on_change(scope)` is called
    after each change of a scope that was used. `checker` judges documents that have a schema.
    """

    def __init__(
        self,
        store: RevisionedStore,
        others: OtherServers | None = None,
        on_change: Callable[[Scope], object] = lambda scope: None,
        checker: Checker | None = None,
    ) -> None:
        self._store = store
        self._rules = Rules(checker)
        self._others = others
        self.on_change = on_change
        self._index: BucketMirror[bytes] = BucketMirror(
            store, INDEX, bytes, bytes, others=others, on_change=self._scopes_changed
        )
        self._open: dict[Scope, ScopeMirror] = {}
        self._opening = asyncio.Lock()
        self._turns: WeakValueDictionary[DocumentName, asyncio.Lock] = WeakValueDictionary()
        self._news: WeakValueDictionary[Scope, asyncio.Event] = WeakValueDictionary()
        self._stack = AsyncExitStack()
        self.ending = False
        """True while the server stops: nothing is waited for any more."""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._index.close)
            await self._index.open()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.drain()
        await self._stack.aclose()

    def drain(self) -> None:
        """Let everything that waits for a change go on now."""
        self.ending = True
        for changed in list(self._news.values()):
            changed.set()

    def news(self, scope: Scope) -> asyncio.Event:
        """It is set at the next change of the scope: take it, read, then wait for it."""
        changed = self._news.get(scope)
        if changed is None:
            changed = self._news[scope] = asyncio.Event()
        if self.ending:
            changed.set()
        return changed

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def scopes(self) -> list[Scope]:
        """Every scope that was ever written, sorted."""
        await self._index.catch_up()
        return sorted(Scope(*key.split("/")) for key in self._index)

    async def get(self, name: DocumentName) -> Document | None:
        """The document, None when it is absent. Raises `Unavailable`."""
        mirror = await self._mirror(name.scope)
        if mirror is None:
            return None
        await mirror.learn_times(name)
        return mirror.get(name)

    async def snapshot(self, scope: Scope, namespace: str | None = None) -> ScopeSnapshot:
        """The documents of a scope, or of one namespace in it, with the scope's version. Raises `Unavailable`."""
        mirror = await self._mirror(scope)
        if mirror is None:
            return ScopeSnapshot(NEVER, [])
        await mirror.learn_times()
        return ScopeSnapshot(mirror.version, mirror.documents(namespace))

    async def state(self, scope: Scope) -> ScopeState:
        """Which documents a scope has, without their values. Raises `Unavailable`."""
        mirror = await self._mirror(scope)
        return NO_STATE if mirror is None else mirror.state()

    async def version(self, scope: Scope) -> Version:
        """The scope's version, `NEVER` before its first document."""
        mirror = await self._mirror(scope)
        return NEVER if mirror is None else mirror.version

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def commit(
        self,
        scope: Scope,
        writes: Mapping[DocumentName, bytes | None],
        by: By,
        expected: Mapping[DocumentName, int] | None = None,
    ) -> Committed:
        """Write all documents (None deletes) in one revision, or nothing; see `ScopeMirror.commit`. Raises `InvalidDocument` too."""
        mirror = await self._mirror(scope, made=any(data is not None for data in writes.values()))
        if mirror is None:  # nothing to delete
            for name, want in (expected or {}).items():
                if want:
                    raise DocumentConflict(name, want, 0)
            return Committed(NEVER, frozenset())
        return await self._commit(mirror, writes, by, expected or {})

    async def set(self, name: DocumentName, data: bytes, by: By, expected: int | None = None) -> int:
        """Replace the whole document; returns its revision. `expected` is its revision, 0 creates only.

        Raises `DocumentConflict`, `InvalidDocument`, `InvalidRequest` (413), `Unavailable`.
        """
        return await self._write(name, data, by, expected)

    async def patch(
        self, name: DocumentName, patch: bytes, merge: Merge, by: By, expected: int | None = None
    ) -> int:
        """Merge `patch`, a canonical JSON object, into the document, or into `{}` if it is absent; returns its revision.

        Without `expected` it is tried again until no other write comes between, for `PATCH_SECONDS`. Raises `NotAnObject`,
        `DocumentConflict`, `InvalidRequest` (413), `Unavailable`.
        """
        until = asyncio.get_running_loop().time() + PATCH_SECONDS
        if (
            expected is None
            and (landed := await self._patched_ahead(name, patch, merge, by, until)) is not None
        ):
            return landed
        turn = self._turns.setdefault(name, asyncio.Lock())
        try:
            async with asyncio.timeout_at(until):
                await turn.acquire()  # writers of this server do not overtake each other
        except TimeoutError:
            raise _overtaken(name) from None
        try:
            while True:
                document = await self.get(name)
                found = 0 if document is None else document.revision
                if expected is not None and found != expected:
                    raise DocumentConflict(name, expected, found)
                if document is not None and not document.is_object:
                    raise NotAnObject(name)
                merged = merge(b"{}" if document is None else document.data, patch)
                try:
                    return await self._write(name, merged, by, found)
                except DocumentConflict:
                    if expected is not None:
                        raise
                    if asyncio.get_running_loop().time() >= until:
                        raise _overtaken(name) from None
                await asyncio.sleep(PAUSE_SECONDS * random.random())
        finally:
            turn.release()

    async def _patched_ahead(
        self, name: DocumentName, patch: bytes, merge: Merge, by: By, until: float
    ) -> int | None:
        """Merge into what the commits under way will make of the document, so that patches of many writers are durable
        together; None when this patch has to wait for those commits."""
        while True:
            mirror = await self._mirror(name.scope, made=True)
            assert mirror is not None  # it was made
            await mirror.certain()
            head = mirror.head(name)
            data = b"{}" if head.data is None else head.data
            if not mirror.foresees or self._rules.asks(mirror, name) or not data.startswith(b"{"):
                return None
            merged = merge(data, patch)
            if len(merged) > MAX_DOCUMENT_BYTES:
                return None
            try:
                return await self._write(name, merged, by, head.revision)
            except DocumentConflict:  # a commit before it failed
                if asyncio.get_running_loop().time() >= until:
                    raise _overtaken(name) from None

    async def delete(self, name: DocumentName, by: By, expected: int | None = None) -> bool:
        """Delete the document; False when it was absent. Raises `DocumentConflict`, `Unavailable`."""
        wanted = {} if expected is None else {name: expected}
        return bool((await self.commit(name.scope, {name: None}, by, wanted)).written)

    async def _write(self, name: DocumentName, data: bytes, by: By, expected: int | None) -> int:
        if len(data) > MAX_DOCUMENT_BYTES:
            raise InvalidRequest(413, f"the document would have over {MAX_DOCUMENT_BYTES} bytes")
        wanted = {} if expected is None else {name: expected}
        mirror = await self._mirror(name.scope, made=True)
        assert mirror is not None  # it was made
        done = await self._commit(mirror, {name: data}, by, wanted)
        document = mirror.get(name)
        if done.written or document is None:
            return done.version.revision
        return min(document.revision, done.version.revision)

    async def _commit(
        self,
        mirror: ScopeMirror,
        writes: Mapping[DocumentName, bytes | None],
        by: By,
        expected: Mapping[DocumentName, int],
    ) -> Committed:
        """Commit what its rules permit; when they change meanwhile, look again. Raises `InvalidDocument` and what
        `ScopeMirror.commit` raises."""
        until = asyncio.get_running_loop().time() + PATCH_SECONDS
        while True:
            mirror.expect(expected)
            judged = await self._rules.check(mirror, writes)
            try:
                return await mirror.commit(writes, by, {**judged, **expected})
            except DocumentConflict as error:
                if error.name in expected or asyncio.get_running_loop().time() >= until:
                    raise

    # ── mirrors ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _mirror(self, scope: Scope, *, made: bool = False) -> ScopeMirror | None:
        """The scope in its newest state, None for one that was never written; with `made` it is made."""
        mirror = self._open.get(scope)
        if mirror is None:
            async with self._opening:
                mirror = self._open.get(scope) or await self._opened(scope, made)
        if mirror is not None:
            await mirror.catch_up()
        return mirror

    async def _opened(self, scope: Scope, made: bool) -> ScopeMirror | None:
        key = str(scope)
        if key not in self._index:
            await self._index.look_up(key)
        if key not in self._index:
            if not made:
                return None
            with suppress(Conflict):  # another server was first
                await self._index.commit({key: b"{}"}, expected={key: 0})
        mirror = ScopeMirror(self._store, scope, self._others, self._scope_changed)
        await mirror.open()
        self._stack.push_async_callback(mirror.close)
        self._open[scope] = mirror
        return mirror

    def _scope_changed(self, scope: Scope) -> None:
        changed = self._news.pop(scope, None)
        if changed is not None:
            changed.set()
        self.on_change(scope)

    def _scopes_changed(self, writes: Mapping[str, bytes | None] | None) -> None:
        """Another server may have made a scope that something here waits for."""
        for scope in list(self._news):
            if scope not in self._open and str(scope) in self._index:
                self._news.pop(scope).set()


def _overtaken(name: DocumentName) -> Unavailable:
    return Unavailable(f"other writes overtook this patch for {PATCH_SECONDS:g} s ({name.described})")
