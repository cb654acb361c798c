"""A recorded fleet: its registrations and the generation that was served, as one JSON document that works offline.

Made by `cfgsync status --save-snapshot FILE`, or looked at in a store; read by `cfgsync check`. Files are shown as to an
operator: contents of text up to 256 KiB, and of secrets nothing but size and digest.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from cfgsync_adapter import RegistrationSnapshot
from cfgsync_adapter.status import (
    FileSummary,
    GenerationPage,
    GenerationSummary,
    NodeContents,
    OfflineFleet,
    generation_page,
    read_offline,
    summarize,
)
from cfgsync_core import InvalidRequest, Version
from cfgsync_core.wire import decode_registration, encode_registration

from ..backends.engines import open_backend
from ..errors import InputError

FORMAT: Final = 1
LONG_AGO: Final = -1e9
"""Seconds of the monotonic clock: a recorded fleet has long settled, and every deadline of it has passed."""


class Recorded(msgspec.Struct, frozen=True):
    """One recorded fleet. `version` is the registrations', `<epoch>.<revision>`; `generation` None: none was served."""

    cfgsync_snapshot: int
    taken_at: str
    version: str
    generation: GenerationSummary | None
    registrations: tuple[msgspec.Raw, ...]
    shared: tuple[FileSummary, ...]
    nodes: tuple[NodeContents, ...]

    def fleet(self) -> RegistrationSnapshot:
        """The registrations as a materializer sees them. Raises `InputError`."""
        try:
            registrations = [decode_registration(bytes(one)) for one in self.registrations]
            version = Version.parse(self.version)
        except (InvalidRequest, ValueError) as error:
            raise InputError(f"a registration in the snapshot is none: {error}", _AGAIN) from error
        return RegistrationSnapshot(registrations, version=version, first_at=LONG_AGO, changed_at=LONG_AGO)


class SnapshotPage(msgspec.Struct, frozen=True):
    """One page of `GET /admin/snapshot`; `cut` and `next` ask for the next one."""

    cut: str
    taken_at: str
    version: str
    generation: GenerationSummary | None
    registrations: tuple[msgspec.Raw, ...]
    shared: tuple[FileSummary, ...]
    nodes: tuple[NodeContents, ...]
    next: str | None = None


def joined(pages: Iterable[SnapshotPage]) -> Recorded:
    """The pages of one cut, at least one, as one document."""
    held = list(pages)
    first = held[0]
    return Recorded(
        FORMAT,
        first.taken_at,
        first.version,
        first.generation,
        tuple(one for page in held for one in page.registrations),
        first.shared,
        tuple(node for page in held for node in page.nodes),
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
        raise InputError(f"{file} is no snapshot: {error}", _AGAIN) from error
    if recorded.cfgsync_snapshot != FORMAT:
        raise InputError(
            f"{file} is a snapshot of format {recorded.cfgsync_snapshot}, this program reads {FORMAT}", _AGAIN
        )
    return recorded


async def record_store(url: str) -> Recorded:
    """The fleet in a store, read beside its server. Raises `StoreRefused`, `Unavailable`."""
    async with open_backend(url, read_only=True) as backend:
        return _from(await read_offline(backend.store))


def _from(seen: OfflineFleet) -> Recorded:
    pages = [] if seen.generation is None else list(_pages(seen))
    return Recorded(
        FORMAT,
        "",
        str(seen.version),
        None if seen.generation is None else summarize(seen.generation),
        tuple(
            msgspec.Raw(encode_registration(seen.registrations[name])) for name in sorted(seen.registrations)
        ),
        pages[0].shared if pages else (),
        tuple(node for page in pages for node in page.nodes),
    )


def _pages(seen: OfflineFleet) -> Iterable[GenerationPage]:
    assert seen.generation is not None
    after: str | None = ""
    while after is not None:
        page = generation_page(seen.generation, after=after, contents=True)
        yield page
        after = page.next


_AGAIN: Final = "make one: cfgsync status --save-snapshot FILE"
