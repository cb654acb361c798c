"""A composed server over real sockets: what it says of its store, of a failure and of what nodes promised."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from cfgsync_adapter import MaterializedArtifacts
from cfgsync_core import CfgsyncClient, MemoryStore, NodeRegistration, StaticConfigSource, Unavailable
from cfgsync_runtime import InputError, serve_snapshot_cfgsync, serving_snapshot, serving_source


class Nobody:
    def materialize_snapshot(self, registrations):
        return MaterializedArtifacts.from_nodes({})


class Fails:
    def materialize_snapshot(self, registrations):
        raise OSError("hunter2")


class DeadEngine(MemoryStore):
    """Its `ping` fails, or never returns, while it is dead."""

    dead = True

    def __init__(self, error: Exception | None) -> None:
        super().__init__()
        self.error = error

    async def ping(self):
        if self.dead:
            await asyncio.sleep(60 if self.error is None else 0)
            raise self.error


@pytest.mark.parametrize("error", [Unavailable("the disk is gone"), OSError("the disk is gone"), None])
async def test_readyz_is_503_while_the_engine_does_not_answer_its_ping(error):
    store = DeadEngine(error)
    async with (
        serving_snapshot(Nobody(), store=store) as server,
        aiohttp.ClientSession(server.url) as session,
    ):
        async with session.get("/readyz") as answer:
            assert answer.status == 503
            assert (await answer.json())["code"] == "unavailable"
        store.dead = False
        async with session.get("/readyz") as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("host", "asked", "exposed"),
    [("127.0.0.1", False, False), ("127.0.0.1", True, True), ("0.0.0.0", True, False)],
)
async def test_the_words_of_a_failure_are_exposed_if_asked_and_on_loopback_only(host, asked, exposed, caplog):
    lacking = ("no-tls", "no-auth") if host == "0.0.0.0" else ()
    node = {"identifier": "a", "ip": "10.0.0.1"}
    async with (
        serving_snapshot(Fails(), host=host, lacking=lacking, expose_errors=asked) as server,
        aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session,
    ):
        await session.post("/register", json=node)
        async with session.post("/node", json=node) as answer:
            told = await answer.text()
            assert answer.status == 500
        async with session.get("/status") as answer:
            told += await answer.text()
    assert ("hunter2" in told) == exposed
    assert ("OSError in test_compose.py, line " in told) == (not exposed)
    said = [line.getMessage() for line in caplog.records]
    assert any("--expose-errors is ignored: 0.0.0.0 is open" in line for line in said) == (
        asked and not exposed
    )
    assert any("the materializer failed: hunter2 (OSError in " in line for line in said)


async def test_a_program_opens_no_server_to_other_machines_without_saying_so():
    with pytest.raises(InputError) as refused:
        await serve_snapshot_cfgsync(0, Nobody(), host="0.0.0.0")
    assert str(refused.value) == "host 0.0.0.0 is open to other machines, without TLS"
    (shown,) = refused.value.__notes__
    assert shown.endswith("add insecure_no_tls=True")
    with pytest.raises(InputError) as refused:
        await serve_snapshot_cfgsync(0, Nobody(), host=["127.0.0.1", "::"], insecure_no_auth=True)
    assert refused.value.hint.endswith("add insecure_no_tls=True")
    for serving in (
        serving_snapshot(Nobody(), host="0.0.0.0"),
        serving_source(StaticConfigSource({}), host="::"),
    ):
        with pytest.raises(InputError) as refused:
            async with serving:
                pass
        assert refused.value.hint.endswith("add to lacking= 'no-tls' and 'no-auth'")


async def test_a_program_that_says_so_serves_other_machines_and_warns(caplog):
    waived = {"insecure_no_tls": True, "insecure_no_auth": True}
    serving = asyncio.create_task(serve_snapshot_cfgsync(0, Nobody(), host="0.0.0.0", **waived))
    async with asyncio.timeout(10):
        while sum("INSECURE" in line.getMessage() for line in caplog.records) < 2:
            assert not serving.done()
            await asyncio.sleep(0.01)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


async def test_a_network_of_proxies_that_is_every_address_is_a_warning(caplog):
    proxies = ("0.0.0.0/0", "::/0", "10.0.0.0/8")
    async with serving_source(StaticConfigSource({}), trusted_proxies=proxies):
        said = [line.getMessage() for line in caplog.records if "--trusted-proxy" in line.getMessage()]
    assert [line.split()[1] for line in said] == ["0.0.0.0/0", "::/0"]


async def test_a_promise_travels_and_a_client_that_keeps_in_touch_promises_it():
    registration = NodeRegistration("a", "10.0.0.1")
    async with (
        serving_snapshot(Nobody()) as server,
        aiohttp.ClientSession(server.url) as session,
        CfgsyncClient(server.url, keepalive=90) as stays,
        CfgsyncClient(server.url) as once,
    ):

        async def promised():
            async with session.get("/status/a") as answer:
                return (await answer.json())["keepalive"]

        await stays.register(registration)
        assert await promised() == 90
        await once.resolve(registration)
        assert await promised() == 90, "/node without the header withdraws nothing"
        await once.register(registration)
        assert await promised() is None
        await stays.resolve(registration)
        assert await promised() == 90
