"""Nodes leave: an operator evicts one, or it was not heard of for `ttl` seconds. Each is a commit like any other.

Time is relative and monotonic: after a restart each node has a whole `ttl`, and a node whose request is held counts as
heard of for as long as it is held.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Container, Sequence
from typing import Final, Literal

import msgspec

from cfgsync_core import Conflict, Unavailable
from cfgsync_core.log_events import event

from .acknowledgements import Acknowledgements
from .last_seen import LastSeen, SeenNode
from .registry import Registry

LONGEST_SLACK: Final = 1.0
REMEMBERED: Final = 10_000
"""How many nodes that left are remembered by name."""

log = logging.getLogger("cfgsync")

BeforeLeaving = Callable[[Sequence[str]], Awaitable[object]]


class Departure(msgspec.Struct, frozen=True):
    """A node has left. `at` and `seen` are the clock's seconds; `seen` None: not heard of since this server started."""

    why: Literal["evicted", "expired"]
    at: float
    seen: float | None


class Membership:
    """Makes nodes leave one registry. From `start()` to `close()` those that are silent for `ttl` expire (None: never).

    `before_leaving` is awaited with the names before their registrations go: it frees what else belongs to them, and
    when it raises no node leaves. `held` are the names whose requests are held now.
    """

    def __init__(
        self,
        registry: Registry,
        acknowledgements: Acknowledgements,
        seen: LastSeen,
        held: Container[str],
        *,
        ttl: float | None = None,
        before_leaving: BeforeLeaving | None = None,
    ) -> None:
        self._registry = registry
        self._acknowledgements = acknowledgements
        self._seen = seen
        self._held = held
        self._ttl = ttl
        seen.ordered = ttl is not None
        self._before_leaving = before_leaving
        self._opened_at = seen.now()
        self._unseen: list[str] = []  # registered before this server started
        self._task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.left: dict[str, Departure] = {}
        """The nodes that left while this server ran and are not back, the latest at the end."""

    @property
    def ttl(self) -> float | None:
        """Seconds after which a node that was not heard of leaves, None for never."""
        return self._ttl

    def start(self) -> None:
        """Each node that is registered now has a whole `ttl` from now."""
        self._opened_at = self._seen.now()
        if self._ttl is not None:
            self._unseen = self._registry.identifiers()
            self._task = asyncio.create_task(self._expire_for_ever(self._ttl), name="cfgsync-expiry")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def heard(self, identifier: str) -> SeenNode:
        """A registered node has asked, registered or acknowledged."""
        if self.left:
            self.left.pop(identifier, None)
        return self._seen.touch(identifier)

    async def evict(self, identifier: str) -> bool:
        """Make a node leave, durably on return; False when it is not registered. Raises `Unavailable` and its kin."""
        while self._registry.get(identifier) is not None:
            try:
                await self._leaving([identifier], "evicted")
            except Conflict:
                continue  # it has just changed: the registry has caught up, and it leaves all the same
            log.info("evicted: %s", identifier, extra=event("evicted", identifier=identifier))
            return True
        return False

    async def expire(self) -> Sequence[str]:
        """Make the nodes leave that were not heard of for `ttl`, in one commit; return their names. Raises as `evict`."""
        if self._ttl is None:
            return ()
        until = self._seen.now() - self._ttl
        for name in self._held_among(self._seen.silent_since(until)):
            self._seen.touch(name)
        gone = [name for name in self._seen.silent_since(until) if self._is_registered(name)]
        if self._opened_at <= until:
            gone += [n for n in self._unseen if n not in self._seen and self._is_registered(n)]
        if gone:
            try:
                await self._leaving(gone, "expired")
            except Conflict:
                return ()  # one has changed through another server: the others go next time
            shown = ", ".join(gone[:10]) + (f" and {len(gone) - 10} more" if len(gone) > 10 else "")
            log.info(
                "expired, not heard of for %g s: %s",
                self._ttl,
                shown,
                extra=event("expired", nodes=len(gone)),
            )
        for name in self._seen.silent_since(until):
            self._seen.forget(name)  # it is registered no longer, by whatever way it left
        if self._opened_at <= until:
            self._unseen = []
        return gone

    def _held_among(self, names: Sequence[str]) -> Sequence[str]:
        return [name for name in names if name in self._held]

    def _is_registered(self, identifier: str) -> bool:
        return self._registry.get(identifier) is not None

    async def _leaving(self, names: Sequence[str], why: Literal["evicted", "expired"]) -> None:
        """`_leave`, to its end also when the caller goes away."""
        task = asyncio.create_task(self._leave(names, why), name="cfgsync-leaving")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    async def _leave(self, names: Sequence[str], why: Literal["evicted", "expired"]) -> None:
        """What belongs to a registration goes before it: after a crash in between the node is still registered, and
        leaves again; the other way round its name would stay bound, and its successor be taken for applied."""
        if self._before_leaving is not None:
            await self._before_leaving(names)
        await self._acknowledgements.forget(names)
        await self._registry.remove(names)
        now = self._seen.now()
        for name in names:
            self.left[name] = Departure(why, now, self._seen.forget(name))
        while len(self.left) > REMEMBERED:
            del self.left[next(iter(self.left))]
        await self._acknowledgements.forget(names)  # what came meanwhile

    async def _expire_for_ever(self, ttl: float) -> None:
        slack = min(LONGEST_SLACK, ttl / 10)  # nodes that are due a little later go into the same commit
        while True:
            oldest = self._seen.oldest()
            since = oldest if oldest is not None else self._seen.now()
            if self._unseen:
                since = min(since, self._opened_at)
            await asyncio.sleep(max(since + ttl - self._seen.now(), 0.0) + slack)
            try:
                await self.expire()
            except Unavailable as error:
                log.warning("expired nodes could not be removed: %s", error)
                await asyncio.sleep(LONGEST_SLACK)
