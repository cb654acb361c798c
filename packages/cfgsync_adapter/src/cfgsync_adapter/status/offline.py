"""Reads a fleet from its store, without a server and without a commit."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from cfgsync_core import NodeRegistration, RevisionedStore, Version

from ..generations.generation import Generation
from ..generations.publisher import Publisher
from ..nodes.registry import Registry


class OfflineFleet(msgspec.Struct, frozen=True):
    """The registrations at one version, and the generation that is served."""

    version: Version
    registrations: Mapping[str, NodeRegistration]
    generation: Generation | None


async def read_offline(store: RevisionedStore) -> OfflineFleet:
    """Read the registrations and the current generation. Raises `Unavailable` and its subclasses."""
    generations, registry = Publisher(store), Registry(store)
    await generations.open()
    await registry.open()
    return OfflineFleet(*registry.registered(), generations.current)
