"""For programs that act on changes: each event of a scope in order, from a JetStream stream that `cfgsync serve --events-stream` fills.

    async def apply(news: ConfigChanged | ConfigState) -> None: ...
    await EventConsumer("nats://bus:4222", "http://cfgsync:4400", stream="EVENTS", durable="edge-1", app="shop", env="live", apply=apply).run()

The stream may forget and may miss events, and others may write to it; the service is right. So an event is applied only where it
joins on to the one before. Otherwise the service is read: what it has is a `ConfigState`, which replaces all that was known, and an
event that it does not have is somebody else's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Literal, TypeAlias

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, SequenceInfo

from cfgsync_artifacts import CfgsyncError
from cfgsync_core import NEVER, Version
from cfgsync_core.follow import Ask, Same
from cfgsync_core.log_events import event
from cfgsync_core.text import error_text, plain

from ..client.transport import ScopeTransport
from ..document import Scope, check_word
from .config_news import ConfigChanged as ConfigChanged
from .config_news import ConfigState as ConfigState
from .config_news import News, read_event

INTERVAL: Final = 15.0
SETTLED_AFTER: Final = 1.0
"""Seconds without an event after which the service is asked, where one may be missing."""
AGAIN_SECONDS: Final = 1.0
REQUEST_SECONDS: Final = 5.0
ACKNOWLEDGED_WITHIN: Final = 30.0
LEFT_WITHIN: Final = 1.0
TAKEN_WITHIN: Final = 0.3
MAX_STREAM: Final = 200
MAX_FOREIGN: Final = 1_000
"""Epochs of others that are remembered."""

log = logging.getLogger("cfgsync.documents")


ConsumerState: TypeAlias = Literal["NEW", "SYNCING", "CURRENT", "STALE"]


class DurableTaken(CfgsyncError):
    """The durable consumer of this name reads something else: give another name, or remove it."""


class EventConsumer:
    """`await run()` until it is cancelled. `apply` is called with one after the other, and an event is acknowledged when it has
    returned; when it raises, or the program is killed meanwhile, the same comes again, so it must not matter twice.

    `durable` names the cursor, which NATS remembers: a name for each program, since two programs with one name get a part of the
    events each, and read the state instead of the others. `state` is `CURRENT` only while nothing is known to be missing. Where
    nothing comes, the service is asked every `interval` seconds. `token_file` and `ca_file` are those of the service. Raises
    `InvalidRequest` for a name that NATS does not take.
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
        check_word("stream", stream, MAX_STREAM)
        check_word("durable", durable)
        self._servers = url.split(",")
        self._service = ScopeTransport(service, token_file, ca_file, ca_hash)
        self._stream = stream
        self._durable = durable
        self._apply = apply
        self._scope = Scope.checked(app, env)
        self._subject = f"config.{app}.{env}.changed"
        self._interval = interval
        self._acknowledged_within = acknowledged_within
        self._client = Client()
        self._failed = ""
        self._asked_at = float("-inf")
        self._comes_again = (
            False  # the event that could not be applied; one whose acknowledgement was lost does, too
        )
        self._delivered = 0
        """The number of the newest delivery that came here, or that the state has."""
        self._foreign: dict[str, None] = {}
        """Epochs that the service does not have, each once."""
        self._said: set[str] = set()
        self.version = NEVER
        self.state: ConsumerState = "NEW"

    async def run(self) -> None:
        """What fails, or is refused, is tried again, and logged once. Raises `DurableTaken`."""
        async with self._service:
            while True:  # NATS has closed the client for good, as after a refused password
                self._client = Client()
                try:
                    await self._connect()
                    while not self._client.is_closed:
                        try:
                            await self._consume(self._client.jetstream(timeout=REQUEST_SECONDS))
                        except DurableTaken:
                            raise
                        except Exception as error:  # also whatever the program raises
                            why = self._client.last_error if self._client.is_closed else None
                            self._say(why or error)
                            await asyncio.sleep(AGAIN_SECONDS)
                finally:
                    await self._client.close()

    async def _connect(self) -> None:
        await self._client.connect(
            self._servers,
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            ping_interval=5,
            error_cb=self._erred,
            reconnected_cb=self._reconnected,
        )

    async def _erred(self, error: Exception) -> None:
        if not self._client.is_connected:
            self._say(error)

    async def _reconnected(self) -> None:
        self.state = "SYNCING"

    def _say(self, error: Exception) -> None:
        self.state = "STALE"
        if self._failed != (why := plain(error_text(error))):
            self._failed = why
            log.warning(
                "events of %s for %s: %s; trying again",
                self._scope,
                self._durable,
                why,
                extra=event("events_unread", scope=str(self._scope)),
            )

    def _warn_once(self, name: str, words: str) -> None:
        if name not in self._said:
            self._said.add(name)
            log.warning(
                "events of %s for %s: %s",
                *(self._scope, self._durable, words),
                extra=event(name, scope=str(self._scope)),
            )

    async def _consume(self, stream: JetStreamContext) -> None:
        with suppress(nats.js.errors.NotFoundError):  # else it is made now
            self._refuse_another(await stream.consumer_info(self._stream, self._durable))
        subscription = await stream.pull_subscribe(
            self._subject,
            durable=self._durable,
            stream=self._stream,
            config=ConsumerConfig(
                ack_policy=AckPolicy.EXPLICIT, ack_wait=self._acknowledged_within, max_ack_pending=1
            ),
        )
        try:
            self.state = "SYNCING"
            info = await subscription.consumer_info()
            if info.num_ack_pending:  # NATS may not have taken the last program's acknowledgement yet
                await asyncio.sleep(TAKEN_WITHIN)
                info = await subscription.consumer_info()
            acknowledged = info.ack_floor or SequenceInfo(0, 0)
            self._delivered = acknowledged.consumer_seq
            if self.version == NEVER:
                self.version = await self._cursor(stream, acknowledged.stream_seq)
            await self._rebuild(is_start=True)
            while True:
                try:
                    [message] = await subscription.fetch(1, timeout=SETTLED_AFTER)
                except TimeoutError:
                    await self._settle(subscription)
                else:
                    await self._take(message)
        finally:
            with suppress(nats.errors.Error, TimeoutError):
                await subscription.unsubscribe()
                async with asyncio.timeout(
                    LEFT_WITHIN
                ):  # else NATS may still give the next event to this reader
                    await (
                        subscription.consumer_info()
                    )  # the client's `flush` may overtake what is to be flushed

    def _refuse_another(self, info: ConsumerInfo) -> None:
        """Raises `DurableTaken` for a consumer that this class has not made for this scope."""
        its = info.config
        subjects = its.filter_subjects or [its.filter_subject or ">"]
        if subjects != [self._subject] or its.deliver_subject or its.max_ack_pending != 1:
            raise DurableTaken(
                f"the durable {self._durable} of the stream {self._stream} is of another program, for {', '.join(subjects)}:"
                f" give another name for {self._subject}, or remove it (nats consumer rm {self._stream} {self._durable})"
            )

    async def _settle(self, subscription: JetStreamContext.PullSubscription) -> None:
        """Nothing has come for a moment: where an event may be missing, and once in an interval, ask the service."""
        now = asyncio.get_running_loop().time()
        info = await subscription.consumer_info()  # raises when somebody has deleted it
        self._refuse_another(info)
        delivered = (info.delivered or SequenceInfo(0, 0)).consumer_seq
        # an acknowledgement was lost, or another program has not given one yet: until `ack_wait` is over nothing comes
        is_blocked = bool(info.num_ack_pending) and not self._comes_again
        if self.state == "CURRENT" and delivered > self._delivered and not info.num_ack_pending:
            self._warn_once(
                "events_shared",
                "another program uses this durable, and each gets a part of the events; give each one a name of its own",
            )
        if info.num_pending or is_blocked or delivered > self._delivered:
            self.state = "STALE"
        if self.state == "CURRENT" and now - self._asked_at < self._interval:
            return
        if is_blocked or not (info.num_pending or info.num_ack_pending):
            await self._rebuild()
            self._delivered = max(delivered, self._delivered)
            self._asked_at, self._failed = now, ""

    async def _cursor(self, stream: JetStreamContext, last: int) -> Version:
        """The version of the event that was acknowledged last; `NEVER` where that, or one after it, is no longer known."""
        if not last or (await stream.stream_info(self._stream)).state.first_seq > last + 1:
            return NEVER
        try:
            message = await stream.get_msg(self._stream, last)
        except nats.js.errors.NotFoundError:
            return NEVER
        found = read_event(message.data)
        return NEVER if found is None or message.subject != self._subject else found.at

    async def _take(self, message: Msg) -> None:
        self._delivered = message.metadata.sequence.consumer
        found = read_event(message.data)
        version = NEVER if found is None else found.at
        try:
            if found is not None and version > self.version and version.epoch not in self._foreign:
                if version.epoch == self.version.epoch and found.previous == self.version.revision:
                    key = f"{found.namespace}/{found.config_key}" if found.config_key else ""
                    await self._apply(ConfigChanged(version, self.version, key, found.timestamp))
                    self.version = version
                else:
                    self.state = "STALE"
                    await self._rebuild()
                    if version > self.version:  # the service was read after this event had come
                        self._skip(version)
        except Exception as error:  # also whatever the program raises
            self._comes_again = True
            await message.nak(AGAIN_SECONDS)
            self._say(error)
            return
        self._comes_again = False
        await message.ack()

    def _skip(self, version: Version) -> None:
        self._warn_once(
            "events_foreign",
            f"the service is at {self.version}, and does not have {version}: such events are skipped; does another fleet use"
            " this NATS? Then give each one a NATS account of its own",
        )
        if version.epoch != self.version.epoch:
            self._foreign[version.epoch] = None
            if len(self._foreign) > MAX_FOREIGN:
                del self._foreign[next(iter(self._foreign))]

    async def _rebuild(self, *, is_start: bool = False) -> None:
        """Read the service, and apply what is there unless it is known already. At the start, a version of the service's epoch
        that is only behind is kept: its events come."""
        known = None if self.version == NEVER else self.version
        found = await self._service.snapshot(self._scope, Ask(known, whole=False, hold=0))
        if not isinstance(found, Same) and found.version != self.version:
            if is_start and found.version.epoch == self.version.epoch and found.version > self.version:
                return
            documents = {key: held.json for key, held in found.content.items()}
            await self._apply(ConfigState(found.version, documents))
            self.version = found.version
            self._foreign.pop(found.version.epoch, None)
        self.state = "CURRENT"
