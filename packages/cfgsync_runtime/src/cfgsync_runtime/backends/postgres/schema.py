"""The tables of a store, made and migrated forward only, and what a database must promise before it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfgsync_core import StoreRefused

from .address import SESSION, Address
from .failures import refused_pooler

if TYPE_CHECKING:
    import asyncpg

MIGRATIONS: Final = (
    """
    create table {schema}.store (
        one bool primary key default true check (one), schema int not null,
        system text not null default '', timeline text not null default '', beat bigint not null default 0);
    insert into {schema}.store (schema) values (0);
    create table {schema}.bucket (
        name text collate "C" primary key, epoch text collate "C" not null default '', revision bigint not null default 0,
        floor bigint not null default 0, at_ms bigint not null default 0, unmeasured bigint not null default 0);
    create table {schema}.entry (
        bucket text collate "C" not null, key text collate "C" not null, revision bigint not null, digest bytea,
        value bytea, at_ms bigint not null, primary key (bucket, key));
    create table {schema}.history (
        bucket text collate "C" not null, revision bigint not null, commit_id uuid not null unique, at_ms bigint not null,
        writes bytea not null, digest bytea not null, primary key (bucket, revision));
    """,
    """
    alter table {schema}.store add column move text not null default '', add column peer text not null default '',
        add column move_epoch text not null default '';
    """,
)
"""One step for each version of the schema. Never change one: add one, and keep a dump of the version before for the tests.

A bucket without an epoch was never written: its row is only there to be locked."""


async def prepare(session: asyncpg.Connection, address: Address, *, read_only: bool) -> None:
    """Check the database and bring its tables up to date. Raises `StoreRefused`, and what the driver raises."""
    await _refuse_unsafe(session, address)
    schema = address.schema
    async with session.transaction():
        if not read_only:  # two servers that start at once take turns
            await session.execute("select pg_advisory_xact_lock(hashtext($1))", f"cfgsync {schema}")
            await session.execute(f"create schema if not exists {schema}")
        known = await session.fetchval("select to_regclass($1)", f"{schema}.store") is not None
        version = await session.fetchval(f"select schema from {schema}.store") if known else 0
        if version > len(MIGRATIONS):
            raise StoreRefused(
                f"the store in PostgreSQL at {address.shown} has schema {version}, and this cfgsync knows {len(MIGRATIONS)}",
                "use the newer cfgsync that wrote it",
            )
        if read_only and version < len(MIGRATIONS):
            what = f"has schema {version}" if known else f"has no store in schema {schema!r}"
            raise StoreRefused(f"PostgreSQL at {address.shown} {what}", "start cfgsync serve with it once")
        for step in MIGRATIONS[version:]:
            await session.execute(step.format(schema=schema))
        if version < len(MIGRATIONS):
            await session.execute(f"update {schema}.store set schema = $1", len(MIGRATIONS))


async def _refuse_unsafe(session: asyncpg.Connection, address: Address) -> None:
    found = await session.fetch(
        "select name, setting from pg_settings where name = any($1)",
        ["fsync", "server_version_num", *SESSION],
    )
    settings = {row["name"]: row["setting"] for row in found}
    if int(settings["server_version_num"]) < 120000:
        raise StoreRefused(f"PostgreSQL at {address.shown} is older than 12", "use a newer one")
    if settings["fsync"] != "on":
        raise StoreRefused(
            f"PostgreSQL at {address.shown} runs with fsync=off: it loses acknowledged commits when its machine stops",
            "set fsync = on in postgresql.conf",
        )
    if any(settings[name] != value for name, value in SESSION.items()):
        raise refused_pooler(address.shown)
