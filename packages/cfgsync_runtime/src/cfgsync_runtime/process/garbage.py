"""Little here is ever garbage that only a collection finds: looking for it took a tenth of a server's start, and a
quarter of the boot of 10,000 nodes, each of which is a connection's worth of objects that stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

SELDOM: Final = (20_000, 10, 3)
"""Of `gc.set_threshold`. A request leaves no cycles, one that cannot be read 28 objects and a connection that breaks 10:
3 MiB at most before they are found (and 9 MiB in all after 40,000 bad requests; it was 20 with 50,000 here)."""


@contextmanager
def nothing_is_garbage() -> Iterator[None]:
    """No garbage collection inside. What is there at the end stays: later collections do not look at it."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was:
            gc.enable()


def look_seldom() -> None:
    """Collect garbage seldom from now on: for a process that is a server and nothing else."""
    gc.set_threshold(*SELDOM)
