"""The demo's servers: one in this process, or several processes on one store, of which one is killed in the middle."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, Literal, TextIO

import aiohttp
import msgspec

from cfgsync_adapter import Quorum
from cfgsync_core import FleetStatus
from cfgsync_core.text import counted

from ..backends.engines import open_backend, without_password
from ..compose.fleet_server import serving_snapshot
from ..errors import InputError
from .fleet import DEFECT, DemoFailed, Peers

STARTS_WITHIN: Final = 30.0
ENDS_WITHIN: Final = 10.0
CFGSYNC: Final = (sys.executable, "-P", "-c", "from cfgsync_runtime.cli import main; main()")
"""-P: a module in the directory from which the demo is run must not shadow one of ours."""
_APPLICATION: Final = """from cfgsync_adapter import Quorum
from cfgsync_runtime.demo.fleet import Peers

fleet = Quorum(Peers(), expected={names!r})
"""


class DemoServers:
    """Running servers; `what` says which. A process of None is this one."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        running: dict[str, asyncio.subprocess.Process | None],
        what: str,
    ) -> None:
        self._session = session
        self._running = running
        self.what = what

    @property
    def are_several(self) -> bool:
        return len(self._running) > 1

    def urls(self, number: int) -> str:
        """The servers as node `number` knows them: it asks another one first than the node before."""
        urls = list(self._running)
        first = number % len(urls)
        return ",".join(urls[first:] + urls[:first])

    async def kill_one(self) -> str:
        """kill -9 of one of several; its URL."""
        url, process = next(
            (url, one) for url, one in self._running.items() if one and one.returncode is None
        )
        process.kill()
        await process.wait()
        return url

    async def status(self) -> FleetStatus:
        """The fleet, over HTTP, as any client would read it. Which requests are held, and what a node was served, each server
        knows of its own nodes only."""
        alive = [url for url, one in self._running.items() if one is None or one.returncode is None]
        found = await asyncio.gather(*map(self._status, alive))
        first, *others = sorted(found, key=_has_read, reverse=True)
        served = {node.identifier: node.served for one in others for node in one.nodes if node.served}
        return msgspec.structs.replace(
            first,
            waiting=first.waiting + sum(one.waiting for one in others),
            nodes=tuple(
                msgspec.structs.replace(node, served=node.served or served.get(node.identifier))
                for node in first.nodes
            ),
        )

    async def _status(self, url: str) -> FleetStatus:
        try:
            async with self._session.get(f"{url}/status") as answer:
                return msgspec.json.decode(await answer.read(), type=FleetStatus)
        except (aiohttp.ClientError, msgspec.DecodeError) as error:
            raise DemoFailed(f"GET /status failed: {error}", DEFECT) from error


def _has_read(fleet: FleetStatus) -> tuple[int, int]:
    return fleet.revision, int((fleet.generation or "0").rpartition(".")[2])


@asynccontextmanager
async def demo_servers(
    names: Sequence[str], directory: str, store: str | None, count: int
) -> AsyncIterator[DemoServers]:
    """`count` servers of a fleet of `names`; without `store` on SQLite in `directory`. Raises `InputError`, `DemoFailed`."""
    if store is not None:
        await _refuse_used(store)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        if count == 1:
            url = f"sqlite:{os.path.join(directory, 'server.db')}" if store is None else store
            rule = Quorum(Peers(), expected=names)
            server = await stack.enter_async_context(serving_snapshot(rule, store=url))
            kept = "SQLite (server.db)" if store is None else without_password(store)
            yield DemoServers(
                session, {server.url: None}, f"server up: {server.url}, registrations in {kept}"
            )
            return
        if store is None:
            raise InputError(
                "several servers need a store that they can share",
                "give one, such as --store 'postgresql://USER@HOST/DATABASE?schema=demo'",
            )
        with _opened(directory, "demo_application.py") as file:
            file.write(_APPLICATION.format(names=list(names)))
        starts: list[Coroutine[Any, Any, tuple[str, asyncio.subprocess.Process]]] = [
            _started(directory, store, number, stack.push_async_callback) for number in range(count)
        ]
        running = dict(await asyncio.gather(*starts))
        what = f"{counted(count, 'server')} up on {without_password(store)}: {', '.join(running)}"
        yield DemoServers(session, dict(running), what)


async def _refuse_used(store: str) -> None:
    async with open_backend(store) as backend:
        used = bool((await backend.store.version("registrations")).revision)
    if used:
        raise InputError(
            f"the store {without_password(store)} holds a fleet already",
            "give an empty one; in PostgreSQL, ?schema=NAME at the end of the URL names another one",
        )


async def _started(
    directory: str, store: str, number: int, at_the_end: Callable[..., object]
) -> tuple[str, asyncio.subprocess.Process]:
    """One `cfgsync serve` that listens: its URL and its process, which ends with the context."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("CFGSYNC_")}
    with _opened(directory, f"server-{number + 1}.log") as log:
        process = await asyncio.create_subprocess_exec(
            *(*CFGSYNC, "serve", "demo_application:fleet", "--port", "0"),
            env={**kept, "CFGSYNC_STORE": store, "XDG_RUNTIME_DIR": directory},
            cwd=directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    at_the_end(_end, process)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(STARTS_WITHIN):
            line = (await process.stdout.readline()).decode(errors="replace")
    except TimeoutError:
        line = ""
    if " on http" not in line:
        with _opened(directory, f"server-{number + 1}.log", "r") as log:
            what, hint = (*log.read().splitlines()[-2:], "", "")[:2]
        raise DemoFailed(f"server {number + 1} did not start: {what}", hint)
    return line.partition(" on ")[2].split()[0].rstrip(","), process


def _opened(directory: str, name: str, mode: Literal["r", "w"] = "w") -> TextIO:
    return open(os.path.join(directory, name), mode, encoding="utf-8")


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(ENDS_WITHIN):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
