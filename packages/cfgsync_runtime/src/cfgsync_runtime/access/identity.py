"""A name belongs to the secret that it was first registered with; another secret changes nothing and reads nothing.

Bindings live in a bucket of their own, made by compare-and-set before the
registration, so that binding never makes a revision of the registrations.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256

from cfgsync_core import (
    BucketSnapshot,
    BucketView,
    Change,
    ChangeHints,
    Conflict,
    NodeRegistration,
    NodeRequest,
    Reconciler,
    RevisionedStore,
    Version,
)
from cfgsync_core.server import Call, Principal, Reply, Route, refusal

BUCKET = "identities"
REBIND = "an operator re-binds the name by evicting it: cfgsync node evict"


class Identities:
    """The bindings of one store: identifier → hash of the node's secret. `await open()` first.

    `anonymous` takes registrations without a secret; `rebind` gives a bound name to another secret (off loopback,
    only when the operator said so). `rebound` counts that, by identifier, since the server began.

    `hints` say that other servers share the store. Their bindings are followed, and a view that may be behind decides
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
        self._store = store
        self._anonymous = anonymous
        self._rebind = rebind
        self._bound: dict[str, str] = {}
        self.rebound: Counter[str] = Counter()
        self.held: Version | None = None
        """The version of the bucket that was read, see `BucketHolder`."""
        self._reader: Reconciler[BucketSnapshot] | None = None
        if hints is not None:
            self._reader = Reconciler(
                BucketView(store, BUCKET, self),
                subscribe=lambda: hints.subscribe(BUCKET),
                interval=interval,
                name=f"bucket {BUCKET!r}",
            )

    async def open(self) -> None:
        """Read the bucket once, and follow it if other servers share it."""
        cut = await self._store.snapshot(BUCKET)
        if isinstance(cut, BucketSnapshot):
            self.take(cut)
        if self._reader is not None:
            await self._reader.__aenter__()

    async def close(self) -> None:
        """Stop following the other servers."""
        if self._reader is not None:
            await self._reader.close()

    def take(self, snapshot: BucketSnapshot) -> None:
        """See `BucketHolder`."""
        self._bound = {entry.key: entry.value.decode() for entry in snapshot.entries}
        self.held = snapshot.version

    def step(self, version: Version, change: Change) -> None:
        """See `BucketHolder`."""
        for identifier, value in change.writes.items():
            self._hold(identifier, value)
        self.held = version

    def holds(self, snapshot: BucketSnapshot) -> bool:
        """See `BucketHolder`."""
        return self._bound == {entry.key: entry.value.decode() for entry in snapshot.entries}

    def _hold(self, identifier: str, value: bytes | None) -> None:
        if value is None:
            self._bound.pop(identifier, None)
        else:
            self._bound[identifier] = value.decode()

    async def _look_up(self, identifier: str) -> None:
        """Ask the store what this name is bound to, if other servers may have bound or freed it."""
        if self._reader is not None:
            entry = await self._store.get(BUCKET, identifier)
            self._hold(identifier, None if entry is None else entry.value)

    async def release(self, identifiers: Sequence[str]) -> None:
        """Free these names, durably on return, in one commit: the next node that claims one may bind it."""
        for name in identifiers:
            if name not in self._bound:
                await self._look_up(name)
        bound = {name: self._bound.pop(name) for name in identifiers if name in self._bound}
        if not bound:
            return
        try:  # a later claim of one of these names commits after this
            await self._store.commit(BUCKET, dict.fromkeys(bound))
        except BaseException:
            self._bound = bound | self._bound
            raise

    async def free(self, identifier: str) -> bool:
        """Free a name that is bound and, after a crash, not registered; False when it is not bound."""
        if identifier not in self._bound:
            await self._look_up(identifier)
        if identifier not in self._bound:
            return False
        await self.release([identifier])
        return True

    async def answer(self, route: Route, call: Call) -> Reply:
        """The reply of a node's route, if the name in the body is free or bound to the caller's secret."""
        name, secret = call.value.identifier, _bearer(call.headers.get("Authorization"))
        if isinstance(call.value, NodeRegistration):
            return await self._claim(name, secret) or await route.handler(call)
        reads = isinstance(call.value, NodeRequest)
        refused = self._refused(name, secret)
        if refused is not None or not (reads or name in self._bound):
            await self._look_up(name)
            refused = self._refused(name, secret)
        if refused is not None:
            return refused
        bound = self._bound.get(name)
        if bound is not None:
            call.principal = Principal("node", name)
        reply = await route.handler(call)
        if not reads:
            return reply
        if self._reader is not None and bound is None:
            # a name is bound before it is registered: if the reply has a node's files, its name was bound by now
            await self._look_up(name)
        if self._bound.get(name) is not bound:  # while the request was held
            return self._refused(name, secret) or reply
        return reply

    def _refused(self, identifier: str, secret: str | None) -> Reply | None:
        """The refusal of a request for a name that is bound to another secret, None when it may be answered."""
        bound = self._bound.get(identifier)
        if bound is None:
            return None
        if secret is None:
            return _unauthorized(identifier)
        if not hmac.compare_digest(_hash(secret), bound):
            return refusal(403, "forbidden", f"{identifier} belongs to a node with another secret; {REBIND}")
        return None

    async def _claim(self, identifier: str, secret: str | None) -> Reply | None:
        """Bind an unbound name to the caller's secret; a refusal when it is bound to another."""
        bound = self._bound.get(identifier)
        mine = None if secret is None else _hash(secret)
        if self._reader is not None and (mine is None or bound != mine):
            await self._look_up(identifier)
            bound = self._bound.get(identifier)
        if mine is None:
            return None if bound is None and self._anonymous else _unauthorized(identifier)
        if bound is None:
            try:
                await self._store.commit(BUCKET, {identifier: mine.encode()}, expected={identifier: 0})
                bound = mine
            except Conflict:
                entry = await self._store.get(BUCKET, identifier)
                bound = "" if entry is None else entry.value.decode()
            self._bound[identifier] = bound
        if not hmac.compare_digest(mine, bound):
            if self._rebind:
                await self._store.commit(BUCKET, {identifier: mine.encode()})
                self._bound[identifier] = mine
                self.rebound[identifier] += 1
                return None
            return refusal(
                409, "identity_conflict", f"{identifier} is already registered with another secret; {REBIND}"
            )
        return None


def _bearer(authorization: str | None) -> str | None:
    if not authorization:
        return None
    scheme, _, secret = authorization.partition(" ")
    return secret.strip() or None if scheme.lower() == "bearer" else None


def _hash(secret: str) -> str:
    return sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()  # a header may hold any bytes


def _unauthorized(identifier: str) -> Reply:
    return refusal(
        401,
        "unauthorized",
        f"{identifier} needs its node secret, as `Authorization: Bearer …`",
        {"WWW-Authenticate": "Bearer"},
    )
