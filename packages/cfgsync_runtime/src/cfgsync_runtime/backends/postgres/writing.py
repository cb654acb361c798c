"""A group of commits is one transaction, each with a revision of its own; what became of a lost answer is looked up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from cfgsync_core import CfgsyncError, Entry, OutcomeUnknown, StoreRefused, Unavailable, Version
from cfgsync_core.store import HISTORY_BYTES, Move, mint_epoch, uuid7

from .group import BucketGroup, Counters, Head

if TYPE_CHECKING:
    import asyncpg

UNMEASURED_BYTES: Final = 4 * 1024 * 1024
"""How much a bucket's history grows before its size is measured."""

Outcome: TypeAlias = "Version | CfgsyncError"


class PendingCommit(msgspec.Struct, eq=False):
    """One commit that waits for its group."""

    bucket: str
    writes: Mapping[str, bytes | None]
    expected: Mapping[str, int] | None
    answer: asyncio.Future[Version]


class Decided(msgspec.Struct):
    """A group before its COMMIT: the answers, and what must be found afterwards if they are true."""

    outcomes: list[Outcome]
    groups: list[BucketGroup]

    @property
    def is_changed(self) -> bool:
        return any(group.is_changed for group in self.groups)


async def lock_buckets(session: asyncpg.Connection, schema: str, names: Sequence[str]) -> dict[str, Counters]:
    """The counters of these buckets, locked in one order by everybody until the transaction ends, whose first step this is."""
    query = (
        f"select name, epoch, revision, floor, at_ms, unmeasured from {schema}.bucket"
        " where name = any($1) order by name for update"
    )
    rows = await session.fetch(query, names)
    if len(rows) < len(names):
        # in a transaction of their own: new rows and locked ones together would be taken in two orders
        await session.execute("rollback")
        add = f"insert into {schema}.bucket (name) select unnest($1::text[]) on conflict do nothing"
        await session.execute(add, sorted(names))
        await session.execute("begin")
        rows = await session.fetch(query, names)
    return {row[0]: Counters(*row[1:]) for row in rows}


async def decide(
    session: asyncpg.Connection,
    schema: str,
    members: list[PendingCommit],
    take_more: Callable[[Container[str]], Sequence[PendingCommit]],
) -> Decided:
    """Everything of a group but its COMMIT, in the transaction that is open. `take_more` is called for the commits to these
    buckets that came while the locks were waited for; they become members."""
    counters = await lock_buckets(session, schema, sorted({member.bucket for member in members}))
    members += take_more(counters)
    keys: dict[str, set[str]] = {}
    for member in members:
        keys.setdefault(member.bucket, set()).update(member.writes, member.expected or ())
    asked = [(bucket, key) for bucket, some in keys.items() for key in some]
    # after the lock: the first row is the time, which never goes backwards in a bucket
    found = await session.fetch(
        f"select null, (select move || ' ' || peer from {schema}.store), (extract(epoch from clock_timestamp()) * 1000)::bigint, null::bytea, 0::bigint"
        " union all select bucket, key, revision, digest, at_ms"
        f" from unnest($1::text[], $2::text[]) as asked (bucket, key) join {schema}.entry using (bucket, key)",
        [bucket for bucket, _ in asked],
        [key for _, key in asked],
    )
    heads: dict[str, dict[str, Head]] = {name: {} for name in keys}
    now_ms = 0
    for bucket, key, revision, digest, at_ms in found:
        if bucket is None:
            now_ms, (state, _, peer) = revision, key.partition(" ")
            if state:  # a statement after the lock: what is read before may be from before the mark
                refusal = Unavailable(": ".join(Move(state, peer).refusal))
                return Decided([refusal for _ in members], [])
        else:
            heads[bucket][key] = Head(revision, digest, at_ms)
    epoch = ""
    if not all(held.epoch for held in counters.values()):
        epoch = mint_epoch([await latest_epoch(session, schema)])
    groups = {name: BucketGroup(name, counters[name], epoch, now_ms, known) for name, known in heads.items()}
    outcomes: list[Outcome] = [
        groups[member.bucket].add(member.writes, member.expected, uuid7()) for member in members
    ]
    changed = [group for group in groups.values() if group.is_changed]
    if changed:
        await _write(session, schema, changed)
    return Decided(outcomes, changed)


async def latest_epoch(session: asyncpg.Connection, schema: str) -> str:
    """The latest epoch in the store, `""` in an empty one."""
    found: str | None = await session.fetchval(f"select max(epoch) from {schema}.bucket")
    return found or ""


async def _write(session: asyncpg.Connection, schema: str, groups: Sequence[BucketGroup]) -> None:
    for group in groups:
        if group.forgotten:
            await session.execute(
                f"delete from {schema}.entry where bucket = $1 and key = any($2)",
                group.name,
                list(group.forgotten),
            )
        if group.held.unmeasured >= UNMEASURED_BYTES:
            await _measure(session, schema, group)
        if group.held.floor > group.floor_before:
            await session.execute(
                f"delete from {schema}.history where bucket = $1 and revision <= $2",
                group.name,
                group.held.floor,
            )
    await write_buckets(
        session,
        schema,
        {group.name: group.held for group in groups},
        [(group.name, key, *row) for group in groups for key, row in group.rows.items()],
        [(group.name, *row) for group in groups for row in group.history],
    )


async def write_buckets(
    session: asyncpg.Connection,
    schema: str,
    held: Mapping[str, Counters],
    rows: Sequence[Sequence[object]] = (),
    history: Sequence[Sequence[object]] = (),
) -> None:
    """The last statement of a transaction that changes buckets, whose rows it holds locked. One statement, since everybody
    waits meanwhile. `rows`: bucket, key, revision, digest, value, at_ms; `history`: bucket, revision, commit id, at_ms,
    writes, digest."""
    await session.execute(
        f"with counted as (update {schema}.bucket b set epoch = u.epoch, revision = u.revision, floor = u.floor,"
        " at_ms = u.at_ms, unmeasured = u.unmeasured"
        " from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])"
        " as u (name, epoch, revision, floor, at_ms, unmeasured) where b.name = u.name),"
        f" written as (insert into {schema}.entry select * from"
        " unnest($7::text[], $8::text[], $9::bigint[], $10::bytea[], $11::bytea[], $12::bigint[])"
        " on conflict (bucket, key) do update set revision = excluded.revision, digest = excluded.digest,"
        " value = excluded.value, at_ms = excluded.at_ms)"
        f" insert into {schema}.history select * from"
        " unnest($13::text[], $14::bigint[], $15::uuid[], $16::bigint[], $17::bytea[], $18::bytea[])",
        *_columns([(name, *msgspec.structs.astuple(one)) for name, one in held.items()]),
        *_columns(rows),
        *_columns(history),
    )


async def load_bucket(
    session: asyncpg.Connection, schema: str, bucket: str, version: Version, entries: Sequence[Entry]
) -> None:
    """Make an absent bucket hold exactly these entries. Raises `StoreRefused`."""
    if (await lock_buckets(session, schema, [bucket]))[bucket].epoch:
        raise StoreRefused(f"bucket {bucket!r} is already there", "load into a store that does not have it")
    rows = [
        (bucket, one.key, one.revision, sha256(one.value).digest(), one.value, one.at_ms) for one in entries
    ]
    latest = max((entry.at_ms for entry in entries), default=0)
    counters = Counters(*version, floor=version.revision, at_ms=latest)
    await write_buckets(session, schema, {bucket: counters}, rows)


async def _measure(session: asyncpg.Connection, schema: str, group: BucketGroup) -> None:
    """Move the floor so that there is room for `UNMEASURED_BYTES` more in `HISTORY_BYTES`."""
    floor = await session.fetchval(
        "select max(revision) from (select revision, sum(length(writes)) over (order by revision desc) as kept"
        f" from {schema}.history where bucket = $1 and revision > $2) as one where kept > $3",
        group.name,
        group.held.floor,
        HISTORY_BYTES - UNMEASURED_BYTES,
    )
    group.held.floor, group.held.unmeasured = max(group.held.floor, floor or 0), 0


def _columns(rows: Sequence[Sequence[object]]) -> list[list[object]]:
    """Six of them, also of no row."""
    return [list(column) for column in zip(*rows, strict=True)] or [[]] * 6


async def look_up(session: asyncpg.Connection, schema: str, decided: Decided) -> list[Outcome]:
    """What became of a COMMIT whose answer was lost. The locks come first: a transaction that is still ending holds them, and
    a plain look said "not committed" of one that landed later."""
    names = sorted(group.name for group in decided.groups)
    async with session.transaction():
        counters = await lock_buckets(session, schema, names)
        planned = [row.commit_id for group in decided.groups for row in group.history]
        found = await session.fetchval(
            f"select count(*) from {schema}.history where commit_id = any($1)", planned
        )
    if found:
        return decided.outcomes
    for group in decided.groups:
        held = counters[group.name]
        first = group.history[0].revision
        if held.floor >= first or (held.epoch != group.held.epoch and held.epoch):
            unknown = "the history that would tell was cut, or belongs to another epoch"
            return [OutcomeUnknown(unknown) for _ in decided.outcomes]
    return [
        Unavailable("the commit was lost with its connection: nothing was written") for _ in decided.outcomes
    ]
