"""Hints and events over NATS. Both are best effort: with NATS away every write succeeds, and readers look by interval."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from hashlib import sha256
from itertools import zip_longest
from typing import Final

import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import StorageType, StreamConfig

from cfgsync_core import Announced, MemoryHints
from cfgsync_core.log_events import event
from cfgsync_core.text import error_text, plain

from .connection import FAILURES, NatsConnection, refuse_too_large, refuse_unusable

HINTS: Final = "cfgsync.hint"
EVENTS: Final = ("config.*.*.changed", "public.*.*.system.config.*.updated")
"""The subjects of a stream of events."""
KEPT_SECONDS: Final = 7 * 24 * 3600.0
ACKNOWLEDGED_WITHIN: Final = 1.0
MESSAGE_ID: Final = "Nats-Msg-Id"
OVERLAP: Final = 10065

log = logging.getLogger("cfgsync")


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
        refuse_too_large(client, body)
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
            await self._look_at_stream(client, self._stream)

    async def _heard(self, message: Msg) -> None:
        if (bucket := self._buckets.get(message.subject)) is not None:
            self._local.wake(bucket)

    async def _look_at_stream(self, client: Client, name: str) -> None:
        """Say why events are not kept, when they are not."""
        try:
            subjects = await self._make_stream(client)
        except FAILURES as error:
            why = error_text(error)
            if isinstance(error, nats.js.errors.APIError) and error.err_code == OVERLAP:
                why = "its subjects belong to another stream"
                do = "give --events-stream that one's name; if it is another fleet's, each needs a NATS account of its own"
            else:
                do = "it is made when NATS permits it; JetStream must be on (nats-server -js)"
        else:
            missing = [one for one in EVENTS if not any(_covers(other, one) for other in subjects)]
            if not missing:
                return
            why = f"it does not take {' and '.join(missing)}"
            do = "add these subjects to it, or give --events-stream a name that is free"
        log.warning(
            "events are not kept in the stream %s: %s; %s",
            *(name, plain(why), do),
            extra=event("events_stream", stream=name, why=plain(why)),
        )

    async def _make_stream(self, client: Client) -> list[str]:
        """Its subjects. An existing stream stays as it is: an operator may keep events for longer."""
        assert self._stream is not None
        stream = client.jetstream()
        try:
            found = await stream.stream_info(self._stream)
        except nats.js.errors.NotFoundError:
            found = await stream.add_stream(
                StreamConfig(
                    name=self._stream, subjects=list(EVENTS), max_age=KEPT_SECONDS, storage=StorageType.FILE
                )
            )
        return found.config.subjects or []


def _covers(wide: str, narrow: str) -> bool:
    """Whether each subject that `narrow` stands for is one of `wide`."""
    for has, needs in zip_longest(wide.split("."), narrow.split(".")):
        if has == ">":
            return needs is not None
        if has != needs and (has != "*" or needs in (None, ">")):
            return False
    return True


def _subject(bucket: str) -> str:
    return f"{HINTS}.{sha256(bucket.encode()).hexdigest()[:32]}"
