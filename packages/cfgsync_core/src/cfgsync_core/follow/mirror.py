"""One bucket held in memory: this server's commits and other servers' reach it in the order of their versions.

Every commit is applied in one step with its version, so a copy made in one step is a consistent state of the bucket.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from ..errors import Conflict
from ..store.contract import NEVER, BucketSnapshot, Change, Gap, RevisionedStore, Unchanged, Version
from ..store.hints import ChangeHints
from .bucket_view import BucketView
from .reconciler import Reconciler
from .shared_ask import SharedAsk
from .timing import INTERVAL

log = logging.getLogger("cfgsync.reconcile")

T = TypeVar("T")

_MANY = 100
"""Keys that are read at once, with the whole bucket."""
_TRIES = 10


class OtherServers(msgspec.Struct, frozen=True):
    """Other servers commit to the same store: read it after their `hints`, and every `interval` seconds."""

    hints: ChangeHints
    interval: float = INTERVAL


class BucketMirror(Generic[T]):
    """The live entries of `bucket`, decoded. Await `open()` first and `close()` at the end.

    `on_change(writes)` is called after each step: with the keys and values that one commit wrote (None: deleted), or with
    None after the whole bucket was replaced. `others`: other servers commit too, and the mirror follows them (None: this
    process is the only writer). `whole`: always read the bucket as one snapshot, never as steps of its history. `timed`: keep
    when each value was committed; of this server's own commits only `learn_times` asks, since most are never read.
    """

    def __init__(
        self,
        store: RevisionedStore,
        bucket: str,
        decode: Callable[[bytes], T],
        encode: Callable[[T], bytes],
        *,
        on_change: Callable[[Mapping[str, T | None] | None], object] = lambda writes: None,
        others: OtherServers | None = None,
        whole: bool = False,
        timed: bool = False,
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._decode = decode
        self._encode = encode
        self._whole = whole
        self._timed = timed
        self._times: dict[str, int | None] = {}  # None: nobody has asked
        self._refreshing = asyncio.Lock()
        self._newest = SharedAsk(lambda: store.version(bucket))
        self._revisions: dict[str, int] = {}
        self._others = others
        self._reader: Reconciler[BucketSnapshot] | None = None
        self._is_open = False
        self.on_change = on_change
        self.entries: dict[str, T] = {}
        self.version = NEVER

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, key: object) -> bool:
        return key in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def get(self, key: str) -> T | None:
        """The committed value of a key."""
        return self.entries.get(key)

    def revision_of(self, key: str) -> int | None:
        """The revision that wrote a key, None without a value."""
        return self._revisions.get(key)

    def at_ms_of(self, key: str) -> int:
        """When a key was written (milliseconds since 1970), of a `timed` mirror; 0 is an unknown time, see `learn_times`."""
        return self._times.get(key) or 0

    async def learn_times(self, key: str | None = None) -> None:
        """Read when this server's own commits wrote `key`, or with None all keys, of a `timed` mirror. Raises `Unavailable`."""
        for _ in range(_TRIES):
            asked = self._times if key is None else (key,)
            wanted = [one for one in asked if self._times.get(one, 0) is None]
            if not wanted:
                return
            if len(wanted) > _MANY:
                snapshot = await self._store.snapshot(self._bucket)
                entries = () if isinstance(snapshot, Unchanged) else snapshot.entries
            else:
                entries = tuple(filter(None, [await self._store.get(self._bucket, one) for one in wanted]))
            for entry in entries:
                if entry.revision == self._revisions.get(entry.key):  # else it was written again: ask again
                    self._times[entry.key] = entry.at_ms

    async def open(self) -> None:
        """Read the bucket and begin to follow the other servers. Raises `Unavailable`."""
        await self._read_whole()
        self._is_open = True
        if (others := self._others) is not None:
            self._reader = Reconciler(
                BucketView(self._store, self._bucket, self, replay=not self._whole),
                subscribe=lambda: others.hints.subscribe(self._bucket),
                interval=others.interval,
                name=f"bucket {self._bucket!r}",
            )
            await self._reader.__aenter__()

    async def close(self) -> None:
        """Stop following the other servers."""
        if self._reader is not None:
            await self._reader.close()

    async def commit(
        self, writes: Mapping[str, T | None], expected: Mapping[str, int] | None = None
    ) -> Version:
        """Commit as `RevisionedStore.commit` does; on return the mirror is at this version or a later one.

        Raises `Conflict`, after the mirror has read what the other writer committed; `Unavailable` and its kin.
        """
        encoded = {key: None if value is None else self._encode(value) for key, value in writes.items()}
        try:
            version = await self._store.commit(self._bucket, encoded, expected)
        except Conflict:
            await self._refresh(await self._store.version(self._bucket))
            raise
        held = self.version
        follows = version.revision == held.revision + 1 and version.epoch == (held.epoch or version.epoch)
        if follows:
            if self._timed:  # what is equal was not written, and keeps its time
                writes = {key: value for key, value in writes.items() if self.entries.get(key) != value}
            self._apply(version, writes)
        elif version != held:
            await self._refresh(version)
        return version

    async def catch_up(self) -> None:
        """Return when everything that other servers committed before this call is in the mirror; calls share one read.

        Costs nothing when there are no other servers. Raises `Unavailable`.
        """
        if self._reader is not None:
            await self._reader.read_once()

    async def look_up(self, key: str) -> None:
        """Read one key from the store if other servers have committed; the mirror holds its value ahead of `version` then.
        Calls that find nothing new share one read. Raises `Unavailable`."""
        if self._reader is None or await self._newest.ask() == self.version:
            return
        entry = await self._store.get(self._bucket, key)
        if entry is None:
            self.entries.pop(key, None)
            self._revisions.pop(key, None)
        elif entry.revision > self._revisions.get(key, 0):
            self.entries[key] = self._decode(entry.value)
            self._revisions[key] = entry.revision
            if self._timed:
                self._times[key] = entry.at_ms

    # ── a BucketHolder ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def held(self) -> Version | None:
        """See `BucketHolder`: None until the bucket was read."""
        return self.version if self._is_open else None

    def take(self, snapshot: BucketSnapshot) -> None:
        """Replace all entries, unless the mirror is at this version or a later one."""
        if self.version >= snapshot.version:
            return
        self.entries = {entry.key: self._decode(entry.value) for entry in snapshot.entries}
        self._revisions = {entry.key: entry.revision for entry in snapshot.entries}
        self._times = {entry.key: entry.at_ms for entry in snapshot.entries} if self._timed else {}
        self.version = snapshot.version
        self.on_change(None)

    def step(self, version: Version, change: Change) -> None:
        """Apply the change, unless this server's own commit has moved the mirror past it."""
        if version == (self.version.epoch, self.version.revision + 1):
            writes = {key: None if raw is None else self._decode(raw) for key, raw in change.writes.items()}
            self._apply(version, writes, change.at_ms)

    def holds(self, snapshot: BucketSnapshot) -> bool:
        """See `BucketHolder`."""
        return self._revisions == {entry.key: entry.revision for entry in snapshot.entries} and all(
            self.entries[entry.key] == self._decode(entry.value) for entry in snapshot.entries
        )

    def _apply(self, version: Version, writes: Mapping[str, T | None], at_ms: int | None = None) -> None:
        for key, value in writes.items():
            if value is None:
                self.entries.pop(key, None)
                self._revisions.pop(key, None)
                self._times.pop(key, None)
            else:
                self.entries[key] = value
                self._revisions[key] = version.revision
                if self._timed:
                    self._times[key] = at_ms
        self.version = version
        self.on_change(writes)

    async def _refresh(self, at_least: Version) -> None:
        """Read up to this version: commits of this process that returned in another order, or another server's."""
        async with self._refreshing:
            known = self.version
            if known.epoch == at_least.epoch and known.revision >= at_least.revision:
                return
            changes = Gap(at_least) if self._whole else await self._store.changes(self._bucket, known)
            if self.version.epoch != known.epoch:
                return  # a new epoch was read whole meanwhile
            if isinstance(changes, Gap) or not known.epoch:
                await self._read_whole()
                return
            for change in changes:
                self.step(Version(known.epoch, change.revision), change)

    async def _read_whole(self) -> None:
        answer = await self._store.snapshot(self._bucket, None if self.version == NEVER else self.version)
        if not isinstance(answer, Unchanged):
            before = self.version
            self.take(answer)
            if before.epoch not in ("", self.version.epoch):
                log.warning(
                    "bucket %r: a new epoch has begun: %s, after %s", self._bucket, self.version, before
                )


async def catch_up(mirrors: Iterable[BucketMirror[Any]]) -> None:
    """`BucketMirror.catch_up` of all of them at the same time."""
    await asyncio.gather(*(mirror.catch_up() for mirror in mirrors))
