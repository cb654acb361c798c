"""What a materializer decides on: the registrations at one version, immutable, in identifier order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import compress
from operator import is_not

from cfgsync_core import NEVER, NodeRegistration, Version
from cfgsync_core.text import counted


class RegistrationSnapshot:
    """Every node registered at `version`. `len()` is free; iteration is by identifier (byte order) and sorts when it is
    first used, since most runs only use `len()`.

    `first_at`, `changed_at` and `unpublished_at` are the registry's monotonic seconds of its first registration, of its
    last change, and of the first change that no generation holds yet (None: all are published). They are None in a
    snapshot that a program made: `RegistrationSnapshot([NodeRegistration("node-1", "10.0.0.1")])`.
    `dry_run` is True in `cfgsync check`: a materializer that writes somewhere must not write then.
    `touched` are the identifiers that were written or removed after the registry's snapshot at version `after`.
    """

    __slots__ = (
        "_after",
        "_nodes",
        "_order",
        "_touched",
        "changed_at",
        "dry_run",
        "first_at",
        "unpublished_at",
        "version",
    )

    def __init__(
        self,
        registrations: Iterable[NodeRegistration] | Mapping[str, NodeRegistration] = (),
        *,
        version: Version = NEVER,
        first_at: float | None = None,
        changed_at: float | None = None,
        unpublished_at: float | None = None,
        dry_run: bool = False,
        after: Version = NEVER,
        touched: Collection[str] = (),
    ) -> None:
        self._nodes: Mapping[str, NodeRegistration] = (
            registrations if isinstance(registrations, Mapping) else _by_identifier(registrations)
        )
        self._order: tuple[str, ...] | None = None
        self._after = after
        self._touched = touched
        self.version = version
        self.first_at = first_at
        self.changed_at = changed_at
        self.unpublished_at = unpublished_at
        self.dry_run = dry_run

    def changes_since(self, earlier: RegistrationSnapshot) -> tuple[list[NodeRegistration], list[str]]:
        """The registrations that are new or have changed since `earlier`, and the identifiers that are gone.

        The registry's next snapshot after `earlier` knows them. Any other is compared by identity, which is fast, since an
        unchanged registration is the same object; an equal one that is another object may be among the changed.
        """
        if self._nodes is earlier._nodes:
            return [], []
        if self._after == earlier.version != NEVER:
            nodes = self._nodes
            return [nodes[i] for i in self._touched if i in nodes], [
                i for i in self._touched if i not in nodes
            ]
        before = map(earlier._nodes.get, self._nodes)
        changed = list(compress(self._nodes.values(), map(is_not, self._nodes.values(), before)))
        return changed, list(earlier._nodes.keys() - self._nodes.keys())

    @property
    def identifiers(self) -> tuple[str, ...]:
        """Every identifier, sorted."""
        if self._order is None:
            self._order = tuple(sorted(self._nodes))
        return self._order

    def get(self, identifier: str) -> NodeRegistration | None:
        """The registration of a node, None when it is not in the snapshot."""
        return self._nodes.get(identifier)

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[NodeRegistration]:
        nodes = self._nodes
        return (nodes[identifier] for identifier in self.identifiers)

    def __contains__(self, identifier: object) -> bool:
        return identifier in self._nodes

    def __eq__(self, other: object) -> bool:
        """Equal entries; the version and the times do not count."""
        return self._nodes == other._nodes if isinstance(other, RegistrationSnapshot) else NotImplemented

    def __hash__(self) -> int:
        return hash(frozenset(self._nodes))

    def __repr__(self) -> str:
        return f"RegistrationSnapshot({counted(len(self), 'node')} at {self.version})"


def _by_identifier(registrations: Iterable[NodeRegistration]) -> dict[str, NodeRegistration]:
    nodes: dict[str, NodeRegistration] = {}
    for registration in registrations:
        if not isinstance(registration, NodeRegistration):
            raise TypeError(
                f"a RegistrationSnapshot is made of NodeRegistrations, not of {type(registration).__name__}"
            )
        nodes[registration.identifier] = registration
    return nodes
