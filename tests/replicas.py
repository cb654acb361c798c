"""What the tests of readers share: a replica of a bucket, and engines that count what is asked of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cfgsync_core import BucketSnapshot, Change, Entry, Gap, RevisionedStore, Unchanged, Version
from cfgsync_core.store.contract import digest_entries


class Replica:
    """A bucket's entries, kept as a server keeps them. `moves` are the versions that it went through."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.held: Version | None = None
        self.moves: list[Version] = []

    @property
    def values(self) -> dict[str, bytes]:
        return {key: entry.value for key, entry in self.entries.items()}

    def take(self, snapshot: BucketSnapshot) -> None:
        self.entries = {entry.key: entry for entry in snapshot.entries}
        self._move(snapshot.version)

    def step(self, version: Version, change: Change) -> None:
        assert self.held is not None
        assert version.revision == self.held.revision + 1
        for key, value in change.writes.items():
            if value is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = Entry(key, value, change.revision, change.at_ms)
        self._move(version)

    def holds(self, snapshot: BucketSnapshot) -> bool:
        held = sorted(self.entries.values(), key=lambda entry: entry.key)
        return digest_entries(snapshot.version, held) == snapshot.digest

    def _move(self, version: Version) -> None:
        self.held = version
        self.moves.append(version)

    def went_back(self) -> bool:
        """Did it ever go back within one epoch, or to an older one?"""
        return any(later <= earlier for earlier, later in zip(self.moves, self.moves[1:], strict=False))


class CountedStore:
    """Counts the calls, and those that are under way, which may be in a thread. `fail` is raised by every
    read; a store that `forgets` has no history."""

    def __init__(self, inner: RevisionedStore) -> None:
        self.inner = inner
        self.under_way = 0
        self.looks = 0
        self.fail: Exception | None = None
        self.forgets = False

    def busy(self) -> bool:
        return self.under_way > 0

    async def version(self, bucket: str) -> Version:
        return await self._counted(self.inner.version(bucket))

    async def get(self, bucket: str, key: str) -> Entry | None:
        return await self._counted(self.inner.get(bucket, key))

    async def snapshot(self, bucket: str, known: Version | None = None) -> BucketSnapshot | Unchanged:
        self.looks += 1
        return await self._counted(self.inner.snapshot(bucket, known))

    async def changes(self, bucket: str, since: Version) -> Sequence[Change] | Gap:
        self.looks += 1
        if self.forgets and self.fail is None:
            return Gap(await self.version(bucket))
        return await self._counted(self.inner.changes(bucket, since))

    async def commit(
        self, bucket: str, writes: Mapping[str, bytes | None], expected: Mapping[str, int] | None = None
    ) -> Version:
        return await self._counted(self.inner.commit(bucket, writes, expected), read=False)

    async def _counted(self, call, read=True):
        self.under_way += 1
        try:
            if read and self.fail is not None:
                call.close()
                raise self.fail
            return await call
        finally:
            self.under_way -= 1
