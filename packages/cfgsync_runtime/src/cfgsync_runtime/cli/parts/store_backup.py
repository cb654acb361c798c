"""A copy of a whole store in one SQLite file, made beside running servers: no bucket changed while the others were read."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from typing import Final

from cfgsync_core import Backend, BucketSnapshot, StoreRefused, Unavailable
from cfgsync_core.store import mark_backup

from ...backends.engines import open_backend, without_password

TRIES: Final = 100
PAUSE_SECONDS: Final = 0.02


async def joint_cut(backend: Backend) -> dict[str, BucketSnapshot]:
    """Every bucket as it was at one moment. Raises `Unavailable` for a store that is written to all the time."""
    held: dict[str, BucketSnapshot] = {}
    for _ in range(TRIES):
        is_still = True
        for name in await backend.admin.buckets():
            before = held.get(name)
            found = await backend.store.snapshot(name, None if before is None else before.version)
            if isinstance(found, BucketSnapshot):
                if not found.is_whole():
                    raise StoreRefused(f"bucket {name!r} is damaged", "look at it with `cfgsync store check`")
                held[name], is_still = found, False
        if is_still:
            return held
        await asyncio.sleep(PAUSE_SECONDS)
    raise Unavailable("the store was written to during each of 100 tries to read it at one moment")


async def back_up(store: str, place: str) -> tuple[str, int]:
    """Write the copy to `place`, or into it when it is a directory; the file, and the number of buckets. Raises `StoreRefused`,
    `Unavailable`, `OSError`."""
    place = _new_file(place)
    async with open_backend(store, read_only=True) as backend:
        cut = await joint_cut(backend)
    part = f"{place}.{os.urandom(4).hex()}.part"
    try:
        async with open_backend(f"sqlite:{part}") as copy:
            for name, one in cut.items():
                await copy.admin.load(name, one.version, one.entries)
            await mark_backup(copy, without_password(store))
        _finish(part, place)
    finally:
        for left in (part, f"{part}.lock"):
            with suppress(FileNotFoundError):
                os.unlink(left)
    return place, len(cut)


def _new_file(place: str) -> str:
    if os.path.isdir(place):
        place = os.path.join(place, time.strftime("cfgsync-%Y%m%dT%H%M%SZ.db", time.gmtime()))
    if os.path.lexists(place):
        raise StoreRefused(f"{place} is already there", "give another name; a backup overwrites nothing")
    return place


def _finish(part: str, place: str) -> None:
    os.rename(part, place)
    directory = os.open(os.path.dirname(os.path.abspath(place)), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
