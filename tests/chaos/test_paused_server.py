"""A server that stops in the middle (SIGSTOP) and goes on as if nothing had been: nobody gets a stale or half answer."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cfgsync_core import CfgsyncClient, Fetched, NodeRegistration, Version
from tests.chaos.form import LONG, sized
from tests.processes import Place, Server, ask
from tests.seeds import drawn_seed

APPLICATIONS = Path(__file__).parents[1] / "end_to_end"
NODES, PAUSES = sized(120, 800), sized(4, 12)


@asynccontextmanager
async def paused(server: Server, seconds: float) -> AsyncIterator[None]:
    """Stopped inside, for `seconds` at least."""
    server.process.send_signal(signal.SIGSTOP)
    try:
        yield
        with pytest.raises(TimeoutError):  # it really stands still
            await asyncio.to_thread(ask, server.port, "GET", "/livez", within=0.2)
        await asyncio.sleep(seconds)
    finally:
        server.process.send_signal(signal.SIGCONT)


@pytest.mark.timeout(sized(120, 900))
async def test_everybody_boots_though_the_server_stands_still_in_the_middle(place: Place) -> None:
    chance = random.Random(drawn_seed())
    server = place.serve(
        *("application:Fleet", "--store", f"sqlite:{place.directory / 's.db'}"),
        cwd=APPLICATIONS,
        environment={"NODES": str(NODES // 2)},
    )
    boots: dict[str, int] = {}
    newest: dict[str, Fetched] = {}

    async def boot(name: str) -> None:
        boots[name] = boots.get(name, 0) + 1
        said = boots[name]
        registration = NodeRegistration(name, "127.0.0.1").with_metadata({"boots": said})
        seen = Version.parse(newest[name].generation or "") if name in newest else None
        async with CfgsyncClient(server.url, secret=f"secret-of-{name}") as client:
            fetched = await client.fetch(registration, wait=300, seen=seen)
        own, fleet = (str(file.content) for file in fetched.payload.files)
        assert own.split()[-1] == json.loads(fleet)["key"], "half of one set, half of another"
        assert own.split()[0] == name
        # it registered before it asked: files that do not know what it said last are stale
        assert json.loads(fleet)["members"][name] == {"boots": said}
        newest[name] = fetched

    names = [f"node-{n}" for n in range(NODES)]
    began = time.monotonic()
    going: list[asyncio.Task[None]] = []
    caught: list[int] = []
    for pause in range(PAUSES):
        come = names[pause * NODES // PAUSES : (pause + 1) * NODES // PAUSES]
        again = chance.sample(sorted(newest), min(len(newest), 10))
        going += [asyncio.create_task(boot(name)) for name in come + again]
        await asyncio.sleep(chance.uniform(0.0, 0.05))
        async with paused(server, chance.uniform(1, 15) if LONG else chance.uniform(0.3, 1.5)):
            caught.append(sum(not task.done() for task in going))
            late = chance.sample(sorted(newest), min(len(newest), 5))
            busy = set(come + again)
            going += [asyncio.create_task(boot(name)) for name in late if name not in busy]
        await asyncio.wait(going, timeout=0.5)
    await asyncio.gather(*going)
    took = time.monotonic() - began
    for name in names:
        await boot(name) if boots[name] == 1 and chance.random() < 0.1 else None
    print(f"{NODES} nodes, {PAUSES} pauses, {took:.1f} s; under way at a pause: {caught}; {len(going)} boots")
    assert sorted(newest) == sorted(names)
    assert len(going) > NODES, "nobody booted again: nothing could be stale"
    fell = sum(under_way >= NODES // PAUSES // 4 for under_way in caught)
    assert fell >= PAUSES * 2 // 3, "too many pauses fell into silence: the run says nothing"
    assert "Traceback" not in server.log
