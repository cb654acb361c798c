"""What becomes of a server's stdout and stderr decides nothing: it starts, serves, publishes and ends as if they were read."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes import BIN, PATIENCE, Place, ask, body, eventually

NOISY = """
import os, sys
from cfgsync_adapter import ArtifactFile, MaterializedArtifacts
class Mine:
    def materialize_snapshot(self, nodes):
        print("x" * 4000)
        print("y" * 4000, file=sys.stderr)
        os.write(1, b"one\\n")
        os.system("echo two >&2")
        names = ",".join(nodes.identifiers)
        return MaterializedArtifacts.from_nodes({n: [ArtifactFile("/a", names)] for n in nodes.identifiers})
"""
UNREAD: list[int] = []


def gone() -> int:
    ours, theirs = os.pipe()
    os.close(ours)
    return theirs


def unread() -> int:
    ours, theirs = os.pipe()
    UNREAD.append(ours)
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
    return theirs


def full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Place(tmp_path / "place") as made:
        made.write("app.py", NOISY)
        made.write("b.yaml", "nodes: [{identifier: a, files: [{path: /a, content: one}]}]\n")
        yield made
    while UNREAD:
        os.close(UNREAD.pop())


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
        return port


def lives(port: int) -> bool:
    try:
        return ask(port, "GET", "/livez", within=5).status == 200
    except OSError:
        return False


@pytest.mark.parametrize("sink", [gone, unread, full, None], ids=["gone", "unread", "full", "closed"])
def test_a_noisy_materializer_runs_and_the_server_ends_with_0(
    place: Place, sink: Callable[[], int] | None
) -> None:
    port = free_port()
    descriptors = [] if sink is None else [sink(), sink()]
    close = 'exec "$@" <&- >&- 2>&-' if sink is None else 'exec "$@" <&-'
    command = [BIN / "cfgsync", "serve", "app:Mine", "--store", "sqlite:s.db", "--run-timeout", "5s"]
    server = subprocess.Popen(
        ["sh", "-c", close, "sh", *command, "--port", str(port)],
        cwd=place.directory,
        env=place.environment(),
        stdout=descriptors[0] if descriptors else None,
        stderr=descriptors[1] if descriptors else None,
    )
    try:
        for one in descriptors:
            os.close(one)
        eventually(lambda: lives(port))
        for name in ("a", "b", "c"):
            assert ask(port, "POST", "/register", body(name), within=5).status == 202
            reply = ask(port, "POST", "/node", body(name), {"Prefer": "wait=10"}, within=15)
            assert reply.status == 200, reply
            assert name in reply.words["files"][0]["content"]
        assert ask(port, "GET", "/status", within=5).words["reason"] == ""
        began = time.monotonic()
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE) == 0
        assert time.monotonic() - began < 6
    finally:
        server.kill()
        server.wait()
    assert place.run("store", "check", "--store", "sqlite:s.db").returncode == 0


@pytest.mark.parametrize("close", ["<&- >&- 2>&-", ">/dev/full 2>&1"], ids=["closed", "full"])
def test_the_drop_in_and_a_bundle_are_served_without_anybody_who_reads(place: Place, close: str) -> None:
    port = free_port()
    place.write("s.yaml", f"port: {port}\nsource: {{kind: static, artifacts_path: b.yaml}}\n")
    server = subprocess.Popen(
        ["sh", "-c", f'exec "$@" {close}', "sh", BIN / "cfgsync-server", "s.yaml"],
        cwd=place.directory,
        env=place.environment(),
    )
    try:
        eventually(lambda: lives(port))
        assert ask(port, "POST", "/node", body("a")).status == 200
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE) == 0
    finally:
        server.kill()
        server.wait()


def test_a_refusal_has_its_exit_code_although_nobody_reads_it(place: Place) -> None:
    for words, code in ((["app:Mine", "--port", "70000"], 2), (["app:Mine", "--host", "192.0.2.1"], 2)):
        done = subprocess.run(
            [BIN / "cfgsync", "serve", *words],
            cwd=place.directory,
            env=place.environment(),
            stdin=subprocess.DEVNULL,
            stdout=gone(),
            stderr=gone(),
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == code


def test_all_that_a_materializer_prints_is_in_the_log_and_nothing_of_it_on_stdout(place: Place) -> None:
    server = place.serve("app:Mine", "--store", "memory:")
    assert server.ask("POST", "/register", body("a")).status == 202
    eventually(lambda: "two" in server.log and "published generation 1" in server.log)
    assert server.stop() == 0
    lines = server.log.splitlines()
    assert {"x" * 4000, "y" * 4000, "one", "two"} <= set(lines)
    assert server.process.stdout is not None
    assert server.process.stdout.read() == ""
