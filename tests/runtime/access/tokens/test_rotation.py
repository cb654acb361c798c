"""A secret is replaced: both are accepted until the new one was used once, whatever is lost, repeated or restarted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import pytest

from cfgsync_core import MemoryStore, NodeRegistration
from cfgsync_core.server.route import Call, Reply, Route
from cfgsync_core.wire import NEXT_SECRET
from cfgsync_core.wire.protocol import NodeRequest
from cfgsync_runtime.access.identity import Identities, opened_identities

OLD, NEW, OTHER = "o" * 43, "n" * 43, "x" * 43


class Node:
    def __init__(self, identities: Identities) -> None:
        self._identities = identities

    async def register(self, secret: str, following: str = "") -> Reply:
        more = {NEXT_SECRET: sha256(following.encode()).hexdigest()} if following else {}
        return await self._ask(NodeRegistration("a", "10.0.0.1"), secret, more)

    async def read(self, secret: str) -> int:
        return (await self._ask(NodeRequest("a"), secret, {})).status

    async def _ask(self, value: Any, secret: str, more: dict[str, str]) -> Reply:
        async def handler(call: Call) -> Reply:
            return Reply(200)

        call = Call({"Authorization": f"Bearer {secret}", **more}, value=value)
        return await self._identities.answer(Route("POST", "/x", handler, "x", "node"), call)


@pytest.fixture
async def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def node(store: MemoryStore) -> AsyncIterator[Node]:
    async with opened_identities(store, None) as (_, identities):
        made = Node(identities)
        await made.register(OLD)
        yield made


async def test_both_secrets_are_accepted_until_the_new_one_was_used(node: Node) -> None:
    reply = await node.register(OLD, NEW)
    assert reply.headers[NEXT_SECRET] == sha256(NEW.encode()).hexdigest()
    assert (await node.read(OLD), await node.read(OLD)) == (200, 200)
    assert await node.read(NEW) == 200
    assert await node.read(OLD) == 403
    assert (await node.register(OLD, OTHER)).status == 409
    assert await node.read(NEW) == 200


async def test_a_rotation_is_repeated_and_outlives_a_restart(node: Node, store: MemoryStore) -> None:
    for _ in range(3):
        assert NEXT_SECRET in (await node.register(OLD, NEW)).headers
    async with opened_identities(store, None) as (_, identities):
        again = Node(identities)
        assert (await again.read(OLD), await again.read(NEW), await again.read(OLD)) == (200, 200, 403)


async def test_one_that_was_never_used_is_replaced_by_another(node: Node) -> None:
    await node.register(OLD, OTHER)
    await node.register(OLD, NEW)
    assert await node.read(OTHER) == 403
    assert await node.read(NEW) == 200


async def test_nobody_but_the_node_rotates_and_a_text_that_is_no_hash_is_400(node: Node) -> None:
    refused = await node.register(OTHER, NEW)
    assert (refused.status, NEXT_SECRET in refused.headers) == (409, False)
    reply = await node._ask(NodeRegistration("a", "10.0.0.1"), OLD, {NEXT_SECRET: "not a hash"})
    assert (reply.status, NEXT_SECRET in reply.headers) == (400, False)
    assert await node.read(NEW) == 403
