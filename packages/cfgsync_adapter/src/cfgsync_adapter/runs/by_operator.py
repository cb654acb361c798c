"""What an operator decides by hand: a claim, which makes a new generation of everybody, and one node's own files."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec

from cfgsync_artifacts import ArtifactSet, DuplicatePath
from cfgsync_core import Version, paths_of

from ..generations.publisher import Publisher
from ..generations.replacements import Replacements
from .runner import Runner, Verdict


class Renewal(msgspec.Struct, frozen=True):
    """What a claim by hand led to. `verdict` is the first one on it, None when none came in time; `before` is the
    generation that was served when it was made."""

    claim: int
    verdict: Verdict | None
    before: str | None


async def renew(publisher: Publisher, runs: Runner, accept: bool, wait: float) -> Renewal:
    """Claim, and wait up to `wait` seconds for the verdict. Raises `Unavailable` and its kin."""
    current = publisher.current
    claim = await publisher.renew(accept)
    runs.changed()
    verdict: Verdict | None = None
    with suppress(TimeoutError):
        async with asyncio.timeout(wait):
            verdict = await runs.verdict_on(claim.number)
    return Renewal(claim.number, verdict, None if current is None else current.text)


async def replace(
    publisher: Publisher, replacements: Replacements, runs: Runner, identifier: str, files: ArtifactSet
) -> Version:
    """Keep these files for a node, durably on return, and let a run begin. Raises `DuplicatePath` for a path that is a
    shared one's; `PayloadTooLarge`; `Unavailable` and its kin."""
    current = publisher.current
    payload = None if current is None else next(iter(current.nodes.values()), None)
    shared = frozenset[str]() if payload is None else paths_of(payload.shared)
    for file in files:
        if file.path in shared:
            raise DuplicatePath(file.path)
    version = await replacements.put(identifier, files)
    runs.changed()
    return version
