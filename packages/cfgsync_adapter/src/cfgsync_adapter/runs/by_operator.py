"""What an operator decides by hand: a claim, which makes a new generation of everybody, and one node's own files."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec

from cfgsync_artifacts import ArtifactSet, DuplicatePath
from cfgsync_core import Version
from cfgsync_core.wire import paths_of

from ..generations.publisher import Publisher
from ..generations.replacements import Replacements
from ..nodes.registry import Registry
from .runner import Runner, Verdict


class Renewal(msgspec.Struct, frozen=True):
    """What a claim by hand led to. `verdict` is the first one on it, None when none came in time; `before` is the
    generation that was served when the claim was made."""

    claim: int
    verdict: Verdict | None
    before: str | None


class OperatorVerbs:
    """What an operator can make one server do beside what its nodes ask for."""

    def __init__(
        self, registry: Registry, publisher: Publisher, replacements: Replacements, runs: Runner
    ) -> None:
        self._registry = registry
        self._publisher = publisher
        self._replacements = replacements
        self._runs = runs

    async def renew(self, accept: bool = False, *, wait: float = 30.0) -> Renewal:
        """Claim by hand: one new generation of everybody, also when it is frozen; equal artifacts keep the number.

        `accept` lets the first generation of this claim leave out what the shrink guard would refuse. Waits up to
        `wait` seconds for the verdict. Raises `Unavailable` and its kin.
        """
        before = self._publisher.current
        claim = await self._publisher.renew(accept)
        self._runs.changed()
        verdict: Verdict | None = None
        with suppress(TimeoutError):
            async with asyncio.timeout(wait if len(self._registry) else 0.0):
                verdict = await self._runs.verdict_on(claim.number)
        return Renewal(claim.number, verdict, None if before is None else before.text)

    async def replace(self, identifier: str, files: ArtifactSet) -> Version:
        """Give one node these files of its own in place of the materializer's, from the next generation on, for which
        a run starts; shared files still follow. An empty set: the materializer's come back. Frozen: `renew` first.

        Durable on return, for a node that is not registered too. Raises `DuplicatePath` for a path that is a shared
        one's; `PayloadTooLarge`; `Unavailable` and its kin.
        """
        current = self._publisher.current
        payload = None if current is None else next(iter(current.nodes.values()), None)
        shared = frozenset[str]() if payload is None else paths_of(payload.shared)
        for file in files:
            if file.path in shared:
                raise DuplicatePath(file.path)
        version = await self._replacements.put(identifier, files)
        self._runs.changed()
        return version

    def has_replacement(self, identifier: str) -> bool:
        """Whether an operator has given this node files of its own."""
        return identifier in self._replacements
