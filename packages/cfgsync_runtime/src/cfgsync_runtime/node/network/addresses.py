"""The addresses of a server: found in a thread that no signal waits for, and tried in the order of what is known of them."""

from __future__ import annotations

import socket
import time
from typing import Final, TypeAlias

from cfgsync_core import ServerUrl

RESOLVE_WITHIN: Final = 5.0
EACH_WITHIN: Final = 1.0
"""Seconds for one connection, where there is another address to try."""

Address: TypeAlias = tuple[socket.AddressFamily, socket.SocketKind, int, tuple[object, ...]]


def resolve(server: ServerUrl, kind: socket.SocketKind, within: float = RESOLVE_WITHIN) -> list[Address]:
    """The addresses of the server's name. Raises `OSError`, for a name server that does not answer `TimeoutError`."""
    if ":" in server.host or server.host.replace(".", "").isdigit():
        return _resolved(server, kind)
    import threading

    found: list[list[Address] | OSError] = []
    ended = threading.Event()

    def run() -> None:
        try:
            found.append(_resolved(server, kind))
        except OSError as error:
            found.append(error)
        ended.set()

    threading.Thread(target=run, name="cfgsync-resolve", daemon=True).start()
    if not ended.wait(within):
        raise TimeoutError
    if isinstance(found[0], OSError):
        raise found[0]
    return found[0]


def _resolved(server: ServerUrl, kind: socket.SocketKind) -> list[Address]:
    found = socket.getaddrinfo(server.name, server.port, type=kind)
    return [(family, kind, proto, address) for family, kind, proto, _, address in found]


class Addresses:
    """What one node knows of its server's addresses: the one that answered last is tried first, one that connects and does
    not answer as cfgsync does last, and of the others the one that failed least."""

    def __init__(self, server: ServerUrl) -> None:
        self._server = server
        self._answered: Address | None = None
        self._silent: set[Address] = set()
        self._failures: dict[Address, int] = {}
        self.count = 1
        """How many there are that may answer."""

    def connected(self, until: float) -> tuple[socket.socket, Address]:
        """A connection, before `until` (of `time.monotonic`). Raises `OSError`."""
        why: OSError = OSError("the name has no address")
        found = resolve(self._server, socket.SOCK_STREAM, min(_left(until), RESOLVE_WITHIN))
        self.count = max(len(found) - len(self._silent.intersection(found)), 1)
        found.sort(key=self._rank)
        for address in found:
            family, kind, proto, place = address
            opened = socket.socket(family, kind, proto)
            try:
                opened.settimeout(min(_left(until), EACH_WITHIN) if len(found) > 1 else _left(until))
                opened.connect(place)
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                why = error
                self._failures[address] = self._failures.get(address, 0) + 1
                opened.close()
            except BaseException:
                opened.close()
                raise
            else:
                return opened, address
        raise why

    def answered(self, address: Address) -> None:
        """The server has answered from here."""
        self._answered = address
        self._silent.discard(address)
        self._failures.pop(address, None)

    def was_silent(self, address: Address) -> None:
        """Nobody has answered from here, or not the server."""
        self._silent.add(address)

    def is_new(self, address: Address) -> bool:
        """True until the server has answered from here."""
        return address != self._answered

    def _rank(self, address: Address) -> tuple[bool, bool, int]:
        return address in self._silent, self.is_new(address), self._failures.get(address, 0)


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
