"""One kept connection of the standard library: no answer may take longer than its deadline or be larger than its limit. It is
to one of the servers; the next one is to another when that did not answer.

It follows no redirect, uses no proxy, keeps no cookie and decompresses nothing.
"""

from __future__ import annotations

import http.client
import io
import os
import socket
import time
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from cfgsync_core import ServerUrl
from cfgsync_core.node import CONNECT_WITHIN, Lost, ReceivedAnswer, Request, is_foreign, secured
from cfgsync_core.text import cause, error_text, plain
from cfgsync_core.wire import MAX_PAYLOAD_BYTES

from .addresses import Addresses

IDLE_WITHIN: Final = 10.0  # s of silence inside a body after which it counts as cut off
KEPT_FOR: Final = 10.0  # s unused; servers close a connection after 15, and would lose a request
_CHUNK: Final = 256 * 1024


class HttpTransport:
    """Sends requests to one server, or one of several, one after the other, over one connection as long as it lasts."""

    def __init__(self, server: ServerUrl, addresses: Addresses | None = None) -> None:
        self._addresses = Addresses(server) if addresses is None else addresses
        self._line: _Line | None = None
        self._http = _connection(server)
        self._used_at = 0.0
        self._is_interrupted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._http.close()
        line, self._line = self._line, None
        if line is not None:
            line.abort()

    def interrupt(self) -> None:
        """End the request of another thread, which gets `Lost`. Do not use the transport afterwards."""
        self._is_interrupted = True
        if (line := self._line) is not None:
            line.interrupt()

    def send(self, request: Request) -> ReceivedAnswer:
        """The answer to one request. Raises `Lost`."""
        start = time.monotonic()
        try:
            if self._line is None or start - self._used_at > KEPT_FOR:
                self.close()
                self._line = _Line(self._addresses, start + min(CONNECT_WITHIN, request.end_within))
                self._http = _connection(self._line.address.server)
                self._http.sock = self._line  # as much of a socket as http.client uses
            begin = min(request.begin_within, request.end_within)
            if self._addresses.is_new(self._line.address):
                begin = min(begin, request.end_within / self._addresses.count)  # each address has its chance
            self._line.until = start + begin
            path = self._line.address.server.prefix + request.path
            self._http.putrequest(request.method, path, skip_accept_encoding=True)
            for name, value in request.headers.items():
                self._http.putheader(name, value)
            if request.method != "GET":
                self._http.putheader("Content-Length", str(len(request.body)))
            self._http.endheaders(request.body)
            address = self._line.address
            answer = self._read(self._line, start + request.end_within)
        except (OSError, http.client.HTTPException, ValueError, Lost) as error:
            lost = self._lost(error)
            self.close()
            raise lost from error
        except BaseException:
            self.close()  # half an answer may still be on its way
            raise
        self._used_at = time.monotonic()
        if answer.status == 503 or is_foreign(answer, request.path.partition("?")[0]):
            self._addresses.was_silent(address)
            if self._addresses.count > 1:
                self.close()  # the next request tries another address
        else:
            self._addresses.answered(address)
        return answer

    def _lost(self, error: Exception) -> Lost:
        """Why no server answers: of several in words that stay the same from try to try."""
        servers, why = self._addresses.servers, self._addresses.why
        if self._line is not None and not self._is_interrupted:
            self._addresses.was_silent(self._line.address)
            why[self._line.address.server] = error
        hint = next((one.hint for one in (error, *why.values()) if isinstance(one, Lost)), "")
        if len(servers) == 1:
            return Lost(_why(error), hint)
        of_each = "; ".join(f"{one}: {_why(why[one])}" for one in servers if one in why)
        return Lost(of_each or _why(error), hint)

    def _read(self, line: _Line, until: float) -> ReceivedAnswer:
        response = self._http.getresponse()
        if line.ended:  # inside the headers; http.client reads that as their end
            raise http.client.IncompleteRead(b"")
        line.until, line.idle = until, IDLE_WITHIN
        body = bytearray()
        while len(body) <= MAX_PAYLOAD_BYTES and (response.length or 0) <= MAX_PAYLOAD_BYTES:
            chunk = response.read(_CHUNK)
            if not chunk:
                break
            body += chunk
        cut = len(body) > MAX_PAYLOAD_BYTES or (response.length or 0) > MAX_PAYLOAD_BYTES
        if not cut and response.length:
            raise http.client.IncompleteRead(bytes(body), response.length)
        line.idle = None
        if cut or response.will_close:
            response.close()
            self.close()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return ReceivedAnswer(response.status, headers, b"" if cut else bytes(body), cut)


def _connection(server: ServerUrl) -> http.client.HTTPConnection:
    made = http.client.HTTPConnection(server.host, server.port)
    made.auto_open = 0  # it would open a connection without a deadline
    made.response_class = _Final
    return made


class _Final(http.client.HTTPResponse):
    """Skips every interim answer; http.client skips 100 only, and a proxy may send 103 (RFC 9110, 15.2)."""

    # a response whose constructor was cut short by Ctrl-C can be deleted without an error
    fp = None  # type: ignore[assignment]  # typeshed knows only complete ones

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]  # typeshed hides it
        interim = 100 <= status < 200 and status != http.client.SWITCHING_PROTOCOLS
        return version, int(http.client.CONTINUE) if interim else status, reason


class _Line:
    """The part of a socket that http.client needs, with one deadline for all calls instead of a timeout for each, so that
    a server that sends single bytes also has to end at `until`."""

    def __init__(self, addresses: Addresses, until: float) -> None:
        self.until = until
        self.idle: float | None = None
        self.ended = False  # the server has sent its last byte
        self._readers = 0
        self._closing = False
        opened, self.address = addresses.connected(until)
        self._socket = self._limited(opened)
        server = self.address.server
        if server.scheme == "https":
            try:
                self._socket = secured(self._socket, server.host, server.trust, self._again)
            except Exception as error:
                addresses.was_silent(self.address)  # another address may show another certificate
                addresses.why[server] = error
                raise

    def _again(self) -> socket.socket:
        return self._limited(self.address.opened(self.left()))

    def _limited(self, opened: socket.socket) -> socket.socket:
        try:
            opened.settimeout(self.left())
        except BaseException:
            opened.close()
            raise
        return opened

    def sendall(self, data: bytes) -> None:
        self._socket.settimeout(self.left())
        self._socket.sendall(data)

    def makefile(self, mode: str, *more: object) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self), _CHUNK)

    def close(self) -> None:
        """http.client closes the socket before it reads the last answer, so the reader keeps it open."""
        self._closing = True
        if not self._readers:
            self._socket.close()

    def abort(self) -> None:
        """Close it, even during a read."""
        self._socket.close()

    def interrupt(self) -> None:
        """Wake a thread that reads; closing alone would not wake it."""
        with suppress(OSError):
            socket.socket.shutdown(
                self._socket, socket.SHUT_RDWR
            )  # a TLS socket's own would take its TLS away

    def opened(self) -> None:
        self._readers += 1

    def closed(self) -> None:
        self._readers -= 1
        if self._closing and not self._readers:
            self._socket.close()

    def left(self) -> float:
        """Seconds until the deadline. Raises `TimeoutError` when it has passed."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def receive(self, into: memoryview) -> int:
        left = self.left()
        self._socket.settimeout(left if self.idle is None else min(left, self.idle))
        size = self._socket.recv_into(into)
        self.ended = size == 0
        return size


class _Reader(io.RawIOBase):
    """The bytes of one answer. Closing it leaves the line open for the next one."""

    def __init__(self, line: _Line) -> None:
        self._line = line
        line.opened()

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._line.closed()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # narrower than Buffer: what io passes
        return self._line.receive(buffer)


def _why(error: Exception) -> str:
    if isinstance(error, Lost):
        return str(error)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return f"the server's name cannot be resolved ({error.strerror})"
    if isinstance(error, http.client.RemoteDisconnected | ConnectionError):
        return (
            os.strerror(error.errno).lower() if error.errno else "the connection was closed without an answer"
        )
    if isinstance(error, http.client.IncompleteRead):
        return "the connection was closed in the middle of an answer"
    if isinstance(error, http.client.BadStatusLine):
        return "the answer is not HTTP"
    if isinstance(error, OSError) and error.strerror:
        return cause(error)
    return plain(error_text(error), 200)
