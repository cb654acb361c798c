"""A rollout over a server that is killed 20 times: never more nodes change at once than allowed, and all end on the newest.

The nodes are in this process and speak the wire of `fetch --watch`. Some lose an answer, and some repeat an acknowledgement.
"""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress
from functools import partial
from random import Random

import aiohttp

from tests.processes import Place, Server, body
from tests.seeds import drawn_seed

NODES, KILLS, AT_ONCE = 200, 20, 20
APPLICATION = """
from pathlib import Path
from cfgsync_adapter import ArtifactFile, ArtifactSet, MaterializedArtifacts

class Noted:
    def materialize_snapshot(self, nodes):
        files = ArtifactSet([ArtifactFile("/note", Path("note").read_text())])
        return MaterializedArtifacts.from_nodes({one.identifier: files for one in nodes})
"""


class Fleet:
    """Nodes that run on files, and what an observer of all programs sees."""

    def __init__(self, session: aiohttp.ClientSession, url: str, random: Random) -> None:
        self.session = session
        self.url = url
        self.random = random
        self.restarting: set[str] = set()
        self.most = 0
        self.changes = 0
        self.notes: dict[str, str] = {}

    async def live(self, name: str) -> None:
        known: str | None = None
        registered = False
        while True:
            try:
                if not registered:
                    async with self.session.post(f"{self.url}/register", data=body(name)) as reply:
                        registered = reply.status == 202
                headers = {"Prefer": "wait=2", "Cfgsync-Turn": "default; steady"}
                if known is not None:
                    headers["If-None-Match"] = f'"{known}"'
                async with self.session.post(f"{self.url}/node", data=body(name), headers=headers) as reply:
                    content = await reply.read()
                if reply.status == 200 and (known is None or self.random.random() > 0.1):  # else it is lost
                    known = await self._changed(name, reply, content, is_first=known is None)
                elif reply.status not in (200, 304):
                    await asyncio.sleep(0.1)
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(0.05)

    async def _changed(
        self, name: str, reply: aiohttp.ClientResponse, content: bytes, *, is_first: bool
    ) -> str:
        digest = reply.headers["ETag"].strip('"')
        if not is_first:
            self.restarting.add(name)
            self.most = max(self.most, len(self.restarting))
            await asyncio.sleep(0.05)
            self.restarting.discard(name)
            self.changes += 1
        self.notes[name] = json.loads(content)["files"][0]["content"]
        words = {"identifier": name, "generation": reply.headers["Cfgsync-Generation"], "digest": digest}
        words |= {"status": "applied", "group": "default"}
        for _ in range(1 + (self.random.random() < 0.1)):
            await self._acknowledged(words)
        return digest

    async def _acknowledged(self, words: dict[str, str]) -> None:
        while True:
            with suppress(aiohttp.ClientError, OSError):
                async with self.session.post(f"{self.url}/ack", json=words) as reply:
                    if reply.status in (204, 409):
                        return
            await asyncio.sleep(0.05)


async def until(happened, within: float = 120.0) -> None:
    async with asyncio.timeout(within):
        while not happened():
            await asyncio.sleep(0.02)


async def test_ro_1_holds_from_outside_while_the_server_is_killed_20_times(place: Place) -> None:
    random = Random(drawn_seed())
    place.write("app.py", APPLICATION)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def serve(note: str) -> Server:
        place.write("note", note)
        options = ("--store", "sqlite:s.db", "--max-parallel", str(AT_ONCE), "--revision", note)
        return place.serve("app:Noted", *options, port=port)

    server = await asyncio.to_thread(serve, "note 0")
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        fleet = Fleet(session, server.url, random)
        tasks = [asyncio.create_task(fleet.live(f"node-{number}")) for number in range(NODES)]
        try:
            await until(lambda: len(fleet.notes) == NODES)
            for kill in range(KILLS):
                enough = fleet.changes + random.randrange(1, 40)
                await asyncio.to_thread(server.kill)
                server = await asyncio.to_thread(serve, f"note {kill // 5 + 1}")
                await until(partial(moved, fleet, enough, kill // 5 + 1))
            await until(lambda: is_done(fleet, (KILLS - 1) // 5 + 1))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    assert 1 < fleet.most <= AT_ONCE
    assert fleet.changes >= NODES


def moved(fleet: Fleet, enough: int, number: int) -> bool:
    return fleet.changes >= enough or is_done(fleet, number)


def is_done(fleet: Fleet, number: int) -> bool:
    return all(note == f"note {number}" for note in fleet.notes.values())
