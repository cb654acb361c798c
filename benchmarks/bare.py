"""The yardstick: an ordinary aiohttp application that decodes the same bodies and answers the same bytes.

`python -m benchmarks.bare` prints its URL. `/node` with `Prefer` is held until `/release`, as the fleet's is, or until
as many have registered as the environment says; one that names its files, as long as it says. With a certificate in the environment it speaks TLS.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl

import msgspec
from aiohttp import web

from . import words
from .materializers import NODES

PAIR = "CFGSYNC_BENCH_PAIR"
"""The variable with a certificate's file, a colon and its key's file: with it, the application speaks TLS."""


class Registration(msgspec.Struct):
    identifier: str
    ip: str
    metadata: msgspec.Raw = msgspec.Raw(b"")


async def main() -> None:
    decode = msgspec.json.Decoder(Registration).decode
    ready = words.payload(1)
    body = ready.body
    node_headers = {
        "Content-Type": "application/json",
        "ETag": f'"{ready.digest}"',
        "Cfgsync-Generation": f"{words.EPOCH}.1",
    }
    register_headers = {"Cfgsync-Version": f"{words.EPOCH}.10000"}
    released = asyncio.Event()
    need, have = int(os.environ.get(NODES, "0")), 0

    async def register(request: web.Request) -> web.Response:
        nonlocal have
        decode(await request.read())
        have += 1
        if have == need:
            released.set()
        return web.Response(status=202, headers=register_headers)

    async def node(request: web.Request) -> web.Response:
        decode(await request.read())
        if known := request.headers.get("If-None-Match"):  # a watcher
            await asyncio.sleep(float(request.headers["Prefer"].removeprefix("wait=")))
            return web.Response(status=304, headers={**node_headers, "ETag": known})
        if "Prefer" in request.headers:
            await released.wait()
        return web.Response(body=body, headers=node_headers)

    async def release(request: web.Request) -> web.Response:
        released.set()
        return web.Response(status=202)

    async def ack(request: web.Request) -> web.Response:
        json.loads(await request.read())
        return web.Response(status=204)

    found = {"theme": json.loads(words.document_body())}
    tag = {"ETag": f'"{words.EPOCH}.1"', "Cache-Control": "no-cache"}

    async def read(request: web.Request) -> web.Response:
        return web.json_response({"name": "theme", "data": found["theme"], "revision": 1}, headers=tag)

    async def patch(request: web.Request) -> web.Response:
        found["theme"] = {**found["theme"], **json.loads(await request.read())}
        return web.json_response({"name": "theme", "revision": 1})

    async def known(request: web.Request) -> web.Response:
        return web.Response(status=304, headers=tag)

    app = web.Application()
    app.router.add_get("/api/v1/config/{name}", read)
    app.router.add_patch("/api/v1/config/{name}", patch)
    app.router.add_get("/v1/config/apps/{app}/envs/{env}/snapshot", known)
    app.router.add_post("/register", register)
    app.router.add_post("/node", node)
    app.router.add_post("/ack", ack)
    app.router.add_post("/release", release)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    context = None
    if pair := os.environ.get(PAIR):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair.split(":"))
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096, ssl_context=context)
    await site.start()
    print(f"serving bare on http{'s' if context else ''}://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
