"""The files that a node accepted last are its last good ones, and no older generation is accepted after them."""

from __future__ import annotations

import time
from collections.abc import Callable

from cfgsync_artifacts import DiskError
from cfgsync_core import Fetched, Version
from cfgsync_core.store import epoch_ms

from .state import KnownGeneration, NodeState


def newest_generation(seen: KnownGeneration | None) -> Version | None:
    """The newest generation that the node has seen; None for a static source, which has no generations."""
    if seen is None or not seen.epoch:
        return None
    try:
        epoch_ms(seen.epoch)
    except ValueError:
        return None
    return Version(seen.epoch, seen.number)


def remember(state: NodeState, fetched: Fetched, notice: Callable[[str], None]) -> None:
    """Keep the payload and its generation. The files are already installed, so a full disk here is only a notice."""
    epoch, number = Version.parse(fetched.generation) if fetched.generation else ("", fetched.revision)
    try:
        at = time.time()
        state.keep(
            fetched.payload, KnownGeneration(epoch, number, fetched.digest, at, signature=fetched.signature)
        )
    except DiskError as error:
        notice(f"the files are in place, but cannot be remembered: {error}; {error.hint}")
