"""Make the pictures of docs/screenshots/ anew: real servers and real fleets, seen by a real Chromium (`make screenshots`)."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from cfgsync_adapter import (  # noqa: E402
    ArtifactFile,
    MaterializedArtifacts,
    NotReady,
    Quorum,
    RegistrationConfigSource,
    RegistrationSnapshot,
)
from cfgsync_core import (  # noqa: E402
    Acknowledgement,
    HttpServer,
    NodeRegistration,
    Ready,
)
from cfgsync_core.server.watch_stream import WatchStreams  # noqa: E402
from cfgsync_runtime.access.admission import Admission  # noqa: E402
from cfgsync_runtime.page.answering import page_routes  # noqa: E402
from tests.adapter.rollout.takers import Crowd, Noted, Taker, Watched, eventually, renew  # noqa: E402
from tests.chromium import Browser, Tab, started  # noqa: E402
from tests.routes import routes_of  # noqa: E402

OUT = ROOT / "docs" / "screenshots"


class Peers:
    """Each node's own configuration and key, and the peers that all share."""

    def __init__(self) -> None:
        self.level = "info"

    def materialize_snapshot(self, nodes: RegistrationSnapshot) -> MaterializedArtifacts | NotReady:
        own = {
            r.identifier: [
                ArtifactFile(
                    "/node.yaml", f"id: {r.identifier}\nlisten: {r.ip}:7000\nlog_level: {self.level}\n"
                ),
                ArtifactFile("/tls/node.key", f"the key of {r.identifier}", "0600"),
            ]
            for r in nodes
        }
        peers = "".join(f"- {r.identifier}: {r.ip}:7000\n" for r in nodes)
        return MaterializedArtifacts.from_nodes(own).with_shared([ArtifactFile("/peers.yaml", peers)])


class Fleet:
    """A source with some nodes in it."""

    def __init__(self, source: RegistrationConfigSource) -> None:
        self.source = source

    async def register(self, ips: Mapping[str, str]) -> None:
        for name, ip in ips.items():
            await self.source.register(NodeRegistration(name, ip).with_metadata({"zone": f"z{ip[-1]}"}))

    async def acknowledge(self, name: str, failed: str | None = None) -> None:
        answer = await self.source.resolve(name, wait=30)
        assert isinstance(answer, Ready)
        assert answer.generation is not None
        outcome = "applied" if failed is None else "failed"
        await self.source.acknowledge(
            Acknowledgement(name, answer.generation, answer.payload.digest, outcome, failed)
        )


@asynccontextmanager
async def served(materializer: object) -> AsyncIterator[tuple[Fleet, str]]:
    async with RegistrationConfigSource(materializer) as source:  # type: ignore[arg-type]
        pages = WatchStreams(source)
        routes = [*routes_of(source), *pages.routes(), *page_routes(source, source, title="blue fleet")]
        async with HttpServer(routes, port=0, access=Admission(page_contents=True)) as server:
            try:
                yield Fleet(source), f"{server.url}/"
            finally:
                server.drain()
                pages.close()


def addresses(names: list[str]) -> dict[str, str]:
    return {name: f"10.0.{at // 250}.{1 + at % 250}" for at, name in enumerate(names)}


async def taken(tab: Tab, name: str, ready: str = "true") -> None:
    await tab.until(ready)
    await tab.until("document.getElementById('live').className === 'live'")
    await asyncio.sleep(0.5)  # what a hint still brings
    assert tab.complaints == [], tab.complaints
    await tab.screenshot(OUT / f"{name}.png", whole=False)
    print(f"docs/screenshots/{name}.png", (OUT / f"{name}.png").stat().st_size, "bytes")


async def waiting(browser: Browser) -> None:
    """Nine of twelve are here, and most of them hold a question."""
    names = [f"{kind}-{at}" for kind in ("api", "db", "web") for at in range(1, 5)]
    async with served(Quorum(Peers(), expected=names)) as (fleet, url):
        here = addresses([name for name in names if name not in ("api-4", "db-2", "web-3")])
        await fleet.register(here)
        held = [asyncio.create_task(fleet.source.resolve(name, wait=30)) for name in list(here)[:6]]
        await asyncio.sleep(0.3)
        await taken(await browser.open(url, width=1120, height=830), "not-ready")
        await taken(await browser.open(url, width=390, height=844, dark=True), "telephone")
        for task in held:
            task.cancel()


async def changed(browser: Browser) -> None:
    """Two generations, a node that could not apply its files, and one that has not come yet."""
    peers = Peers()
    async with served(peers) as (fleet, url):
        names = [f"{kind}-{at}" for kind in ("api", "db", "web") for at in range(1, 9)]
        await fleet.register(addresses(names))
        for name in names:
            await fleet.acknowledge(name)
        peers.level = "debug"
        await fleet.register({"web-9": "10.0.0.25"})
        await fleet.source.resolve("web-9", wait=30)
        for name in names[:15]:
            await fleet.acknowledge(name)
        await fleet.acknowledge("db-8", failed="[Errno 28] No space left on device")
        for name in names[16:20]:
            await fleet.source.resolve(name, wait=30)
        await taken(await browser.open(url, width=1120, height=920), "fleet")
        node = await browser.open(f"{url}?node=db-8", width=1120, height=780)
        await node.value("document.getElementById('own-0').open = true")
        await taken(node, "node")
        difference = await browser.open(f"{url}?from=1&to=2", width=1120, height=780, dark=True)
        await taken(difference, "what-changed")


async def large(browser: Browser) -> None:
    """Ten thousand nodes in the middle of a boot."""
    async with served(Peers()) as (fleet, url):
        names = [f"node-{at:05}" for at in range(10_000)]
        ips = {name: f"10.{at // 62500}.{at // 250 % 250}.{1 + at % 250}" for at, name in enumerate(names)}
        for start in range(0, len(names), 500):
            await fleet.register({name: ips[name] for name in names[start : start + 500]})
        await fleet.source.resolve(names[0], wait=30)
        for at, name in enumerate(names):
            if at < 6200 or at % 3 == 0:
                await fleet.source.resolve(name)
            if at < 4100 and at % 7:
                await fleet.acknowledge(name, failed="disk full" if at % 613 == 1 else None)
        tab = await browser.open(url, width=1120, height=900, dark=True)
        await tab.until("document.querySelector('.all') !== null")
        await tab.value("document.getElementById('grid').scrollIntoView()")
        await taken(tab, "ten-thousand")


class Etcd(Taker):
    """A node whose program does not know the newest flag, if its note is a bad one."""

    async def _acknowledge(self, digest: str, generation: str, failure: str | None) -> None:
        why = failure and "program ended with exit code 2 after the restart"
        await super()._acknowledge(digest, generation, why)


async def halted(browser: Browser) -> None:
    """A change that fails on the fifth of twelve nodes."""
    noted, names = Noted("first"), [f"{kind}-{at}" for kind in ("api", "db", "web") for at in range(1, 5)]
    async with served(noted) as (fleet, url):
        source = fleet.source
        takers = [
            Etcd(name, lambda: source, Watched(), bad=("second",) if name == "db-1" else ()) for name in names
        ]
        async with Crowd(takers) as crowd:
            await eventually(lambda: crowd.have("first") and source.parts.turns.words.record.whole)
            await renew(noted, "second", source.parts.operator.renew)
            await eventually(lambda: source.parts.turns.words.record.halted)
            tab = await browser.open(url, width=1120, height=430)
            await tab.until("document.getElementById('rollout') !== null")
            await tab.value("document.getElementById('rollout').scrollIntoView()")
            await taken(tab, "rollout")


async def main(endpoint: str) -> None:
    OUT.mkdir(exist_ok=True)
    async with Browser.connected(endpoint) as browser:
        for scene in (waiting, changed, large, halted):
            await scene(browser)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as profile, started(Path(profile)) as endpoint:
        asyncio.run(main(endpoint))
