"""A server that means harm, byte by byte over asyncio: what it can say to a node that only wanted its files."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import gzip
import hashlib
import json
import re
import ssl
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

import msgspec

from cfgsync_core.store.epoch import uuid7

MIB = 2**20
OLDER, EPOCH = uuid7(1_000_000), uuid7(2_000_000)
SEEN = f"{EPOCH}.2"
"""The generation that every node here has seen before it meets the hostile one."""
REGISTERED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"

Play = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Case(msgspec.Struct, frozen=True):
    """What the server does when it is asked for files, and the exit code that this must have. With `process` it is
    shown with a real `cfgsync fetch` in the short form too, and its memory is looked at."""

    name: str
    play: Play
    exit: int = 6
    process: bool = True
    wait: float = 30.0
    at: str = "/node"


# ── what it says ─────────────────────────────────────────────────────────────────────────────────────────────────────


def file(path: str, content: str = "x", **more: object) -> dict[str, object]:
    """A file object of a payload, legal or not."""
    return {"path": path, "content": content, **more}


def digest(files: Sequence[dict[str, object]]) -> str:
    """The right `ETag` of these files, however wrong they are."""
    lines = [
        f"{f['path']}\0{f.get('mode', '0644')}\0{hashlib.sha256(content_of(f)).hexdigest()}\n" for f in files
    ]
    return f'"sha256-{hashlib.sha256("".join(lines).encode("utf-8", "replace")).hexdigest()}"'


def content_of(file: dict[str, object]) -> bytes:
    """The bytes that a file object means; of an illegal one, those of its words."""
    words = str(file["content"]).encode()
    with contextlib.suppress(ValueError):
        return base64.b64decode(words, validate=True) if file.get("encoding") == "base64" else words
    return words


def head(status: int = 200, **headers: object) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def says(body: bytes, status: int = 200, **headers: object) -> Play:
    """One answer, then the connection is kept."""

    async def play(writer: asyncio.StreamWriter) -> None:
        writer.write(head(status, Content_Length=len(body), **headers) + body)
        await writer.drain()

    return play


def serves(*files: dict[str, object], generation: str = f"{EPOCH}.3", **headers: object) -> Play:
    """A payload with these files and their right digest."""
    words = {"ETag": digest(files), "Cfgsync_Generation": generation, **headers}
    return says(json.dumps({"schema_version": 1, "files": files}).encode(), **words)


def raw(*parts: bytes, every: float = 0.0, close: bool = True) -> Play:
    """These bytes, each part after `every` seconds."""

    async def play(writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            if every:
                await asyncio.sleep(every)
        if close:
            writer.close()
        else:
            await asyncio.sleep(3600)

    return play


def endless(first: bytes, again: bytes, times: int) -> Play:
    """`first`, then `again` so many times, as fast as it is read."""

    async def play(writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        for _ in range(times):
            writer.write(again)
            await writer.drain()
        writer.close()

    return play


def builds(make: Callable[[], bytes], status: int = 200, **headers: object) -> Play:
    """As `says`, but the body, a large one, is made when it is said."""

    async def play(writer: asyncio.StreamWriter) -> None:
        await says(make(), status, **headers)(writer)

    return play


def bomb(name: str) -> bytes:
    """A body within the limit that is large once it is objects."""
    begin, end = b'{"schema_version":1,"files":[', b"]}"
    match name:
        case "half a million files":
            many = b",".join(b'{"path":"f%d","content":""}' % n for n in range(16 * MIB // 34))
        case "one file six hundred thousand times":
            many = b'{"path":"a","content":""},' * (16 * MIB // 27) + b'{"path":"b","content":""}'
        case "files whose every word ends in a backslash":
            many = rb'{"path":"\\","content":"\\"},' * (16 * MIB // 30) + b'{"path":"b","content":""}'
        case "one file of fifteen million letters, and an emoji":
            many = '{"path":"b","content":"\U0001f642'.encode() + b"x" * (15 * MIB) + rb'\n"}'
        case "arrays fifteen million deep":
            many = b"[" * (15 * MIB)
        case "an unknown field of five million objects":
            many = b'],"more":[' + b"{}," * (5 * MIB) + b"{}"
        case _:
            raise ValueError(name)
    return begin + many + end


BOMBS = [
    "half a million files",
    "one file six hundred thousand times",
    "files whose every word ends in a backslash",
    "one file of fifteen million letters, and an emoji",
    "arrays fifteen million deep",
    "an unknown field of five million objects",
]


@functools.cache
def zeros() -> bytes:
    """300 MiB that travel as 1.3."""
    return gzip.compress(bytes(HUGE), 1)


def large(name: str) -> list[dict[str, object]]:
    """A payload that a node takes, of nearly 16 MiB on the wire or 8 MiB a file, in the shape that costs it most."""
    smile = "\U0001f642"
    most = 8 * MIB - 64
    match name:
        case "two files of emoji":
            return [file(path, smile * (most // 4)) for path in ("/a", "/b")]
        case "emoji that may be escaped":
            return [file("/a", smile * (5 * MIB // 4))]
        case "letters with one emoji":
            return [file(path, smile + "x" * (most - 4)) for path in ("/a", "/b")]
        case "short lines with one emoji":
            return [file("/a", smile + "a: b\n" * ((15 * MIB) // 12)), file("/b", smile + "a\n" * MIB)]
        case "line ends alone":
            return [file("/a", "\n" * most)]
        case "a thousand files with an emoji each":
            return [file(f"/d/f{n}", smile + "x" * 16_000) for n in range(1_000)]
        case "binary":
            return [file("/a", base64.b64encode(bytes(most)).decode(), encoding="base64"),
                    file("/b", base64.b64encode(b"\xff" * (3 * MIB)).decode(), encoding="base64")]  # fmt: skip
        case _:
            raise ValueError(name)


LARGE = [
    "two files of emoji",
    "emoji that may be escaped",
    "letters with one emoji",
    "short lines with one emoji",
    "line ends alone",
    "a thousand files with an emoji each",
    "binary",
]
"""Payloads that a node takes, and how its memory is dearest."""


def serves_large(name: str, ascii_only: bool) -> Play:
    """The large payload of this name; `ascii_only` spells every other character as an escape."""

    files = large(name)
    words = {"schema_version": 1, "files": files}
    body = json.dumps(words, ensure_ascii=ascii_only, separators=(",", ":")).encode()
    assert 5 * MIB < len(body) <= 16 * MIB, len(body)
    return says(body, ETag=digest(files), Cfgsync_Generation=f"{EPOCH}.3")


def missing_nodes() -> bytes:
    """A not-ready answer that names three million nodes."""
    quorum = {"name": "quorum", "have": 0, "need": 1, "missing": ["n"] * (3 * MIB)}
    words = {
        "code": "not_ready",
        "message": "",
        "registered": True,
        "retry_after": 3600,
        "conditions": [quorum],
    }
    return json.dumps(words, separators=(",", ":")).encode()


# ── the server ───────────────────────────────────────────────────────────────────────────────────────────────────────


class HostileServer:
    """Plays `case` to everyone who asks, and the honest payload once `case` is None. With `tls` it shows that certificate."""

    HONEST = (file("/config.yaml", "id: node-1\n"), file("/tls/key", "secret\n", mode="0600"))

    def __init__(self, case: Case | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.case = case
        self._tls = tls
        self.generation = f"{EPOCH}.3"
        self.asked = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while not writer.is_closing():
                    asked = await reader.readuntil(b"\r\n\r\n")
                    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", asked)
                    await reader.readexactly(int(length[1]) if length else 0)
                    await self._answer(asked.split()[1].decode(), writer)
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _answer(self, path: str, writer: asyncio.StreamWriter) -> None:
        if self.case is not None and path == self.case.at:
            self.asked += 1
            await self.case.play(writer)
        elif path == "/register":
            writer.write(REGISTERED)
        else:
            await serves(*self.HONEST, generation=self.generation)(writer)


# ── the cases of issue 9 and of node.md ──────────────────────────────────────────────────────────────────────────────

PATHS = {
    "up": "/../canary.txt",
    "up from below": "/a/../../canary.txt",
    "only up": "..",
    "a dot": "/./a",
    "an absolute root": "//etc/cfgsync-canary",
    "an empty component": "/a//b",
    "a directory": "/a/",
    "nothing": "",
    "only the root": "/",
    "a tilde": "~/canary.txt",
    "a leading dash": "/-rf",
    "a trailing dot": "/a.",
    "a blank at the end": "/a ",
    "a blank at the start of a name": "/ a",
    "a NUL": "/a\0b",
    "a line end": "/a\nb",
    "a cursor": "/\x1b[2Ja",
    "not in NFC": "/e\u0301",
    "a private character": "/\ue000",
    "an override of direction": "/\u202etxt.exe",
    "a name of 256 bytes": "/" + "x" * 256,
    "17 deep": "/" + "/".join("12345678901234567"),
    "over 1,024 bytes": "/" + "/".join(["x" * 120] * 9),
}
SETS = {
    "a parent and its child": [file("/a"), file("/a/b")],
    "a child and its parent": [file("/a/b"), file("/a")],
    "one path twice": [file("/a"), file("/a")],
    "one path with a slash and without": [file("/a"), file("a")],
    "two names that differ in case": [file("/a"), file("/A")],
    "two directories that differ in case": [file("/a/b"), file("/A/c")],
    "no files": [],
    "1,001 files": [file(f"/f{n}", "") for n in range(1_001)],
    "a file over 8 MiB": [file("/a", "x" * (8 * MIB + 1))],
    "an unknown encoding": [file("/a", encoding="rot13")],
    "broken base64": [file("/a", "?", encoding="base64")],
}
MODES = [
    "4755",
    "2755",
    "1777",
    "7777",
    "0800",
    "644",
    "00644",
    "0o644",
    "rwxr-xr-x",
    "",
    "-644",
    "0644\n",
    420,
]
GENERATIONS = {
    "generation 2 and then 1": f"{EPOCH}.1",
    "an older epoch": f"{OLDER}.99",
    "a broken generation": "yesterday",
    "a negative generation": f"{EPOCH}.-3",
    "a generation beyond any number": f"{EPOCH}.{10**30}",
    "an epoch that is none": "00000000-0000-4000-8000-000000000000.9",
}
BODIES = {
    "another schema version": b'{"schema_version":2,"files":[{"path":"/a","content":""}]}',
    "a schema version that is text": b'{"schema_version":"1","files":[{"path":"/a","content":""}]}',
    "no schema version": b'{"files":[{"path":"/a","content":""}]}',
    "a list": b"[]",
    "a page": b"<html>",
    "half a document": b'{"schema_version":1,"files":[{"path":"/a","con',
    "no UTF-8": b'{"schema_version":1,"files":[{"path":"/a","content":"\xff"}]}',
    "files that are null": b'{"schema_version":1,"files":null}',
    "content that is a number": b'{"schema_version":1,"files":[{"path":"/a","content":NaN}]}',
}


def _a_chunk(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


HUGE = 300 * MIB
GOOD = json.dumps({"schema_version": 1, "files": [file("/a")]}).encode()
DRIP = [GOOD[i : i + 1] for i in range(len(GOOD))]

CASES = [
    *(Case(f"path: {n}", serves(file(p)), process=i % 5 == 0) for i, (n, p) in enumerate(PATHS.items())),
    *(Case(f"set: {name}", serves(*files), process=i % 3 == 0) for i, (name, files) in enumerate(SETS.items())),
    *(Case(f"mode: {m!r}", serves(file("/a", mode=m)), process=i == 0) for i, m in enumerate(MODES)),
    *(Case(name, serves(file("/a"), generation=g), process="2 and" in name or "older" in name)
      for name, g in GENERATIONS.items()),
    *(Case(f"body: {name}", says(b, ETag=digest([file("/a", "")])), process=i == 0)
      for i, (name, b) in enumerate(BODIES.items())),
    *(Case(f"bomb: {name}", builds(functools.partial(bomb, name))) for name in BOMBS),
    Case("wrong digest", serves(file("/a"), ETag='"sha256-' + "0" * 64 + '"')),
    Case("broken ETag", serves(file("/a"), ETag='"sha256-xyz"')),
    Case("an ETag without its end", serves(file("/a"), ETag=digest([file("/a")])[:-1]), process=False),
    Case("300 MiB with a length", endless(head(Content_Length=HUGE), b"x" * MIB, 300)),
    Case("300 MiB in chunks", endless(head(Transfer_Encoding="chunked"), _a_chunk(b"x" * MIB), 300)),
    Case("300 MiB in one chunk", endless(head(Transfer_Encoding="chunked") + b"%x\r\n" % HUGE, b"x" * MIB, 300)),
    Case("300 MiB until the end", endless(head(), b"x" * MIB, 300)),
    Case("300 MiB as a registration", endless(head(202, Content_Length=HUGE), b"x" * MIB, 300), at="/register"),
    Case("300 MiB in chunks as a registration",
         endless(head(202, Transfer_Encoding="chunked"), _a_chunk(b"x" * MIB), 300), at="/register"),
    Case("300 MiB as an error", endless(head(503, Retry_After=0), b"x" * MIB, 300), exit=7, wait=0.6),
    Case("300 MiB as a refusal", endless(head(422, Content_Length=HUGE), b"x" * MIB, 300), exit=7, wait=0.6),
    Case("a length beyond any number", raw(head(Content_Length=10**40) + GOOD), process=False),
    Case("a gzip bomb", builds(zeros, Content_Encoding="gzip"), exit=7, wait=0.6),
    Case("a gzip bomb that does not say so", builds(zeros), exit=7, wait=0.6),
    Case("a gzip bomb in transfer", builds(zeros, Transfer_Encoding="gzip"), exit=7, wait=0.6),
    Case("three million missing nodes", builds(missing_nodes, status=425), exit=7, wait=3.0),
    *(Case(f"a redirect ({s})", says(b"", s, Location="/register"), exit=7, wait=0.6, process=s == 307)
      for s in (300, 301, 302, 303, 307, 308)),
    Case("a redirect of the registration", says(b"", 308, Location="/node"), exit=7, wait=0.6, at="/register",
         process=False),
    Case("unchanged, though nothing was named", says(b"", 304), exit=7, wait=0.6, process=False),
    Case("part of it", says(GOOD, 206), exit=7, wait=0.6, process=False),
    Case("no words", says(b"", 204), exit=7, wait=0.6, process=False),
    Case("1 byte a second", raw(head(Content_Length=len(GOOD)), *DRIP, every=1.0), exit=7, wait=1.5),
    Case("1 byte a second of a head", raw(*[b"%c" % b for b in head()], every=1.0), exit=7, wait=1.5),
    Case("silence", raw(close=False), exit=7, wait=0.6),
    Case("half a body, then silence", raw(head(Content_Length=99) + b"{", close=False), exit=7, wait=0.6),
    Case("headers without end", endless(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 1_000, 40_000), exit=7, wait=0.6),
    Case("one header without end", endless(b"HTTP/1.1 200 OK\r\nX: ", b"x" * MIB, 300), exit=7, wait=0.6),
    Case("continue without end", endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000, 1_000), exit=7, wait=0.6),
    Case("trailers without end", endless(head(Transfer_Encoding="chunked") + _a_chunk(GOOD) + b"0\r\n",
                                         b"X-A: b\r\n" * 1_000, 40_000), exit=7, wait=0.6),
    Case("a chunk of another size", raw(head(Transfer_Encoding="chunked") + b"zz\r\n" + GOOD), exit=7, wait=0.6),
    Case("a chunk of a negative size", raw(head(Transfer_Encoding="chunked") + b"-5\r\n" + GOOD),
         exit=7, wait=0.6, process=False),
    Case("SSH", raw(b"SSH-2.0-OpenSSH_9.2\r\n"), exit=7, wait=0.6, at="/register"),
    Case("closed at once", raw(), exit=7, wait=0.6, process=False),
]  # fmt: skip
