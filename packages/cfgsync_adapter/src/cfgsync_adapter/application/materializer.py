"""What an application decides from the registrations: not ready, or which files each node gets."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from cfgsync_artifacts import ArtifactFile, ArtifactSet, DuplicatePath, InvalidArtifact
from cfgsync_core import DocumentsSnapshot, NotReady
from cfgsync_core.text import counted

from .snapshot import RegistrationSnapshot

T = TypeVar("T")


@dataclass(frozen=True, slots=True, repr=False)
class MaterializedArtifacts:
    """Files by node identifier, and shared files that every node gets after its own.

    Immutable. It is also a materializer, which always returns itself (a precomputed fleet). Raises `TypeError` for
    anything else than an `ArtifactSet` as the files of a node; `from_nodes` takes lists, too.
    """

    nodes: Mapping[str, ArtifactSet]
    shared: ArtifactSet = field(default_factory=ArtifactSet)
    accepts_shrink: bool = field(default=False, compare=False, kw_only=True)
    """See `accept_shrink`. Equality does not depend on it."""
    is_at_once: bool = field(default=False, compare=False, kw_only=True)
    """See `at_once`. Equality does not depend on it."""

    def __post_init__(self) -> None:
        if not isinstance(self.nodes, Mapping):
            raise TypeError(f"MaterializedArtifacts wants files by identifier, not {type_of(self.nodes)}")
        for identifier, files in self.nodes.items():
            _refuse_no_identifier(identifier)
            if not isinstance(files, ArtifactSet):
                raise TypeError(
                    f"node {identifier}: expected an ArtifactSet, got {type_of(files)}:"
                    " MaterializedArtifacts.from_nodes(…) takes lists of ArtifactFile"
                )
        if not isinstance(self.shared, ArtifactSet):
            raise TypeError(
                f"the shared files: expected an ArtifactSet, got {type_of(self.shared)}: with_shared(…) takes a list"
            )

    @classmethod
    def from_nodes(
        cls,
        nodes: Mapping[str, ArtifactSet | Iterable[ArtifactFile]]
        | Iterable[tuple[str, ArtifactSet | Iterable[ArtifactFile]]],
    ) -> MaterializedArtifacts:
        """Artifacts from a mapping, or from pairs. Raises `InvalidArtifact` when an identifier comes twice; `TypeError`."""
        made: dict[str, ArtifactSet] = {}
        for pair in nodes.items() if isinstance(nodes, Mapping) else _iterable(nodes):
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise TypeError(f"{_FORM}, not {type_of(pair)}")
            identifier, files = pair
            _refuse_no_identifier(identifier)
            if identifier in made:
                raise InvalidArtifact(identifier, "this node is given twice")
            made[identifier] = _set_of(files, f"the files of node {identifier}")
        return cls(made)

    def with_shared(self, shared: ArtifactSet | Iterable[ArtifactFile]) -> MaterializedArtifacts:
        """The same nodes with these shared files."""
        return replace(self, shared=_set_of(shared, "the shared files"))

    def accept_shrink(self) -> MaterializedArtifacts:
        """The same artifacts, which the shrink guard does not check: for a fleet that ends, or files that move."""
        return replace(self, accepts_shrink=True)

    def at_once(self) -> MaterializedArtifacts:
        """The same artifacts, which all nodes get at the same time, also those that take turns: for what everybody must
        have together. Programs that must change together are better changed in steps: add, roll, remove the old."""
        return replace(self, is_at_once=True)

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
        return f"MaterializedArtifacts({counted(len(self.nodes), 'node')}, {counted(len(self.shared), 'shared file')})"


_FORM = "from_nodes wants a mapping, or pairs (identifier, files)"


def _iterable(pairs: Iterable[T]) -> Iterable[T]:
    if not isinstance(pairs, Iterable):
        raise TypeError(f"{_FORM}, not {type_of(pairs)}")
    return pairs


def _set_of(files: ArtifactSet | Iterable[ArtifactFile], whose: str) -> ArtifactSet:
    if isinstance(files, ArtifactSet):
        return files
    if isinstance(files, str | bytes | Mapping | ArtifactFile) or not isinstance(files, Iterable):
        raise TypeError(f"{whose}: expected a list of ArtifactFile, got {type_of(files)}")
    try:
        return ArtifactSet(files)
    except DuplicatePath as error:
        raise DuplicatePath(error.path, f"two of {whose} have it") from None


def _refuse_no_identifier(identifier: object) -> None:
    if not isinstance(identifier, str):
        raise TypeError(f"a node is named by its identifier as text, not by {type_of(identifier)}")


MaterializationResult: TypeAlias = MaterializedArtifacts | NotReady
"""What a materializer returns."""


@runtime_checkable
class RegistrationSnapshotMaterializer(Protocol):
    """One method, sync or async, called for one run at a time: by `cfgsync serve` in a child process, by a program in a
    worker thread (an `async def` on its event loop). An optional attribute `revision` (text) is the version of the
    program: a server that starts with another one makes a new generation even from equal registrations. Another,
    `expected_nodes` (a tuple of identifiers), names the nodes that it waits for: `/status` shows them as missing before
    the first one has registered.
    """

    def materialize_snapshot(
        self, registrations: RegistrationSnapshot
    ) -> MaterializationResult | Awaitable[MaterializationResult]:
        """Decide. When it raises, the run has failed: nodes in the last generation keep it, the others get an error."""


class DocumentsMaterializer(Protocol):
    """A materializer that also reads config documents. `documents` names their environment, `"app/environment"`; a change of
    a document makes a run, as a change of a registration does. `revision` and `expected_nodes` as for
    `RegistrationSnapshotMaterializer`."""

    documents: str

    def materialize_snapshot(
        self, registrations: RegistrationSnapshot, documents: DocumentsSnapshot
    ) -> MaterializationResult | Awaitable[MaterializationResult]:
        """Decide. `documents` may be empty: an operator writes them when it suits the operator."""


SnapshotMaterializer: TypeAlias = RegistrationSnapshotMaterializer | DocumentsMaterializer
"""What decides, with documents or without."""


def documents_of(materializer: object) -> str:
    """The optional attribute `documents`, `""` without one; an application's attribute that only has this name is ignored.
    Raises `TypeError` for text that does not name an environment."""
    named = getattr(materializer, "documents", "")
    if not isinstance(named, str) or not named:
        return ""
    if len(named.split("/")) != 2 or not all(named.split("/")):
        raise TypeError(
            f'{type_of(materializer)} has documents = {named[:100]!r}: write "app/environment", for example "default/production"'
        )
    return named


def called(
    materializer: SnapshotMaterializer,
    registrations: RegistrationSnapshot,
    documents: DocumentsSnapshot | None,
) -> MaterializationResult | Awaitable[MaterializationResult]:
    """Call it, with the documents if it reads some."""
    call: Any = materializer.materialize_snapshot
    result: MaterializationResult | Awaitable[MaterializationResult] = (
        call(registrations, documents or DocumentsSnapshot())
        if documents_of(materializer)
        else call(registrations)
    )
    return result


def revision_of(materializer: object, given: str | None, has_documents: bool) -> str:
    """The version of the program that decides: `given`, or the optional attribute `revision`. Raises `ValueError` for a
    materializer that reads documents of a server without documents."""
    revision = str(getattr(materializer, "revision", "") if given is None else given)
    reads = documents_of(materializer)
    if not reads:
        return revision
    if not has_documents:
        raise ValueError(f"the materializer reads the documents of {reads}: give documents=")
    # the versions of two environments cannot be compared: with another one it is another program
    return f"{revision} documents={reads}".strip()


def expected_nodes(materializer: object) -> tuple[str, ...]:
    """The optional attribute `expected_nodes`; an application's attribute that only has this name is ignored."""
    named = getattr(materializer, "expected_nodes", ())
    return named if isinstance(named, tuple) and all(isinstance(name, str) for name in named) else ()


class MaterializedArtifactsSink(Protocol):
    """Receives artifacts: a directory, a bucket, an audit log. Sync or async."""

    def persist(self, artifacts: MaterializedArtifacts) -> Awaitable[None] | None:
        """Store them. When it raises, they are given again later."""


def refuse_no_materializer(found: object, taker: str) -> None:
    """Raise `TypeError` unless `found` can be called as a materializer; `taker` names what was given it."""
    arguments = ("registrations", "documents") if documents_of(found) else ("registrations",)
    _refuse_without(found, "materialize_snapshot", arguments, f"{taker} takes a materializer")


def refuse_no_sink(found: object, taker: str) -> None:
    """Raise `TypeError` unless `found` can be called as a `MaterializedArtifactsSink`."""
    _refuse_without(found, "persist", ("artifacts",), f"{taker} takes a sink")


def type_of(value: object) -> str:
    """`list`, `None`, `the class Fleet`, for a message."""
    if value is None:
        return "None"
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def _needed(made: type) -> list[str]:
    """The arguments without which no object of this class is made."""
    with suppress(ValueError):  # a class written in C may have no signature
        given = inspect.signature(made).parameters.values()
        return [
            one.name
            for one in given
            if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        ]
    return []


def _refuse_without(found: object, method: str, arguments: Sequence[str], wanted: str) -> None:
    wanted = f"{wanted}, an object with a method {method}({', '.join(arguments)}), not {type_of(found)}"
    verb = getattr(found, method, None)
    if not callable(verb):
        raise TypeError(wanted)
    if isinstance(found, type) and inspect.isfunction(inspect.getattr_static(found, method)):
        raise TypeError(f"{wanted}: write {found.__name__}({', '.join(_needed(found))})")
    try:
        inspect.signature(verb).bind(*arguments)
    except TypeError as error:
        number = ("one argument", "two arguments")[len(arguments) - 1]
        raise TypeError(f"{wanted}, whose {method} does not take {number}: {error}") from error
    except ValueError:
        pass  # a method written in C may have no signature
