"""A PostgreSQL that is frozen, or cut off: what was acknowledged stays, nodes keep their files, and all heals by itself."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import msgspec
import pytest

from tests.chaos.form import sized
from tests.namespaces import connected_in, entering, require, run, two_namespaces
from tests.postgres import Postgres, own_postgres
from tests.processes import BIN, Place, Reply, Server, ask, body, eventually, listening

SERVERS_AT, DATABASE_AT = "10.78.0.1", "10.78.0.2"
AWAY_SECONDS = sized(0, 10)
"""At least; it ends not before everybody has noticed, which takes a server 10 s."""
WRITERS = 4
APPLICATION = """
from cfgsync_adapter import ArtifactFile, ArtifactSet, MaterializedArtifacts

class Counting:
    def materialize_snapshot(self, nodes):
        count = str(len(nodes))
        return MaterializedArtifacts.from_nodes(
            {node.identifier: ArtifactSet([ArtifactFile("/count", count)]) for node in nodes}
        )
"""


class Site(msgspec.Struct):
    """A database, what takes it away, and the process in whose network namespace the servers are (0: the test's)."""

    database: Postgres
    away: Callable[[], AbstractContextManager[None]]
    where: int = 0

    def start(self, place: Place, *words: str) -> tuple[object, object]:
        if not self.where:
            return place.start(*words)
        enter = entering(self.where)
        return place.start(*enter[1:], str(BIN / "cfgsync"), *words, command=str(shutil.which(enter[0])))

    def ask(self, server: Server, method: str, path: str, content: bytes | None = None) -> Reply:
        if not self.where:
            return ask(server.port, method, path, content)
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.sock = connected_in(self.where, server.port, 60)
        try:
            connection.request(method, path, content, {"Content-Type": "application/json"})
            response = connection.getresponse()
            lower = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, lower, response.read())
        finally:
            connection.close()


@pytest.fixture(params=["frozen", "cut off"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    if request.param == "frozen":
        database = own_postgres()

        @contextmanager
        def frozen() -> Iterator[None]:
            stopped: list[int] = []
            try:
                while new := [pid for pid in database.processes() if pid not in stopped]:
                    for pid in new:
                        os.kill(pid, signal.SIGSTOP)
                    stopped += new
                yield
            finally:
                for pid in stopped:
                    os.kill(pid, signal.SIGCONT)

        yield Site(database, frozen)
        database.remove()
        return
    require("servers whose network to PostgreSQL is cut")
    with two_namespaces(SERVERS_AT, DATABASE_AT) as (there, here):
        database = own_postgres(DATABASE_AT, entering(here))

        @contextmanager
        def cut() -> Iterator[None]:
            """Nothing comes through, and nobody is told."""
            wire = (*entering(here), "ip", "link", "set", "wire")
            run(*wire, "down")
            try:
                yield
            finally:
                run(*wire, "up")

        yield Site(database, cut, there)
        database.remove()


class Writers:
    """Programs that register new nodes all the time, and keep what they were answered."""

    def __init__(self, site: Site, servers: list[Server]) -> None:
        self.acknowledged: list[str] = []
        self.refused: list[Reply] = []
        self._site = site
        self._servers = servers
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(WRITERS)]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _write(self, number: int) -> None:
        server, count = self._servers[number % len(self._servers)], 0
        while not self._over.is_set():
            name = f"w{number}-{count}"
            reply = self._site.ask(server, "POST", "/register", body(name))
            if reply.status == 202:
                self.acknowledged.append(name)
            else:
                self.refused.append(reply)
            count += 1
            time.sleep(0.05)


@pytest.mark.timeout(sized(240, 300))
def test_while_the_database_does_not_answer_nothing_is_acknowledged_and_then_all_heals(
    place: Place, site: Site
) -> None:
    place.write("application.py", APPLICATION)
    url = site.database.url()
    line = ("serve", "application:Counting", "--store", url, "--port", "0")
    servers = [listening(*site.start(place, *line)) for _ in range(2)]  # type: ignore[arg-type]
    several = ",".join(server.url for server in servers)
    nodes = [f"node-{number}" for number in range(2)]
    watchers = [site.start(place, *place.fetching(several, name, "--watch"))[0] for name in nodes]
    files = [place.current(name) / "count" for name in nodes]
    eventually(lambda: all(file.exists() for file in files))

    def are(status: int) -> bool:
        return all(site.ask(server, "GET", "/readyz").status == status for server in servers)

    with Writers(site, servers) as writers:
        eventually(lambda: len(writers.acknowledged) > 20)
        with site.away():
            began = time.monotonic()
            eventually(lambda: are(503))
            noticed = time.monotonic() - began
            before = len(writers.acknowledged)
            eventually(lambda: len(writers.refused) >= WRITERS)
            time.sleep(max(AWAY_SECONDS - (time.monotonic() - began), 0))
            assert are(503)
            assert len(writers.acknowledged) == before
            assert all(file.read_text().isdigit() for file in files), "the nodes keep their files"
            assert [watcher.poll() for watcher in watchers] == [None] * 2  # type: ignore[attr-defined]
            lasted = time.monotonic() - began
        back = time.monotonic()
        eventually(lambda: are(200))
        eventually(lambda: len(writers.acknowledged) > before + 20)
        healed = time.monotonic() - back
    assert {(reply.status, "retry-after" in reply.headers) for reply in writers.refused} == {(503, True)}
    for server in servers:
        for name in writers.acknowledged:
            found = site.ask(server, "GET", f"/status/{name}")
            assert (found.status, found.words["registered"]) == (200, True), f"{name} was acknowledged"
        assert "Traceback" not in server.log
    many = site.ask(servers[0], "GET", "/status").words["registered"]
    assert len(writers.acknowledged) + 2 <= many <= len(writers.acknowledged) + len(writers.refused) + 2
    eventually(lambda: {file.read_text() for file in files} == {str(many)})
    print(
        f"/readyz was 503 after {noticed:.1f} s, the database was away for {lasted:.1f} s, and writes went on {healed:.1f} s after"
        f" it was back; {len(writers.acknowledged)} acknowledged, {len(writers.refused)} refused, none lost"
    )
