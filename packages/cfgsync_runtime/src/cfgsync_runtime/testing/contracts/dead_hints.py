"""Transports of hints and events that fail: no write may fail, or wait, with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cfgsync_core import Announced


class DeadHints:
    """A bus that raises, which the contract of hints forbids and a transport does all the same."""

    async def publish(self, bucket: str) -> None:
        raise ConnectionError("the bus is dead")

    @asynccontextmanager
    async def subscribe(self, bucket: str) -> AsyncIterator[AsyncIterator[None]]:
        raise ConnectionError("the bus is dead")
        yield  # a generator all the same


class HangingHints(DeadHints):
    """A bus that never answers."""

    async def publish(self, bucket: str) -> None:
        await asyncio.Event().wait()


class DeadEvents:
    """Observers' transport that raises."""

    async def announce(self, subject: str, body: bytes, identity: str) -> Announced:
        raise ConnectionError("the bus is dead")
