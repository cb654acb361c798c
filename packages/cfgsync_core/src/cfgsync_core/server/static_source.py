"""Files that are known beforehand: a bundle is checked and encoded once, so serving it is a look-up that needs no
registration."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import msgspec

from cfgsync_artifacts import ArtifactSet

from ..errors import StaleGeneration
from ..store.contract import NEVER, Version
from ..text import counted, plain, rfc3339
from ..wire.acknowledgement import Acknowledgement
from ..wire.limits import MAX_REASON
from ..wire.payload import NodeArtifactsPayload
from ..wire.protocol import Missing, Ready
from ..wire.registration import NodeRegistration
from ..wire.source import AcknowledgingSource, NodeConfigSource
from ..wire.status import (
    NODE_STATES,
    FleetStatus,
    NodeBehind,
    NodeDetails,
    NodeDrift,
    NodeStatus,
    StatusSource,
    fleet_state,
    node_state,
)
from .bundle import NodeArtifactsBundle, NodeArtifactsBundleEntry, encode_bundle

_NAMED = 20


class _Known(msgspec.Struct, gc=False):
    """What one node has sent since this server started. `served` and `applied` are digests; `failed` is the digest that
    it could not apply since then, and `reason` why."""

    registration: NodeRegistration | None = None
    seen_at: float | None = None
    served: str | None = None
    applied: str | None = None
    failed: str | None = None
    reason: str | None = None
    drifted: tuple[str, ...] = ()


_NOTHING = _Known()


class StaticConfigSource(NodeConfigSource, AcknowledgingSource, StatusSource, NodeDetails):
    """Serves files that are known beforehand: `StaticConfigSource({"node-1": ArtifactSet([…])}, shared)`.

    A node is served whether or not it has registered; an identifier that is not in it is `Missing`. There are no
    generations, so the digest alone tells two answers apart. What the nodes have sent and acknowledged is in memory
    only: after a restart, a watching node says it again. Raises `InvalidBundle`.
    """

    def __init__(
        self,
        nodes: Mapping[str, ArtifactSet],
        shared: ArtifactSet | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        bundle = NodeArtifactsBundle(
            tuple(NodeArtifactsBundleEntry(identifier, files) for identifier, files in nodes.items()),
            shared if shared is not None else ArtifactSet(),
        )
        self._payloads = encode_bundle(bundle)
        self._identifiers = sorted(self._payloads)
        self._known: dict[str, _Known] = {}
        self._clock = clock
        self._adopted = asyncio.Event()

    @staticmethod
    def from_bundle(bundle: NodeArtifactsBundle) -> StaticConfigSource:
        """The source of a bundle."""
        return StaticConfigSource(
            {entry.identifier: entry.files for entry in bundle.nodes}, bundle.shared_files
        )

    async def register(self, registration: NodeRegistration) -> Version | Missing:
        """`NEVER` for a node that is served, since nothing is stored, else `Missing`."""
        if registration.identifier not in self._payloads:
            return Missing()
        self._seen(registration.identifier).registration = registration
        return NEVER

    async def resolve(
        self, identifier: str, *, known: str | None = None, wait: float = 0.0
    ) -> Ready | Missing:
        """The node's files at once, but for a node that has them after `wait`, or when others are adopted: an answer at once
        would make it repeat its request without end. The first answer since the start is at once, so that a node that was
        there before repeats its acknowledgement."""
        payload = self._payloads.get(identifier)
        if payload is None:
            return Missing()
        node = self._seen(identifier)
        is_first, node.served = node.served is None, payload.digest
        if known == payload.digest and wait > 0 and not is_first:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._adopted.wait()
            payload = self._payloads.get(identifier)
            if payload is None:
                return Missing()
            node.served = payload.digest
        return Ready(payload)

    def adopt(self, other: StaticConfigSource) -> None:
        """Serve the files of `other` from now on, and answer held requests."""
        self._payloads, self._identifiers = other._payloads, other._identifiers
        self._adopted.set()
        self._adopted = asyncio.Event()

    async def acknowledge(self, acknowledgement: Acknowledgement) -> Missing | None:
        """See `AcknowledgingSource`. Nothing is stored."""
        if acknowledgement.generation is not None:
            raise StaleGeneration(acknowledgement.generation, None)
        if acknowledgement.identifier not in self._payloads:
            return Missing()
        node = self._seen(acknowledgement.identifier)
        if acknowledgement.status == "applied":
            node.applied, node.failed, node.reason = acknowledgement.digest, None, None
            node.drifted = acknowledgement.drifted
        else:
            node.failed, node.reason = acknowledgement.digest, acknowledgement.reason or "no reason given"
        return None

    def registration(self, identifier: str) -> NodeRegistration | None:
        """See `NodeDetails`."""
        return self._known.get(identifier, _NOTHING).registration

    def given(self, identifier: str) -> Ready | None:
        """See `NodeDetails`."""
        payload = self._payloads.get(identifier)
        return None if payload is None else Ready(payload)

    def is_replaced(self, identifier: str) -> bool:
        """See `NodeDetails`. A bundle is replaced as a whole."""
        return False

    def fleet(self, limit: int, after: str) -> FleetStatus:
        """The nodes that are served; `registered` counts those that have registered since the start."""
        every = [self.node(identifier) for identifier in self._identifiers]
        states = Counter(node.state for node in every)
        behind = [node for node in every if node.state != "applied"]
        drifted = [node for node in every if node.drifted]
        return FleetStatus(
            state=fleet_state(len(every), is_covered=True, has_failed=False, behind=len(behind)),
            registered=sum(node.registered for node in every),
            waiting=0,
            nodes=tuple(self.nodes(limit, after)),
            counts={state: states[state] for state in NODE_STATES},
            applied=states["applied"],
            behind=tuple(NodeBehind(node.identifier, node.reason) for node in behind[:_NAMED]),
            behind_count=len(behind),
            converged=bool(every) and not behind,
            drifted=tuple(NodeDrift(node.identifier, node.drifted or ()) for node in drifted[:_NAMED])
            or msgspec.UNSET,
            drifted_count=len(drifted) or msgspec.UNSET,
        )

    def nodes(self, limit: int, after: str) -> Sequence[NodeStatus]:
        """See `StatusSource`."""
        start = bisect_right(self._identifiers, after)
        return [self.node(identifier) for identifier in self._identifiers[start : start + max(limit, 0)]]

    def node(self, identifier: str) -> NodeStatus:
        """See `StatusSource`."""
        known = self._known.get(identifier, _NOTHING)
        payload = self._payloads.get(identifier)
        has = payload is not None and payload.digest == known.applied != known.failed
        state = node_state(
            Missing() if payload is None else Ready(payload),
            has_failed=payload is not None and known.failed == payload.digest,
            has_applied=has,
            was_served=payload is not None and known.served == payload.digest,
        )
        because = "" if known.reason is None else plain(known.reason, MAX_REASON)
        return NodeStatus(
            identifier,
            registered=known.registration is not None,
            served=known.served,
            applied=known.applied,
            last_failure=because or None,
            last_seen=None if known.seen_at is None else rfc3339(int(known.seen_at)),
            reason=self._why(payload, known, state, because),
            state=state,
            because=because if state == "not_applied" else "",
            drifted=known.drifted or msgspec.UNSET,
        )

    async def ping(self) -> None:
        """There is no store that could fail to answer."""

    def _seen(self, identifier: str) -> _Known:
        node = self._known.setdefault(identifier, _Known())
        node.seen_at = self._clock()
        return node

    def _why(self, payload: NodeArtifactsPayload | None, known: _Known, state: str, because: str) -> str:
        if payload is None:
            return f"not among the {counted(len(self._payloads), 'node')} {self._place()}"
        match state:
            case "not_applied":
                words = f"could not apply its files: {because}"
            case "applied":
                words = "applied its files"
            case "served":
                words = "was sent its files, which it has not acknowledged yet"
            case _ if known.served is not None:
                words = "its files have changed, and it has not asked for the new ones yet"
            case _:
                words = "its files are ready, and it has not asked for them since this server started"
        return (
            f"{words}; changed on its disk: {plain(', '.join(known.drifted), 200)}"
            if known.drifted
            else words
        )

    def _place(self) -> str:
        return "that are served"


class BundleConfigSource(StaticConfigSource):
    """The source of a bundle file that the runtime's `load_bundle` has read:
    `BundleConfigSource(bundle, "cfgsync.bundle.yaml")`. `/status` names the file to the operator; a node never sees it.
    `signatures` are by identifier, of this `revision`."""

    def __init__(
        self, bundle: NodeArtifactsBundle, file: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(
            {entry.identifier: entry.files for entry in bundle.nodes}, bundle.shared_files, clock=clock
        )
        self.file = file
        self.revision = bundle.revision
        self.signatures = bundle.signatures

    def adopt(self, other: StaticConfigSource) -> None:
        """See `StaticConfigSource`."""
        super().adopt(other)
        if isinstance(other, BundleConfigSource):
            self.file, self.revision, self.signatures = other.file, other.revision, other.signatures

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each node's files."""
        return {identifier: payload.digest for identifier, payload in self._payloads.items()}

    def signature(self, identifier: str, generation: str | None, digest: str) -> str | None:
        """The signature in the bundle file, for `CfgsyncServerState`; None when the bundle has none for the node."""
        return self.signatures.get(identifier)

    def _place(self) -> str:
        return f"of {self.file}"
