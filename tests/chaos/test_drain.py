"""SIGTERM with a crowd that waits: everybody is told to come back, the server ends in time, and they come back."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter

import pytest

from cfgsync_core import CfgsyncClient, NodeRegistration
from tests.chaos.crowd import gather, raise_file_limit
from tests.chaos.form import sized
from tests.processes import Place

APPLICATION = """
from cfgsync_adapter import ArtifactFile, MaterializedArtifacts, NotReady

class Quorum:
    def materialize_snapshot(self, registrations):
        if len(registrations) < {quorum}:
            return NotReady("too few")
        return MaterializedArtifacts.from_nodes({{r.identifier: [ArtifactFile("/id", r.identifier)] for r in registrations}})
"""


@pytest.mark.timed
async def test_everybody_who_waits_is_told_and_the_server_ends_within_five_seconds(place: Place) -> None:
    many = min(sized(2_000, 10_000), raise_file_limit() - 500)
    place.write("application.py", APPLICATION.format(quorum=many + 1))
    server = place.serve("application:Quorum", "--store", f"sqlite:{place.directory / 's.db'}")
    members = await gather(server.port, [f"n{i}" for i in range(many)])
    assert Counter([await member.registered for member in members]) == {202: many}
    while server.status()["waiting"] < many:  # every question has arrived
        await asyncio.sleep(0.05)
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    answers = await asyncio.gather(*(member.answered for member in members))
    told = time.monotonic() - began
    assert await asyncio.to_thread(server.process.wait, 30) == 0
    took = time.monotonic() - began
    print(f"{many} waited: told within {told:.2f} s, the server ended after {took:.2f} s")
    assert Counter(status for status, _ in answers) == {503: many}
    assert all(b"retry-after: " in head.lower() for _, head in answers)
    assert took < 5


async def test_who_waited_comes_back_by_itself_to_the_next_server_on_that_store(place: Place) -> None:
    many = sized(150, 1_000)
    place.write("application.py", APPLICATION.format(quorum=many + 1))
    store = f"sqlite:{place.directory / 's.db'}"
    first = place.serve("application:Quorum", "--store", store)

    async def boot(name: str, secret: str) -> str:
        async with CfgsyncClient(first.url, secret=secret) as client:
            payload = await client.register_and_fetch(NodeRegistration(name, "10.0.0.1"), wait=90)
            return str(payload.files[0].content)

    names = [f"n{i}" for i in range(many)]
    nodes = [asyncio.create_task(boot(name, f"secret-{name}")) for name in names]
    while first.status()["waiting"] < many:
        await asyncio.sleep(0.05)
    assert await asyncio.to_thread(first.stop) == 0
    second = await asyncio.to_thread(place.serve, "application:Quorum", "--store", store, port=first.port)
    assert second.status()["registered"] == many
    last = asyncio.create_task(boot("last", "secret-last"))
    assert await asyncio.gather(*nodes, last) == [*names, "last"]
