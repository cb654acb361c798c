"""What a frozen generation was made from: a registration that is put back gets its files again, what differs has a name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256

import msgspec

from cfgsync_core import NEVER, NodeRegistration, Unavailable

from ..application.snapshot import RegistrationSnapshot
from ..generations.generation import Source
from ..generations.publisher import Publisher
from ..nodes.registry import Registry

MADE_FROM = "made-from"
NAMED = 8


class MadeFrom(msgspec.Struct, frozen=True, array_like=True):
    """The address, and a digest of the metadata, of each node in the registrations of that `revision`."""

    revision: int
    nodes: dict[str, tuple[str, bytes]]


class HeldBack:
    """What waits until a frozen fleet is rebuilt. `is_frozen` says whether it is frozen now."""

    def __init__(self, registry: Registry, publisher: Publisher, is_frozen: Callable[[], bool]) -> None:
        self._registry = registry
        self._publisher = publisher
        self._is_frozen = is_frozen
        self._last = MadeFrom(-1, {})

    def recall(self, snapshot: RegistrationSnapshot) -> None:
        """Find what the current generation was made from: in the store, in the snapshot of the last run here, or else the
        registrations that have not changed since."""
        current, stored = self._publisher.current, self._publisher.entries.get(MADE_FROM)
        if current is None or not self._is_frozen():
            return
        covered = current.source.registrations
        kept = None if stored is None else msgspec.msgpack.decode(stored, type=MadeFrom)
        if kept is not None and kept.revision == covered.revision:
            self._last = kept
        elif snapshot.version == covered:
            self._last = MadeFrom(covered.revision, {one.identifier: _facts(one) for one in snapshot})
        elif self._last.revision != covered.revision and self._registry.version >= covered:
            revisions = {name: self._registry.revision_of(name) or 0 for name in self._registry}
            nodes = self._registry.entries
            self._last = MadeFrom(
                covered.revision,
                {name: _facts(nodes[name]) for name, at in revisions.items() if at <= covered.revision},
            )

    async def keep(self) -> None:
        """Write down what `recall` has found. Nothing is written twice."""
        if (made := self.made_from) is not None:
            with suppress(Unavailable):  # it is tried again
                await self._publisher.commit({MADE_FROM: msgspec.msgpack.encode(made)})

    @property
    def made_from(self) -> MadeFrom | None:
        """What the frozen generation was made from; None when it is not frozen, or that is not known yet."""
        current = self._publisher.current
        known = current is not None and self._last.revision == current.source.registrations.revision
        return self._last if known and self._is_frozen() else None

    def has(self, identifier: str) -> bool:
        """Whether the frozen generation was made with this node as it is registered now."""
        made, now = self.made_from, self._registry.get(identifier)
        return made is not None and now is not None and made.nodes.get(identifier) == _facts(now)

    def is_late(self, identifier: str) -> bool:
        """Whether this node is registered, and the frozen generation was made without it or with another registration."""
        current, revision = self._publisher.current, self._registry.revision_of(identifier)
        if current is None or revision is None or not self._is_frozen():
            return False
        return revision > current.source.registrations.revision and not self.has(identifier)

    def why(self, identifier: str) -> str:
        """Why the frozen generation gives this node nothing, and how to go on; `""` for a node that is not late."""
        now, made = self._registry.get(identifier), self.made_from
        if now is None or not self.is_late(identifier):
            return ""
        take_in = "run cfgsync generation rebuild to take it in"
        if made is None or (before := made.nodes.get(identifier)) is None:
            assert self._publisher.current is not None  # it is frozen
            is_known = identifier in self._publisher.current.nodes
            words = "is registered in another way now" if is_known else "came later"
            return f"{self._head()}: {identifier} {words}; {take_in}"
        ip, metadata = _facts(now)
        differs = [f"{identifier}'s address {before[0]} (it is {ip} now)"] if ip != before[0] else []
        if metadata != before[1]:
            differs.append("other metadata" if differs else f"other metadata of {identifier}")
        on = f"register {identifier} as before, or run cfgsync generation rebuild"
        return f"{self._head()}: it was made with {' and '.join(differs)}; {on}"

    def in_fleet(self, source: Source) -> str:
        """What the frozen generation was made without; `""` for nothing. `source` is what a run would be made from now."""
        current = self._publisher.current
        if current is None or not self._is_frozen() or current.source.covers(source):
            return ""
        held, made = current.source, self.made_from
        known = {} if made is None else made.nodes
        late = [name for name in self._registry.identifiers() if self.is_late(name)]
        words = [f"{name} ({'changed' if name in known else 'new'})" for name in late]
        words += [f"{name} (left)" for name in sorted(known) if name not in self._registry]
        if more := len(words) - NAMED:
            words[NAMED:] = [f"{more} more nodes"] if more > 0 else []
        if (source.replacements or NEVER) > (held.replacements or NEVER):
            words.insert(0, "replaced files (cfgsync node replace)")
        if (source.documents or NEVER) > (held.documents or NEVER):
            words.insert(0, "the documents")
        if not words:
            return ""
        listed = " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
        return f"{self._head()}; cfgsync generation rebuild takes in what has changed since: {listed}"

    def _head(self) -> str:
        current, claim = self._publisher.current, self._publisher.claim
        if claim.reverts:
            return f"the fleet was taken back to generation {claim.reverts}"
        return f"generation {current.number if current is not None else 0} is frozen"


def _facts(registration: NodeRegistration) -> tuple[str, bytes]:
    json = registration.payload.json
    return registration.ip, b"" if json is None else sha256(json.encode()).digest()[:16]
