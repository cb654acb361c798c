"""A program with a bound document: it prints the seconds from each set to its callback, of a value that is when it was set.

`python -m benchmarks.callbacks PORT`; a line when it is bound, then one for each callback. The clock is the machine's.
"""

from __future__ import annotations

import asyncio
import sys
import time

import msgspec

from cfgsync_documents import ConfigDefinition, ConfigManager


class Clock(msgspec.Struct):
    at: float


def heard(new: Clock) -> None:
    print(time.monotonic() - new.at, flush=True)


async def main(port: str) -> None:
    definition = ConfigDefinition("default", "clock", Clock, default=Clock(0.0))
    async with ConfigManager.connect(f"http://127.0.0.1:{port}") as manager:
        await manager.register(definition, app="default", env="default")
        manager.on_change(definition, heard)
        print("bound", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
