"""What nodes promise, durably: to be heard of again within so many seconds.

The promises have their own bucket, so that one never makes a revision of the registrations.
"""

from __future__ import annotations

from collections.abc import Iterable

from cfgsync_core import RevisionedStore
from cfgsync_core.follow import BucketMirror, OtherServers

BUCKET = "promises"


class Promises(BucketMirror[int]):
    """The mirror of the promises: identifier → seconds. A node that promises nothing is not in it; a name that is not
    registered may be, after a crash, and means nothing."""

    def __init__(self, store: RevisionedStore, *, others: OtherServers | None = None) -> None:
        super().__init__(store, BUCKET, int, lambda seconds: b"%d" % seconds, others=others)

    async def keep(self, identifier: str, seconds: int | None) -> None:
        """Keep this promise in place of the last one, None for no promise; durable on return. Raises `Unavailable` and its
        subclasses."""
        if self.entries.get(identifier) != seconds:
            await self.commit({identifier: seconds})

    async def forget(self, identifiers: Iterable[str]) -> None:
        """Delete the promises of nodes that have left."""
        gone = [name for name in identifiers if name in self.entries]
        if gone:
            await self.commit(dict.fromkeys(gone))
