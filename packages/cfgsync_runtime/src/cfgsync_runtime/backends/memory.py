"""`memory:`, the reference engine, for trying out and for tests: its contents end with its process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from cfgsync_core import Backend, MemoryStore, StoreRefused
from cfgsync_core.store import epoch_ms, uuid7


@asynccontextmanager
async def open_memory(
    url: str,
    *,
    read_only: bool,
    on_fatal: Callable[[BaseException], None] | None,
    accept_loss: bool = False,
) -> AsyncIterator[Backend]:
    """A new, empty store. It never calls `on_fatal`, and has nothing to lose.

    `memory:EPOCH` makes only later epochs: for a server whose clock is behind that of its last start, since nodes refuse an
    epoch that is older than what they have seen.
    """
    after = url.removeprefix("memory:")
    try:
        epoch_ms(after or uuid7())
    except ValueError as error:
        raise StoreRefused(
            f"memory: takes only an epoch as its name, and {after[:80]!r} is not one",
            "write just memory:, or memory:EPOCH as nodes print it, or use sqlite:PATH",
        ) from error
    if read_only:
        raise StoreRefused("memory: has no second reader", "use sqlite:PATH")
    store = MemoryStore(after=after)
    yield Backend(store, store)
