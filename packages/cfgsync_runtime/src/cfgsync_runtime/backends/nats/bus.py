"""Hints and events over NATS. Both are best effort: with NATS away every write succeeds, and readers look by interval."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from hashlib import sha256
from typing import Final

import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import StorageType, StreamConfig

from cfgsync_core import Announced, MemoryHints

from .connection import FAILURES, NatsConnection, refuse_unusable

HINTS: Final = "cfgsync.hint"
EVENTS: Final = ("config.*.*.changed", "public.*.*.system.config.*.updated")
"""The subjects of a stream of events."""
KEPT_SECONDS: Final = 7 * 24 * 3600.0
ACKNOWLEDGED_WITHIN: Final = 1.0
MESSAGE_ID: Final = "Nats-Msg-Id"


@asynccontextmanager
async def open_nats(url: str, *, stream: str | None = None) -> AsyncIterator[NatsBus]:
    """The bus at `nats://HOST:PORT`; with `stream` the events go to that JetStream stream. Raises `StoreRefused`."""
    refuse_unusable(url)
    bus = NatsBus(url, stream)
    async with bus.connection.open():
        yield bus


class NatsBus:
    """`ChangeHints` and `ChangeEvents`. A hint is an empty message whose subject ends in a hash of the bucket. After each
    connection every subscriber gets a hint, since it may have missed some."""

    def __init__(self, url: str, stream: str | None = None) -> None:
        self.connection = NatsConnection(url, self._connected)
        self._stream = stream
        self._local = MemoryHints()
        self._buckets: dict[str, str] = {}
        self._subscribed: Client | None = None

    async def publish(self, bucket: str) -> None:
        """See `ChangeHints`."""
        if (client := self.connection.client) is not None:
            with suppress(*FAILURES):
                await client.publish(_subject(bucket))

    def subscribe(self, bucket: str) -> AbstractAsyncContextManager[AsyncIterator[None]]:
        """See `ChangeHints`."""
        self._buckets[_subject(bucket)] = bucket
        return self._local.subscribe(bucket)

    async def announce(self, subject: str, body: bytes, identity: str) -> Announced:
        """See `ChangeEvents`. `published` of a stream is acknowledged by it."""
        client = self.connection.client
        if client is None:
            return "skipped_not_connected"
        headers = {MESSAGE_ID: identity}
        if self._stream is None:
            await client.publish(subject, body, headers=headers)
            return "published"
        try:
            await client.jetstream().publish(subject, body, ACKNOWLEDGED_WITHIN, self._stream, headers)
        except nats.js.errors.NoStreamResponseError:  # somebody has deleted it
            await self._make_stream(client)
            await client.jetstream().publish(subject, body, ACKNOWLEDGED_WITHIN, self._stream, headers)
        return "published"

    async def _connected(self, client: Client) -> None:
        if self._subscribed is not client:  # the client itself subscribes again when it connects again
            await client.subscribe(f"{HINTS}.*", cb=self._heard)
            self._subscribed = client
        for bucket in self._buckets.values():
            self._local.wake(bucket)
        if self._stream is not None:
            await self._make_stream(client)

    async def _heard(self, message: Msg) -> None:
        if (bucket := self._buckets.get(message.subject)) is not None:
            self._local.wake(bucket)

    async def _make_stream(self, client: Client) -> None:
        """An existing stream stays as it is: an operator may keep events for longer."""
        assert self._stream is not None
        stream = client.jetstream()
        try:
            await stream.stream_info(self._stream)
        except nats.js.errors.NotFoundError:
            await stream.add_stream(
                StreamConfig(
                    name=self._stream, subjects=list(EVENTS), max_age=KEPT_SECONDS, storage=StorageType.FILE
                )
            )


def _subject(bucket: str) -> str:
    return f"{HINTS}.{sha256(bucket.encode()).hexdigest()[:32]}"
