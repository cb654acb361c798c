"""Network namespaces for tests, where root allows them: two, with a wire between them."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.processes import PATIENCE, eventually

_CLONE_NEWNET = 0x40000000


def require(what: str, *programs: str) -> None:
    """Skip, with a warning that says `what` is not tested, where a program or the right is lacking."""
    lacking = [name for name in ("unshare", "nsenter", "ip", *programs) if shutil.which(name) is None]
    if not lacking and (
        os.geteuid() or subprocess.run(["unshare", "-n", "-u", "true"], capture_output=True).returncode
    ):
        lacking = ["the right to make network namespaces"]
    if lacking:
        line = f"NOT TESTED: {what}, without {' and '.join(lacking)}"
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.warn(line, stacklevel=1)
        pytest.skip(line)


@contextmanager
def two_namespaces(*addresses: str) -> Iterator[list[int]]:
    """A process in each, with these addresses at the two ends of the device `wire`. They end with the context."""
    with ExitStack() as stack:
        held = []
        for _ in addresses:
            process = subprocess.Popen(["unshare", "--net", "sleep", "600"])
            stack.callback(process.wait)
            stack.callback(process.kill)
            held.append(process.pid)
        mine = os.readlink("/proc/self/ns/net")
        for pid in held:
            eventually(lambda pid=pid: os.readlink(f"/proc/{pid}/ns/net") != mine)
        run(*entering(held[0]), "ip", *f"link add wire type veth peer name wire netns {held[1]}".split())
        for pid, address in zip(held, addresses, strict=True):
            run(*entering(pid), "ip", "address", "add", f"{address}/24", "dev", "wire")
            for device in ("lo", "wire"):
                run(*entering(pid), "ip", "link", "set", device, "up")
        yield held


def entering(pid: int) -> list[str]:
    """The beginning of a command in the network namespace of a process."""
    return ["nsenter", "--net", "--target", str(pid)]


def run(*command: str, **more: str) -> str:
    """What a command that must succeed prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, **more)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return str(done.stdout)


def connected_in(pid: int, port: int, within: float) -> socket.socket:
    """A connection to a port of the loopback in the network namespace of a process."""
    made: list[socket.socket] = []

    def make() -> None:
        """In a thread of its own, which stays in that namespace."""
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        try:
            assert ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET) == 0
            made.append(socket.create_connection(("127.0.0.1", port), within))
        finally:
            os.close(namespace)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]
