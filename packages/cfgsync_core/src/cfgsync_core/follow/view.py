"""What a reader keeps in step: a View has content and can read its source.

A node's view is in `node/watch/node_watch.py`, a server's view of a bucket is `BucketView`.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

import msgspec

from ..store.contract import Version
from .acceptance import ReadResult, Same, Steps, Whole

C = TypeVar("C")


class Ask(msgspec.Struct, frozen=True):
    """What to read: what is new since `known`, or everything if `whole`. The source may hold the read up to `hold`
    seconds while there is nothing new (0: answer at once)."""

    known: Version | None
    whole: bool
    hold: float = 0.0


class View(Protocol[C]):
    """A reader's content, and the way to its source."""

    @property
    def known(self) -> Version | None:
        """The version that was durably applied last; None before the first."""

    async def read(self, ask: Ask) -> ReadResult[C]:
        """Read the source once. An exception counts as an `Away`. The call may be cancelled."""

    def same(self, whole: Whole[C]) -> bool:
        """Whether this, which has the known version, is also the content."""

    async def apply(self, news: Whole[C] | Steps | Same) -> None:
        """Apply the news, durably on return, and only then set `known` to its version; steps follow on the content. The
        loop never cancels it, and it is idempotent: after a crash it is called again."""
