"""Mutated requests, byte by byte: a 4xx with a code or a closed connection, never a 5xx, a traceback or a leak."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.chaos.form import sized
from tests.processes import Place
from tests.seeds import drawn_seed

CANARY = b"canary-in-a-body"
REGISTRATION = {
    "identifier": "node-1",
    "ip": "127.0.0.1",
    "metadata": {"note": CANARY.decode(), "ports": [1, 2.5, None, True, {"a": "\u00e9"}]},
}
NASTY = [
    b"NaN", b"Infinity", b"-0", b"1e400", b'"\\ud800"', b"\xff\xfe", b"\x00", b"[" * 200, b'{"a":' * 130, b"9" * 5_000,
    b'"identifier":"other",', b'"ip":"1.1.1.1",', b'"metadata":1,', b"\xef\xbb\xbf", b"null", b"[]", b"{}", b"//", b"'",
    b'"' + b"x" * 70_000 + b'"',
]  # fmt: skip


def one_request(chance: random.Random) -> bytes:
    """A request for a route that exists, damaged in its body, its head, or as a whole."""
    path = chance.choice([b"/register", b"/node"])
    body = json.dumps(REGISTRATION, separators=(",", ":")).encode()
    for _ in range(chance.choice([0, 0, 1, 1, 2, 3])):
        body = _mutated(chance, body)
    length = len(body)
    if chance.random() < 0.1:
        length = chance.choice([0, length + 5, max(0, length - 3), 10**12])
    lines = [
        b"POST %s HTTP/1.1" % path,
        b"host: x",
        chance.choice([b"content-type: application/json"] * 9 + [b"content-type: text/plain"]),
        b"content-length: %d" % length,
    ]
    if chance.random() < 0.3:
        lines.insert(
            chance.randint(1, len(lines)),
            chance.choice(
                [
                    b"transfer-encoding: chunked", b"content-length: 7", b"prefer: wait=0, wait=x;;", b"if-none-match: \"\"",
                    b"authorization: Bearer " + CANARY, b"authorization : x", b"x: " + b"y" * 5_000, b"\x01: 2", b"expect: 100-continue",
                    b"cfgsync-version: ...", b"content-encoding: gzip", b"connection: upgrade", b"host: y",
                ]
            ),
        )  # fmt: skip
    request = b"\r\n".join(lines) + b"\r\n\r\n" + body
    if chance.random() < 0.25:
        request = _mutated(chance, request)
    return request


def _mutated(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data) + 1) if data else 0
    ways: list[Callable[[], bytes]] = [
        lambda: data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :],
        lambda: data[:at] + chance.choice(NASTY) + data[at:],
        lambda: data[:at],
        lambda: data[at:],
        lambda: data[:at] + data[at : at + 20] * 2 + data[at + 20 :],
    ]
    return chance.choice(ways)()


async def ask(port: int, request: bytes) -> list[tuple[int, bytes]]:
    """The answers to these bytes, until the server closes the connection or has nothing more to say: half a request is
    silently waited for (`test_listening.py` sees it ended), and here the sender goes away first."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    raw = b""
    try:
        writer.write(request)
        async with asyncio.timeout(0.4):
            while chunk := await reader.read(65_536):
                raw += chunk
                if answers := answered(raw):
                    return answers
    except (ConnectionError, TimeoutError):
        pass
    finally:
        writer.close()
    return answered(raw)


def answered(raw: bytes) -> list[tuple[int, bytes]]:
    """Every whole answer at the beginning of `raw`."""
    answers: list[tuple[int, bytes]] = []
    while True:
        head, end, rest = raw.partition(b"\r\n\r\n")
        lengths = [
            int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        ]
        length = lengths[0] if lengths else 0
        if not end or len(rest) < length:
            return answers
        if head[9:12] != b"100":  # 100 Continue is no answer
            answers.append((int(head[9:12]), rest[:length]))
        raw = rest[length:]


def memory_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4 / 1024


async def test_mutated_requests_are_refused_with_a_code_and_leave_nothing_behind(place: Place) -> None:
    seed = drawn_seed()
    many = sized(3_000, 200_000)
    print(f"seed {seed}, {many} requests")
    chance = random.Random(seed)
    place.write(
        "application.py",
        "from cfgsync_adapter import NotReady\n"
        "class Never:\n"
        "    def materialize_snapshot(self, registrations):\n"
        "        return NotReady('never')\n",
    )
    server = place.serve("application:Never", "--store", "memory:")
    statuses: Counter[int] = Counter()

    async def one(request: bytes) -> None:
        answers = await ask(server.port, request)
        for status, body in answers:
            statuses[status] += 1
            assert status < 500, (request, body)
            if status >= 400:
                words = json.loads(body)
                assert words["code"], request
                assert words["message"], request
        if not answers:
            statuses[0] += 1

    async def sender(requests: Iterator[bytes]) -> None:
        for request in requests:
            await one(request)

    async def storm(count: int) -> None:
        requests = (one_request(chance) for _ in range(count))
        await asyncio.gather(*(sender(requests) for _ in range(100)))

    await storm(1_000)  # warm: caches and pools have their size
    before = memory_mib(server.process.pid)
    await storm(many)
    grown = memory_mib(server.process.pid) - before
    print(
        f"answers: {dict(sorted(statuses.items()))} (0: closed without one); memory grew by {grown:.1f} MiB"
    )
    assert server.ask("GET", "/livez").status == 200
    assert grown < 20
    assert "Traceback" not in server.log
    assert CANARY.decode() not in server.log
    through = statuses[202] + statuses[425] + statuses[401]
    assert through > many // 20, "hardly a request got through: nothing was tested"
    assert statuses[400] > many // 20
    assert statuses[422] > many // 100
