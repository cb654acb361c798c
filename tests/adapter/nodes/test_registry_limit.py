"""A server takes so many registrations and no more; those that it has are served as before."""

from __future__ import annotations

import pytest

from cfgsync_adapter.nodes.registry import Registry
from cfgsync_core import MemoryStore, NodeRegistration, StoreFull


async def test_one_more_than_the_limit_is_refused_as_a_full_store_until_a_node_leaves() -> None:
    registry = Registry(MemoryStore(), most=2)
    await registry.open()
    first, second, third = (NodeRegistration(f"node-{n}", "10.0.0.1") for n in range(3))
    await registry.register(first)
    await registry.register(second)
    with pytest.raises(StoreFull, match="2 nodes are registered"):
        await registry.register(third)
    await registry.register(NodeRegistration("node-1", "10.0.0.2"))  # a change is none more
    await registry.remove(["node-0"])
    await registry.register(third)
    assert registry.identifiers() == ["node-1", "node-2"]
