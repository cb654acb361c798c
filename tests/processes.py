"""The real commands as processes of a test: started on free ports, with state of their own, ended with the test.

Only processes that were started here are ever ended, each by its own handle.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

from tests.forks import ForkedCommand, may_fork

BIN = Path(sys.executable).parent
PATIENCE = 60.0
"""Seconds until a thing that should have happened counts as never; two busy cores are slow."""


class Reply(NamedTuple):
    """An HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def words(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the Unix socket at `path`."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(
    at: int | str,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    within: float = PATIENCE,
    tls: ssl.SSLContext | None = None,
) -> Reply:
    """One request over a connection of its own, to a port (with `tls`, of localhost) or a Unix socket. A body is said to be
    JSON unless `headers` say otherwise."""
    connection = UnixConnection(at, within) if isinstance(at, str) else connected(at, within, tls)
    with contextlib.closing(connection):
        kind = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, path, body, {**kind, **(headers or {})})
        response = connection.getresponse()
        lower = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, lower, response.read())


def connected(port: int, within: float, tls: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
    """A connection of this machine that is not open yet."""
    if tls is None:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=within)
    return http.client.HTTPSConnection("localhost", port, timeout=within, context=tls)


def body(identifier: str, metadata: object = None, ip: str = "127.0.0.1") -> bytes:
    """The body of `/register` and `/node`."""
    words: dict[str, object] = {"identifier": identifier, "ip": ip}
    if metadata is not None:
        words["metadata"] = metadata
    return json.dumps(words).encode()


def eventually(happened: Callable[[], bool], within: float = PATIENCE) -> None:
    """Return as soon as `happened()`; fail when it never does."""
    until = time.monotonic() + within
    while not happened():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.01)


class Server:
    """A running `cfgsync serve` that has said where it listens."""

    def __init__(self, process: subprocess.Popen[str], url: str, said: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.said = said
        self._log = log

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def log(self) -> str:
        """What it wrote to stderr so far."""
        return self._log.read_text()

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        return ask(self.port, method, path, body, headers)

    @property
    def admin_socket(self) -> str:
        """Where its log says that its admin socket is."""
        found: list[str] = []  # the log is written by a thread
        eventually(lambda: bool(found.extend(re.findall(r"admin socket: (/\S+)", self.log)) or found))
        return found[0]

    def operate(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """A request over its admin socket."""
        return ask(self.admin_socket, method, path, body, headers)

    def status(self, identifier: str = "") -> Any:
        """The words of `/status`, or of one node's."""
        reply = self.ask("GET", f"/status/{identifier}" if identifier else "/status")
        assert reply.status == 200
        return reply.words

    def kill(self) -> None:
        """kill −9."""
        self.process.kill()
        assert self.process.wait(PATIENCE) == -signal.SIGKILL, self.log

    def stop(self, sent: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(sent)
        return self.process.wait(PATIENCE)


class Place:
    """A directory in which commands run, with an environment that no other test and no user has a part in."""

    def __init__(self, directory: Path, *, forks: bool = True, forks_servers: bool = False) -> None:
        """`forks` says whether a command may be a fork of one that is loaded (tests/forks.py), `forks_servers` whether a
        `cfgsync serve` may be one when others may not."""
        self.directory = directory
        self._forks = forks
        self._forks_servers = forks_servers
        directory.mkdir(parents=True, exist_ok=True)
        self._runtime = tempfile.mkdtemp(
            prefix="cfgsync-"
        )  # of its own: the path of a socket is at most 107 bytes
        self._started: list[subprocess.Popen[str]] = []
        self._logs = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        shutil.rmtree(self._runtime, ignore_errors=True)

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("CFGSYNC_", "CFG_"))
        }
        places = {"XDG_STATE_HOME": str(self.directory / "xdg-state"), "XDG_RUNTIME_DIR": self._runtime}
        return kept | places | dict(more or {})

    def write(self, name: str, text: str) -> Path:
        """A file in the directory."""
        path = self.directory / name
        path.write_text(text)
        return path

    def start(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        command: str = "cfgsync",
    ) -> tuple[subprocess.Popen[str], Path]:
        """Start `cfgsync ARGUMENTS` (or another `command` of ours); the process, and the file that takes its stderr."""
        self._logs += 1
        log = self.directory / f"stderr-{self._logs}"
        with log.open("w") as errors:
            process = self._process(command, arguments, environment, cwd or self.directory, errors)
        self._started.append(process)
        return process, log

    def run(
        self, *arguments: str, environment: Mapping[str, str] | None = None, command: str = "cfgsync"
    ) -> subprocess.CompletedProcess[str]:
        """Run `cfgsync ARGUMENTS` (or another `command` of ours) to its end."""
        with self._process(command, arguments, environment, self.directory, subprocess.PIPE) as process:
            try:
                out, errors = process.communicate(timeout=PATIENCE)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, errors)

    def _process(
        self,
        command: str,
        arguments: Sequence[str],
        environment: Mapping[str, str] | None,
        cwd: Path,
        errors: int | IO[str],
    ) -> subprocess.Popen[str]:
        its = self.environment(environment)
        forks = self._forks or (self._forks_servers and arguments[:1] == ("serve",))
        kind = ForkedCommand if forks and may_fork(command, its) else subprocess.Popen
        return kind(
            [BIN / command, *arguments],
            cwd=cwd,
            env=its,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )

    def serve(
        self,
        *arguments: str,
        port: int = 0,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Server:
        """Start `cfgsync serve ARGUMENTS` and return when it listens; `port` 0 takes a free one."""
        return listening(
            *self.start("serve", *arguments, "--port", str(port), environment=environment, cwd=cwd)
        )

    def serve_as_the_original(self, config: str, environment: Mapping[str, str] | None = None) -> Server:
        """Start `cfgsync-server CONFIG` and return when it listens; `port: 0` in the file takes a free one."""
        return listening(*self.start(config, environment=environment, command="cfgsync-server"))

    def fetch(
        self, server: str, identifier: str, *arguments: str, out: str | None = None
    ) -> subprocess.Popen[str]:
        """Start `cfgsync fetch --json` of a node that keeps its state and its files in directories of its own name."""
        process, _ = self.start(*self.fetching(server, identifier, *arguments, out=out))
        return process

    def fetching(
        self, server: str, identifier: str, *arguments: str, out: str | None = None
    ) -> Sequence[str]:
        state = str(self.directory / "state" / identifier)
        to = out or str(self.directory / "out" / identifier)
        return [
            *("fetch", "--server", server, "--id", identifier, "--ip", "127.0.0.1"),
            *("--out", to, "--state", state, "--json", *arguments),
        ]

    def current(self, identifier: str) -> Path:
        """Where a fetched node's files are."""
        return self.directory / "out" / identifier / "current"


def listening(process: subprocess.Popen[str], log: Path) -> Server:
    """The server that this process is, once it says where it listens."""
    assert process.stdout is not None
    output = select.poll()  # not select(), which takes no descriptor beyond 1,023
    output.register(process.stdout, select.POLLIN)
    line = process.stdout.readline() if output.poll(PATIENCE * 1000) else ""
    assert " on http" in line, f"serve did not begin: {line!r}\n{log.read_text()}"
    return Server(process, line.partition(" on ")[2].split()[0].rstrip(","), line.strip(), log)


def ended(process: subprocess.Popen[str], within: float = PATIENCE) -> tuple[int, Any]:
    """The exit code and the `--json` object of a fetch."""
    out, _ = process.communicate(timeout=within)
    return process.returncode, json.loads(out)
