"""A copy of documents that any NATS client can read: those of app `default` and namespace `default` stand in the JetStream KV
bucket `SYS_config_<env>` of their environment, with the revision and epoch in headers.

The copy is compared with the documents and mended, and never read as the truth. Each put names the sequence that it
replaces, so a slower server never overwrites what a faster one has put.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from typing import Final

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import DeliverPolicy, KeyValueConfig, RawStreamMsg

from cfgsync_core import Unavailable, Version
from cfgsync_core.log_events import event
from cfgsync_core.text import error_text
from cfgsync_documents import Scope
from cfgsync_documents.service import Documents

from .connection import FAILURES, NatsConnection, refuse_unusable

DEFAULT: Final = "default"
REVISION: Final = "Cfgsync-Revision"
EPOCH: Final = "Cfgsync-Epoch"
EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
OPERATION: Final = "KV-Operation"
WRONG_SEQUENCE: Final = 10071
WITHIN: Final = 2.0
AGAIN_SECONDS: Final = 1.0

log = logging.getLogger("cfgsync.documents")


class Held(msgspec.Struct, frozen=True):
    """What the bucket has for one name: `digest` None is a delete marker. A sequence of 0 is nothing at all."""

    sequence: int = 0
    version: Version = Version("", 0)
    digest: bytes | None = None


class Put(msgspec.Struct, frozen=True):
    """What must replace it: a document, or None for a delete marker, at this version."""

    name: str
    version: Version
    data: bytes | None
    over: int


class _Copy(msgspec.Struct):
    """The copy of one environment as it was seen last: `mark` changes when anybody writes to the bucket, or makes it again."""

    held: dict[str, Held] = {}
    mark: object = None
    is_due: bool = False


def plan(wanted: dict[str, tuple[int, bytes]], version: Version, held: dict[str, Held]) -> list[Put]:
    """What to put, so that the bucket has `wanted` (name → revision and value) of a scope at `version`. What the bucket has of a
    later version stays: this server is the slower one."""
    puts = []
    for name, (revision, data) in wanted.items():
        now, at = held.get(name, Held()), Version(version.epoch, revision)
        if now.digest == sha256(data).digest() and now.version == at:
            continue
        if now.version < at or (now.version == at and now.digest is not None):
            puts.append(Put(name, at, data, now.sequence))
    for name in held.keys() - wanted.keys():
        now = held[name]
        if now.digest is not None and now.version <= version:
            puts.append(Put(name, version, None, now.sequence))
    return puts


@asynccontextmanager
async def projecting(url: str, documents: Documents, interval: float) -> AsyncIterator[None]:
    """Keep the copies while the context lasts: after each change, after each connection, and every `interval` seconds. Raises
    `StoreRefused`."""
    refuse_unusable(url)
    projection = _Projection(documents, interval)
    connection = NatsConnection(url, projection.connected)
    async with connection.open():
        task = asyncio.create_task(projection.run(lambda: connection.client), name="cfgsync-project-kv")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class _Projection:
    """One task for each environment of app `default`."""

    def __init__(self, documents: Documents, interval: float) -> None:
        self._documents = documents
        self._interval = interval
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

    async def _follow(self, scope: Scope, client: Callable[[], Client | None]) -> None:
        failed = ""
        copy = self._copies[scope]
        while not self._documents.ending:
            news, wake, before = self._documents.news(scope), self._wake, failed
            try:
                if (now := client()) is not None:
                    await self._mend(scope, now, copy)
                    failed = ""
            except (*FAILURES, Unavailable) as error:
                copy.mark, failed = None, error_text(error) or type(error).__name__
                if failed != before:
                    log.warning(
                        "the copy of %s in KV is not complete: %s; it is mended later",
                        scope,
                        failed,
                        extra=event("projection_behind", scope=str(scope)),
                    )
            if not await _first_of([news, wake], AGAIN_SECONDS if failed else self._interval):
                copy.is_due = True

    async def _mend(self, scope: Scope, client: Client, copy: _Copy) -> None:
        """Bring the copy to the newest state. What others did to the bucket is looked for when that is due, or where it is in
        the way."""
        found = await self._documents.snapshot(scope, DEFAULT)
        wanted = {one.name.name: (one.revision, one.data) for one in found.documents}
        bucket, stream = f"SYS_config_{scope.environment}", client.jetstream(timeout=WITHIN)
        is_whole = copy.is_due or copy.mark is None
        if is_whole:
            mark = await _mark(stream, bucket)
            if mark is None:
                if not wanted:
                    return
                await stream.create_key_value(KeyValueConfig(bucket=bucket))
                copy.held = {}
            elif mark != copy.mark:
                copy.held = await _read(client, bucket) if mark[-1] else {}
        for put in plan(wanted, found.version, copy.held):
            await self._put(stream, bucket, copy, put)
        if is_whole:
            copy.mark, copy.is_due = await _mark(stream, bucket), False

    async def _put(self, stream: nats.js.JetStreamContext, bucket: str, copy: _Copy, put: Put) -> None:
        headers = {EXPECTED: str(put.over), EPOCH: put.version.epoch, REVISION: str(put.version.revision)}
        if put.data is None:
            headers[OPERATION] = "DEL"
        subject = f"$KV.{bucket}.{put.name}"
        try:
            answer = await stream.publish(subject, put.data or b"", headers=headers)
        except nats.js.errors.APIError as error:
            if error.err_code != WRONG_SEQUENCE:
                raise
            copy.held.pop(put.name, None)  # another server was faster, or somebody wrote by hand
            with suppress(nats.js.errors.NotFoundError):
                found = await stream.get_last_msg(f"KV_{bucket}", subject)
                copy.held[put.name] = _held(found, found.seq or 0)
            wanted = {} if put.data is None else {put.name: (put.version.revision, put.data)}
            now = {name: held for name, held in copy.held.items() if name == put.name}
            for again in plan(wanted, put.version, now):
                await self._put(stream, bucket, copy, again)
            return
        digest = None if put.data is None else sha256(put.data).digest()
        copy.held[put.name] = Held(answer.seq, put.version, digest)


async def _mark(stream: nats.js.JetStreamContext, bucket: str) -> tuple[object, int, int] | None:
    """What differs after each write to the bucket by anybody, and its number of messages; None without the bucket."""
    try:
        info = await stream.stream_info(f"KV_{bucket}")
    except nats.js.errors.NotFoundError:
        return None
    return info.created, info.state.last_seq, info.state.messages


async def _first_of(events: Sequence[asyncio.Event], within: float) -> bool:
    """Whether one of these happened within so many seconds."""
    waits = [asyncio.ensure_future(one.wait()) for one in events]
    try:
        done, _ = await asyncio.wait(waits, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waits:
            one.cancel()
    return bool(done)


async def _read(client: Client, bucket: str) -> dict[str, Held]:
    """The last message of each name."""
    held: dict[str, Held] = {}
    subject = f"$KV.{bucket}."
    reading = await client.jetstream(timeout=WITHIN).subscribe(
        f"{subject}>", ordered_consumer=True, deliver_policy=DeliverPolicy.LAST_PER_SUBJECT
    )
    try:
        while True:
            message = await reading.next_msg(WITHIN)
            held[message.subject.removeprefix(subject)] = _held(message, message.metadata.sequence.stream)
            if not message.metadata.num_pending:
                return held
    finally:
        await reading.unsubscribe()


def _held(message: Msg | RawStreamMsg, sequence: int) -> Held:
    headers = message.headers or {}
    revision = str(headers.get(REVISION, ""))
    version = Version(str(headers.get(EPOCH, "")), int(revision) if revision.isdigit() else 0)
    is_deleted = headers.get(OPERATION) in ("DEL", "PURGE")
    digest = None if is_deleted else sha256(message.data or b"").digest()
    return Held(sequence, version, digest)
