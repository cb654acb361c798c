"""The sockets that a server listens on, every address that it was given on one port, and what accepts their connections."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from aiohttp.web_protocol import RequestHandler

from .connections import ACCEPTED_AT_ONCE, BACKLOG, LimitedServer

if TYPE_CHECKING:
    import ssl

ALL_6: Final = "::"
ALL_4: Final = "0.0.0.0"
_ABSENT: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_PORTS_TRIED: Final = 10
_AGAIN_SECONDS: Final = 1.0


class Acceptor:
    """Accepts the connections of a bound socket for `server`, at most `ACCEPTED_AT_ONCE` in one turn: an event loop's own
    server accepts its whole backlog, which passes the limit of open files before others can be closed. With `tls`, which
    gives the context of the moment, they begin with a handshake.

    While no file is left it tells the loop's exception handler, and tries again every second. `close` closes the socket.
    """

    def __init__(
        self,
        listening: socket.socket,
        server: LimitedServer,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = listening
        self._server = server
        self._tls = tls
        self._connecting: set[asyncio.Task[bool]] = set()
        self._again: asyncio.TimerHandle | None = None
        listening.listen(BACKLOG)
        self._begin()

    def close(self) -> None:
        """Accept no more; connections that are not made yet are closed."""
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()
        for task in self._connecting:
            task.cancel()

    def _begin(self) -> None:
        self._again = None
        self._loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                peer, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._loop.call_exception_handler(
                    {"message": "a connection cannot be accepted", "exception": error}
                )
                self._loop.remove_reader(self._socket)
                self._again = self._loop.call_later(_AGAIN_SECONDS, self._begin)
                return
            handler = self._server()
            task = self._loop.create_task(self._connect(peer, handler))
            self._connecting.add(task)
            task.add_done_callback(partial(self._connected, peer, handler))
            self._server.accepted(handler, task.cancel)

    async def _connect(self, peer: socket.socket, handler: RequestHandler) -> bool:
        """False for a peer that has gone, or whose handshake failed."""
        peer.setblocking(False)
        try:
            if self._tls is None:
                await self._loop.connect_accepted_socket(lambda: handler, peer)
            else:
                from .handshake import shake_hands  # loads `ssl`

                await shake_hands(peer, lambda: handler, self._tls)
        except OSError:
            return False
        return True

    def _connected(self, peer: socket.socket, handler: RequestHandler, task: asyncio.Task[bool]) -> None:
        self._connecting.discard(task)
        if task.cancelled() or task.exception() is not None or not task.result():
            self._server.given_up(handler)
            peer.close()


def address_of(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def listening_sockets(hosts: Iterable[str], port: int) -> list[socket.socket]:
    """Bound sockets for each host; the caller closes them. Port 0 takes one that is free at all of them.

    `::` hears IPv4 too, and is `0.0.0.0` on a machine without IPv6. Of the addresses of a name, those that this machine
    does not have are left out. Raises `OSError` with the `host:port` that is not available as its `filename`.
    """
    # an address for all comes first, since no other can be bound beside it
    ordered = sorted(dict.fromkeys(hosts), key=lambda host: (host != ALL_6, host != ALL_4))
    for attempt in range(_PORTS_TRIED):
        opened: list[socket.socket] = []
        try:
            for host in ordered:
                taken = opened[0].getsockname()[1] if opened else port
                opened += await _bound(host, taken, opened)
            return opened
        except OSError as error:
            for one in opened:
                one.close()
            again = port == 0 and opened and error.errno == errno.EADDRINUSE and attempt + 1 < _PORTS_TRIED
            if not again:
                raise
    raise AssertionError("unreachable")


async def _bound(host: str, port: int, before: list[socket.socket]) -> list[socket.socket]:
    """The sockets of one host; none for an address that one of `before` hears already."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise OSError(errno.EADDRNOTAVAIL, "no address has this name", address_of(host, port)) from error
    made: list[socket.socket] = []
    failure: OSError | None = None
    is_heard = False
    for family, *_, address in found:
        if any(_hears(one, family, str(address[0])) for one in (*before, *made)):
            is_heard = True
            continue
        where = (address[0], made[0].getsockname()[1], *address[2:]) if made else address
        try:
            made.append(_socket(family, where))
        except OSError as error:
            failure = error
            if error.errno not in _ABSENT:
                break
    if failure is not None and (failure.errno not in _ABSENT or not (made or is_heard)):
        for one in made:
            one.close()
        if host == ALL_6 and failure.errno in _ABSENT:
            return await _bound(ALL_4, port, before)
        raise OSError(failure.errno, failure.strerror, address_of(host, port)) from failure
    return made


def _socket(family: int, address: tuple[object, ...]) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address[0] != ALL_6))
        one.setblocking(False)
        one.bind(address)
    except BaseException:
        one.close()
        raise
    return one


def _hears(one: socket.socket, family: int, host: str) -> bool:
    own = str(one.getsockname()[0])
    if own == ALL_6:
        with suppress(OSError):
            return family == socket.AF_INET6 or not one.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    return one.family == family and own in (host, ALL_4)
