"""A copy of documents that any NATS client can read: those of app `default` and namespace `default` stand in the JetStream KV
bucket `SYS_config_<env>` of their environment, with the revision and epoch in headers.

The copy is compared with the documents and mended, and never read as the truth. The documents are read after what they are
compared with, so that whatever differs is older or somebody else's; and each put names the sequence that it replaces, so a slower
server never overwrites what a faster one has put.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from typing import Final, TypeAlias

import msgspec
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig

from cfgsync_core import StoreRefused, Unavailable
from cfgsync_core.log_events import event
from cfgsync_core.store import StoreCounts
from cfgsync_core.text import error_text, plain
from cfgsync_documents import DocumentName, Scope
from cfgsync_documents.service import Documents

from .connection import FAILURES, NatsConnection, TooLarge, refuse_too_large, refuse_unusable
from .kv_bucket import (
    EPOCH,
    OPERATION,
    REVISION,
    WITHIN,
    Held,
    Mark,
    Put,
    held_of,
    mark_of,
    plan,
    read_bucket,
)

DEFAULT: Final = "default"
EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
WRONG_SEQUENCE: Final = 10071
AGAIN_SECONDS: Final = 1.0
TRIES: Final = 5
"""Of one put that others overtake."""
NOT_CONNECTED: Final = "NATS is not connected"
FORESEEN: Final = (*FAILURES, Unavailable, StoreRefused)

log = logging.getLogger("cfgsync.documents")


class _Copy(msgspec.Struct):
    """The copy of one environment as it was seen last: `mark` changes when anybody writes to the bucket, or makes it again;
    `epoch` is that of the store at the last look that ended well."""

    held: dict[str, Held] = {}
    mark: Mark | None = None
    is_due: bool = False
    epoch: str = ""
    failed: str = ""
    is_shared: bool = False


MayWrite: TypeAlias = Callable[[], Awaitable[object]]


@asynccontextmanager
async def projecting(
    url: str, documents: Documents, interval: float, counts: StoreCounts, may_write: MayWrite
) -> AsyncIterator[None]:
    """Keep the copies while the context lasts: after each change, after each connection, and every `interval` seconds. Awaits
    `may_write`, which raises for a store that accepts no commits, before it replaces what bears a later epoch. Raises
    `StoreRefused`."""
    refuse_unusable(url)
    projection = _Projection(documents, interval, counts, may_write)
    connection = NatsConnection(url, projection.connected)
    async with connection.open():
        task = asyncio.create_task(projection.run(lambda: connection.client), name="cfgsync-project-kv")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class _Projection:
    """One task for each environment of app `default`. Whatever goes wrong in one is logged, and tried again after a pause."""

    def __init__(
        self, documents: Documents, interval: float, counts: StoreCounts, may_write: MayWrite
    ) -> None:
        self._documents = documents
        self._interval = interval
        self._counts = counts
        self._may_write = may_write
        self._copies: dict[Scope, _Copy] = {}
        self._wake = asyncio.Event()
        self._next = documents.on_change
        documents.on_change = self._changed

    async def connected(self, client: Client) -> None:
        """Look at everything again."""
        for copy in self._copies.values():
            copy.mark = None
        self._woken()

    def _changed(self, scope: Scope) -> None:
        self._next(scope)
        if scope.app == DEFAULT and scope not in self._copies:
            self._woken()

    def _woken(self) -> None:
        self._wake.set()
        self._wake = asyncio.Event()

    async def run(self, client: Callable[[], Client | None]) -> None:
        async with asyncio.TaskGroup() as group:
            while not self._documents.ending:
                wake = self._wake
                for scope in await self._scopes():
                    if scope not in self._copies:
                        self._copies[scope] = _Copy()
                        group.create_task(self._follow(scope, client))
                await _first_of([wake], self._interval)

    async def _scopes(self) -> list[Scope]:
        try:
            return [scope for scope in await self._documents.scopes() if scope.app == DEFAULT]
        except Unavailable:
            return []
        except Exception:
            log.exception("new environments are not copied to KV for now", extra=event("projection_behind"))
            return []

    async def _follow(self, scope: Scope, client: Callable[[], Client | None]) -> None:
        copy = self._copies[scope]
        while not self._documents.ending:
            news, wake = self._documents.news(scope), self._wake
            pause = self._interval
            try:
                if (now := client()) is None:
                    self._say(scope, copy, NOT_CONNECTED)
                else:
                    self._say(scope, copy, await self._mend(scope, now, copy))
            except Exception as error:
                # also an unforeseen one, of what somebody else has put: it must end no copy
                copy.mark = None
                if not isinstance(error, StoreRefused):  # a store that was moved stays so
                    pause = AGAIN_SECONDS
                self._say(scope, copy, error_text(error), None if isinstance(error, FORESEEN) else error)
            if not await _first_of([news, wake], pause):
                copy.is_due = True

    def _say(self, scope: Scope, copy: _Copy, failed: str, error: Exception | None = None) -> None:
        """Say why the copy is not complete, `""` when it is; once."""
        before, copy.failed = copy.failed, failed
        self._counts.copies_behind = sum(bool(one.failed) for one in self._copies.values())
        if failed in (before, "", NOT_CONNECTED):
            return
        log.log(
            logging.WARNING if error is None else logging.ERROR,
            "the copy of %s in KV is not complete: %s; it is mended later",
            *(scope, plain(failed)),
            exc_info=error,
            extra=event("projection_behind", scope=str(scope)),
        )

    async def _mend(self, scope: Scope, client: Client, copy: _Copy) -> str:
        """Bring the copy to the newest state; why NATS refuses some of it, `""` when it does not. What others did to the bucket
        is looked for when that is due, or where it is in the way."""
        bucket, stream = f"SYS_config_{scope.environment}", client.jetstream(timeout=WITHIN)
        is_whole, mark = copy.is_due or copy.mark is None, copy.mark
        if is_whole:
            mark = await mark_of(stream, bucket)
            if mark is None or not mark.messages:
                copy.held = {}
            elif mark != copy.mark:
                copy.held = await read_bucket(client, bucket)
        found = await self._documents.snapshot(scope, DEFAULT)  # after what it is compared with
        wanted = {one.name.name: (one.revision, one.data) for one in found.documents}
        if mark is None:
            if not wanted:
                return ""
            await stream.create_key_value(KeyValueConfig(bucket=bucket))
        puts = plan(wanted, found.version, copy.held, copy.epoch)
        copy.is_shared = copy.is_shared and not (is_whole and not any(put.is_foreign for put in puts))
        refused, written = "", 0
        for put in puts:
            try:
                refuse_too_large(client, put.data or b"")
                written += await self._put(scope, stream, bucket, copy, put)
            except TooLarge as error:  # the others must not wait for it
                refused = refused or f"{put.name}: {error_text(error)}"
        copy.epoch = found.version.epoch
        if is_whole:
            after = await mark_of(stream, bucket)
            before = 0 if mark is None else mark.last_sequence
            is_ours = after is None or after.last_sequence <= before + written
            copy.mark, copy.is_due = after if is_ours else mark, False
        return refused

    async def _put(self, scope: Scope, stream: JetStreamContext, bucket: str, copy: _Copy, put: Put) -> bool:
        """Whether it was written; it is not where another server has written as much meanwhile."""
        subject = f"$KV.{bucket}.{put.name}"
        for _ in range(TRIES):
            if copy.held.get(put.name, Held()).version.epoch > put.version.epoch:
                await self._may_write()  # of a store that was moved, the other one's servers have put it
            if put.is_foreign:
                self._found_foreign(scope, bucket, copy, put.name)
            headers = {EXPECTED: str(put.over), EPOCH: put.version.epoch, REVISION: str(put.version.revision)}
            if put.data is None:
                headers[OPERATION] = "DEL"
            try:
                answer = await stream.publish(subject, put.data or b"", headers=headers)
            except nats.js.errors.APIError as error:
                if error.err_code != WRONG_SEQUENCE:
                    raise
            else:
                digest = None if put.data is None else sha256(put.data).digest()
                copy.held[put.name] = Held(answer.seq, put.version, digest)
                return True
            # another server was faster, or somebody wrote by hand
            copy.held.pop(put.name, None)
            with suppress(nats.js.errors.NotFoundError):
                found = await stream.get_last_msg(f"KV_{bucket}", subject)
                copy.held[put.name] = held_of(found, found.seq or 0)
            version = await self._documents.version(scope)
            document = await self._documents.get(DocumentName(scope, DEFAULT, put.name))
            wanted = {}
            if document is not None:
                wanted, version = {put.name: (document.revision, document.data)}, document.version
            now = {name: held for name, held in copy.held.items() if name == put.name}
            again = plan(wanted, version, now, copy.epoch)
            if not again:
                return False
            [put] = again
        raise Unavailable(f"somebody writes {put.name} all the time")

    def _found_foreign(self, scope: Scope, bucket: str, copy: _Copy, name: str) -> None:
        """Count it, and say it once; again after a look that found none."""
        self._counts.copies_mended += 1
        if not copy.is_shared:
            log.warning(
                "somebody else writes to the bucket %s of NATS (%s was not of this store; it is mended): only the servers of one"
                " store may write there, so give each fleet on this NATS an account of its own, and other programs no right to"
                " $KV.%s.>",
                *(bucket, plain(name, 140), bucket),
                extra=event("projection_shared", scope=str(scope), bucket=bucket),
            )
        copy.is_shared = True


async def _first_of(events: Sequence[asyncio.Event], within: float) -> bool:
    """Whether one of these happened within so many seconds."""
    waits = [asyncio.ensure_future(one.wait()) for one in events]
    try:
        done, _ = await asyncio.wait(waits, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waits:
            one.cancel()
    return bool(done)
