"""What systemd is told over NOTIFY_SOCKET, and nothing where there is none (sd_notify(3)); the standard library only.

Sending never fails and never waits: a service manager that does not listen is no reason not to run.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Final

from cfgsync_core.text import plain

VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""What the started command does not inherit: we are who is asked."""


class ServiceManager:
    """The socket in `environment`, if there is one."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # "@" stands for the NUL of an abstract name
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address[:1] in ("/", "@"):
            with suppress(OSError):
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._socket.setblocking(False)
        self.watchdog = _watchdog(environment) if self._socket is not None else None
        """Seconds between two signs of life, half of what is asked for; None when nobody asks."""

    def ready(self, status: str) -> None:
        """Files are in place, and the command was started; again after each `reloading`."""
        self._send("READY=1", f"STATUS={plain(status, None)}")

    def reloading(self, status: str) -> None:
        """Files have changed, and the command is being told."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}", f"STATUS={plain(status, None)}")

    def status(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={plain(status, None)}")

    def stopping(self) -> None:
        """It ends."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """A sign of life, due every `watchdog` seconds."""
        self._send("WATCHDOG=1")

    def close(self) -> None:
        """Close the socket; what is said afterwards is said to nobody."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.sendto("\n".join(lines).encode(), self._address)


def without_us(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for a command whose service manager hears us instead."""
    kept: MutableMapping[str, str] = dict(environment)
    for name in VARIABLES:
        kept.pop(name, None)
    return dict(kept)


def _watchdog(environment: Mapping[str, str]) -> float | None:
    asked, of = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not (asked.isascii() and asked.isdigit()) or int(asked) <= 0 or (of and of != str(os.getpid())):
        return None
    return int(asked) / 2_000_000
