"""The documents of one scope in memory, with their limits: a commit that would break a limit writes nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgspec

from cfgsync_core import Conflict, InvalidRequest, RevisionedStore, Version
from cfgsync_core.follow import BucketMirror, OtherServers
from cfgsync_core.log_events import event

from ..document import MAX_SCOPE_BYTES, MAX_SCOPE_DOCUMENTS, Document, DocumentName, Scope
from ..errors import DocumentConflict

log = logging.getLogger("cfgsync.documents")


class StoredDocument(msgspec.Struct, frozen=True):
    """The value of a key: the document's JSON and its writer."""

    data: bytes
    by: str


class Committed(NamedTuple):
    """What a commit did: the scope's version, and the documents that it wrote; equal ones are not written again."""

    version: Version
    written: frozenset[DocumentName]


def bucket_of(scope: Scope) -> str:
    """The bucket of a scope's documents."""
    return f"config/{scope}"


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

    def documents(self, namespace: str | None = None) -> list[Document]:
        """The documents by namespace and name; those of one namespace if it is given."""
        names = sorted(tuple(key.split("/", 1)) for key in self._mirror)
        found = (
            self.get(DocumentName(self.scope, space, name))
            for space, name in names
            if namespace in (None, space)
        )
        return [document for document in found if document is not None]

    async def commit(
        self,
        writes: Mapping[DocumentName, bytes | None],
        by: str,
        expected: Mapping[DocumentName, int] | None = None,
        address: str = "",
    ) -> Committed:
        """Write all documents (None deletes) in one revision, or nothing. What is equal already is not written. `address` is
        the writer's, for the log.

        `expected` maps names to the revision of the document, 0 for an absent one. Raises `DocumentConflict`;
        `InvalidRequest` (413) for a scope that would be too large; `Unavailable` and its kin.
        """
        expected = expected or {}
        for name, want in expected.items():
            document = self.get(name)
            found = 0 if document is None else document.revision
            if found != want:
                raise DocumentConflict(name, want, found)
        before = {name: self._mirror.get(name.key) for name in writes}
        revisions = {name: self._mirror.revision_of(name.key) or 0 for name in writes}
        many, size = self._growth(writes)
        self._coming += many
        self._coming_bytes += size
        try:
            version = await self._mirror.commit(
                {name.key: _value(data, by, before[name]) for name, data in writes.items()},
                {name.key: want for name, want in expected.items()},
            )
        except Conflict as error:
            raise self._conflict(error, expected) from error
        finally:
            self._coming -= many
            self._coming_bytes -= size
        written = frozenset(name for name, data in writes.items() if data != _data_of(before[name]))
        for name in written:
            log.info(
                "%s%s %s %s of %s (revision %s)",
                by,
                f" from {address}" if address else "",
                "deleted" if writes[name] is None else "wrote",
                name.key,
                self.scope,
                version.revision,
                extra=event(
                    "document_written",
                    by=by,
                    address=address,
                    scope=str(self.scope),
                    document=name.key,
                    before=revisions[name],
                    revision=version.revision,
                    deleted=writes[name] is None,
                ),
            )
        return Committed(version, written)

    def _conflict(self, error: Conflict, expected: Mapping[DocumentName, int]) -> DocumentConflict:
        name = next(name for name in expected if name.key == error.key)
        document = self.get(name)
        return DocumentConflict(name, error.expected, 0 if document is None else document.revision)

    def _growth(self, writes: Mapping[DocumentName, bytes | None]) -> tuple[int, int]:
        """By how many documents and bytes these writes let the scope grow. Raises `InvalidRequest` (413)."""
        many = size = 0
        for name, data in writes.items():
            before = self._sizes.get(name.key)
            many += (data is not None) - (before is not None)
            size += (0 if data is None else len(data)) - (before or 0)
        if many > 0 and len(self._mirror) + self._coming + many > MAX_SCOPE_DOCUMENTS:
            raise InvalidRequest(413, f"{self.scope} would have over {MAX_SCOPE_DOCUMENTS} documents")
        if size > 0 and self._bytes + self._coming_bytes + size > MAX_SCOPE_BYTES:
            raise InvalidRequest(
                413, f"the documents of {self.scope} would have over {MAX_SCOPE_BYTES} bytes"
            )
        return max(many, 0), max(size, 0)

    def _changed(self, writes: Mapping[str, StoredDocument | None] | None) -> None:
        if writes is None:
            self._sizes = {key: len(stored.data) for key, stored in self._mirror.entries.items()}
            self._bytes = sum(self._sizes.values())
        else:
            for key, stored in writes.items():
                self._bytes -= self._sizes.pop(key, 0)
                if stored is not None:
                    self._sizes[key] = len(stored.data)
                    self._bytes += len(stored.data)
        self._on_change(self.scope)


def _data_of(stored: StoredDocument | None) -> bytes | None:
    return None if stored is None else stored.data


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
