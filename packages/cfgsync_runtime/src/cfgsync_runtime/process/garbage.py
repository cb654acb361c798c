"""Garbage collection is off while a server starts, and rare afterwards: it took a tenth of a server's start and a quarter
of the boot of 10,000 nodes, and there is little garbage in cycles."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

RARELY: Final = (20_000, 10, 3)
"""Arguments of `gc.set_threshold`. A valid request leaves no cycles, an invalid one 28 objects and a broken connection 10:
3 MiB at most before a collection (and 9 MiB in all after 40,000 bad requests; 20 MiB with 50,000 instead of 20,000)."""


@contextmanager
def collection_paused() -> Iterator[None]:
    """No garbage collection inside. Later collections skip the objects that exist at the end."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was:
            gc.enable()


def collect_rarely() -> None:
    """Collect garbage rarely from now on. Only for the process of a server."""
    gc.set_threshold(*RARELY)
