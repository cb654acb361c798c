"""The history of each document, with its writers: every commit of a scope is copied into a history bucket, in order, once, also after a crash.

A cursor in the same commit as the copies says how far it is (INV-12), so that a copy is never lost and never there twice.
A value is kept in one of the slots of its document, which are used again: the history of a document stays bounded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, NamedTuple, Self

import msgspec

from cfgsync_core import NEVER, Conflict, Gap, RevisionedStore, Unavailable, Unchanged, Version
from cfgsync_core.log_events import event

from ..document import By, DocumentName, Scope, at
from ..errors import DocumentMissing
from .documents import Documents
from .scope_mirror import DELETER, bucket_of, decode_stored

MAX_ENTRIES: Final = 100
MAX_AGE_MS: Final = 30 * 24 * 3_600 * 1_000
BATCH_BYTES: Final = 4 * 1024 * 1024
TOGETHER_SECONDS: Final = 1.0
"""At most, from a change to its copy; those within that time are copied in one commit. A read copies first."""
TOGETHER_CHANGES: Final = 250
"""So many changes are copied without waiting longer, well before the store forgets the first."""
AGAIN_SECONDS: Final = 1.0
"""After a store that did not answer."""

_CURSOR: Final = "cursor"

log = logging.getLogger("cfgsync.documents")


class HistoryEntry(NamedTuple):
    """One value that a document had. `data` None: it was deleted then, and `by` is `""` when that was before its writer was kept."""

    revision: int
    data: bytes | None
    at_ms: int
    by: str

    @property
    def updated_at(self) -> str:
        return at(self.at_ms)


class _Line(msgspec.Struct, frozen=True, array_like=True):
    """An entry without its value, which is in `slot` (None: deleted)."""

    revision: int
    at_ms: int
    by: str
    slot: int | None


class _Copy(NamedTuple):
    """One value to copy, None for a deletion by `deleter`."""

    key: str
    revision: int
    at_ms: int
    value: bytes | None
    deleter: str = ""


class History:
    """`async with History(store, documents) as history`: it follows the documents while the context lasts."""

    def __init__(self, store: RevisionedStore, documents: Documents) -> None:
        self._store = store
        self._documents = documents
        self._behind: Counter[Scope] = Counter()
        self._said: set[Scope] = set()
        self._wake = asyncio.Event()
        self._full = asyncio.Event()
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._documents.on_change = self._changed
        self._task = asyncio.create_task(self._follow(), name="cfgsync-history")
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def read(self, name: DocumentName, limit: int = MAX_ENTRIES) -> list[HistoryEntry]:
        """The newest values of a document, newest first; those that were replaced over 30 days ago are gone.

        Raises `Unavailable`.
        """
        await self.advance(name.scope)
        while True:
            lines = _kept(await self._lines(name.scope, name.key), int(time.time() * 1000))[:limit]
            entries = [await self._entry(name, line) for line in lines]
            found = [entry for entry in entries if entry is not None]
            if len(found) == len(entries):
                return found  # else a slot was used again meanwhile

    async def rollback(self, name: DocumentName, to: int, by: By, expected: int | None = None) -> int:
        """Write the value of revision `to` again, as a new revision, which is returned. Raises `DocumentMissing`, and
        `DocumentConflict` when the document is not at revision `expected`."""
        for entry in await self.read(name):
            if entry.revision == to and entry.data is not None:
                return await self._documents.set(name, entry.data, by, expected)
        raise DocumentMissing(name, f"has no version {to} in its history")

    async def advance(self, scope: Scope) -> None:
        """Copy what was committed so far. Raises `Unavailable`."""
        until = await self._store.version(bucket_of(scope))  # of a scope that is always written, not its end
        async with self._turn:
            while not await self._copied(scope, until):
                pass

    # ── copying ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _changed(self, scope: Scope) -> None:
        self._behind[scope] += 1
        self._wake.set()
        if self._behind[scope] >= TOGETHER_CHANGES:
            self._full.set()

    async def _follow(self) -> None:
        while True:
            await self._wake.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(TOGETHER_SECONDS):
                    await self._full.wait()
            self._wake.clear()
            self._full.clear()
            behind, self._behind = self._behind, Counter()
            for scope in behind:
                try:
                    await self.advance(scope)
                    self._said.discard(scope)
                except Exception as error:  # an unforeseen one, too, must not end the history of all scopes
                    if scope not in self._said:  # once, and not at each try
                        log.warning(
                            "the history of %s is behind: %s",
                            *(scope, error),
                            exc_info=None if isinstance(error, Unavailable) else error,
                            extra=event("history_behind", scope=str(scope)),
                        )
                    self._said.add(scope)
                    self._changed(scope)
                    await asyncio.sleep(AGAIN_SECONDS)

    async def _copied(self, scope: Scope, until: Version) -> bool:
        """Copy one batch; True when nothing is left up to `until`."""
        bucket = bucket_of(scope)
        kept = await self._store.get(_bucket(scope), _CURSOR)
        cursor = NEVER if kept is None else Version.parse(kept.value.decode())
        version = await self._store.version(bucket)
        if version == cursor or (cursor.epoch == until.epoch and cursor.revision >= until.revision):
            return True
        copies, reached = await self._behind_of(bucket, cursor, version)
        writes = await self._writes(scope, copies)
        writes[_CURSOR] = str(reached).encode()
        expected = {_CURSOR: 0 if kept is None else kept.revision}
        with suppress(Conflict):  # another server has copied it
            await self._store.commit(_bucket(scope), writes, expected)
        return False

    async def _behind_of(self, bucket: str, cursor: Version, version: Version) -> tuple[list[_Copy], Version]:
        """What to copy next, and the version that is reached with it."""
        changes = await self._store.changes(bucket, cursor)
        if isinstance(changes, Gap):
            snapshot = await self._store.snapshot(bucket)
            assert not isinstance(snapshot, Unchanged)  # no version is known
            rows = sorted(snapshot.entries, key=lambda entry: entry.revision)
            return [
                _Copy(row.key, row.revision, row.at_ms, row.value) for row in rows if row.key != DELETER
            ], snapshot.version
        copies: list[_Copy] = []
        reached, size = version.revision, 0
        for change in changes:
            if size > BATCH_BYTES:
                break
            marker = change.writes.get(DELETER)
            deleter = "" if marker is None else decode_stored(marker).by
            copies += [
                _Copy(key, change.revision, change.at_ms, value, deleter)
                for key, value in change.writes.items()
                if key != DELETER
            ]
            size += sum(len(value or b"") for value in change.writes.values())
            reached = change.revision
        return copies, Version(version.epoch, reached)

    async def _writes(self, scope: Scope, copies: Iterable[_Copy]) -> dict[str, bytes | None]:
        writes: dict[str, bytes | None] = {}
        by_key: dict[str, list[_Copy]] = {}
        for copy in copies:
            by_key.setdefault(copy.key, []).append(copy)
        for key, its in by_key.items():
            before = await self._lines(scope, key)
            newest = before[0].revision if before else 0
            new = {copy.revision: copy for copy in its if copy.revision > newest}  # others are there already
            lines = [_Line(copy.revision, copy.at_ms, copy.deleter, None) for copy in reversed(new.values())]
            lines = _kept([*lines, *before], its[-1].at_ms)[:MAX_ENTRIES]
            free = set(range(MAX_ENTRIES)) - {line.slot for line in lines}
            for number, line in enumerate(lines):
                if line.revision > newest and (value := new[line.revision].value) is not None:
                    stored, slot = decode_stored(value), min(free)
                    free.discard(slot)
                    lines[number] = _Line(line.revision, line.at_ms, stored.by, slot)
                    writes[_value_key(key, slot)] = b"%d %b" % (line.revision, stored.data)
            for line in before:
                if line.slot in free:
                    writes[_value_key(key, line.slot)] = None
            if new:
                writes[_index_key(key)] = msgspec.json.encode(lines)
        return writes

    async def _lines(self, scope: Scope, key: str) -> list[_Line]:
        kept = await self._store.get(_bucket(scope), _index_key(key))
        return [] if kept is None else _read_lines(kept.value)

    async def _entry(self, name: DocumentName, line: _Line) -> HistoryEntry | None:
        """The entry; None when its slot has another value by now."""
        if line.slot is None:
            return HistoryEntry(line.revision, None, line.at_ms, line.by)
        kept = await self._store.get(_bucket(name.scope), _value_key(name.key, line.slot))
        revision, _, data = (b"" if kept is None else kept.value).partition(b" ")
        if revision != b"%d" % line.revision:
            return None
        return HistoryEntry(line.revision, data, line.at_ms, line.by)


def _kept(lines: list[_Line], now_ms: int) -> list[_Line]:
    """The lines that were not replaced over 30 days ago."""
    return lines[:1] + [
        line
        for line, replaced_by in zip(lines[1:], lines, strict=False)
        if now_ms - replaced_by.at_ms <= MAX_AGE_MS
    ]


_read_lines: Final = msgspec.json.Decoder(list[_Line]).decode


def _bucket(scope: Scope) -> str:
    return f"history/{scope}"


def _index_key(key: str) -> str:
    return f"index/{key}"


def _value_key(key: str, slot: int) -> str:
    return f"value/{key}/{slot}"
