"""A node that follows a feature flag: it prints each value, and ends when the flag is on."""

import asyncio
import os
import sys

from cfgsync_documents import ConfigDefinition, ConfigManager

SERVER = os.environ.get("CFGSYNC_SERVER", "http://127.0.0.1:4400")
FLAGS = ConfigDefinition("default", "flags", dict[str, bool], default={"new_search": False})


async def main(name: str) -> None:
    async with ConfigManager.connect(SERVER) as manager:
        await manager.register(FLAGS, app="default", env="production")
        is_on = asyncio.Event()
        manager.on_change(FLAGS, lambda new: is_on.set() if new["new_search"] else None)
        print(f"{name}: the new search is off", flush=True)
        await is_on.wait()
        print(f"{name}: the new search is on", flush=True)


asyncio.run(main(sys.argv[1]))
