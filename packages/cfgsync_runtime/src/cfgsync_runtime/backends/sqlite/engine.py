"""The store on one SQLite file, seen from the event loop: commits wait here while the writer writes a group."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final, Self, TypeVar

from cfgsync_core import (
    Backend,
    BucketSnapshot,
    Change,
    Entry,
    Gap,
    StoreRefused,
    Unavailable,
    Unchanged,
    Version,
)
from cfgsync_core.store import Move, check_load, check_writes

from .opening import OpenFile
from .reading import Reader
from .worker import Worker
from .writing import Outcome, PendingCommit, Writer

MAX_GROUP: Final = 1024
"""Commits of one group at most, so that a flood is answered in steps."""

SMALL_GROUP: Final = 4
"""After a group of at most so many commits the next one begins at once."""

QUIET_TURNS: Final = 4
"""Turns of the event loop without a new commit, after which a group begins although the last one was larger."""

PING_TIMEOUT_SECONDS: Final = 2.0

T = TypeVar("T")


@asynccontextmanager
async def open_sqlite(
    url: str,
    *,
    read_only: bool,
    on_fatal: Callable[[BaseException], None] | None,
    accept_loss: bool = False,
) -> AsyncIterator[Backend]:
    """`sqlite:relative.db`, `sqlite:/absolute.db` or `sqlite:///absolute.db`."""
    path = url.partition(":")[2]
    path = path[2:] if path.startswith("//") else path
    if not path or path.startswith(":") or "?" in path or "\0" in path:
        raise StoreRefused(
            f"sqlite:{path[:80]} names no file", "write sqlite:PATH, for example sqlite:cfgsync.db"
        )
    async with SqliteStore(path, read_only=read_only, on_fatal=on_fatal, accept_loss=accept_loss) as store:
        yield Backend(store, store, mover=store)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class SqliteStore:
    """Opened by `async with`. `factory` makes the connections, so that a test can make one fail."""

    def __init__(
        self,
        path: str,
        *,
        read_only: bool = False,
        on_fatal: Callable[[BaseException], None] | None = None,
        clock: Callable[[], int] = _wall_ms,
        factory: type[sqlite3.Connection] = sqlite3.Connection,
        accept_loss: bool = False,
    ) -> None:
        self._path = path
        self._read_only = read_only
        self._on_fatal = on_fatal
        self._clock = clock
        self._factory = factory
        self._accept_loss = accept_loss
        self._writes = Worker("cfgsync-sqlite-write")
        self._reads = Worker("cfgsync-sqlite-read")
        self._file: OpenFile | None = None
        self._refusing: str | None = f"{path} is not open"
        self._pending: list[PendingCommit] = []
        self._writing = False
        self._last = 0  # commits in the last group
        self._idle = asyncio.Event()
        self._asking: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        self._writes.start()
        self._reads.start()
        try:
            self._file = await self._writes.run(self._open)
        except BaseException:
            self._stop()
            raise
        self._refusing = None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._refusing = self._refusing or f"{self._path} is closed"
        if self._writing:  # commits that were accepted run to their end
            self._idle.clear()
            await self._idle.wait()
        await self._reads.run(lambda: None)  # a cancelled read may still be at work
        assert self._file is not None
        await self._writes.run(self._file.close)
        self._stop()

    def _open(self) -> OpenFile:
        if self._read_only:
            return OpenFile.to_read(self._path, self._factory)
        return OpenFile.to_write(self._path, self._clock, self._factory, accept_loss=self._accept_loss)

    def _stop(self) -> None:
        self._reads.stop()
        self._writes.stop()

    # The five verbs

    async def version(self, bucket: str) -> Version:
        return await self._read(lambda reader: reader.version(bucket))

    async def get(self, bucket: str, key: str) -> Entry | None:
        return await self._read(lambda reader: reader.get(bucket, key))

    async def snapshot(self, bucket: str, known: Version | None = None) -> BucketSnapshot | Unchanged:
        return await self._read(lambda reader: reader.snapshot(bucket, known))

    async def changes(self, bucket: str, since: Version) -> Sequence[Change] | Gap:
        return await self._read(lambda reader: reader.changes(bucket, since))

    async def commit(
        self, bucket: str, writes: Mapping[str, bytes | None], expected: Mapping[str, int] | None = None
    ) -> Version:
        check_writes(bucket, writes)
        self._writer()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Version] = loop.create_future()
        self._pending.append(
            PendingCommit(bucket, dict(writes), dict(expected) if expected else None, answer)
        )
        if not self._writing:
            self._writing = True
            loop.call_soon(
                self._gather, loop, 0, 0
            )  # soon, not now: later commits of this turn join the group
        return await answer

    # The operator's side

    async def ping(self) -> None:
        if self._read_only:
            return await self._read(lambda reader: reader.ping())
        writer = self._writer()
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._operate(writer.transactions.beat))
            self._asking.add_done_callback(self._asked)
        done, _ = await asyncio.wait([self._asking], timeout=PING_TIMEOUT_SECONDS)
        if not done:
            raise Unavailable(f"{self._path}: the disk has not answered for {PING_TIMEOUT_SECONDS:g} s")
        return done.pop().result()

    def _asked(self, asked: asyncio.Future[None]) -> None:
        self._asking = None
        asked.exception()  # its readers may all have gone
        writer = self._file.writer if self._file else None
        if (
            writer is not None and writer.transactions.checkpoint_due
        ):  # a server that is only probed must checkpoint, too
            self._writes.post(asyncio.get_running_loop(), writer.transactions.checkpoint, self._after_upkeep)

    async def buckets(self) -> Sequence[str]:
        return await self._read(lambda reader: reader.buckets())

    async def export(self, bucket: str) -> AsyncIterator[Entry]:
        snapshot = await self.snapshot(bucket)
        for entry in () if isinstance(snapshot, Unchanged) else snapshot.entries:
            yield entry

    async def load(self, bucket: str, version: Version, entries: Sequence[Entry]) -> None:
        check_load(bucket, version, entries)
        writer = self._writer()
        await self._operate(lambda: writer.load(bucket, version, entries))

    async def drop(self, bucket: str) -> Version:
        writer = self._writer()
        return await self._operate(lambda: writer.drop(bucket))

    async def new_epoch(self, after: str | None = None) -> Mapping[str, Version]:
        writer = self._writer()
        return await self._operate(lambda: writer.new_epoch(after))

    async def move(self) -> Move:
        return await self._read(lambda reader: reader.move())

    async def mark(self, before: Move, after: Move) -> bool:
        writer = self._writer()
        return await self._operate(lambda: writer.mark(before, after))

    # Groups

    def _gather(self, loop: asyncio.AbstractEventLoop, seen: int, quiet: int) -> None:
        """Begin a group when it is as large as the last one, or when no new commit comes: a client that was just answered
        is about to send its next commit, and a transaction for twice as many costs little more (86 to 69 µs a
        registration, from 64 connections). This waits for turns of the event loop, never for time."""
        have = len(self._pending)
        quiet = 0 if have > seen else quiet + 1
        if self._last > SMALL_GROUP and have < self._last and quiet <= QUIET_TURNS:
            loop.call_soon(self._gather, loop, have, quiet)
        elif have:
            self._next_group(loop)
        else:
            self._writing = False
            self._idle.set()

    def _next_group(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._file is not None
        assert self._file.writer is not None
        writer = self._file.writer
        members, self._pending = self._pending[:MAX_GROUP], self._pending[MAX_GROUP:]

        def settle(outcomes: Sequence[Outcome] | None, error: BaseException | None) -> None:
            self._notice_fatal()
            _answer(members, [error] * len(members) if outcomes is None else outcomes)
            # after the answers, so that only the next group waits for them
            if writer.fold_due:
                self._writes.post(loop, writer.fold, self._after_upkeep)
            if writer.transactions.checkpoint_due:
                self._writes.post(loop, writer.transactions.checkpoint, self._after_upkeep)
            self._last = len(members)
            self._gather(loop, 0, 0)

        self._writes.post(loop, lambda: writer.write(members), settle)

    def _after_upkeep(self, _: None, error: BaseException | None) -> None:
        self._notice_fatal()
        if error is not None:
            raise error  # a defect of this engine: the event loop's handler reports it

    def _notice_fatal(self) -> None:
        fatal = self._file.writer.transactions.fatal if self._file and self._file.writer else None
        if fatal is not None and self._on_fatal is not None:
            on_fatal, self._on_fatal = self._on_fatal, None
            on_fatal(fatal)
        if fatal is not None:
            self._refusing = str(fatal)

    # One call in a thread

    async def _read(self, ask: Callable[[Reader], T]) -> T:
        if self._refusing is not None or self._file is None:
            raise Unavailable(str(self._refusing))
        reader = self._file.reader
        try:
            return await self._reads.run(lambda: ask(reader))
        except Unavailable:
            if self._file.writer is not None:
                self._file.writer.transactions.written_at = -math.inf  # `ping` asks the disk
            raise

    async def _operate(self, order: Callable[[], T]) -> T:
        try:
            return await self._writes.run(order)
        finally:
            self._notice_fatal()

    def _writer(self) -> Writer:
        if self._refusing is not None or self._file is None:
            raise Unavailable(str(self._refusing))
        if self._file.writer is None:
            raise StoreRefused(f"{self._path} is open for reading only", "open it for writing")
        return self._file.writer


def _answer(members: Sequence[PendingCommit], outcomes: Sequence[Outcome | BaseException | None]) -> None:
    for member, outcome in zip(members, outcomes, strict=True):
        answer = member.answer
        if answer.done():  # the caller was cancelled; its commit went on to its end
            continue
        if isinstance(outcome, Version):
            answer.set_result(outcome)
        else:
            answer.set_exception(outcome or Unavailable("no answer"))
