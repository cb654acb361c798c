"""A hint carries no data, so a late, repeated or lost one can delay a reader but never mislead it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

Announced = Literal["published", "skipped_not_connected", "failed"]
"""What became of one event."""


class ChangeHints(Protocol):
    """A notification after a commit: "look sooner"."""

    async def publish(self, bucket: str) -> None:
        """Notify the subscribers of `bucket`. Best effort: never raises for a dead transport, never blocks long."""

    def subscribe(self, bucket: str) -> AbstractAsyncContextManager[AsyncIterator[None]]:
        """Yield once for any number of hints since the last yield. Subscribed when the context is entered."""


class ChangeEvents(Protocol):
    """Events for observers outside (dashboards, audit), sent after the commit. No server or node reads them."""

    async def announce(self, subject: str, body: bytes, identity: str) -> Announced:
        """Send one event, best effort, and return the result. `identity` is that of the commit, for the first of its events;
        two events never have the same."""


class Bus(ChangeHints, ChangeEvents, Protocol):
    """What `cfgsync serve --hints` opens: it carries both."""
