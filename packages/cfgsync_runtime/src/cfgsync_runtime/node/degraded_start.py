"""Starting without a server: from the last good payload, where the operator allows it.

The cache is checked by its digest, is not older than the operator says, and is only ever read here: a degraded start
writes nothing to it, and makes nothing current.
"""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Final

from .state import CachedPayload, NodeState

LOADED: Final = "loaded_cached_snapshot"
FAILED: Final = "bootstrap_failed_no_cached_snapshot"
WAIT: Final = 5.0
"""Seconds that a degraded start first waits for a server, by default."""

MAY_DEGRADE: Final = frozenset({3, 7})
"""Not ready, and unreachable. Missing, refused, integrity, usage and disk are answers: a cache must not hide them."""


class ConfigStartupMode(StrEnum):
    """What a node does that gets no files in time: it does not start, or it starts from its cache."""

    FAIL_CLOSED = "fail-closed"
    DEGRADED = "degraded"


def usable(
    state: NodeState | None, max_stale: float | None, now: float | None = None
) -> tuple[CachedPayload | None, str]:
    """The cached payload, if there is one that is whole and was confirmed by a server within `max_stale` seconds (None:
    ever), and else why not. Raises `DiskError` when it cannot be read."""
    cached = state.cached() if state is not None else None
    if cached is None:
        wrong = state.unusable.get("payload") if state is not None else None
        return None, f"the cached payload {wrong}" if wrong else "there is no cached payload"
    age = age_of(cached, now)
    if max_stale is not None and age > max_stale:
        return (
            None,
            f"the cached payload was confirmed {age:.0f} s ago, more than --max-stale {max_stale:g} s",
        )
    return cached, ""


def age_of(cached: CachedPayload, now: float | None = None) -> float:
    """Seconds since a server last confirmed it, by the machine's clock; 0 when that clock was set back since."""
    return max((time.time() if now is None else now) - cached.at, 0.0)
