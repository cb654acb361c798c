"""The store of a server: opened from a URL, with its bus, and notifying its followers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from cfgsync_core import (
    Backend,
    ChangeHints,
    Engine,
    MemoryHints,
)
from cfgsync_core.store import Describe, NotifyingStore, refuse_moved

from ..backends.engines import open_backend, open_bus


@asynccontextmanager
async def opened(
    store: Backend | Engine | str,
    on_fatal: Callable[[BaseException], None] | None,
    hints: ChangeHints | str | None = None,
    events_stream: str | None = None,
) -> AsyncIterator[Backend]:
    """The backend, with `hints` in place of its own. Those of a URL carry the events, too; a store that only one server
    writes to needs no hints."""
    async with AsyncExitStack() as stack:
        if isinstance(store, str):
            backend = await stack.enter_async_context(open_backend(store, on_fatal=on_fatal))
            await refuse_moved(backend)
        else:
            backend = store if isinstance(store, Backend) else Backend(store, store)
        if isinstance(hints, str):
            bus = await stack.enter_async_context(open_bus(hints, events_stream))
            backend = backend._replace(hints=backend.hints and bus, events=bus)
        elif hints is not None:
            backend = backend._replace(hints=hints)
        yield backend


def notifying(backend: Backend, describe: Describe | None = None) -> NotifyingStore:
    hints = MemoryHints() if backend.hints is None else backend.hints
    return NotifyingStore(backend.store, hints, backend.events, describe)
