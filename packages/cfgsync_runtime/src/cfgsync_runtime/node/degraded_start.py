"""A start without a server uses the last good payload, if the operator allows it and its digest and age are right.

The cache is only read here: a degraded start writes nothing to it.
"""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Final

from cfgsync_core.node import NotSigned

from .memory.state import CachedPayload, NodeState

LOADED: Final = "loaded_cached_snapshot"
FAILED: Final = "bootstrap_failed_no_cached_snapshot"
WAIT: Final = 5.0
"""Seconds for which a degraded start first tries the server, by default."""

MAY_DEGRADE: Final = frozenset({3, 7})
"""Exit codes for which the cache is used: not ready and unreachable. A cache must not hide any other answer."""

WATCHER_MAY_DEGRADE: Final = MAY_DEGRADE | {9}
"""Also files that `--check` refused: a watcher starts on the last good ones, and goes on asking for the next."""


class ConfigStartupMode(StrEnum):
    """A node that gets no files in time does not start, or it starts from its cache."""

    FAIL_CLOSED = "fail-closed"
    DEGRADED = "degraded"


def usable(state: NodeState | None, max_stale: float | None) -> tuple[CachedPayload | None, str]:
    """The cached payload if it is whole and a server confirmed it within `max_stale` seconds (None: at any time), otherwise
    None and the reason. Raises `DiskError` when it cannot be read; `NotSigned` when the node trusts keys and none of them
    signed it."""
    cached = state.cached() if state is not None else None
    if state is None or cached is None:
        wrong = state.unusable.get("payload") if state is not None else None
        return None, f"the cached payload {wrong}" if wrong else "there is no cached payload"
    age = age_of(cached)
    if max_stale is not None and age is None:
        return None, (
            "the age of the cached payload cannot be known, and --max-stale limits it: this machine's clock is behind the"
            " time at which a server confirmed it"
        )
    if max_stale is not None and age is not None and age > max_stale:
        return None, f"the cached payload is {age:.0f} s old, more than --max-stale {max_stale:g} s"
    if state.verify is not None:
        try:
            state.verify(cached.signature or None, state.identifier, cached.signed, cached.payload.digest)
        except NotSigned as error:
            raise NotSigned(f"the cached payload cannot be used: {error}", error.hint) from error
    return cached, ""


def age_of(cached: CachedPayload) -> float | None:
    """Seconds since a server last confirmed it, by this machine's clock; None when the clock is behind that."""
    age = time.time() - cached.at
    return age if age >= 0 else None
