"""Messages to systemd over NOTIFY_SOCKET (sd_notify(3)). Sending never fails and never blocks."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from cfgsync_core.text import plain

VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""Variables that the program does not inherit: systemd asks cfgsync."""


class ServiceManager:
    """The service manager at the socket in `environment`; without one, every method does nothing."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # "@" means the NUL of an abstract name
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address[:1] in ("/", "@"):
            with suppress(OSError):
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._socket.setblocking(False)
        self.watchdog = _watchdog(environment) if self._socket is not None else None
        """Seconds between two signs of life, half of the time that systemd allows; None without a watchdog."""

    def ready(self, status: str) -> None:
        """Files are in place and the program was started. Send it again after each `reloading`."""
        self._send("READY=1", f"STATUS={plain(status, None)}")

    def reloading(self, status: str) -> None:
        """Files have changed, and the program is being restarted or signalled."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}", f"STATUS={plain(status, None)}")

    def status(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={plain(status, None)}")

    def stopping(self) -> None:
        """cfgsync is about to end."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Send a sign of life, every `watchdog` seconds."""
        self._send("WATCHDOG=1")

    def close(self) -> None:
        """Close the socket; later messages are dropped."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.sendto("\n".join(lines).encode(), self._address)


def without_us(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for the program, whose service manager listens to cfgsync instead."""
    return {name: value for name, value in environment.items() if name not in VARIABLES}


def _watchdog(environment: Mapping[str, str]) -> float | None:
    asked, of = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not (asked.isascii() and asked.isdigit()) or int(asked) <= 0 or (of and of != str(os.getpid())):
        return None
    return int(asked) / 2_000_000
