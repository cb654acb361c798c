"""Run as root in a mount namespace of its own: a server whose store lies on a small tmpfs, until that is full, and on.

Prints one JSON object: what was acknowledged, what was refused and how, and what the store holds in the end.
"""

from __future__ import annotations

import asyncio
import collections
import json
import subprocess
import sys
from pathlib import Path

from cfgsync_core import BucketSnapshot
from cfgsync_runtime import open_backend
from tests.processes import Place, body


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


async def held(path: Path) -> list[str]:
    async with open_backend(f"sqlite:{path}", read_only=True) as (store, *_):
        cut = await store.snapshot("registrations")
        assert isinstance(cut, BucketSnapshot)
        assert cut.is_whole()
        return [entry.key for entry in cut.entries]


def main(directory: Path) -> None:
    disk = directory / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk))
    store = disk / "store.db"
    acknowledged: list[str] = []
    refused: collections.Counter[int] = collections.Counter()
    codes: set[str] = set()
    with Place(directory / "place") as place:
        place.write(
            "never.py",
            "from cfgsync_adapter import NotReady\n"
            "class Never:\n"
            "    def materialize_snapshot(self, registrations):\n"
            "        return NotReady('never')\n",
        )
        server = place.serve("never:Never", "--store", f"sqlite:{store}")

        def register(name: str) -> int:
            reply = server.ask("POST", "/register", body(name, {"pad": "x" * 8_000}))
            if reply.status == 202:
                acknowledged.append(name)
            else:
                refused[reply.status] += 1
                codes.add(reply.words["code"])
            return reply.status

        number = 0
        while refused.total() < 20 and number < 2_000:
            number += 1
            register(f"n{number}")
        alive = server.ask("GET", "/livez").status
        known = server.ask("POST", "/node", body(acknowledged[0])).status
        while_full = server.status()["registered"] == len(acknowledged)
        mount("-o", "remount,size=16m", str(disk))
        healed = [register(f"later{i}") for i in range(20)]
        server.kill()
    print(
        json.dumps(
            {
                "acknowledged": len(acknowledged),
                "refused": refused,
                "codes": sorted(codes),
                "alive": alive,
                "known": known,
                "counted_only_what_it_acknowledged": while_full,
                "healed": healed,
                "lost": sorted(set(acknowledged) - set(asyncio.run(held(store)))),
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
