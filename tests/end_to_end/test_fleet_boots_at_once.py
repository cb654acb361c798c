"""A thousand clients and twelve real `cfgsync fetch`, all at once, against a materializer that needs every one of them."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path

from cfgsync_core import CfgsyncClient, Fetched, NodeRegistration
from cfgsync_core.node.requests import HOLD
from tests.end_to_end.wire import CountingProxy, seeing_session
from tests.processes import Place, ended, eventually

HERE = Path(__file__).parent
CLIENTS, PROCESSES = 1_000, 12
ALL = CLIENTS + PROCESSES


async def test_a_thousand_clients_and_twelve_processes_boot_at_once_from_one_generation(place: Place) -> None:
    calls = place.directory / "calls"
    server = place.serve("application:Fleet", cwd=HERE, environment={"NODES": str(ALL), "CALLS": str(calls)})
    proxy = CountingProxy(server.port)
    async with proxy.running(), seeing_session() as (session, seen):

        async def boot(n: int) -> Fetched:
            client = CfgsyncClient(server.url, session=session, secret=f"secret-of-client-{n:04}")
            registration = NodeRegistration(f"client-{n:04}", "127.0.0.1").with_metadata({"port": n})
            return await client.fetch(registration, wait=90)

        began = time.monotonic()
        processes = [place.fetch(proxy.url, f"process-{n:02}") for n in range(PROCESSES)]
        fetched = await asyncio.gather(*(boot(n) for n in range(CLIENTS)))
        endings = await asyncio.gather(*(asyncio.to_thread(ended, process) for process in processes))
        took = time.monotonic() - began

    generations = Counter([f.generation for f in fetched] + [said["generation"] for _, said in endings])
    assert {code for code, _ in endings} == {0}, endings
    assert generations.total() == ALL
    assert len(generations) == 1, f"more than one generation: {generations}"

    # one snapshot, with one key, in every payload
    files = [f.payload.files for f in fetched]
    files_of_all = {f[1].content for f in files} | {
        (place.current(f"process-{n:02}") / "fleet.json").read_text() for n in range(PROCESSES)
    }
    assert len(files_of_all) == 1
    said = json.loads(files_of_all.pop())
    assert len(said["members"]) == ALL
    for n, (own, _) in enumerate(files):
        assert own.content == f'client-{n:04} 127.0.0.1 {{"port":{n}}} {said["key"]}\n'
    for n in range(PROCESSES):
        own_file = place.current(f"process-{n:02}") / "node.txt"
        assert own_file.read_text() == f"process-{n:02} 127.0.0.1 None {said['key']}\n"

    # coalesced while they pour in
    runs = [line.split() for line in calls.read_text().splitlines()]
    pouring = float(runs[-1][0]) - float(runs[0][0])
    print(f"{ALL} nodes in {took:.1f} s; the materializer was called {len(runs)} times in {pouring:.1f} s")
    assert int(runs[-1][1]) == ALL
    assert len(runs) <= 2 + 10 * pouring
    assert len(runs) < ALL / 4

    # held, and not polled: one registration, a question that is held for a second, and one for each 20 s that it took
    # (held ones end up to a tenth early). Who has lost a connection on a busy machine registers again, which nobody
    # does on an idle one.
    questions = 2 + int(took / (HOLD * 0.9))
    asked = Counter(
        (paths["/register"], paths["/node"] <= paths["/register"] * questions)
        for paths in seen.requests.values()
    )
    assert asked.total() == CLIENTS
    assert {held for _, held in asked} == {True}, asked
    assert asked[1, True] >= CLIENTS / 10, asked
    again = proxy.requests["/register"] - PROCESSES
    assert 0 <= again <= PROCESSES * max(questions - 1, took / 5)
    assert PROCESSES <= proxy.requests["/node"] <= (PROCESSES + again) * questions
    assert PROCESSES <= proxy.connections <= PROCESSES + again
    assert server.stop() == 0


async def test_who_came_early_is_held_until_the_last_one_comes_and_asks_at_most_twice(place: Place) -> None:
    server = place.serve("application:Fleet", cwd=HERE, environment={"NODES": "101"})
    async with seeing_session() as (session, seen):

        async def boot(n: int) -> Fetched:
            client = CfgsyncClient(server.url, session=session, secret=f"secret-of-client-{n:04}")
            return await client.fetch(NodeRegistration(f"client-{n:04}", "127.0.0.1"), wait=60)

        early = [asyncio.create_task(boot(n)) for n in range(100)]
        await asyncio.to_thread(eventually, lambda: server.status()["waiting"] == 100)
        assert not any(task.done() for task in early)
        await asyncio.to_thread(  # the run that counts them all begins up to 100 ms after the one before
            eventually, lambda: server.status()["reason"] == "waiting for 101 nodes, have 100", 5
        )
        last = await boot(100)
        assert {f.generation for f in await asyncio.gather(*early)} == {last.generation}
    # the first question is held for a second, the next one until its answer
    assert {tuple(sorted(paths.items())) for paths in seen.requests.values()} <= {
        (("/node", 1), ("/register", 1)),
        (("/node", 2), ("/register", 1)),
    }
