"""What an operator decides: a claim, which makes a new generation for all nodes, and the files of one node."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec

from cfgsync_artifacts import ArtifactSet, DuplicatePath
from cfgsync_core import Version
from cfgsync_core.wire import paths_of

from ..generations.generation import shared_part
from ..generations.publisher import Publisher
from ..generations.replacements import Replacements
from ..nodes.registry import Registry
from .runner import Runner, Verdict


class Renewal(msgspec.Struct, frozen=True):
    """The result of an operator's claim. `verdict` is the first one on it, None when it took too long; `before` is the
    generation that was served when the claim was made."""

    claim: int
    verdict: Verdict | None
    before: str | None


class OperatorVerbs:
    """The commands of an operator to one server."""

    def __init__(
        self, registry: Registry, publisher: Publisher, replacements: Replacements, runs: Runner
    ) -> None:
        self._registry = registry
        self._publisher = publisher
        self._replacements = replacements
        self._runs = runs

    async def renew(self, accept: bool = False, *, at_once: bool = False, wait: float = 30.0) -> Renewal:
        """Make a claim: the next run publishes for all nodes, also when frozen; equal artifacts keep the number.

        With `accept`, the shrink guard does not check the first generation of this claim; with `at_once`, nodes take no turns
        for it. Waits up to `wait` seconds for
        the verdict. Raises `Unavailable` and its subclasses.
        """
        before = self._publisher.current
        claim = await self._publisher.renew(accept, at_once)
        self._runs.changed()
        verdict: Verdict | None = None
        with suppress(TimeoutError):
            async with asyncio.timeout(wait if len(self._registry) else 0.0):
                verdict = await self._runs.verdict_on(claim.number)
        return Renewal(claim.number, verdict, None if before is None else before.text)

    async def replace(self, identifier: str, files: ArtifactSet) -> Version:
        """Replace the materializer's files for one node, registered or not, from the next generation on; it keeps the
        shared files. An empty set ends the replacement. When frozen, it takes effect after `renew`.

        Durable on return. Raises `DuplicatePath` for a path that a shared file has; `PayloadTooLarge`; `Unavailable`
        and its subclasses.
        """
        current = self._publisher.current
        shared = paths_of(b"" if current is None else shared_part(current.nodes))
        for file in files:
            if file.path in shared:
                raise DuplicatePath(file.path, "a shared file has it")
        version = await self._replacements.put(identifier, files)
        self._runs.changed()
        return version
