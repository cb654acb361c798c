"""A name belongs to the secret that it was first registered with; another secret changes nothing and reads nothing.

Bindings live in a bucket of their own, made by compare-and-set before the
registration, so that binding never makes a revision of the registrations.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final

from msgspec.structs import replace

from cfgsync_core import ChangeHints, Conflict, NodeRegistration, RevisionedStore, Unavailable
from cfgsync_core.follow import BucketMirror
from cfgsync_core.server import Call, Principal, Reply, Route, refusal
from cfgsync_core.wire import JOIN_TOKEN, NEXT_SECRET, NodeRequest

from .tokens.credentials import Binding, Credential, bearer_of, credentials, hash_of
from .tokens.joining import Joining, JoiningNodes, conflict
from .tokens.tokens import Tokens

REBIND: Final = "an operator re-binds the name by evicting it: cfgsync node evict"
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_NO_HASH: Final = "0" * 64


class Identities:
    """The bindings in `held`: identifier → hash of the node's secret.

    With `requires_tokens`, an unbound name is bound by a join token only. `anonymous` accepts registrations without a
    secret; `rebind` gives a bound name to another secret (off loopback, only with --insecure-no-auth). `rebound` counts that,
    by identifier, since the server started. `lapsed` tells of a bound name whether another secret may take it, since its
    node has been silent for too long.

    Where other servers share the store, this one reads a name from it before it refuses or binds it, since its mirror may be
    behind.
    """

    def __init__(
        self,
        held: BucketMirror[Credential],
        tokens: Tokens,
        *,
        anonymous: bool = True,
        rebind: bool = False,
        requires_tokens: bool = False,
    ) -> None:
        self._mirror = held
        self._anonymous = anonymous
        self._rebind = rebind
        self._requires_tokens = requires_tokens
        self._joining = JoiningNodes(held, tokens, self._claimed)
        self._freed: set[str] = set()
        self._evicted: set[str] = set()
        self.lapsed: Callable[[str], Awaitable[bool]] = _never
        self.rebound: Counter[str] = Counter()

    async def close(self) -> None:
        """Wait for the names that are being bound."""
        await self._joining.close()

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

    async def free(self, identifier: str) -> bool:
        """`release` of one name."""
        return await self.release([identifier])

    @contextmanager
    def evicting(self, identifier: str) -> Iterator[None]:
        """Meanwhile `leave` frees this name for good."""
        self._evicted.add(identifier)
        try:
            yield
        finally:
            self._evicted.discard(identifier)

    async def leave(self, identifiers: Sequence[str]) -> None:
        """Nodes leave: their names are free. Where a token is required, the secret of one that was not evicted stays valid:
        its token is spent, and it may have been away for longer than it promised."""
        keep = [name for name in identifiers if self._requires_tokens and name not in self._evicted]
        if gone := [name for name in identifiers if name not in keep]:
            await self.release(gone)
        bound = {name: one for name in keep if (one := self._bound(name)) is not None}
        if bound:
            await self._mirror.commit({name: replace(one, is_free=True) for name, one in bound.items()})

    async def answer(self, route: Route, call: Call) -> Reply:
        """The reply of a node's route, if the name in the body is free or bound to the caller's secret."""
        name, secret = call.value.identifier, bearer_of(call.headers.get("Authorization"))
        if isinstance(call.value, NodeRegistration):
            if not _HASH.fullmatch(call.headers.get(NEXT_SECRET, _NO_HASH)):
                why = f"{NEXT_SECRET} is not the SHA-256 of a secret, 64 hexadecimal digits"
                return refusal(400, "invalid_request", why)
            if (refused := await self._claim(name, secret, call)) is not None:
                self._joining.say_refused(name, call.caller_address, refused)
                return refused
            return await self._registered(name, secret, route, call)
        reads = isinstance(call.value, NodeRequest)
        refused = self._refused(name, secret)
        if refused is not None or not (reads or name in self._mirror):
            await self._mirror.look_up(name)
            refused = self._refused(name, secret)
        if refused is not None:
            return refused
        bound = self._bound(name)
        if bound is not None and (bound.next or bound.is_free):
            bound = await self._used(name, secret)
        if bound is not None:
            call.principal = Principal("node", name)
        reply = await route.handler(call)
        if not reads:
            return reply
        if bound is None:
            # a name is bound before it is registered: if the reply has a node's files, its name was bound by now
            await self._mirror.look_up(name)
        if self._bound(name) is not bound:  # while the request was held
            return self._refused(name, secret) or reply
        return reply

    def _bound(self, identifier: str) -> Binding | None:
        found = self._mirror.entries.get(identifier)
        return found if isinstance(found, Binding) else None

    def _refused(self, identifier: str, secret: str | None) -> Reply | None:
        """The refusal of a request for a name that is bound to another secret, None when it may be answered."""
        bound = self._bound(identifier)
        if bound is None:
            return _unbound(identifier) if self._requires_tokens and not self._anonymous else None
        if secret is None:
            return _unauthorized(identifier)
        if not bound.has(hash_of(secret)):
            return refusal(403, "forbidden", f"{identifier} belongs to a node with another secret; {REBIND}")
        return None

    async def _used(self, identifier: str, secret: str | None) -> Binding | None:
        """The binding of a name whose secret was shown; when it was the next one, it is the only one from now on."""
        bound = self._bound(identifier)
        if bound is None or secret is None or not (bound.next or bound.is_free):
            return bound
        is_next = bool(bound.next) and hash_of(secret) == bound.next
        if is_next or bound.is_free:
            with suppress(Conflict, Unavailable):  # its next request tries again
                expected = {identifier: self._mirror.revision_of(identifier) or 0}
                now = Binding(bound.next) if is_next else replace(bound, is_free=False)
                await self._mirror.commit({identifier: now}, expected)
        return self._bound(identifier)

    async def _registered(self, identifier: str, secret: str | None, route: Route, call: Call) -> Reply:
        """The reply to a registration that may be made; with `Cfgsync-Next-Secret`, two secrets count from now on."""
        bound = await self._used(identifier, secret)
        reply = await route.handler(call)
        wanted = call.headers.get(NEXT_SECRET, "")
        if bound is None or reply.status >= 300 or not wanted:
            return reply
        if wanted not in (bound.secret, bound.next):
            expected = {identifier: self._mirror.revision_of(identifier) or 0}
            try:
                await self._mirror.commit({identifier: replace(bound, next=wanted)}, expected)
            except Conflict:
                return reply  # the node finds no confirmation in it, and keeps its secret
        reply.headers = {**reply.headers, NEXT_SECRET: wanted}
        return reply

    async def _claim(self, identifier: str, secret: str | None, call: Call) -> Reply | None:
        """Bind an unbound name to the caller's secret; a refusal when it is bound to another."""
        bound = self._claimed(identifier)
        mine = None if secret is None else hash_of(secret)
        if mine is None or not (bound is None or bound.has(mine)):  # (binding a name finds out by its commit)
            await self._mirror.look_up(identifier)
            bound = self._claimed(identifier)
        if mine is None:
            return None if bound is None and self._anonymous else _unauthorized(identifier)
        token = call.headers.get(JOIN_TOKEN)
        if bound is None:
            if self._requires_tokens:
                return await self._joining.join(Joining(identifier, mine, token, address=call.caller_address))
            try:
                await self._mirror.commit({identifier: Binding(mine)}, expected={identifier: 0})
                return None
            except Conflict:
                bound = self._bound(identifier)
        if bound is not None and bound.has(mine):
            return None
        if self._rebind:
            await self._mirror.commit({identifier: Binding(mine)})
            self.rebound[identifier] += 1
            return None
        has_lapsed = await self.lapsed(identifier)
        if token is not None or (has_lapsed and self._requires_tokens):
            return await self._joining.join(Joining(identifier, mine, token, has_lapsed, call.caller_address))
        return await self._taken_over(identifier, mine, bound) if has_lapsed else conflict(identifier)

    async def _taken_over(self, identifier: str, mine: str, before: Binding | None) -> Reply | None:
        """Give a name whose binding has lapsed to the caller's secret; the first of several callers gets it."""
        if self._mirror.get(identifier) == before:
            expected = {identifier: self._mirror.revision_of(identifier) or 0}
            with suppress(Conflict):
                await self._mirror.commit({identifier: Binding(mine)}, expected=expected)
                return None
        return conflict(identifier)

    def _claimed(self, identifier: str) -> Binding | None:
        """The binding that a claim must have; None also while the name is being freed, since a claim commits after that."""
        return None if identifier in self._freed else self._bound(identifier)


@asynccontextmanager
async def opened_identities(
    store: RevisionedStore, hints: ChangeHints | None, interval: float = 15.0, **rules: bool
) -> AsyncIterator[tuple[Tokens, Identities]]:
    """The tokens and the bindings of a store, which with `hints` other servers share; `rules` are those of `Identities`."""
    held = credentials(store, hints, interval)
    tokens = Tokens(held)
    identities = Identities(held, tokens, **rules)
    await held.open()
    try:
        yield tokens, identities
    finally:
        await identities.close()
        await held.close()


async def _never(identifier: str) -> bool:
    return False


def _unauthorized(identifier: str) -> Reply:
    return refusal(
        401,
        "unauthorized",
        f"{identifier} needs its node secret, as `Authorization: Bearer …`",
        {"WWW-Authenticate": "Bearer"},
    )


def _unbound(identifier: str) -> Reply:
    return refusal(
        401,
        "unauthorized",
        f"{identifier} has not joined this server",
        {"WWW-Authenticate": "Bearer"},
        hint="register it first, with a join token: cfgsync fetch --token-file FILE",
    )
