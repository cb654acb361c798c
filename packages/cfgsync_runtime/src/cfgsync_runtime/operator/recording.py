"""A recorded fleet: its registrations and the generation that was served, as one JSON document that works offline.

`cfgsync status --save-snapshot FILE` writes it and `cfgsync check` reads it, from the file or from a store. It has the
contents of text files up to 256 KiB, but of secrets only size and digest.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from cfgsync_adapter import Generation, RegistrationSnapshot
from cfgsync_adapter.status import (
    FileSummary,
    GenerationSummary,
    NodeContents,
    generation_page,
    read_offline,
)
from cfgsync_core import DocumentsSnapshot, InvalidRequest, NodeRegistration, Version
from cfgsync_core.wire import decode_registration, encode_registration

from ..backends.engines import open_backend
from ..errors import InputError

FORMAT: Final = 1
LONG_AGO: Final = -1e9
"""Seconds of the monotonic clock: a recorded fleet has long settled, and every deadline of it has passed."""


class _Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """`version` is that of the registrations, `<epoch>.<revision>`; `generation` is None when none was served."""

    taken_at: str
    version: str
    generation: GenerationSummary | None
    registrations: tuple[msgspec.Raw, ...]
    documents: dict[str, msgspec.Raw] | None = None
    """The config documents that the materializer reads, by `namespace/name`; None when it reads none."""
    documents_version: str | None = None
    shared: tuple[FileSummary, ...]
    nodes: tuple[NodeContents, ...]


class Recorded(_Fleet, frozen=True):
    """One recorded fleet; `cfgsync_snapshot` is the format of the document."""

    cfgsync_snapshot: int

    def fleet(self) -> RegistrationSnapshot:
        """The registrations as a materializer sees them in a dry run. Raises `InputError`."""
        try:
            registrations = [decode_registration(bytes(one)) for one in self.registrations]
            version = Version.parse(self.version)
        except (InvalidRequest, ValueError) as error:
            raise InputError(f"a registration in the snapshot is invalid: {error}", _AGAIN) from error
        return RegistrationSnapshot(
            registrations, version=version, first_at=LONG_AGO, changed_at=LONG_AGO, dry_run=True
        )

    def read_documents(self) -> DocumentsSnapshot | None:
        """The documents as a materializer reads them, None when none are recorded. Raises `InputError`."""
        if self.documents is None:
            return None
        try:
            json = {name: bytes(raw).decode() for name, raw in self.documents.items()}
            return DocumentsSnapshot.from_json(json, Version.parse(self.documents_version or ""))
        except ValueError as error:
            raise InputError(f"the documents in the snapshot are invalid: {error}", _AGAIN) from error


class _CutFleet(_Fleet, frozen=True):
    cut: str


class SnapshotPage(_CutFleet, frozen=True, kw_only=True):
    """One page of `GET /admin/snapshot`; `cut`, its first key, and `next`, its last, are the query of the next one."""

    next: str | None = None


class Cut(msgspec.Struct, frozen=True):
    """One state of a fleet. `page` gives it in pages."""

    token: str
    taken_at: str
    version: Version
    registrations: Mapping[str, NodeRegistration]
    generation: Generation | None
    documents: DocumentsSnapshot | None = None

    def page(self, after: str = "", limit: int = 1_000) -> SnapshotPage:
        """The next nodes and registrations, after identifier `after`."""
        one = self.generation
        names = self.registrations.keys() if one is None else self.registrations.keys() | one.nodes.keys()
        further = sorted(name for name in names if name > after)
        part = None if one is None else generation_page(one, after=after, limit=limit, contents=True)
        ends = [] if part is None or part.next is None else [part.next]
        if len(further) > limit:
            ends.append(further[limit - 1])
        last = min(ends, default=None)  # a page of nodes may end early: the registrations end where it does
        here = further if last is None else further[: bisect_right(further, last)]
        return SnapshotPage(
            cut=self.token,
            next=last,
            taken_at=self.taken_at,
            version=str(self.version),
            generation=None if part is None else part.generation,
            **({} if after or self.documents is None else _of_documents(self.documents)),
            registrations=tuple(
                msgspec.Raw(encode_registration(self.registrations[name]))
                for name in here
                if name in self.registrations
            ),
            shared=() if part is None else part.shared,
            nodes=()
            if part is None
            else tuple(n for n in part.nodes if last is None or n.identifier <= last),
        )


def _of_documents(documents: DocumentsSnapshot) -> dict[str, Any]:
    json = {name: msgspec.Raw(text.encode()) for name, text in documents.json.items()}
    return {"documents": json, "documents_version": str(documents.version)}


def joined(pages: Sequence[SnapshotPage]) -> Recorded:
    """The pages of one cut, at least one, as one document."""
    return Recorded(
        FORMAT,
        taken_at=pages[0].taken_at,
        version=pages[0].version,
        generation=pages[0].generation,
        documents=pages[0].documents,
        documents_version=pages[0].documents_version,
        registrations=tuple(one for page in pages for one in page.registrations),
        shared=pages[0].shared,
        nodes=tuple(node for page in pages for node in page.nodes),
    )


def read_snapshot(file: str) -> Recorded:
    """The document in a file. Raises `InputError`."""
    try:
        data = Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"{file}: {(error.strerror or str(error)).lower()}", _AGAIN) from error
    try:
        recorded = msgspec.json.decode(data, type=Recorded)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not a snapshot: {error}", _AGAIN) from error
    if recorded.cfgsync_snapshot != FORMAT:
        raise InputError(
            f"{file} is a snapshot of format {recorded.cfgsync_snapshot}, this program reads {FORMAT}", _AGAIN
        )
    return recorded


async def record_store(url: str) -> Recorded:
    """The fleet in a store, read beside its server. Raises `StoreRefused`, `Unavailable`."""
    async with open_backend(url, read_only=True) as backend:
        held = await read_offline(backend.store)
    cut = Cut("", "", held.version, held.registrations, held.generation)
    pages = [cut.page()]
    while (after := pages[-1].next) is not None:
        pages.append(cut.page(after))
    return joined(pages)


async def stored_documents(url: str, named: str) -> DocumentsSnapshot:
    """The documents of `app/environment` in a store, read beside its server. Raises `StoreRefused`, `Unavailable`,
    `InvalidRequest`."""
    from cfgsync_documents import Scope
    from cfgsync_documents.service import Documents, snapshot_for_materializer

    scope = Scope.checked(*named.split("/"))
    async with open_backend(url, read_only=True) as backend, Documents(backend.store) as documents:
        return await snapshot_for_materializer(documents, scope)


_AGAIN: Final = "make one: cfgsync status --save-snapshot FILE"
