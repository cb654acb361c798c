"""`memory:`, the reference engine: for trying out and for tests, gone with its process."""

from __future__ import annotations

from collections.abc import Callable

from cfgsync_core import Engine, MemoryStore, StoreRefused


def open_memory(rest: str, read_only: bool, on_fatal: Callable[[BaseException], None] | None) -> Engine:
    """A new, empty store. Nothing can be fatal to it, and there is nothing beside it to look at."""
    if rest or read_only:
        raise StoreRefused(
            "memory: has no name and no second reader", "write just memory:, or use sqlite:PATH"
        )
    return MemoryStore()
