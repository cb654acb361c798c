"""`shared:NAME`: one store in memory for every server of this process that names it, and their hints of each other's commits."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from cfgsync_core import Backend, MemoryHints, MemoryStore, StoreRefused

_by_name: dict[str, Backend] = {}


@asynccontextmanager
async def open_shared(
    url: str, *, read_only: bool, on_fatal: Callable[[BaseException], None] | None
) -> AsyncIterator[Backend]:
    name = url.partition(":")[2]
    if not name:
        raise StoreRefused("shared: names no store", "write shared:NAME")
    if name not in _by_name:
        store = MemoryStore()
        _by_name[name] = Backend(store, admin=store, hints=MemoryHints())
    yield _by_name[name]
