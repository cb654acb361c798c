"""`GET /metrics`: every family is there, with the right value after known traffic, and no identifier in it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cfgsync_adapter import (
    ArtifactFile,
    MaterializationResult,
    MaterializedArtifacts,
    NotReady,
    RegistrationSnapshot,
)
from cfgsync_core import Conflict, HttpServer, MemoryStore, StaticConfigSource, Unavailable, Version
from cfgsync_core.server.access import LocalOperators
from cfgsync_core.server.route import Call, Handler, Reply, Route
from cfgsync_core.store.notifying import NotifyingStore
from cfgsync_runtime import serving_snapshot
from cfgsync_runtime.compose.source_server import serving_source
from cfgsync_runtime.metrics.requests import BOUNDS, CANCELLED, RequestCounts
from tests.routes import get

SERVED = {
    "cfgsync_build_info": "info",
    "cfgsync_insecure": "gauge",
    "cfgsync_request_duration_seconds": "histogram",
    "cfgsync_connections": "gauge",
    "cfgsync_connections_evicted_total": "counter",
    "cfgsync_unread_requests_total": "counter",
}
"""What every server says; and beside it one of registrations:"""
REGISTRATIONS = {
    "cfgsync_watchers": "gauge",
    "cfgsync_store_commits_total": "counter",
    "cfgsync_hints_total": "counter",
    "cfgsync_registrations": "gauge",
    "cfgsync_registrations_revision": "gauge",
    "cfgsync_waiting_requests": "gauge",
    "cfgsync_ready": "gauge",
    "cfgsync_generation_number": "gauge",
    "cfgsync_generation_info": "info",
    "cfgsync_fleet_applied": "gauge",
    "cfgsync_fleet_state": "gauge",
    "cfgsync_fleet_lag": "gauge",
    "cfgsync_drifted_nodes": "gauge",
    "cfgsync_generations_made_total": "counter",
    "cfgsync_materializer_runs_total": "counter",
    "cfgsync_materializer_run_seconds": "summary",
    "cfgsync_materializer_last_run_seconds": "gauge",
    "cfgsync_materializer_processor_seconds_total": "counter",
}


class Obedient:
    """Ready with two nodes, unless a registration says otherwise."""

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        words = [registration.metadata for registration in registrations]
        if "fail" in words:
            raise RuntimeError("it fails")
        if "nobody" in words:
            return MaterializedArtifacts.from_nodes({})
        if len(registrations) < 2:
            return NotReady("waiting for a second node", retry_after=3600)
        return MaterializedArtifacts.from_nodes(
            {r.identifier: [ArtifactFile("/id", f"{r.identifier} {r.metadata}")] for r in registrations}
        )


class Page:
    """One scrape, read by the library's own parser."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = [sample for family in self.families.values() for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float | None:
        """The sample of exactly these labels, None when there is none."""
        found = [sample.value for sample in self.samples if (sample.name, sample.labels) == (name, labels)]
        assert len(found) < 2
        return found[0] if found else None


class Asking(NamedTuple):
    session: aiohttp.ClientSession
    url: str

    async def scrape(self) -> Page:
        async with self.session.get(f"{self.url}/metrics") as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            return Page(await answer.text())

    async def post(self, path: str, words: object, headers: Mapping[str, str] | None = None) -> int:
        async with self.session.post(f"{self.url}{path}", json=words, headers=headers) as answer:
            await answer.read()
            return answer.status

    async def register(self, identifier: str, metadata: object = None) -> None:
        words = {"identifier": identifier, "ip": "10.0.0.1", "metadata": metadata}
        assert await self.post("/register", words) == 202


def type_of(page: Page, name: str) -> str:
    """The type of the family of a sample's name, as the page says it."""
    for line in page.text.splitlines():
        if line.startswith(f"# TYPE {name} "):
            kind = line.rpartition(" ")[2]
            # the text format of Prometheus has no info: it is a gauge that is always 1
            return "info" if name.endswith("_info") and kind == "gauge" else kind
    return "absent"


async def test_a_fleet_s_figures_are_right_after_known_traffic() -> None:
    async with serving_snapshot(Obedient()) as server, aiohttp.ClientSession() as session:
        asking = Asking(session, server.url)
        page = await asking.scrape()
        assert (
            page("cfgsync_registrations") == page("cfgsync_ready") == page("cfgsync_generation_number") == 0
        )
        assert page("cfgsync_generation_info") is None

        await asking.register("node-a")
        await asking.register("node-a")  # word for word the same: no commit
        assert await asking.post("/node", {"identifier": "node-a"}) == 425
        assert await asking.post("/node", {"identifier": "stranger"}) == 425
        held = asyncio.create_task(asking.post("/node", {"identifier": "node-a"}, {"Prefer": "wait=20"}))
        while not (await asking.scrape())("cfgsync_waiting_requests"):
            await asyncio.sleep(0.01)
        page = await asking.scrape()
        assert page("cfgsync_materializer_runs_total", outcome="not_ready") == 1
        assert page("cfgsync_materializer_runs_total", outcome="generation") == 0
        assert (page("cfgsync_registrations"), page("cfgsync_ready")) == (1, 0)

        await asking.register("node-b")
        assert await held == 200
        async with session.post(f"{server.url}/node", json={"identifier": "node-a"}) as answer:
            tag = answer.headers["ETag"]
        assert await asking.post("/node", {"identifier": "node-a"}, {"If-None-Match": tag}) == 304
        assert await asking.post("/register", {"identifier": "..", "ip": "10.0.0.1"}) == 422
        assert await asking.post("/register", {"identifier": "x" * 70_000, "ip": "10.0.0.1"}) == 413
        page = await asking.scrape()

        for name, kind in {**SERVED, **REGISTRATIONS}.items():
            assert type_of(page, name) == kind, name
        assert page("cfgsync_registrations") == page("cfgsync_registrations_revision") == 2
        assert (page("cfgsync_ready"), page("cfgsync_waiting_requests"), page("cfgsync_watchers")) == (
            1,
            0,
            0,
        )
        assert page("cfgsync_generation_number") == page("cfgsync_generations_made_total") == 1
        epoch = page.families["cfgsync_generation_info"].samples[0].labels["epoch"]
        assert len(epoch) == 36
        assert page("cfgsync_materializer_runs_total", outcome="generation") == 1
        assert page("cfgsync_materializer_run_seconds_count") == 2
        seconds, last = (
            page("cfgsync_materializer_run_seconds_sum"),
            page("cfgsync_materializer_last_run_seconds"),
        )
        assert seconds is not None
        assert last is not None
        assert 0 < last < seconds < 5
        assert page("cfgsync_store_commits_total", outcome="committed") == 3  # two nodes, one generation
        assert page("cfgsync_store_commits_total", outcome="failed") == 0
        assert page("cfgsync_hints_total", outcome="published") == 3
        assert page("cfgsync_hints_total", outcome="lost") == 0
        assert page("cfgsync_unread_requests_total", status="422") == 1
        assert page("cfgsync_unread_requests_total", status="413") == 1
        assert page("cfgsync_insecure", what="no-tls") == page("cfgsync_insecure", what="no-auth") == 0
        assert page("cfgsync_connections") in (1, 2)  # the session keeps one for who was held
        assert page("cfgsync_connections_evicted_total") == 0

        def requests(route: str, outcome: str) -> float | None:
            return page("cfgsync_request_duration_seconds_count", route=route, outcome=outcome)

        assert requests("register", "ok") == 3
        assert (requests("node", "ok"), requests("node", "unchanged"), requests("node", "not_ready")) == (
            2,
            1,
            2,
        )
        assert page("process_resident_memory_bytes") is not None
        assert "node-a" not in page.text
        assert "node-b" not in page.text


async def test_who_acknowledges_its_files_lags_no_more() -> None:
    async with serving_snapshot(Obedient()) as server, aiohttp.ClientSession() as session:
        asking = Asking(session, server.url)
        await asking.register("a")
        await asking.register("b")
        said: dict[str, dict[str, str]] = {}
        for name in ("a", "b"):
            async with session.post(f"{server.url}/node", json={"identifier": name}) as answer:
                generation, digest = answer.headers["Cfgsync-Generation"], answer.headers["ETag"].strip('"')
                said[name] = {"identifier": name, "generation": generation, "digest": digest}
        lag: list[tuple[float | None, float | None]] = []
        for name, status in (("", ""), ("a", "failed"), ("a", "applied"), ("b", "applied")):
            if name:
                assert await asking.post("/ack", {**said[name], "status": status}) == 204
            page = await asking.scrape()
            lag.append((page("cfgsync_fleet_applied"), page("cfgsync_fleet_lag")))
        assert lag == [(0, 2), (0, 2), (1, 1), (2, 0)]
        assert page("cfgsync_request_duration_seconds_count", route="ack", outcome="ok") == 3


async def test_failed_and_refused_runs_are_told_apart() -> None:
    async with serving_snapshot(Obedient()) as server, aiohttp.ClientSession() as session:
        asking = Asking(session, server.url)
        await asking.register("a")
        await asking.register("b")
        while not (await asking.scrape())("cfgsync_ready"):
            await asyncio.sleep(0.01)
        await asking.register("c", "nobody")
        while not (await asking.scrape())("cfgsync_materializer_runs_total", outcome="refused"):
            await asyncio.sleep(0.01)
        page = await asking.scrape()
        assert page("cfgsync_materializer_runs_total", outcome="failed") == 0
        assert (page("cfgsync_ready"), page("cfgsync_generation_number")) == (0, 1)
        await asking.register("c", "fail")
        while not (await asking.scrape())("cfgsync_materializer_runs_total", outcome="failed"):
            await asyncio.sleep(0.01)


async def test_more_nodes_make_no_more_series() -> None:
    async with serving_snapshot(Obedient()) as server, aiohttp.ClientSession() as session:
        asking = Asking(session, server.url)

        async def boots(name: str) -> None:
            await asking.register(name)
            assert await asking.post("/node", {"identifier": name}, {"Prefer": "wait=20"}) == 200

        async def series() -> set[tuple[str, str]]:
            labels = ((s.name, json.dumps(s.labels, sort_keys=True)) for s in (await asking.scrape()).samples)
            return {pair for pair in labels if "outcome" not in pair[1] or '"route"' not in pair[1]}

        await asyncio.gather(boots("n0"), boots("n1"))
        await series()
        before = await series()
        await asyncio.gather(*(boots(f"n{i}") for i in range(2, 60)))
        assert await series() == before


async def test_what_is_switched_off_is_a_figure() -> None:
    async with (
        serving_snapshot(Obedient(), lacking=("no-tls",)) as server,
        aiohttp.ClientSession() as session,
    ):
        page = await Asking(session, server.url).scrape()
        assert (page("cfgsync_insecure", what="no-tls"), page("cfgsync_insecure", what="no-auth")) == (1, 0)


async def test_a_static_server_has_figures_too_and_head_is_the_same_without_the_body() -> None:
    static = StaticConfigSource({})
    async with serving_source(static, static) as server, aiohttp.ClientSession() as session:
        asking = Asking(session, server.url)
        assert await asking.post("/node", {"identifier": "a"}) == 404
        page = await asking.scrape()
        for name, kind in SERVED.items():
            assert type_of(page, name) == kind, name
        assert page("cfgsync_request_duration_seconds_count", route="node", outcome="missing") == 1
        async with session.head(f"{server.url}/metrics") as answer:
            assert (answer.status, int(answer.headers["Content-Length"]) > 1000) == (200, True)
        assert await asking.post("/metrics", {}) == 405


async def asked_of(traffic: RequestCounts, name: str, handler: Handler) -> Reply:
    route = Route("POST", f"/{name}", handler, name, "node")
    return await traffic.answer(route, Call())


class Late:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0, 0), (0.001, 0), (0.0011, 1), (30, len(BOUNDS) - 1), (31, len(BOUNDS))]
)
async def test_a_duration_falls_into_the_bucket_whose_bound_it_does_not_pass(
    seconds: float, bucket: int
) -> None:
    clock = Late()
    traffic = RequestCounts(LocalOperators(), clock)

    async def handler(call: Call) -> Reply:
        clock.now += seconds
        return Reply(204)

    await asked_of(traffic, "ack", handler)
    ((route, status, buckets, total),) = traffic.cells()
    assert (route, status, total) == ("ack", 204, seconds)
    assert [i for i, count in enumerate(buckets) if count] == [bucket]
    assert len(buckets) == len(BOUNDS) + 1


@pytest.mark.parametrize(("error", "status"), [(Unavailable("no"), 503), (KeyError("x"), 500)])
async def test_a_handler_that_raises_is_counted_as_what_is_answered(error: Exception, status: int) -> None:
    async def handler(call: Call) -> Reply:
        raise error

    traffic = RequestCounts(LocalOperators())
    reply = await asked_of(traffic, "node", handler)
    assert reply.status == status
    assert [cell[1] for cell in traffic.cells()] == [status]


async def test_who_goes_before_the_answer_is_counted_as_cancelled() -> None:
    async def handler(call: Call) -> Reply:
        await asyncio.Event().wait()
        return Reply(200)

    traffic = RequestCounts(LocalOperators())
    asked = asyncio.ensure_future(asked_of(traffic, "node", handler))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert [cell[1] for cell in traffic.cells()] == [CANCELLED]


class SickStore(MemoryStore):
    """Commits fail with `error` while it has one."""

    error: Exception | None = None

    async def commit(self, bucket: str, *arguments: Any, **more: Any) -> Version:
        if self.error is not None:
            raise self.error
        return await super().commit(bucket, *arguments, **more)


class DeadHints:
    """A transport that is gone."""

    async def publish(self, bucket: str) -> None:
        raise ConnectionError("no bus")

    def subscribe(self, bucket: str) -> Any:
        raise NotImplementedError


async def test_commits_and_hints_are_counted_by_how_they_end() -> None:
    store = SickStore()
    async with NotifyingStore(store, DeadHints()) as hinting:
        await hinting.commit("b", {"k": b"1"})
        with pytest.raises(Conflict):
            await hinting.commit("b", {"k": b"2"}, expected={"k": 7})
        store.error = Unavailable("no")
        with pytest.raises(Unavailable):
            await hinting.commit("b", {"k": b"2"})
    assert hinting.tally.commits == {"committed": 1, "conflict": 1, "failed": 1, "cancelled": 0}
    assert hinting.tally.hints == {"published": 0, "lost": 1}


def test_the_library_is_loaded_by_the_first_scrape_and_not_by_serving() -> None:
    program = "import sys, cfgsync_runtime.compose.fleet_server, cfgsync_runtime.cli.serve; print('prometheus_client' in sys.modules)"
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert printed == "False\n"


async def test_a_connection_that_had_to_go_is_counted() -> None:
    async def livez(call: Call) -> Reply:
        return Reply(200)

    async with HttpServer([get("/livez", livez)], port=0, max_connections=16) as server:
        opened = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(20)]
        while server.evicted < 4:
            await asyncio.sleep(0.01)
        assert (server.evicted, server.connections) == (4, 16)
        for _, writer in opened:
            writer.close()
