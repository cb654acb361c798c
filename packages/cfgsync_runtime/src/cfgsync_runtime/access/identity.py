"""A name belongs to the secret that it was first registered with; another secret changes nothing and reads nothing.

Bindings live in a bucket of their own, made by compare-and-set before the
registration, so that binding never makes a revision of the registrations.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from hashlib import sha256

from cfgsync_core import ChangeHints, Conflict, NodeRegistration, RevisionedStore
from cfgsync_core.follow import BucketMirror, OtherServers
from cfgsync_core.server import Call, Principal, Reply, Route, refusal
from cfgsync_core.wire import NodeRequest

BUCKET = "identities"
REBIND = "an operator re-binds the name by evicting it: cfgsync node evict"


class Identities:
    """The bindings of one store: identifier → hash of the node's secret. `await open()` first.

    `anonymous` accepts registrations without a secret; `rebind` gives a bound name to another secret (off loopback,
    only with --insecure-no-auth). `rebound` counts that, by identifier, since the server started. `lapsed` tells of a bound
    name whether another secret may take it, since its node has been silent for too long.

    With `hints`, other servers share the store: this one follows their bindings and, since its mirror may be behind, reads
    a name from the store before it refuses or binds it.
    """

    def __init__(
        self,
        store: RevisionedStore,
        *,
        anonymous: bool = True,
        rebind: bool = False,
        hints: ChangeHints | None = None,
        interval: float = 15.0,
    ) -> None:
        self._anonymous = anonymous
        self._rebind = rebind
        self.lapsed: Callable[[str], Awaitable[bool]] = _never
        self._mirror = BucketMirror(
            store,
            BUCKET,
            bytes.decode,
            str.encode,
            others=None if hints is None else OtherServers(hints, interval),
        )
        self._freed: set[str] = set()
        self.rebound: Counter[str] = Counter()

    async def open(self) -> None:
        """Read the bucket once, and follow it if other servers share it."""
        await self._mirror.open()

    async def close(self) -> None:
        """Stop following the other servers."""
        await self._mirror.close()

    async def release(self, identifiers: Sequence[str]) -> bool:
        """Free these names, durably on return, in one commit: the next node that comes may bind them. False when none of
        them is bound."""
        for name in identifiers:
            if name not in self._mirror:
                await self._mirror.look_up(name)
        bound = {name for name in identifiers if name in self._mirror}
        if not bound:
            return False
        self._freed |= bound
        try:
            await self._mirror.commit(dict.fromkeys(bound))
        finally:
            self._freed -= bound
        return True

    async def answer(self, route: Route, call: Call) -> Reply:
        """The reply of a node's route, if the name in the body is free or bound to the caller's secret."""
        name, secret = call.value.identifier, _bearer(call.headers.get("Authorization"))
        if isinstance(call.value, NodeRegistration):
            return await self._claim(name, secret) or await route.handler(call)
        reads = isinstance(call.value, NodeRequest)
        refused = self._refused(name, secret)
        if refused is not None or not (reads or name in self._mirror):
            await self._mirror.look_up(name)
            refused = self._refused(name, secret)
        if refused is not None:
            return refused
        bound = self._mirror.get(name)
        if bound is not None:
            call.principal = Principal("node", name)
        reply = await route.handler(call)
        if not reads:
            return reply
        if bound is None:
            # a name is bound before it is registered: if the reply has a node's files, its name was bound by now
            await self._mirror.look_up(name)
        if self._mirror.get(name) is not bound:  # while the request was held
            return self._refused(name, secret) or reply
        return reply

    def _refused(self, identifier: str, secret: str | None) -> Reply | None:
        """The refusal of a request for a name that is bound to another secret, None when it may be answered."""
        bound = self._mirror.get(identifier)
        if bound is None:
            return None
        if secret is None:
            return _unauthorized(identifier)
        if not hmac.compare_digest(_hash(secret), bound):
            return refusal(403, "forbidden", f"{identifier} belongs to a node with another secret; {REBIND}")
        return None

    async def _claim(self, identifier: str, secret: str | None) -> Reply | None:
        """Bind an unbound name to the caller's secret; a refusal when it is bound to another."""
        bound = self._claimed(identifier)
        mine = None if secret is None else _hash(secret)
        if mine is None or bound != mine:
            await self._mirror.look_up(identifier)
            bound = self._claimed(identifier)
        if mine is None:
            return None if bound is None and self._anonymous else _unauthorized(identifier)
        if bound is None:
            try:
                await self._mirror.commit({identifier: mine}, expected={identifier: 0})
                bound = mine
            except Conflict:
                bound = self._mirror.get(identifier) or ""
        if not hmac.compare_digest(mine, bound):
            if self._rebind:
                await self._mirror.commit({identifier: mine})
                self.rebound[identifier] += 1
                return None
            if await self.lapsed(identifier):
                return await self._taken_over(identifier, mine, bound)
            return _conflict(identifier)
        return None

    async def _taken_over(self, identifier: str, mine: str, before: str) -> Reply | None:
        """Give a name whose binding has lapsed to the caller's secret; the first of several callers gets it."""
        if self._mirror.get(identifier) == before:
            expected = {identifier: self._mirror.revision_of(identifier) or 0}
            with suppress(Conflict):
                await self._mirror.commit({identifier: mine}, expected=expected)
                return None
        return _conflict(identifier)

    def _claimed(self, identifier: str) -> str | None:
        """The hash that a claim must have; None also while the name is being freed, since a claim commits after that."""
        return None if identifier in self._freed else self._mirror.get(identifier)


def _bearer(authorization: str | None) -> str | None:
    if not authorization:
        return None
    scheme, _, secret = authorization.partition(" ")
    return secret.strip() or None if scheme.lower() == "bearer" else None


def _hash(secret: str) -> str:
    return sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()  # a header may hold any bytes


async def _never(identifier: str) -> bool:
    return False


def _conflict(identifier: str) -> Reply:
    return refusal(
        409, "identity_conflict", f"{identifier} is already registered with another secret; {REBIND}"
    )


def _unauthorized(identifier: str) -> Reply:
    return refusal(
        401,
        "unauthorized",
        f"{identifier} needs its node secret, as `Authorization: Bearer …`",
        {"WWW-Authenticate": "Bearer"},
    )
