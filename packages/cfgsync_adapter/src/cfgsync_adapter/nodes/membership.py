"""Nodes leave: an operator evicts one, or it promised to be heard of again and sent nothing for `ttl` seconds.

After a restart each node has a whole `ttl`. A node whose request is held is not silent. A node that promised nothing, as a
one-shot fetch that became its program, stays registered, but after `ttl` seconds another secret may take its name.
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
from .promises import Promises
from .registry import Registry

LONGEST_SLACK: Final = 1.0
REMEMBERED: Final = 10_000
"""How many of the nodes that left are remembered by name."""

log = logging.getLogger("cfgsync")

BeforeLeaving = Callable[[Sequence[str]], Awaitable[object]]


class Departure(msgspec.Struct, frozen=True):
    """A node has left. `at` and `seen` are the clock's seconds; `seen` None: it sent nothing since this server started."""

    why: Literal["evicted", "expired"]
    at: float
    seen: float | None


class Membership:
    """Removes nodes from one registry; those that promised to be heard of and are silent for `ttl` seconds expire (None:
    never).

    `before_leaving` are awaited with the names before their registrations are deleted: they free what else belongs to
    them. When one raises, no node leaves. `held` are the names whose requests are held now.
    """

    def __init__(
        self,
        registry: Registry,
        acknowledgements: Acknowledgements,
        promises: Promises,
        seen: LastSeen,
        held: Container[str],
        *,
        ttl: float | None = None,
        before_leaving: Sequence[BeforeLeaving] = (),
    ) -> None:
        self._registry = registry
        self._acknowledgements = acknowledgements
        self._promises = promises
        self._seen = seen
        self._held = held
        self.ttl = ttl
        self._before_leaving = before_leaving
        self._opened_at = seen.clock()
        self._long: set[int] = set()  # the promises that are long for this `ttl`, and were named in the log
        self._removals: set[asyncio.Task[None]] = set()
        self.left: dict[str, Departure] = {}
        """The nodes that left while this server ran and have not come back, the latest at the end."""

    def start(self) -> asyncio.Task[None] | None:
        """Each node that is registered now has a whole `ttl` from now. Returns the task that removes silent nodes."""
        self._opened_at = self._seen.clock()
        if self.ttl is None:
            return None
        for name in self._promises:
            if name in self._registry:
                self._seen.expect(name)
        return asyncio.create_task(self._expire_for_ever(self.ttl), name="cfgsync-expiry")

    def touch(self, identifier: str) -> SeenNode:
        """A registered node has sent a request."""
        if self.left:
            self.left.pop(identifier, None)
        return self._seen.touch(identifier)

    def keeps(self, identifier: str, seconds: int) -> bool:
        """True when `promise` would change nothing, but for `touch`."""
        is_kept = self._promises.entries.get(identifier) == seconds
        return is_kept and (self.ttl is None or self._seen.is_expected(identifier))

    async def promise(self, identifier: str, seconds: int | None) -> None:
        """A node has said that it will be heard of again within so many seconds (None: it says no such thing). Durable on
        return. Raises `Unavailable` and its subclasses."""
        if identifier not in self._registry:
            return
        if is_new := self._promises.get(identifier) != seconds:
            await self._promises.keep(identifier, seconds)
            if identifier not in self._registry:  # it left meanwhile
                await self._promises.keep(identifier, None)
                return
        if self.ttl is None:
            return
        if seconds is None:
            self._seen.release(identifier)
            return
        self._seen.expect(identifier)
        if is_new:
            self._warn_of(identifier, seconds, self.ttl)

    def _warn_of(self, identifier: str, seconds: int, ttl: float) -> None:
        """Say once of each length that one late request would remove a node."""
        if seconds <= ttl / 2 or seconds in self._long:
            return
        self._long.add(seconds)
        log.warning(
            "%s promises to be heard of every %d s, which is over half of --ttl (%g s): one late request would remove it;"
            " give a longer --ttl",
            identifier,
            seconds,
            ttl,
            extra=event("long_promise", identifier=identifier, seconds=seconds),
        )

    async def lapse(self, identifier: str) -> bool:
        """True when another secret may take this name: its node promised nothing and was silent for `ttl` seconds. What it
        acknowledged is forgotten, since the next node of this name may have no files. Raises as `evict`."""
        if self.ttl is None or identifier in self._promises or identifier in self._held:
            return False
        known = self._seen.of(identifier)
        silent = self._seen.clock() - (self._opened_at if known is None else known.at)
        if silent < self.ttl:
            return False
        log.info(
            "%s has sent nothing for %d s: another node takes its name",
            identifier,
            silent,
            extra=event("lapsed", identifier=identifier),
        )
        await self._acknowledgements.forget([identifier])
        return True

    async def evict(self, identifier: str) -> bool:
        """Remove a node, durably on return; False when it is not registered. Raises `Unavailable` and its subclasses."""
        while identifier in self._registry:
            try:
                await self._leaving([identifier], "evicted")
            except Conflict:
                continue  # the node has just changed its registration, which the registry has read: it leaves all the same
            log.info("evicted: %s", identifier, extra=event("evicted", identifier=identifier))
            return True
        return False

    async def expire(self) -> Sequence[str]:
        """Remove the nodes that broke their promise, in one commit; return their names. Raises as `evict`."""
        if self.ttl is None:
            return ()
        until = self._seen.clock() - self.ttl
        for name in self._seen.silent_since(until):
            if name in self._held:
                self._seen.touch(name)
        gone = [name for name in self._seen.silent_since(until) if name in self._registry]
        if gone:
            try:
                await self._leaving(gone, "expired")
            except Conflict:
                return ()  # one has changed through another server: the others expire next time
            shown = ", ".join(gone[:10]) + (f" and {len(gone) - 10} more" if len(gone) > 10 else "")
            log.info(
                "expired after %g s without a request: %s",
                self.ttl,
                shown,
                extra=event("expired", nodes=len(gone)),
            )
        for name in self._seen.silent_since(until):
            self._seen.forget(name)  # it is not registered any more
        return gone

    async def _leaving(self, names: Sequence[str], why: Literal["evicted", "expired"]) -> None:
        """`_leave`, to its end also when the caller is cancelled."""
        task = asyncio.create_task(self._leave(names, why), name="cfgsync-leaving")
        self._removals.add(task)
        task.add_done_callback(self._removals.discard)
        await asyncio.shield(task)

    async def _leave(self, names: Sequence[str], why: Literal["evicted", "expired"]) -> None:
        """Delete what belongs to a registration before the registration: after a crash in between, the node is still
        registered and leaves again. In the other order its name would stay bound, and the next node of this name would
        count as applied."""
        for before in self._before_leaving:
            await before(names)
        await self._acknowledgements.forget(names)
        await self._registry.remove(names)
        now = self._seen.clock()
        for name in names:
            self.left[name] = Departure(why, now, self._seen.forget(name))
        while len(self.left) > REMEMBERED:
            del self.left[next(iter(self.left))]
        await self._acknowledgements.forget(names)  # those that came meanwhile
        # after the registrations: in the other order, a crash would leave nodes that never expire
        await self._promises.forget(name for name in names if name not in self._registry)

    async def _expire_for_ever(self, ttl: float) -> None:
        slack = min(LONGEST_SLACK, ttl / 10)  # nodes that expire a little later go into the same commit
        while True:
            await asyncio.sleep(max(self._seen.oldest() + ttl - self._seen.clock(), 0.0) + slack)
            try:
                await self.expire()
            except Exception as error:  # an unforeseen one, too, must not end all removals
                trace = None if isinstance(error, Unavailable) else error
                log.warning("expired nodes could not be removed: %s", error, exc_info=trace)
                await asyncio.sleep(LONGEST_SLACK)
