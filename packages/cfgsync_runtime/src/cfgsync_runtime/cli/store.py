"""`cfgsync store …`: check a store, begin a new epoch in it, or move it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated

import typer

from cfgsync_core import (
    NEVER,
    BucketSnapshot,
    Gap,
    RevisionedStore,
    StoreDamaged,
    StoreRefused,
    Unavailable,
    Version,
)
from cfgsync_core.store import abort_move, epoch_ms, move_store, refuse_moved
from cfgsync_core.text import counted, rfc3339

from ..backends.engines import open_backend, scheme_of, without_password
from .app import PLAIN
from .parts.messages import fail
from .parts.store_backup import back_up

app = typer.Typer(no_args_is_help=True, **PLAIN)

StoreUrl = Annotated[
    str,
    typer.Option(
        "--store", metavar="URL", help="sqlite:FILE or postgresql://HOST/DATABASE", show_default=False
    ),
]


@app.callback()
def group() -> None:
    """Check a store, give it a new epoch, or move it.

    \b
    Example:
      cfgsync store check --store sqlite:serve.db
    """


@app.command(short_help="Read everything in a store; change nothing.")
def check(store: StoreUrl) -> None:
    """Read everything in a store and compare it with its digests; change nothing.

    \b
    Example:
      cfgsync store check --store sqlite:/var/lib/cfgsync/serve.db

    Exit codes: 0 whole, 1 damaged or not to be opened.
    """
    try:
        asyncio.run(_check(store))
    except (StoreRefused, Unavailable) as error:
        hint = getattr(error, "hint", "") or "restore it from a backup, or start again with another file"
        raise typer.Exit(fail(1, str(error), hint)) from error


@app.command("new-epoch", short_help="Begin a new epoch, after a restore.")
def new_epoch(
    store: StoreUrl,
    after: Annotated[
        str | None,
        typer.Option(
            metavar="EPOCH",
            help="An epoch that nodes have seen and the store has not: the new one is later, whatever the clock says.",
        ),
    ] = None,
) -> None:
    """Begin a new epoch in every bucket of a store that was restored from an older copy, or whose newest commits are lost.

    Nodes then accept what it serves, although they have seen later numbers of the old epoch. Nothing else changes: the nodes
    keep their files. A file of SQLite must have no server; servers on PostgreSQL may run, and follow. If the end of its log is
    lost, this accepts the loss and says what is left.

    \b
    Examples:
      cfgsync store new-epoch --store sqlite:serve.db
      cfgsync store new-epoch --store sqlite:serve.db \\
        --after 0199a3c2-7d00-7000-8000-000000000000

    Exit codes: 0 done, 1 the store is in use, absent or damaged, 2 usage.
    """
    if after is not None:
        try:
            epoch_ms(after)
        except ValueError as error:
            raise typer.BadParameter(
                f"{after[:100]!r} is not an epoch, a UUID of version 7 as nodes print it",
                param_hint="--after",
            ) from error
    try:
        asyncio.run(_new_epoch(store, after))
    except (StoreRefused, Unavailable) as error:
        hint = getattr(error, "hint", "") or "look at it with `cfgsync store check`, then run it again"
        raise typer.Exit(fail(1, str(error), hint)) from error


@app.command(short_help="Copy a store to a file, beside running servers.")
def backup(
    place: Annotated[str, typer.Argument(metavar="FILE|DIR", help="A new file, or a directory for one.")],
    store: StoreUrl,
) -> None:
    """Copy a store to a SQLite file, as it is at one moment; servers may run.

    To restore it, copy it into an empty store, as often as needed: cfgsync store copy sqlite:FILE URL. Every bucket gets a new
    epoch. The file itself is never served.

    \b
    Example:
      cfgsync store backup /var/backups --store postgresql://db.example/fleet

    Exit codes: 0 done, 1 refused, or the store does not answer.
    """
    try:
        file, many = asyncio.run(back_up(store, place))
    except (StoreRefused, Unavailable) as error:
        raise typer.Exit(fail(1, str(error), getattr(error, "hint", "") or "run it again")) from error
    except OSError as error:
        raise typer.Exit(fail(1, f"{place}: {error.strerror}", "give another place")) from error
    print(f"{file}: {counted(many, 'bucket')}", flush=True)


@app.command(short_help="Move a store to another engine or place.")
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The URL of the store to move.")],
    target: Annotated[
        str | None, typer.Argument(metavar="TO", help="The URL of an empty one; not given with --abort.")
    ] = None,
    abort: Annotated[
        bool, typer.Option("--abort", help="Let FROM accept commits again, before it is moved for good.")
    ] = False,
) -> None:
    """Move a store: FROM refuses commits from now on, is copied and compared, and is left for good; then TO accepts commits.

    Run it again when it was interrupted. Servers on PostgreSQL may run meanwhile: they answer reads, and 503 to writes. A file of
    SQLite must have no server. Nodes keep their files; after the move they read everything once, and equal files stay as they are.

    \b
    Examples:
      cfgsync store copy sqlite:serve.db postgresql://db.example/fleet
      cfgsync store copy sqlite:serve.db --abort

    Exit codes: 0 done, 1 refused or interrupted, 2 usage.
    """
    if (target is None) != abort:
        raise typer.BadParameter("give FROM and TO, or FROM and --abort")
    try:
        asyncio.run(_copy(source, target))
    except (StoreRefused, Unavailable) as error:
        hint = getattr(error, "hint", "") or "run it again"
        raise typer.Exit(fail(1, str(error), hint)) from error


async def _copy(source: str, target: str | None) -> None:
    async with open_backend(source, read_only=True) as old:  # an absent store is refused instead of made
        is_backup = old.mover is not None and (await old.mover.move()).state == "backup"
    async with open_backend(source, read_only=is_backup) as old:
        if target is None:
            await abort_move(old, without_password(source))
            print(f"{without_password(source)} accepts commits again", flush=True)
            return
        async with open_backend(target) as new:
            names = (without_password(source), without_password(target))
            say = partial(print, flush=True)
            await move_store(old, new, names, say)


async def _new_epoch(url: str, after: str | None) -> None:
    if scheme_of(url) == "memory":
        raise StoreRefused(
            "memory: begins a new epoch at each start",
            f"start the server again with --store memory:{after or 'EPOCH'}, which makes later epochs than that one"
            " whatever the clock says",
        )
    loss = ""
    try:
        async with open_backend(url, read_only=True):
            pass  # refuse an absent store instead of creating it
    except StoreDamaged as error:
        loss = str(error)
    async with open_backend(url, accept_loss=bool(loss)) as backend:
        await refuse_moved(backend)
        left = [await _bucket(backend.store, name) for name in await backend.admin.buckets()] if loss else []
        versions = await backend.admin.new_epoch(after)
        if backend.hints is not None:  # servers of the store may run
            for name in versions:
                await backend.hints.publish(name)
        newest = [await _newest(backend.store, name, version) for name, version in versions.items()]
    if loss:
        print(f"accepted: {loss}\nwhat is left:", flush=True)
        for line, time in zip(left, newest, strict=True):
            print(f"{line}; the newest change is {time}, and every later one is gone", flush=True)
        print("a node whose registration is gone registers again; until then another node may take its name")
    for name, version in versions.items():
        print(f"{name}: {version}", flush=True)
    many = f"a new epoch in {counted(len(versions), 'bucket')}"
    print(many if versions else "nothing was ever written to it: there is no epoch yet", flush=True)


async def _newest(store: RevisionedStore, name: str, version: Version) -> str:
    changes = await store.changes(name, Version(version.epoch, version.revision - 1))
    return "of an unknown time" if isinstance(changes, Gap) else f"of {rfc3339(changes[-1].at_ms // 1000)}"


async def _check(url: str) -> None:
    async with open_backend(url, read_only=True) as backend:
        names = await backend.admin.buckets()
        for name in names:
            print(await _bucket(backend.store, name), flush=True)
        print(
            f"whole: {counted(len(names), 'bucket')}"
            if names
            else "whole, and nothing was ever written to it",
            flush=True,
        )


async def _bucket(store: RevisionedStore, name: str) -> str:
    cut = await store.snapshot(name)
    assert isinstance(cut, BucketSnapshot)  # no known version is given
    if not cut.is_whole():
        raise Unavailable(f"bucket {name} at {cut.version}: its entries do not have the digest of their cut")
    changes = await store.changes(name, NEVER)
    history = "history cut" if isinstance(changes, Gap) else f"history of {counted(len(changes), 'commit')}"
    size = sum(len(entry.value) for entry in cut.entries)
    entries = counted(len(cut.entries), "entry", "entries")
    return f"{name}: revision {cut.version.revision}, {entries}, {counted(size, 'byte')}, {history}"
