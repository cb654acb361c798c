"""The documents that a source's materializer reads, as they are now: the composer hands in each newer state."""

from __future__ import annotations

from collections.abc import Callable

from cfgsync_core import DocumentsSnapshot


class DocumentsFeed:
    """`current` is what the next run reads. `on_change` is called after each change; the source that takes the feed sets it."""

    def __init__(self, current: DocumentsSnapshot) -> None:
        self.current = current
        self.on_change: Callable[[], object] = lambda: None

    def adopt(self, newer: DocumentsSnapshot) -> None:
        """The documents have changed."""
        if newer.version != self.current.version:
            self.current = newer
            self.on_change()
