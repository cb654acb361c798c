"""A server that answers exactly what a test tells it to, over real sockets, and remembers what it was asked.

    with ScriptedServer([Says(202), Says(425, body=…), Cut(b'HTTP/1.1 200 OK…'), files(…)]) as server: …server.url…

The last item is played again and again. `OriginalServer` behaves as the original cfgsync does.
"""

from __future__ import annotations

import contextlib
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Final, Self, TypeAlias

import msgspec

from cfgsync_artifacts import ArtifactFile, ArtifactSet
from cfgsync_core.wire.payload import encode_files

REASONS: Final = {
    200: "OK",
    202: "Accepted",
    404: "Not Found",
    425: "Too Early",
    500: "Internal Server Error",
}


class Heard(msgspec.Struct, frozen=True):
    """One request: header names in lower case; `connection` counts connections from 1."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    at: float


class Says(msgspec.Struct, frozen=True):
    """An answer, given after `after` seconds. `headers` replace those that are made of themselves; with `chunked` the
    body has no Content-Length."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = {}
    after: float = 0.0
    chunked: bool = False


class Cut(msgspec.Struct, frozen=True):
    """These bytes, then the connection is closed: half an answer, or none."""

    raw: bytes = b""


class Drip(msgspec.Struct, frozen=True):
    """These bytes one by one, each after `every` seconds."""

    raw: bytes
    every: float = 0.1


Act: TypeAlias = Says | Cut | Drip
Script: TypeAlias = Sequence[Act] | Callable[[Heard], Act]


def files(artifacts: Iterable[ArtifactFile], generation: str | None = None, etag: str | None = None) -> Says:
    """The 200 with these files, as a cfgsync server says it; `etag` instead of the right digest."""
    held = ArtifactSet(artifacts)
    headers = {"Content-Type": "application/json", "ETag": f'"{etag or held.digest}"'}
    if generation is not None:
        headers["Cfgsync-Generation"] = generation
    return Says(200, b'{"schema_version":1,"files":[' + encode_files(held) + b"]}", headers)


def error(status: int, code: str, message: str = "so it is", **more: object) -> Says:
    """An error body as a cfgsync server says it."""
    body = json.dumps({"code": code, "message": message, **more}).encode()
    return Says(status, body, {"Content-Type": "application/json"})


class ScriptedServer:
    """Listens on a free port of 127.0.0.1 (or on `port`) while it is entered; every connection has its thread."""

    def __init__(self, script: Script, port: int = 0) -> None:
        self.heard: list[Heard] = []
        self._script = script
        self._port = port
        self._lock = threading.Lock()
        self._connections = 0
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        assert self._listener is not None, "the server is not entered"
        return int(self._listener.getsockname()[1])

    @property
    def paths(self) -> list[str]:
        """The paths that were asked for, in order."""
        return [heard.path for heard in self.heard]

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=1024)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        assert self._listener is not None
        with self._lock:
            for opened in (self._listener, *self._open):
                with contextlib.suppress(OSError):
                    opened.shutdown(socket.SHUT_RDWR)
                opened.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                opened, _ = listener.accept()
            except OSError:
                return
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._connections += 1
                self._open.add(opened)
                number = self._connections
            threading.Thread(target=self._serve, args=(opened, number), daemon=True).start()

    def _serve(self, opened: socket.socket, number: int) -> None:
        try:
            with opened, opened.makefile("rb") as lines:
                while (heard := _request(lines, number)) is not None:
                    with self._lock:
                        self.heard.append(heard)
                        act = self._next(heard)
                    if not self._play(act, opened):
                        return
        except OSError:
            return
        finally:
            with self._lock:
                self._open.discard(opened)

    def _next(self, heard: Heard) -> Act:
        if callable(self._script):
            return self._script(heard)
        return self._script[min(len(self.heard), len(self._script)) - 1]

    def _play(self, act: Act, opened: socket.socket) -> bool:
        """True when the connection is kept."""
        match act:
            case Says():
                if act.after and self._closing.wait(act.after):
                    return False
                opened.sendall(_answer(act))
                return True
            case Cut():
                opened.sendall(act.raw)
                return False
            case Drip():
                for byte in act.raw:
                    if self._closing.wait(act.every):
                        return False
                    opened.sendall(bytes([byte]))
                return False


def _request(lines: io.BufferedReader, number: int) -> Heard | None:
    first = lines.readline().decode("latin-1").split()
    if len(first) != 3:
        return None
    headers: dict[str, str] = {}
    while line := lines.readline().decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = lines.read(int(headers.get("content-length", "0")))
    return Heard(first[0], first[1], headers, body, number, time.monotonic())


def _answer(says: Says) -> bytes:
    headers = {**says.headers}
    body = says.body
    if says.chunked:
        headers["Transfer-Encoding"] = "chunked"
        size = 256 * 1024
        pieces = [body[i : i + size] for i in range(0, len(body), size)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    elif says.status not in (204, 304):
        headers.setdefault("Content-Length", str(len(body)))
    lines = [f"HTTP/1.1 {says.status} {REASONS.get(says.status, 'Other')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class OriginalServer(ScriptedServer):
    """As the original: no `Prefer`, no `ETag`, no generation, 425 without `registered`, everyone forgotten when it
    restarts (a new object on the same port). Ready with `quorum` registrations."""

    def __init__(self, quorum: int = 1, port: int = 0) -> None:
        super().__init__(self._originally, port)
        self.quorum = quorum
        self.registered: set[str] = set()

    def _originally(self, heard: Heard) -> Act:
        identifier = json.loads(heard.body)["identifier"]
        if heard.path == "/register":
            self.registered.add(identifier)
            return Says(202)
        if identifier not in self.registered or len(self.registered) < self.quorum:
            return error(425, "not_ready", f"config for host {identifier} is not ready")
        body = {"schema_version": 1, "files": [{"path": "/config.yaml", "content": f"id: {identifier}\n"}]}
        return Says(200, json.dumps(body).encode(), {"content-type": "application/json"})
