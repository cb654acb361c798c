"""`memory:`, the reference engine, for trying out and for tests: its contents end with its process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from cfgsync_core import Backend, MemoryStore, StoreRefused


@asynccontextmanager
async def open_memory(
    url: str, *, read_only: bool, on_fatal: Callable[[BaseException], None] | None
) -> AsyncIterator[Backend]:
    """A new, empty store. It never calls `on_fatal`."""
    if url != "memory:" or read_only:
        raise StoreRefused(
            "memory: takes no name and has no second reader", "write just memory:, or use sqlite:PATH"
        )
    store = MemoryStore()
    yield Backend(store, store)
