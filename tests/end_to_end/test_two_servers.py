"""Two servers on one store, over HTTP: who registers at one is answered, acknowledged, bound and evicted at both."""

import asyncio
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest

from cfgsync_adapter import ArtifactFile, ArtifactSet, MaterializedArtifacts, NotReady
from cfgsync_core import CfgsyncClient, MemoryHints, MemoryStore, NodeRegistration, Version
from cfgsync_runtime.compose.fleet_server import serving_snapshot
from tests.faults import LostHints
from tests.processes import ask

SOON = 0.2


class TwoNodes:
    def materialize_snapshot(self, registrations):
        if len(registrations) < 2:
            return NotReady(f"waiting for 2 nodes, have {len(registrations)}")
        files = ArtifactSet([ArtifactFile("/peers", ",".join(registrations.identifiers))])
        return MaterializedArtifacts.from_nodes(dict.fromkeys(registrations.identifiers, files))


@asynccontextmanager
async def two_servers(bus=None, bus_of_a=None, door_of_b=None, **words):
    """Their URLs, and how to end the first as a kill would: what it has not whispered yet is never whispered."""
    bus = MemoryHints() if bus is None else bus
    store = MemoryStore()
    async with AsyncExitStack() as stack, AsyncExitStack() as stack_of_a:
        a = await stack_of_a.enter_async_context(
            serving_snapshot(TwoNodes(), store=store, hints=bus_of_a or bus, interval=SOON, **words)
        )
        b = await stack.enter_async_context(
            serving_snapshot(
                TwoNodes(), store=store, hints=bus, interval=SOON, admin_socket=door_of_b, **words
            )
        )
        yield a.url, b.url, stack_of_a.aclose


def node(name):
    return NodeRegistration(name, "10.0.0.1")


async def post(url, path, body, secret=None, **headers):
    if secret is not None:
        headers["Authorization"] = f"Bearer {secret}"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url + path, json=body, headers=headers) as got,
    ):
        return got.status, got.headers, await got.text()


@pytest.mark.parametrize("lost", [False, True], ids=["delivered", "lost"])
async def test_nodes_that_register_at_different_servers_boot_from_one_generation(lost):
    bus = LostHints(MemoryHints()) if lost else MemoryHints()
    async with two_servers(bus) as (a, b, _), CfgsyncClient(a) as at_a, CfgsyncClient(b) as at_b:
        one, two = await asyncio.wait_for(
            asyncio.gather(at_a.fetch(node("node-1"), wait=10), at_b.fetch(node("node-2"), wait=10)), 8
        )
        assert one.generation == two.generation
        assert one.digest == two.digest


async def test_a_server_that_is_killed_between_commit_and_whisper_loses_no_node():
    bus = MemoryHints()
    async with (
        two_servers(bus, LostHints(bus)) as (a, b, kill_a),
        CfgsyncClient(a) as at_a,
        CfgsyncClient(b) as at_b,
    ):
        waiting = asyncio.create_task(at_b.fetch(node("node-2"), wait=10))
        await asyncio.sleep(0.1)
        await at_a.register(node("node-1"))
        await kill_a()
        assert b"node-1,node-2" in (await asyncio.wait_for(waiting, 5)).payload.local


async def test_the_version_that_one_server_told_is_obeyed_by_the_other():
    async with two_servers(LostHints(MemoryHints())) as (a, b, _):
        for name in ("node-1", "node-2"):
            _, headers, _ = await post(a, "/register", {"identifier": name, "ip": "10.0.0.1"})
        version = headers["Cfgsync-Version"]
        status, headers, _ = await post(
            b, "/node", {"identifier": "node-1"}, **{"Cfgsync-Version": version, "Prefer": "wait=5"}
        )
        assert status == 200
        assert Version.parse(headers["Cfgsync-Generation"]).revision >= 1
        for rubbish in ("", "x", "0.0", "'" * 3000):
            status, _, _ = await post(b, "/node", {"identifier": "node-1"}, **{"Cfgsync-Version": rubbish})
            assert status == 200


async def test_a_name_that_was_bound_at_one_server_is_bound_at_the_other_at_once():
    async with two_servers(LostHints(MemoryHints())) as (a, b, _):
        for name in ("node-1", "node-2"):
            body = {"identifier": name, "ip": "10.0.0.1"}
            assert (await post(a, "/register", body, f"secret of {name}"))[0] == 202
        asked = {"identifier": "node-1"}
        assert (await post(b, "/node", asked, Prefer="wait=5"))[0] == 401
        assert (await post(b, "/node", asked, "secret of node-2", Prefer="wait=5"))[0] == 403
        assert (await post(b, "/node", asked, "secret of node-1", Prefer="wait=5"))[0] == 200
        body = {"identifier": "node-1", "ip": "10.6.6.6"}
        assert (await post(b, "/register", body))[0] == 401
        assert (await post(b, "/register", body, "another"))[0] == 409


async def test_a_name_that_was_freed_at_one_server_can_be_bound_at_the_other_at_once():
    with tempfile.TemporaryDirectory() as directory:
        door = f"{directory}/b.sock"
        async with two_servers(LostHints(MemoryHints()), door_of_b=door) as (a, b, _):
            body = {"identifier": "node-1", "ip": "10.0.0.1"}
            assert (await post(a, "/register", body, "old"))[0] == 202
            assert (await post(b, "/register", body, "new"))[0] == 409
            told = await asyncio.to_thread(ask, door, "POST", "/admin/evict", b'{"identifier":"node-1"}')
            assert told.status == 200, told
            assert (await post(a, "/register", body, "new"))[0] == 202
            assert (await post(b, "/node", {"identifier": "node-1"}, "old"))[0] == 403


async def test_an_acknowledgement_at_one_server_is_known_at_the_other():
    async with two_servers() as (a, b, _), CfgsyncClient(a) as at_a, aiohttp.ClientSession() as session:
        await at_a.register(node("node-2"))
        got = await at_a.fetch(node("node-1"), wait=10)
        said = {
            "identifier": "node-1",
            "generation": got.generation,
            "digest": got.digest,
            "status": "applied",
        }
        assert (await post(b, "/ack", said))[0] == 204
        await asyncio.sleep(SOON * 1.5)
        for url in (a, b):
            async with session.get(f"{url}/status/node-1") as answer:
                assert (await answer.json())["applied"] == got.generation


async def test_servers_that_share_a_store_let_nobody_expire():
    with pytest.raises(ValueError, match="no ttl"):
        async with two_servers(ttl=60.0):
            pass
