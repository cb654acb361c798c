"""What an application decides from the registrations: not ready, or which files each node gets."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias, runtime_checkable

from cfgsync_artifacts import ArtifactFile, ArtifactSet, InvalidArtifact
from cfgsync_core import NotReady

from .snapshot import RegistrationSnapshot


@dataclass(frozen=True, slots=True, repr=False)
class MaterializedArtifacts:
    """Files by node identifier, and shared files that every node gets after its own.

    Immutable. It is also a materializer, which always returns itself (a precomputed fleet).
    """

    nodes: Mapping[str, ArtifactSet]
    shared: ArtifactSet = field(default_factory=ArtifactSet)
    accepts_shrink: bool = field(default=False, compare=False, kw_only=True)
    """See `accept_shrink`. Equality does not depend on it."""

    @classmethod
    def from_nodes(
        cls,
        nodes: Mapping[str, ArtifactSet | Iterable[ArtifactFile]]
        | Iterable[tuple[str, ArtifactSet | Iterable[ArtifactFile]]],
    ) -> MaterializedArtifacts:
        """Artifacts from a mapping, or from pairs. Raises `InvalidArtifact` when an identifier comes twice."""
        made: dict[str, ArtifactSet] = {}
        for identifier, files in nodes.items() if isinstance(nodes, Mapping) else nodes:
            if identifier in made:
                raise InvalidArtifact(identifier, "this node is given twice")
            made[identifier] = files if isinstance(files, ArtifactSet) else ArtifactSet(files)
        return cls(made)

    def with_shared(self, shared: ArtifactSet | Iterable[ArtifactFile]) -> MaterializedArtifacts:
        """The same nodes with these shared files."""
        return replace(self, shared=shared if isinstance(shared, ArtifactSet) else ArtifactSet(shared))

    def accept_shrink(self) -> MaterializedArtifacts:
        """The same artifacts, which the shrink guard does not check: for a fleet that ends, or files that move."""
        return replace(self, accepts_shrink=True)

    def node(self, identifier: str) -> ArtifactSet | None:
        """A node's own files, None when it is not among them."""
        return self.nodes.get(identifier)

    def resolve(self, identifier: str) -> ArtifactSet | None:
        """A node's own files, then the shared ones; None when the node is not among them."""
        own = self.nodes.get(identifier)
        return None if own is None else own + self.shared

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializedArtifacts:
        """Itself."""
        return self

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[tuple[str, ArtifactSet]]:
        return iter(self.nodes.items())

    def __repr__(self) -> str:
        return f"MaterializedArtifacts({len(self.nodes)} nodes, {len(self.shared)} shared files)"


MaterializationResult: TypeAlias = MaterializedArtifacts | NotReady
"""What a materializer returns."""


@runtime_checkable
class RegistrationSnapshotMaterializer(Protocol):
    """One method, sync or async, called for one run at a time: by `cfgsync serve` in a child process, by a program in a
    worker thread (an `async def` on its event loop). An optional attribute `revision` (text) is the version of the
    program: a server that starts with another one makes a new generation even from equal registrations.
    """

    def materialize_snapshot(
        self, registrations: RegistrationSnapshot
    ) -> MaterializationResult | Awaitable[MaterializationResult]:
        """Decide. When it raises, the run has failed: nodes in the last generation keep it, the others get an error."""


class MaterializedArtifactsSink(Protocol):
    """Receives artifacts: a directory, a bucket, an audit log. Sync or async."""

    def persist(self, artifacts: MaterializedArtifacts) -> Awaitable[None] | None:
        """Store them. When it raises, they are given again later."""
