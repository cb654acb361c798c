"""The addresses of the servers: found in a thread that no signal waits for, and tried in the order of what is known of them."""

from __future__ import annotations

import socket
import time
from typing import Final

import msgspec

from cfgsync_core import ServerUrl

RESOLVE_WITHIN: Final = 5.0
EACH_WITHIN: Final = 1.0
"""Seconds for one connection, where there is another address to try."""


class Address(msgspec.Struct, frozen=True):
    """One address of one server; `place` is what `socket.connect` takes."""

    server: ServerUrl
    family: socket.AddressFamily
    kind: socket.SocketKind
    proto: int
    place: tuple[object, ...]

    def opened(self, within: float) -> socket.socket:
        """A connection. Raises `OSError`."""
        opened = socket.socket(self.family, self.kind, self.proto)
        try:
            opened.settimeout(within)
            opened.connect(self.place)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            opened.close()
            raise
        return opened


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
    return [Address(server, family, kind, proto, place) for family, kind, proto, _, place in found]


class Addresses:
    """What one node knows of the addresses of its servers: the one that answered last is tried first, one that connects and
    does not answer as cfgsync does last, and of the others the one that failed least. The same holds for the servers."""

    def __init__(self, server: ServerUrl) -> None:
        self.servers = server.each
        self._answered: Address | None = None
        self._silent: set[Address] = set()
        self._failures: dict[Address | ServerUrl, int] = {}
        self.count = len(self.servers)
        """How many there are that may answer."""
        self.why: dict[ServerUrl, Exception] = {}
        """How each server failed last, of those that have not answered since."""

    def connected(self, until: float) -> tuple[socket.socket, Address]:
        """A connection, before `until` (of `time.monotonic`). Raises `OSError`."""
        why: OSError = TimeoutError()
        silent = {one.server for one in self._silent}
        servers = sorted(self.servers, key=lambda one: self._rank_of(one, silent))
        for number, server in enumerate(servers):
            if (left := until - time.monotonic()) <= 0:
                break
            try:
                found = resolve(
                    server, socket.SOCK_STREAM, min(left / (len(servers) - number), RESOLVE_WITHIN)
                )
            except OSError as error:
                self._failed(server)
                self.why[server] = why = error
                continue
            may_answer = len(found) - len(self._silent.intersection(found))
            self.count = max(may_answer + len(set(self.servers) - silent - {server}), 1)
            found.sort(key=self._rank)
            for address in found:
                if (left := until - time.monotonic()) <= 0:
                    break
                is_only = len(found) == 1 and len(servers) == 1
                try:
                    opened = address.opened(left if is_only else min(left, EACH_WITHIN))
                except OSError as error:
                    self.why[server] = why = error
                    self._failed(address)
                else:
                    return opened, address
            else:
                self._failed(server)
        raise why

    def answered(self, address: Address) -> None:
        """The server has answered from here."""
        self._answered = address
        self._silent.discard(address)
        self._failures.pop(address, None)
        self._failures.pop(address.server, None)
        self.why.pop(address.server, None)

    def was_silent(self, address: Address) -> None:
        """Nobody has answered from here, or not the server, or it said that it cannot serve."""
        self._silent.add(address)

    def is_new(self, address: Address) -> bool:
        """True until the server has answered from here."""
        return address != self._answered

    def _failed(self, one: Address | ServerUrl) -> None:
        self._failures[one] = self._failures.get(one, 0) + 1

    def _rank(self, address: Address) -> tuple[bool, bool, int]:
        return address in self._silent, self.is_new(address), self._failures.get(address, 0)

    def _rank_of(self, server: ServerUrl, silent: set[ServerUrl]) -> tuple[bool, bool, int]:
        is_new = self._answered is None or self._answered.server != server
        return server in silent, is_new, self._failures.get(server, 0)
