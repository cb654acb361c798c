"""An aiohttp application whose limits follow a document."""

import os
import sys

import msgspec
from aiohttp import web

from cfgsync_documents import ConfigDefinition, ConfigManager

SERVER = os.environ.get("CFGSYNC_SERVER", "http://127.0.0.1:4400")


class Limits(msgspec.Struct):
    players: int


LIMITS = ConfigDefinition("default", "limits", Limits, default=Limits(players=50))
CONFIG = web.AppKey("config", ConfigManager)


async def bound(app: web.Application):
    async with ConfigManager.connect(SERVER) as app[CONFIG]:
        await app[CONFIG].register(LIMITS, app="default", env="production")
        yield


async def limits(request: web.Request) -> web.Response:
    return web.Response(text=f"at most {request.app[CONFIG].get(LIMITS).players} players\n")


app = web.Application()
app.cleanup_ctx.append(bound)
app.router.add_get("/limits", limits)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
