"""The documents of one scope in memory, with their limits: a commit that would break a limit writes nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec

from cfgsync_core import NEVER, Conflict, InvalidRequest, RevisionedStore, Unavailable, Version
from cfgsync_core.follow import BucketMirror, OtherServers
from cfgsync_core.log_events import event
from cfgsync_core.store import uuid7

from ..document import MAX_SCOPE_BYTES, MAX_SCOPE_DOCUMENTS, By, Document, DocumentName, Scope, Writer
from ..errors import DocumentConflict
from ..kinds import Kinds, kinds_name, read_kinds
from .foreseen import Foreseen, Head, StoredDocument

log = logging.getLogger("cfgsync.documents")

_KIND: Final = "config"
DELETER: Final = "deleter"
"""A key that no document has, since theirs have a namespace: a commit that deletes writes it, with the name of its writer."""


class Committed(NamedTuple):
    """What a commit did: the scope's version, and the documents that it wrote; equal ones are not written again."""

    version: Version
    written: frozenset[DocumentName]


class ScopeState(NamedTuple):
    """Which documents a scope has, by key with their revisions, and its kinds."""

    version: Version
    revisions: Mapping[str, int]
    kinds: Kinds


NO_STATE: Final = ScopeState(NEVER, {}, {})
"""That of a scope that was never written."""


def bucket_of(scope: Scope) -> str:
    """The bucket of a scope's documents."""
    return f"{_KIND}/{scope}"


def scope_of(bucket: str) -> Scope | None:
    """The scope whose documents a bucket has, None if it has none."""
    kind, _, named = bucket.partition("/")
    return Scope(*named.split("/")) if kind == _KIND else None


def decode_stored(value: bytes) -> StoredDocument:
    """What a bucket's value holds."""
    stored = _decode(value)
    return StoredDocument(bytes(stored.data), stored.by)


class ScopeMirror:
    """Await `open()` first and `close()` at the end. `on_change` is called after each change of the scope."""

    def __init__(
        self,
        store: RevisionedStore,
        scope: Scope,
        others: OtherServers | None,
        on_change: Callable[[Scope], object],
    ) -> None:
        self.scope = scope
        self._store = store
        self._others = others
        self._on_change = on_change
        self._sizes: dict[str, int] = {}
        self._bytes = 0
        self._coming_bytes = 0  # of commits that are under way
        self._coming = 0
        self._foreseen = Foreseen()
        self._mirror: BucketMirror[StoredDocument] = BucketMirror(
            store,
            bucket_of(scope),
            decode_stored,
            _encode,
            on_change=self._changed,
            others=others,
            timed=True,
        )

    async def open(self) -> None:
        """Read the bucket. Raises `Unavailable`."""
        await self._mirror.open()

    async def close(self) -> None:
        await self._mirror.close()

    @property
    def version(self) -> Version:
        return self._mirror.version

    async def catch_up(self) -> None:
        """Return when the documents are at least those of this moment; without other servers they always are."""
        if self._others is not None and await self._store.version(bucket_of(self.scope)) != self.version:
            await self._mirror.catch_up()

    async def learn_times(self, name: DocumentName | None = None) -> None:
        """Await this for the time of a document, or with None of all, in what is read in the same turn. While the store does
        not answer, a time stays unknown: the values are here."""
        with suppress(Unavailable):
            await self._mirror.learn_times(None if name is None else name.key)

    def get(self, name: DocumentName) -> Document | None:
        """The document, None when it is absent."""
        stored = self._mirror.get(name.key)
        if stored is None:
            return None
        revision = self._mirror.revision_of(name.key) or 0
        return Document(
            name,
            stored.data,
            Version(self.version.epoch, revision),
            self._mirror.at_ms_of(name.key),
            stored.by,
        )

    @property
    def foresees(self) -> bool:
        """Whether `head` may be ahead of `get`: this process is the only writer of the store."""
        return self._others is None

    async def certain(self) -> None:
        """Await this, and commit without waiting for anything else, to write what was made of a `head`."""
        await self._foreseen.certain()

    def head(self, name: DocumentName) -> Head:
        """The newest state of a document, also that of a commit under way, which may still fail: a commit that was made of it
        expects its revision."""
        ahead = self._foreseen.get(name.key)
        return ahead or Head(self._mirror.revision_of(name.key) or 0, self._mirror.get(name.key))

    def state(self) -> ScopeState:
        """Without kinds when their document was loaded from elsewhere and cannot be read."""
        revisions = {key: self._mirror.revision_of(key) or 0 for key in self._sizes}
        document = self.get(kinds_name(self.scope))
        kinds: Kinds = {}
        try:
            kinds = read_kinds(document.data) if document is not None else kinds
        except msgspec.ValidationError as error:
            said = event("invalid_kinds", scope=str(self.scope))
            log.warning("the kinds of %s cannot be read: %s", self.scope, error, extra=said)
        return ScopeState(self.version, revisions, kinds)

    def documents(self, namespace: str | None = None) -> list[Document]:
        """The documents by namespace and name; those of one namespace if it is given."""
        names = sorted(tuple(key.split("/", 1)) for key in self._sizes)
        found = (
            self.get(DocumentName(self.scope, space, name))
            for space, name in names
            if namespace in (None, space)
        )
        return [document for document in found if document is not None]

    def expect(self, expected: Mapping[DocumentName, int]) -> None:
        """Raises `DocumentConflict` for a document that is at another revision, and is on the way to another one."""
        for name, want in expected.items():
            found = self._mirror.revision_of(name.key) or 0
            if want not in (found, self.head(name).revision):
                raise DocumentConflict(name, want, found)

    async def commit(
        self,
        writes: Mapping[DocumentName, bytes | None],
        by: By,
        expected: Mapping[DocumentName, int] | None = None,
    ) -> Committed:
        """Write all documents (None deletes) in one revision, or nothing. What is equal already is not written.

        `expected` maps names to the revision of the document, 0 for an absent one. Raises `DocumentConflict`;
        `InvalidRequest` (413) for a scope that would be too large; `Unavailable` and its kin. A cancelled call goes on to its
        end.
        """
        await self._foreseen.certain()
        expected = expected or {}
        self.expect(expected)
        writer = by if isinstance(by, Writer) else Writer(by)
        before = {name: self.head(name) for name in writes}
        growth = self._growth(writes, before)
        values = {name.key: _value(data, writer.name, before[name].stored) for name, data in writes.items()}
        written = frozenset(name for name, data in writes.items() if data != before[name].data)
        if any(writes[name] is None for name in written):
            values[DELETER] = StoredDocument(
                b'"%b"' % uuid7().encode(), writer.name
            )  # never equal to the last
        # an equal write that expects nothing makes a revision after all when the commit before it fails
        is_equal = not written and all(expected.get(name) == head.revision for name, head in before.items())
        changes = {} if is_equal or not self.foresees else values
        foreseen = self._foreseen.post(self.version.revision, changes)
        self._coming += growth[0]
        self._coming_bytes += growth[1]

        async def commit() -> Version:
            version = NEVER
            try:
                version = await self._mirror.commit(
                    values, {name.key: want for name, want in expected.items()}
                )
            except Conflict as error:
                raise self._conflict(error, expected) from error
            finally:
                self._coming -= growth[0]
                self._coming_bytes -= growth[1]
                self._foreseen.end(changes, not self.foresees or version.revision == foreseen)
            for name in written:
                _log_written(name, writes[name] is None, writer, before[name].revision, version.revision)
            return version

        return Committed(await asyncio.shield(asyncio.create_task(commit())), written)

    def _conflict(self, error: Conflict, expected: Mapping[DocumentName, int]) -> DocumentConflict:
        name = next(name for name in expected if name.key == error.key)
        document = self.get(name)
        return DocumentConflict(name, error.expected, 0 if document is None else document.revision)

    def _growth(
        self, writes: Mapping[DocumentName, bytes | None], heads: Mapping[DocumentName, Head]
    ) -> tuple[int, int]:
        """By how many documents and bytes these writes let the scope grow. Raises `InvalidRequest` (413)."""
        many = size = 0
        for name, data in writes.items():
            before = heads[name].data
            many += (data is not None) - (before is not None)
            size += len(data or b"") - len(before or b"")
        if many > 0 and len(self._sizes) + self._coming + many > MAX_SCOPE_DOCUMENTS:
            raise InvalidRequest(413, f"{self.scope} would have over {MAX_SCOPE_DOCUMENTS} documents")
        if size > 0 and self._bytes + self._coming_bytes + size > MAX_SCOPE_BYTES:
            raise InvalidRequest(
                413, f"the documents of {self.scope} would have over {MAX_SCOPE_BYTES} bytes"
            )
        return max(many, 0), max(size, 0)

    def _changed(self, writes: Mapping[str, StoredDocument | None] | None) -> None:
        if writes is None:
            entries = self._mirror.entries.items()
            self._sizes = {key: len(stored.data) for key, stored in entries if key != DELETER}
            self._bytes = sum(self._sizes.values())
        else:
            for key, stored in writes.items():
                self._bytes -= self._sizes.pop(key, 0)
                if stored is not None and key != DELETER:
                    self._sizes[key] = len(stored.data)
                    self._bytes += len(stored.data)
        self._on_change(self.scope)


def _log_written(name: DocumentName, deleted: bool, writer: Writer, before: int, revision: int) -> None:
    log.info(
        "%s %s %s of %s%s (revision %s, before %s)",
        writer.name,
        "deleted" if deleted else "wrote",
        name.key,
        name.scope,
        f" from {writer.address}" if writer.address else "",
        revision,
        before,
        extra=event(
            "document_written",
            by=writer.name,
            address=writer.address,
            scope=str(name.scope),
            document=name.key,
            before=before,
            revision=revision,
            deleted=deleted,
        ),
    )


def _value(data: bytes | None, by: str, before: StoredDocument | None) -> StoredDocument | None:
    """What is equal keeps its writer, so that the store sees that nothing changes and makes no revision."""
    if data is None:
        return None
    return before if before is not None and before.data == data else StoredDocument(data, by)


class _Stored(msgspec.Struct):
    by: str
    data: msgspec.Raw


_decode: Final = msgspec.json.Decoder(_Stored).decode


def _encode(stored: StoredDocument) -> bytes:
    return b'{"by":%b,"data":%b}' % (msgspec.json.encode(stored.by), stored.data)
