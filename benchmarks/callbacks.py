"""A program with a bound document: it prints the seconds from each set to its callback, of a value that is when it was set.

`python -m benchmarks.callbacks PORT COUNT`; a line when it is bound, then the seconds, sorted. The clock is the machine's.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import msgspec

from cfgsync_documents import ConfigDefinition, ConfigManager


class Clock(msgspec.Struct):
    at: float


async def main(port: str, count: int) -> None:
    definition = ConfigDefinition("default", "clock", Clock, default=Clock(0.0))
    took: list[float] = []
    done = asyncio.Event()

    def heard(new: Clock) -> None:
        took.append(time.monotonic() - new.at)
        if len(took) == count:
            done.set()

    async with ConfigManager.connect(f"http://127.0.0.1:{port}") as manager:
        await manager.register(definition, app="default", env="default")
        manager.on_change(definition, heard)
        print("bound", flush=True)
        await done.wait()
    print(json.dumps(sorted(took)), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
