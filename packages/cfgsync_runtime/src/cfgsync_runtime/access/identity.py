"""A name belongs to whoever's secret it was first registered with; another secret changes nothing and reads nothing.

A wrapper around the handler table. Bindings live in a bucket of their own, made by compare-and-set before the
registration, so that binding never makes a revision of the registrations. Source: `trust.md`, "Identity".
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256

from cfgsync_core import (
    Call,
    ChangeHints,
    Conflict,
    Handler,
    Reply,
    RevisionedStore,
    evicted,
    refusal,
)
from cfgsync_core.follow import BucketMirror, OtherServers

BUCKET = "identities"
REBIND = "an operator re-binds the name by evicting it: cfgsync node evict"


class Identities:
    """The bindings of one store: identifier → hash of the node's secret. `await open()` first.

    `anonymous` takes registrations without a secret; `rebind` gives a bound name to another secret (off loopback,
    only when the operator said so). `rebound` counts that, by identifier, since the server began.

    `hints` say that other servers share the store. Their bindings are followed, and a mirror that may be behind decides
    nothing that the store has not confirmed: a name that is unbound here, or bound to another secret, is looked up.
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
        """Follow the other servers no longer."""
        await self._mirror.close()

    async def release(self, identifiers: Sequence[str]) -> None:
        """Free these names, durably on return, in one commit: the next node that comes may bind them."""
        for name in identifiers:
            if name not in self._mirror:
                await self._mirror.look_up(name)
        bound = {name for name in identifiers if name in self._mirror}
        if not bound:
            return
        self._freed |= bound
        try:
            await self._mirror.commit(dict.fromkeys(bound))
        finally:
            self._freed -= bound

    def guard(self, handlers: Mapping[str, Handler]) -> dict[str, Handler]:
        """The same table with `register`, `node` and `ack` answered only to whom the name belongs, and an `evict` that
        also frees a name that is bound and not registered (a crash between the two, `trust.md`)."""
        inner_register, inner_node = handlers["register"], handlers["node"]

        async def register(call: Call) -> Reply:
            refused = await self._claim(call)
            return refused if refused is not None else await inner_register(call)

        async def node(call: Call) -> Reply:
            refused = self._refused(call) and await self._surely_refused(call)
            if refused is not None:
                return refused
            bound = self._mirror.get(call.identifier)
            reply = await inner_node(call)
            if bound is None:
                # a name is bound before it is registered: what is answered now was bound by now, if it ever was
                await self._mirror.look_up(call.identifier)
            if self._mirror.get(call.identifier) is not bound:  # while the question was held
                return self._refused(call) or reply
            return reply

        async def ack(call: Call) -> Reply:
            call.acknowledged()
            if call.identifier not in self._mirror or self._refused(call) is not None:
                await self._mirror.look_up(call.identifier)
            return self._refused(call) or await handlers["ack"](call)

        async def evict(call: Call) -> Reply:
            identifier = call.named()
            reply = await handlers["evict"](call)
            if identifier not in self._mirror:
                await self._mirror.look_up(identifier)
            if reply.status == 404 and identifier in self._mirror:
                await self.release([identifier])
                return evicted(identifier)
            return reply

        guarded = {"register": register, "node": node, "ack": ack, "evict": evict}
        return {**handlers, **{name: handler for name, handler in guarded.items() if name in handlers}}

    async def _surely_refused(self, call: Call) -> Reply | None:
        """As `_refused`, when the store has been asked."""
        await self._mirror.look_up(call.identifier)
        return self._refused(call)

    def _refused(self, call: Call) -> Reply | None:
        """The refusal of a question about a name that is bound to another secret, None when it may be answered."""
        bound = self._mirror.get(call.identifier)
        if bound is None:
            return None
        if call.bearer is None:
            return _unauthorized(call.identifier)
        if not hmac.compare_digest(_hash(call.bearer), bound):
            return refusal(
                403, "forbidden", f"{call.identifier} belongs to a node with another secret; {REBIND}"
            )
        return None

    async def _claim(self, call: Call) -> Reply | None:
        """Bind an unbound name to the call's secret; a refusal when it is bound to another."""
        identifier, secret = call.identifier, call.bearer
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
            return refusal(
                409, "identity_conflict", f"{identifier} is already registered with another secret; {REBIND}"
            )
        return None

    def _claimed(self, identifier: str) -> str | None:
        """The hash that a claim must have; None also while the name is being freed, since a claim commits after that."""
        return None if identifier in self._freed else self._mirror.get(identifier)


def _hash(secret: str) -> str:
    return sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()  # a header may hold any bytes


def _unauthorized(identifier: str) -> Reply:
    return refusal(
        401,
        "unauthorized",
        f"{identifier} needs its node secret, as `Authorization: Bearer …`",
        {"WWW-Authenticate": "Bearer"},
    )
