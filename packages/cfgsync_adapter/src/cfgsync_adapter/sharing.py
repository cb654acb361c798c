"""What other servers of one store commit reaches this one: its views of registrations and generations are followed.

A server that has its store to itself has none of this: its views move by its own commits alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from cfgsync_core import (
    Ask,
    BucketHolder,
    BucketSnapshot,
    BucketView,
    ChangeHints,
    Reconciler,
    RevisionedStore,
    Same,
    Steps,
    Subscribe,
    Version,
    Whole,
)


class Sharing:
    """The followed buckets of one server. `follow(…)` each, `start()`, and `close()` ends them."""

    def __init__(self, store: RevisionedStore, hints: ChangeHints, interval: float) -> None:
        self._store = store
        self._hints = hints
        self._interval = interval
        self._readers: dict[str, Reconciler[Any]] = {}

    def follow(
        self,
        bucket: str,
        holder: BucketHolder,
        on_change: Callable[[Whole[BucketSnapshot] | Steps], object],
        *,
        replay: bool = True,
    ) -> None:
        """Keep `holder` in step with `bucket`; `on_change` is told what was taken up."""
        self._readers[bucket] = Reconciler(
            BucketView(self._store, bucket, holder, replay=replay),
            subscribe=self._subscribe_to(bucket),
            interval=self._interval,
            name=f"bucket {bucket!r}",
            on_change=on_change,
        )

    def refresh(
        self,
        bucket: str,
        held: Callable[[], Version | None],
        read: Callable[[], Awaitable[None]],
        on_change: Callable[[], object],
    ) -> None:
        """Call `read`, which reads `bucket` by itself, whenever the bucket is not at the version that is `held`."""
        self._readers[bucket] = Reconciler(
            _ReadByItself(self._store, bucket, held, read),
            subscribe=self._subscribe_to(bucket),
            interval=self._interval,
            name=f"bucket {bucket!r}",
            on_change=lambda news: on_change(),
        )

    def __iter__(self) -> Iterator[tuple[str, Reconciler[Any]]]:
        """Each bucket with its reader, whose state says how far this server's view can be believed."""
        return iter(self._readers.items())

    async def start(self) -> None:
        for reader in self._readers.values():
            await reader.__aenter__()

    async def close(self) -> None:
        await asyncio.gather(*(reader.close() for reader in self._readers.values()))

    async def catch_up(self) -> None:
        """Return when everything committed before this call is in the views. Questions that come together share a read.

        Raises `Unavailable` when the store does not answer.
        """
        await asyncio.gather(*(reader.read_once() for reader in self._readers.values()))

    def _subscribe_to(self, bucket: str) -> Subscribe:
        return lambda: self._hints.subscribe(bucket)


class _ReadByItself:
    """A View that only says that there is something to be read."""

    def __init__(
        self,
        store: RevisionedStore,
        bucket: str,
        held: Callable[[], Version | None],
        read: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._held = held
        self._read = read

    @property
    def known(self) -> Version | None:
        return self._held()

    async def read(self, ask: Ask) -> Whole[None]:
        version = await self._store.version(self._bucket)
        return Whole(version, str(version), None)

    def same(self, whole: Whole[None]) -> bool:
        return True

    async def apply(self, news: Whole[None] | Steps | Same) -> None:
        await self._read()
