"""A program that may start without its server: then from the values that it had last."""

import asyncio
import os

from cfgsync_documents import ConfigDefinition, ConfigManager, ConfigStartupMode

SERVER = os.environ.get("CFGSYNC_SERVER", "http://127.0.0.1:4400")
FLAGS = ConfigDefinition("default", "flags", dict[str, bool], default={"new_search": False})


async def main() -> None:
    async with ConfigManager.connect(SERVER, cache_dir="cache") as manager:
        result = await manager.register(
            FLAGS, app="default", env="production", startup_mode=ConfigStartupMode.DEGRADED, timeout=2
        )
        print(result.status, result.reason or "-", manager.get(FLAGS) if result.is_usable else "no value")


asyncio.run(main())
