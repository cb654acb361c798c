"""`cfgsync store …`: what an operator does to a store itself."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from cfgsync_core import NEVER, BucketSnapshot, Engine, Gap, StoreRefused, Unavailable

from ..backends import open_store
from .app import PLAIN
from .says import fail

app = typer.Typer(help="Look at a store, also beside a running server.", no_args_is_help=True, **PLAIN)


@app.callback()
def group() -> None:
    """Look at a store, also beside a running server."""


@app.command()
def check(
    store: Annotated[
        str,
        typer.Option(
            "--store", envvar="CFGSYNC_STORE", metavar="URL", help="sqlite:FILE", show_default=False
        ),
    ],
) -> None:
    """Read everything in a store and compare it with its digests; change nothing.

    Example: cfgsync store check --store sqlite:/var/lib/cfgsync/serve.db

    Exit codes: 0 whole, 1 damaged or not to be opened.
    """
    try:
        asyncio.run(_check(store))
    except (StoreRefused, Unavailable) as error:
        hint = getattr(error, "hint", "") or "restore it from a backup, or start anew with another file"
        raise typer.Exit(fail(1, str(error), hint)) from error


async def _check(url: str) -> None:
    async with open_store(url, read_only=True) as engine:
        names = await engine.buckets()
        for name in names:
            print(await _bucket(engine, name), flush=True)
        print(
            f"whole: {len(names)} buckets" if names else "whole, and nothing was ever written to it",
            flush=True,
        )


async def _bucket(engine: Engine, name: str) -> str:
    cut = await engine.snapshot(name)
    assert isinstance(cut, BucketSnapshot)  # asked without a known version
    if not cut.is_whole():
        raise Unavailable(f"bucket {name} at {cut.version}: its entries do not have the digest of their cut")
    changes = await engine.changes(name, NEVER)
    history = "history cut" if isinstance(changes, Gap) else f"history of {len(changes)} commits"
    size = sum(len(entry.value) for entry in cut.entries)
    return f"{name}: revision {cut.version.revision}, {len(cut.entries)} entries, {size} bytes, {history}"
