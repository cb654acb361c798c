"""For programs that act on changes: each event of a scope in order, from a JetStream stream that `cfgsync serve --events-stream` fills.

    async def apply(news: ConfigChanged | ConfigState) -> None: ...
    await EventConsumer("nats://bus:4222", "http://cfgsync:4400", stream="EVENTS", durable="edge-1", app="shop", env="live", apply=apply).run()

The stream may forget and may miss events; the service does not. So an event is applied only where it joins on to the one before;
anything else is a `ConfigState`, read from the service, which replaces all that was known.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Literal, TypeAlias

import msgspec
import nats
import nats.js.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig

from cfgsync_core import NEVER, Unavailable, Version
from cfgsync_core.follow import Ask, Same
from cfgsync_core.log_events import event
from cfgsync_core.text import error_text

from ..client.transport import ScopeTransport
from ..document import Scope

INTERVAL: Final = 15.0
SETTLED_AFTER: Final = 1.0
"""Seconds without an event after which the service is asked, where one may be missing."""
AGAIN_SECONDS: Final = 1.0
REQUEST_SECONDS: Final = 5.0
ACKNOWLEDGED_WITHIN: Final = 30.0

log = logging.getLogger("cfgsync.documents")


class ConfigChanged(msgspec.Struct, frozen=True):
    """One commit to the scope, the next after `previous`. `key` is `namespace/name` of its document, `""` when it wrote several."""

    version: Version
    previous: Version
    key: str
    timestamp: str


class ConfigState(msgspec.Struct, frozen=True):
    """The whole scope as it is now, `namespace/name` → JSON text: what was known before may be wrong."""

    version: Version
    documents: Mapping[str, str]


News: TypeAlias = ConfigChanged | ConfigState
ConsumerState: TypeAlias = Literal["NEW", "SYNCING", "CURRENT", "STALE"]


class _Event(msgspec.Struct):
    version: int
    previous: int
    epoch: str
    timestamp: str
    namespace: str = ""
    config_key: str = msgspec.field(default="", name="configKey")


class EventConsumer:
    """`await run()` until it is cancelled. `apply` is called with one after the other, and an event is acknowledged when it has
    returned; when it raises, or the program is killed meanwhile, the same comes again, so it must not matter twice.

    `durable` names the cursor, which NATS remembers: two programs with one name share the events. `state` is `CURRENT` only
    while nothing is known to be missing. Where nothing comes, the service is asked every `interval` seconds. `token_file` and
    `ca_file` are those of the service.
    """

    def __init__(
        self,
        url: str,
        service: str,
        *,
        stream: str,
        durable: str,
        apply: Callable[[News], Awaitable[object]],
        app: str = "default",
        env: str = "default",
        token_file: str | None = None,
        ca_file: str | None = None,
        ca_hash: str | None = None,
        interval: float = INTERVAL,
        acknowledged_within: float = ACKNOWLEDGED_WITHIN,
    ) -> None:
        self._url = url
        self._service = ScopeTransport(service, token_file, ca_file, ca_hash)
        self._stream = stream
        self._durable = durable
        self._apply = apply
        self._scope = Scope.checked(app, env)
        self._interval = interval
        self._acknowledged_within = acknowledged_within
        self._failed = ""
        self._asked_at = float("-inf")
        self._comes_again = (
            False  # the event that could not be applied; one whose acknowledgement was lost does, too
        )
        self.version = NEVER
        self.state: ConsumerState = "NEW"

    async def run(self) -> None:
        """What fails, or is refused, is tried again, and logged once."""
        client = await nats.connect(
            self._url.split(","),
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            ping_interval=5,
            error_cb=self._nothing,
            reconnected_cb=self._reconnected,
        )
        async with self._service:
            try:
                while True:
                    try:
                        await self._consume(client.jetstream(timeout=REQUEST_SECONDS))
                    except Exception as error:  # also whatever the program raises
                        self._say(error)
                        await asyncio.sleep(AGAIN_SECONDS)
            finally:
                await client.close()

    async def _nothing(self, error: Exception) -> None:
        """A failure is said where it matters."""

    async def _reconnected(self) -> None:
        self.state = "SYNCING"

    def _say(self, error: Exception) -> None:
        self.state = "STALE"
        if self._failed != (why := error_text(error) or type(error).__name__):
            self._failed = why
            log.warning(
                "events of %s for %s: %s; trying again",
                self._scope,
                self._durable,
                why,
                extra=event("events_unread", scope=str(self._scope)),
            )

    async def _consume(self, stream: JetStreamContext) -> None:
        subscription = await stream.pull_subscribe(
            f"config.{self._scope.app}.{self._scope.environment}.changed",
            durable=self._durable,
            stream=self._stream,
            config=ConsumerConfig(
                ack_policy=AckPolicy.EXPLICIT, ack_wait=self._acknowledged_within, max_ack_pending=1
            ),
        )
        try:
            self.state = "SYNCING"
            self.version = await self._cursor(stream)
            if self.version == NEVER:
                await self._rebuild()
            while True:
                try:
                    [message] = await subscription.fetch(1, timeout=SETTLED_AFTER)
                except TimeoutError:
                    await self._settle(subscription)
                else:
                    await self._take(message)
        finally:
            await subscription.unsubscribe()

    async def _settle(self, subscription: JetStreamContext.PullSubscription) -> None:
        """Nothing has come for a moment: where an event may be missing, and once in an interval, ask the service."""
        now = asyncio.get_running_loop().time()
        if self.state == "CURRENT" and now - self._asked_at < self._interval:
            return
        info = await subscription.consumer_info()  # raises when somebody has deleted it
        if not info.num_pending and not (info.num_ack_pending and self._comes_again):
            await self._rebuild()
            self._asked_at, self._failed = now, ""

    async def _cursor(self, stream: JetStreamContext) -> Version:
        """The version of the event that was acknowledged last; `NEVER` where that, or one after it, is no longer known."""
        info = await stream.consumer_info(self._stream, self._durable)
        last = 0 if info.ack_floor is None else info.ack_floor.stream_seq
        if not last or (await stream.stream_info(self._stream)).state.first_seq > last + 1:
            return NEVER
        try:
            found = await stream.get_msg(self._stream, last)
            return _version_of(_decode(found.data or b""))
        except (nats.js.errors.NotFoundError, msgspec.MsgspecError):
            return NEVER

    async def _take(self, message: Msg) -> None:
        try:
            found = _decode(message.data)
        except msgspec.MsgspecError:  # somebody else's
            await message.ack()
            return
        version = _version_of(found)
        try:
            if version > self.version:
                if version.epoch == self.version.epoch and found.previous == self.version.revision:
                    key = f"{found.namespace}/{found.config_key}" if found.config_key else ""
                    await self._apply(ConfigChanged(version, self.version, key, found.timestamp))
                    self.version = version
                else:
                    self.state = "STALE"
                    await self._rebuild()
                    if version > self.version:
                        raise Unavailable(f"the service is at {self.version}, and an event at {version}")
        except Exception as error:  # also whatever the program raises
            self._comes_again = True
            await message.nak(AGAIN_SECONDS)
            self._say(error)
            return
        self._comes_again = False
        await message.ack()

    async def _rebuild(self) -> None:
        """Read the service, and apply what is there unless it is known already."""
        known = None if self.version == NEVER else self.version
        found = await self._service.snapshot(self._scope, Ask(known, whole=False, hold=0))
        if not isinstance(found, Same) and found.version != self.version:
            documents = {key: held.json for key, held in found.content.items()}
            await self._apply(ConfigState(found.version, documents))
            self.version = found.version
        self.state = "CURRENT"


def _version_of(found: _Event) -> Version:
    return Version(found.epoch, found.version)


_decode: Final = msgspec.json.Decoder(_Event).decode
