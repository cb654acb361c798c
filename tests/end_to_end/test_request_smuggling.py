"""Requests that a proxy and a server may take for different ones: none is answered twice, and none for another node."""

from __future__ import annotations

import asyncio
import re
import ssl
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import http_parser

from cfgsync_adapter import ArtifactFile, MaterializedArtifacts, RegistrationSnapshot
from cfgsync_core import HttpServer, ParserMissing
from cfgsync_runtime import MachineRefused, ServerCertificate, serving_snapshot
from cfgsync_runtime.metrics.requests import RequestCounts
from tests.certificates import Authority
from tests.processes import BIN, PATIENCE, Place
from tests.proxies import PLAIN, in_front_of, wait_until_up
from tests.smuggling import CASES

SECRETS = {"a": b"secret-of-node-a-1234567890", "b": b"secret-of-node-b-1234567890"}
QUIET = 0.05
"""Seconds without a byte, after which an attacker waits for no further answer: a late one is counted all the same."""
(WITH_ITS_LENGTH,) = [case for case in CASES if case.name == "a request in a body"]
"""It is refused for what is in its body, and its connection lives."""
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")


class Each:
    def materialize_snapshot(self, nodes: RegistrationSnapshot) -> MaterializedArtifacts:
        return MaterializedArtifacts.from_nodes(
            {n.identifier: [ArtifactFile("/id", f"files of {n.identifier}.")] for n in nodes}
        )


def request(path: str, name: str, secret: bytes) -> bytes:
    body = b'{"identifier":"%b","ip":"10.0.0.1"}' % name.encode()
    return (
        b"POST %b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (path.encode(), secret, len(body), body)
    )


def swallowing(name: str) -> bytes:
    """The beginning of a registration that lacks its end: the next request on the connection would become its metadata."""
    begun = b'{"identifier":"%b","ip":"10.0.0.1","metadata":"' % name.encode()
    return request("/register", name, SECRETS["a"]).partition(b"Content-Length")[0] + (
        b"Content-Length: %d\r\n\r\n%b" % (len(begun) + 60, begun)
    )


HIDDEN: dict[str, Callable[[str], bytes]] = {
    "a registration of a stranger": lambda name: request("/register", name, SECRETS["a"]),
    "a question of another node": lambda name: request("/node", "a", SECRETS["a"]),
    "a beginning that swallows what follows": swallowing,
}


class Connection:
    """A client's connection, with all that came over it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.came = b""
        self.is_closed = False

    @property
    def statuses(self) -> tuple[int, ...]:
        return tuple(map(int, STATUS.findall(self.came)))

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def read(self, until: Callable[[], bool], quiet: float = PATIENCE) -> None:
        """Read until then, to the end, or until nothing comes any more."""
        try:
            while not until() and not self.is_closed:
                data = await asyncio.wait_for(self._reader.read(65_536), quiet)
                self.came += data
                self.is_closed = not data
        except ConnectionError:
            self.is_closed = True
        except TimeoutError:
            pass

    def has_files(self) -> bool:
        return re.search(rb"files of \w\.", self.came) is not None

    async def answers(self, count: int) -> None:
        """Read until so many answers have come, or to the end."""
        await self.read(lambda: len(self.statuses) >= count)

    def close(self) -> None:
        self._writer.transport.abort()


async def connected(port: int, tls: ssl.SSLContext | None = None) -> Connection:
    return Connection(*await asyncio.open_connection("127.0.0.1", port, ssl=tls))


@asynccontextmanager
async def fleet(tls: ServerCertificate | None = None) -> AsyncIterator[HttpServer]:
    """A server with the nodes `a`, the attacker, and `b`, the victim."""
    async with serving_snapshot(Each(), tls=tls) as server:
        trusting = aiohttp.TCPConnector(ssl=False)
        async with aiohttp.ClientSession(server.url, connector=trusting) as session:
            for name, secret in SECRETS.items():
                headers = {"Authorization": f"Bearer {secret.decode()}"}
                words = {"identifier": name, "ip": "10.0.0.1"}
                assert (await session.post("/register", json=words, headers=headers)).status == 202
                assert (await session.post("/node", json=words, headers=headers)).status == 200
        yield server


def handled(server: HttpServer) -> Counter[tuple[str, int]]:
    """Route and status of the requests that the server has answered so far."""
    counts = server._access
    assert isinstance(counts, RequestCounts)
    return Counter({(route, status): sum(cells) for route, status, cells, _ in counts.cells()})


@pytest.mark.parametrize("over", ["plain", "TLS"])
async def test_a_request_that_could_be_two_is_refused_and_its_connection_closed(
    over: str, tmp_path: Path
) -> None:
    tls = context = None
    if over == "TLS":
        cert, key = Authority(tmp_path).pair()
        tls, context = ServerCertificate(str(cert), str(key)), ssl._create_unverified_context()
    wrong, closed, began = [], 0, time.monotonic()
    async with fleet(tls) as server:
        for case in CASES:
            attacker = await connected(server.port, context)
            attacker.send(case.sent(SECRETS["a"], request("/register", "stranger", SECRETS["a"])))
            expected = tuple(status or 202 for status in case.statuses)
            if case.statuses == (400,) and case is not WITH_ITS_LENGTH:
                await attacker.read(lambda: False)  # to its end
                closed += attacker.is_closed
            elif expected:
                await attacker.answers(len(expected))
                attacker.send(
                    b"GET /no-such-route HTTP/1.1\r\nHost: x\r\n\r\n"
                )  # no answer comes before its own
                expected = (*expected, 404)
                await attacker.answers(len(expected))
            else:
                await attacker.read(lambda: False, QUIET)
            if attacker.statuses != expected:
                wrong.append(f"{case.name}: {attacker.statuses}, and not {expected}")
            attacker.close()
            victim = await connected(server.port, context)
            victim.send(request("/node", "b", SECRETS["b"]))
            await victim.read(victim.has_files)
            assert victim.statuses == (200,), case.name
            assert b"files of b." in victim.came
            victim.close()
    refused = sum(case.statuses == (400,) for case in CASES)
    print(
        f"{over}: {len(CASES)} cases, {refused} refused, {closed} of them closed, {len(CASES) - refused} that are right"
        f" requests, {len(wrong)} surprises; {time.monotonic() - began:.1f} s"
    )
    assert wrong == []
    assert refused > 70


@pytest.mark.parametrize("proxy", PLAIN)
async def test_behind_a_proxy_no_request_is_answered_to_another_node_or_to_nobody(
    proxy: str, tmp_path: Path
) -> None:
    """A request that the server takes and the proxy has not seen would be answered to nobody, or to the next node."""
    wrong: list[str] = []
    answers: Counter[str] = Counter()
    began = time.monotonic()
    async with fleet() as server:
        with in_front_of(server.port, tmp_path, proxy) as running:
            await asyncio.to_thread(wait_until_up, running)
            port = running[proxy].port
            for number, case in enumerate(CASES):
                for kind, hidden in HIDDEN.items():
                    before = handled(server)
                    attacker = await connected(port)
                    attacker.send(case.sent(SECRETS["a"], hidden(f"stranger-{number}")))
                    await attacker.read(lambda: False, QUIET)
                    victim = await connected(port)
                    victim.send(request("/node", "b", SECRETS["b"]))
                    await victim.read(victim.has_files)
                    if victim.statuses != (200,) or b"files of b." not in victim.came:
                        wrong.append(f"{case.name}, {kind}: another node got {victim.came[:300]!r}")
                    if not await _all_are_answered(server, before, attacker):
                        wrong.append(f"{case.name}, {kind}: {handled(server) - before}, {attacker.came!r}")
                    first = attacker.statuses[0] if attacker.statuses else 0
                    answers["refused" if first >= 400 else "answered" if first else "silent"] += 1
                    answers["closed"] += attacker.is_closed
                    attacker.close()
                    victim.close()
            alive = await connected(port)
            alive.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            await alive.answers(1)
            assert alive.statuses == (200,), "the server goes on"
            alive.close()
    print(
        f"{proxy}: {len(CASES)} cases × {len(HIDDEN)} hidden requests, {dict(answers)}, {len(wrong)} surprises;"
        f" {time.monotonic() - began:.1f} s"
    )
    assert wrong == []


async def _all_are_answered(
    server: HttpServer, before: Counter[tuple[str, int]], attacker: Connection
) -> bool:
    """Whether each request that the server has taken, but for the one of the other node, was answered to its sender."""
    until = time.monotonic() + 5
    while True:
        taken = handled(server) - before
        came = attacker.statuses.count(202), attacker.came.count(b"files of a.")
        if came == (taken["register", 202], taken["node", 200] - 1):
            return True
        if time.monotonic() > until:
            return False
        await attacker.read(lambda: False, QUIET)
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("switch", "hint"), [("1", "unset the variable AIOHTTP_NO_EXTENSIONS"), ("", "with its extensions")]
)
async def test_without_the_parser_in_c_no_server_starts(
    switch: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one in Python takes 11 of these cases in another way, and one of them through haproxy."""
    monkeypatch.setenv("AIOHTTP_NO_EXTENSIONS", switch)
    monkeypatch.setattr(http_parser, "HttpRequestParser", http_parser.HttpRequestParserPy)
    with pytest.raises(ParserMissing, match="has no parser in C here") as refused:
        async with HttpServer([], port=0):
            pass
    assert hint in refused.value.hint
    with pytest.raises(MachineRefused, match="has no parser in C here") as told:
        async with serving_snapshot(Each()):
            pass
    assert told.value.hint == refused.value.hint


def test_serve_without_the_parser_in_c_ends_with_two_lines(place: Place) -> None:
    place.write("app.py", "class App:\n    def materialize_snapshot(self, nodes): ...\n")
    command = [str(BIN / "cfgsync"), "serve", "app:App", "--store", "memory:", "--port", "0"]
    environment = place.environment({"AIOHTTP_NO_EXTENSIONS": "1"})
    done = subprocess.run(
        command, cwd=place.directory, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "unset the variable AIOHTTP_NO_EXTENSIONS"
    assert "has no parser in C here" in done.stderr.splitlines()[-2]


async def test_an_answer_before_the_whole_body_has_come_ends_the_connection() -> None:
    """A proxy that had not sent the body yet would send the next client's request in its place."""
    async with fleet() as server:
        asking = await connected(server.port)
        asking.send(b"GET /livez HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 40\r\n\r\n")
        await asking.answers(1)
        assert asking.statuses == (200,)
        assert b"connection: close" in asking.came.lower()
        asking.close()
