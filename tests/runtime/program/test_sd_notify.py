"""What a service manager hears over its socket, and that nobody listening disturbs nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cfgsync_runtime.program.sd_notify import ServiceManager, without_us


class Manager:
    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(5)
        self.environment = {"NOTIFY_SOCKET": address}

    def heard(self) -> dict[str, str]:
        lines = self.socket.recv(4096).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "n") if request.param == "file" else f"@cfgsync-test-{os.getpid()}")
    yield made
    made.socket.close()


def test_ready_reloading_status_and_stopping_are_said(manager: Manager) -> None:
    told = ServiceManager(manager.environment)
    told.ready("current: generation 3")
    assert manager.heard() == {"READY": "1", "STATUS": "current: generation 3"}
    told.reloading("two\nlines")
    heard = manager.heard()
    assert (heard["RELOADING"], heard["STATUS"]) == ("1", "two lines")
    assert int(heard["MONOTONIC_USEC"]) > 0
    told.status("degraded")
    assert manager.heard() == {"STATUS": "degraded"}
    told.alive()
    assert manager.heard() == {"WATCHDOG": "1"}
    told.stopping()
    assert manager.heard() == {"STOPPING": "1"}
    told.close()
    told.ready("after the end")  # to nobody


@pytest.mark.parametrize(
    ("more", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "4000000"}, 2.0),
        ({"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid())}, 2.0),
        ({"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_it_asks_when_it_asks_us(
    manager: Manager, more: dict[str, str], seconds: float | None
) -> None:
    told = ServiceManager(manager.environment | more)
    assert told.watchdog == seconds
    told.close()


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all", "vsock:2:1", "@" + "x" * 200])
def test_without_a_manager_that_listens_nothing_is_said_and_nothing_fails(address: str) -> None:
    told = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"} if address else {})
    told.ready("x")
    told.reloading("x")
    told.stopping()
    told.close()


def test_a_command_inherits_none_of_it() -> None:
    kept = without_us({"NOTIFY_SOCKET": "/s", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "2", "HOME": "/root"})
    assert kept == {"HOME": "/root"}
