"""A materializer that reads config documents, in a thread and in a child process: a change of a document is a new generation,
and `status` says from which documents it is."""

from __future__ import annotations

import asyncio
import json
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest

from cfgsync_adapter import DocumentsSnapshot, RegistrationSnapshot
from cfgsync_core import CfgsyncClient, MemoryHints, MemoryStore, NodeRegistration
from cfgsync_runtime.cli.entry import main
from cfgsync_runtime.compose.document_server import serving_documents
from cfgsync_runtime.compose.fleet_server import serving_snapshot
from cfgsync_runtime.errors import InputError
from cfgsync_runtime.materializer.child import ChildDecider
from cfgsync_runtime.materializer.loading import load_materializer
from cfgsync_runtime.operator.recording import SnapshotPage, joined

APP = """
from cfgsync_adapter import ArtifactFile, ArtifactSet, CachedSnapshotMaterializer, MaterializedArtifacts, NotReady

class Reads:
    documents = "shop/live"

    def materialize_snapshot(self, registrations, documents):
        limits = documents.get("limits")
        if limits is None:
            return NotReady("waiting for the document limits")
        text = f"players: {limits['players']}, nodes: {len(registrations)}\\n"
        return MaterializedArtifacts.from_nodes(
            {r.identifier: ArtifactSet([ArtifactFile("/lobby.yaml", text)]) for r in registrations}
        )

def wrapped():
    return CachedSnapshotMaterializer(Reads())

class Elsewhere(Reads):
    documents = "shop/no such environment"
"""
ADMIN = "/v1/config/admin/apps/shop/envs/live/namespaces/default/documents/limits"


@pytest.fixture
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reads.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


class Serving:
    def __init__(self, server, session: aiohttp.ClientSession, client: CfgsyncClient) -> None:
        self.server, self.session, self.client = server, session, client

    async def put(self, players: int, url: str = "") -> None:
        body = {"contentJson": json.dumps({"players": players})}
        async with self.session.put((url or self.server.url) + ADMIN, json=body) as answer:
            assert answer.status == 200

    async def files(self, identifier: str = "node-1", within: float = 10.0) -> str:
        fetched = await self.client.fetch(NodeRegistration(identifier, "10.0.0.1"), wait=within)
        return fetched.payload.files[0].content

    async def eventually(self, text: str) -> None:
        async with asyncio.timeout(30):
            while await self.files() != text:
                await asyncio.sleep(0.02)

    async def reason(self) -> str:
        async with self.session.get(f"{self.server.url}/status/node-1") as answer:
            return (await answer.json())["reason"]


@asynccontextmanager
async def serving(decides: str, store: MemoryStore, **options):
    async with AsyncExitStack() as stack:
        what = (
            {"decider": await stack.enter_async_context(ChildDecider("reads:wrapped"))}
            if decides == "child"
            else {"materializer": load_materializer("reads:Reads")}
        )
        opened = serving_snapshot(**what, store=store, documents=True, open_documents=True, **options)
        server = await stack.enter_async_context(opened)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        client = await stack.enter_async_context(CfgsyncClient(server.url))
        yield Serving(server, session, client)


@pytest.mark.usefixtures("application")
@pytest.mark.parametrize("decides", ["thread", "child"])
async def test_a_change_of_a_document_is_a_new_generation_and_status_explains_it(decides: str):
    store = MemoryStore()
    async with serving(decides, store) as there:
        waiting = asyncio.create_task(there.files(within=60))
        async with asyncio.timeout(30):
            while "waiting for the document limits" not in await there.reason():
                await asyncio.sleep(0.02)
        await there.put(50)
        assert await waiting == "players: 50, nodes: 1\n"
        assert (await there.reason()).endswith("; generation 1 from registrations 1 and documents 1")
        await there.put(80)
        await there.eventually("players: 80, nodes: 1\n")
        await there.files("node-2")
        await there.eventually("players: 80, nodes: 2\n")
        assert (await there.reason()).endswith("; generation 3 from registrations 2 and documents 2")
    async with serving(decides, store) as there:  # the same bytes and generation after a restart
        assert await there.files() == "players: 80, nodes: 2\n"
        assert "generation 3 from registrations 2 and documents 2" in await there.reason()
        await there.put(90)
        await there.eventually("players: 90, nodes: 2\n")


@pytest.mark.usefixtures("application")
async def test_another_servers_change_of_a_document_reaches_the_runs():
    """It is the other server that makes the environment, which this one has found to be absent."""
    store, hints = MemoryStore(), MemoryHints()
    async with (
        serving("thread", store, hints=hints) as there,
        serving_documents(store=store, hints=hints, open_documents=True) as other,
    ):
        for players in (1, 2):
            await there.put(players, other.url)
            await there.eventually(f"players: {players}, nodes: 1\n")


@pytest.mark.usefixtures("application")
async def test_a_fresh_process_gets_the_documents_again():
    documents = DocumentsSnapshot({"limits": {"players": 1}})
    fleet = RegistrationSnapshot([NodeRegistration("a", "10.0.0.1")])
    async with ChildDecider("reads:Reads") as child:
        assert child.documents == "shop/live"
        first = (await child.decide(fleet, documents)).answer
        assert child._process is not None
        child._process.kill()
        async with asyncio.timeout(30):
            while not child._process.has_ended:
                await asyncio.sleep(0.01)
        assert (await child.decide(fleet, documents)).answer.map_key == first.map_key


def check(file: Path) -> object:
    with pytest.raises(SystemExit) as ended:
        main(["check", "reads:Reads", "--snapshot", str(file)])
    return ended.value.code


@pytest.mark.usefixtures("application")
async def test_a_recorded_fleet_has_the_documents_and_check_reads_them(capfd):
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/admin.sock"
        async with serving("thread", MemoryStore(), admin_socket=path) as there:
            await there.put(50)
            await there.files()
            unix = aiohttp.UnixConnector(path)
            async with aiohttp.ClientSession(there.server.url, connector=unix) as operator:
                async with operator.get("/admin/snapshot") as answer:
                    recorded = joined([msgspec.json.decode(await answer.read(), type=SnapshotPage)])
                    file = Path(directory) / "fleet.json"
                    file.write_bytes(msgspec.json.encode(recorded))
                async with operator.get("/admin/generations") as answer:
                    assert (await answer.json())["generations"][0]["documents"].endswith(".1")
        assert await asyncio.to_thread(check, file) == 0
        assert "equal to generation 1" in capfd.readouterr().out
        changed = json.loads(file.read_text())
        changed["documents"]["default/limits"]["players"] = 51
        file.write_text(json.dumps(changed))
        assert await asyncio.to_thread(check, file) == 1
        assert "+players: 51, nodes: 1" in capfd.readouterr().out
        without = json.loads(file.read_text()) | {"documents": None}
        file.write_text(json.dumps(without))
        assert await asyncio.to_thread(check, file) == 2
        assert "and the snapshot has none" in capfd.readouterr().err


@pytest.mark.usefixtures("application")
async def test_a_server_without_documents_refuses_a_materializer_that_reads_some():
    with pytest.raises(
        InputError, match="reads the documents of shop/live, which this server does not serve"
    ):
        async with serving_snapshot(load_materializer("reads:Reads")):
            raise AssertionError
    with pytest.raises(InputError, match="env must match"):
        async with serving_snapshot(load_materializer("reads:Elsewhere"), documents=True):
            raise AssertionError
