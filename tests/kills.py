"""`kill -9` on a process that commits: what it acknowledged is there exactly once, what it refused never (INV-19).

It cannot see a missing fsync, since the page cache outlives the process: that is a matter for system calls (`strace`).
"""

from __future__ import annotations

import asyncio
import sys
from random import Random

from cfgsync_core import NEVER, BucketSnapshot, Gap
from cfgsync_runtime import open_backend
from tests.seeds import drawn_seed

BUCKET = "killed"

CHILD = """
import asyncio, sys
from cfgsync_core import Conflict
from cfgsync_runtime.backends.engines import open_backend

async def main(url, life):
    async with open_backend(url) as (store, *_):
        async def write(name):
            for n in range(10**9):
                key = f"{life}-{name}-{n}"
                wrong = (n + name) % 5 == 4  # expects what cannot be
                try:
                    version = await store.commit("killed", {key: key.encode()}, {key: 7 if wrong else 0})
                    sys.stdout.write(f"ack {key} {version.revision}\\n")
                except Conflict:
                    sys.stdout.write(f"refused {key} 0\\n")
                sys.stdout.flush()
        await asyncio.gather(*(write(n) for n in range(16)))

asyncio.run(main(*sys.argv[1:]))
"""


async def check_inv_19_kill_9_loses_and_doubles_nothing(
    url: str, lives: int = 3, seed: int | None = None
) -> None:
    """Kill `lives` processes one after the other, each at a random moment, and compare what each had said."""
    seed = drawn_seed() if seed is None else seed
    random = Random(seed)
    acknowledged: dict[str, int] = {}
    refused: set[str] = set()
    for life in range(lives):
        before = len(acknowledged)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CHILD, url, str(life), stdout=asyncio.subprocess.PIPE
        )
        assert child.stdout is not None
        first = b""
        while not (b"ack " in first and b"refused " in first):
            line = await child.stdout.readline()
            assert line, "it ended by itself"
            first += line
        reading = asyncio.create_task(child.stdout.read())
        await asyncio.sleep(random.random() * 0.2)
        child.kill()
        said = first + await reading
        await child.wait()
        for line in said.split(b"\n")[:-1]:  # the last may be torn
            word, key, revision = line.decode().split()
            if word == "ack":
                acknowledged[key] = int(revision)
            else:
                refused.add(key)
        assert len(acknowledged) > before, "no commit before the kill: this life proved nothing"
        async with open_backend(url) as (store, *_):
            snapshot = await store.snapshot(BUCKET)
            assert isinstance(snapshot, BucketSnapshot)
            assert snapshot.is_whole()
            held = {entry.key: entry.revision for entry in snapshot.entries}
            # each commit wrote one new key: so revisions are contiguous, and none was applied twice
            assert sorted(held.values()) == list(range(1, snapshot.version.revision + 1))
            assert {key: held.get(key) for key in acknowledged} == acknowledged
            assert not refused & set(held)
            told = await store.changes(BUCKET, NEVER)
            if not isinstance(told, Gap):
                assert len({change.commit_id for change in told}) == snapshot.version.revision
    assert refused, "nothing was refused: the test proved half"
