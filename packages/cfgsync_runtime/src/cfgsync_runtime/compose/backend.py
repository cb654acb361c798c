"""The store of a server: opened from a URL, and notifying its followers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

from cfgsync_core import (
    Backend,
    ChangeHints,
    Engine,
    MemoryHints,
)
from cfgsync_core.store import Describe, NotifyingStore

from ..backends.engines import open_backend


def opened(
    store: Backend | Engine | str, on_fatal: Callable[[BaseException], None] | None
) -> AbstractAsyncContextManager[Backend]:
    if isinstance(store, str):
        return open_backend(store, on_fatal=on_fatal)
    return nullcontext(store if isinstance(store, Backend) else Backend(store, store))


def notifying(
    backend: Backend,
    hints: ChangeHints | None,
    describe: Describe | None = None,
) -> NotifyingStore:
    return NotifyingStore(backend.store, MemoryHints() if hints is None else hints, backend.events, describe)
