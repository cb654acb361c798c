"""What a reader keeps in step: a View holds something and can read its source.

A node that holds one `POST /node` (the known version is the generation that it saw last, kept by its state directory):

    class NodeView:                                     # a View[NodeArtifactsPayload]
        @property
        def known(self) -> Version | None: ...          # Version(epoch, generation number) of what is in place; None: nothing
        async def read(self, ask: Ask) -> ReadResult[NodeArtifactsPayload]:
            ...                                         # POST /node, If-None-Match, `Prefer: wait=int(ask.hold)` if that is >= 1
            return Same(Version.parse(generation))      # 304; its generation may be later than the one that is known
            return Whole(Version.parse(generation), digest, payload)   # 200, checked; NEVER when there is no generation
            return Away("not ready: 3 of 5 nodes", retry_after=1.0)    # 425, 5xx, no connection; or raise
        def same(self, whole) -> bool:
            return whole.digest == self.digest
        async def apply(self, news) -> None:            # Whole: write the files, then the state. Same: the state only.
            ...                                         # durable on return; what raises is tried again

A server's view of a bucket is `bucket_view.BucketView`.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

import msgspec

from ..store.contract import Version
from .acceptance import ReadResult, Same, Steps, Whole

C = TypeVar("C")


class Ask(msgspec.Struct, frozen=True):
    """What a read is to bring: what is new since `known`, or everything if `whole`. The source may hold it up to `hold`
    seconds while there is nothing new (0: answer at once)."""

    known: Version | None
    whole: bool
    hold: float = 0.0


class View(Protocol[C]):
    """What a reader holds, and the way to its source."""

    @property
    def known(self) -> Version | None:
        """The version of what is held and durably applied; None when nothing is."""

    async def read(self, ask: Ask) -> ReadResult[C]:
        """Read the source once. An exception counts as an `Away`. The call may be cancelled."""

    def same(self, whole: Whole[C]) -> bool:
        """Is this, which claims the version that is held, what is held?"""

    async def apply(self, news: Whole[C] | Steps | Same) -> None:
        """Take the news, durably on return, and only then let `known` be its version. Steps follow on what is held. Never
        cancelled by the loop, and idempotent: after a crash between the two it comes again."""
