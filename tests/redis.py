"""A private Redis for tests: on a free port of loopback, without a file, ended with the test."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest


class Redis:
    """One server, which may be killed, frozen and flushed."""

    def __init__(self, program: str) -> None:
        self._program = program
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        words = [
            self._program,
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                if self.say("PING").startswith(b"+PONG"):
                    return
            except OSError:
                time.sleep(0.02)
        raise AssertionError("redis-server did not start")

    def say(self, words: str) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), 5) as line:
            line.sendall(f"{words}\r\n".encode())
            return line.recv(65536)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait()


@pytest.fixture
def redis() -> Iterator[Redis]:
    program = shutil.which("redis-server")
    if program is None:
        if os.environ.get("CFGSYNC_REQUIRE_ENGINES") == "1":
            pytest.fail("redis-server is not installed; run scripts/engines")
        pytest.skip(
            "redis-server is not installed: apt-get install redis-server (make test does it when it may)"
        )
    server = Redis(program)
    yield server
    server.kill()
