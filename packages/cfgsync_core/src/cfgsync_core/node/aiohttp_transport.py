"""The requests of an asyncio program over aiohttp: no redirect is followed, no cookie kept, nothing decompressed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp

from ..text import error_text
from ..wire.limits import MAX_PAYLOAD_BYTES
from .answers import is_foreign
from .received_answer import ReceivedAnswer
from .requests import CONNECT_WITHIN, Lost, Request
from .server_url import ServerUrl
from .trust.server import looking, pin, shown_chain, verifying, why_unverified

if TYPE_CHECKING:
    import ssl


class AiohttpTransport:
    """Sends requests to one server, over `session` or, without one, over a session of its own, which `close` closes. An answer
    over `max_bytes` is cut."""

    def __init__(
        self,
        server: ServerUrl,
        session: aiohttp.ClientSession | None = None,
        max_bytes: int = MAX_PAYLOAD_BYTES,
    ) -> None:
        self._server = server
        self._max_bytes = max_bytes
        self._given = session
        self._own: aiohttp.ClientSession | None = None
        self._context: ssl.SSLContext | None = None  # kept: the connections of one context are shared

    async def close(self) -> None:
        """Close the session that this transport opened."""
        if self._own is not None:
            await self._own.close()
            self._own = None

    async def send(self, request: Request) -> ReceivedAnswer:
        """The answer to one request. Raises `Lost`."""
        try:
            async with await self._requested(request, request.end_within) as response:
                return await self._received(response)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._lost(error) from error

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[tuple[ReceivedAnswer, AsyncIterator[str]]]:
        """An answer that goes on, and its lines; one that is not 200 has its body, and no lines. It may be silent for
        `begin_within` seconds. Raises `Lost`, also while the lines are read."""
        try:
            response = await self._requested(request, None)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._lost(error) from error

        async def lines() -> AsyncIterator[str]:
            try:
                async for line in response.content:
                    yield line.decode("utf-8", "replace").rstrip("\r\n")
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                raise self._lost(error) from error  # a ValueError: a line that is too long

        try:
            headers = _lowered(response)
            if response.status == 200:
                yield ReceivedAnswer(200, headers), lines()
            else:
                yield await self._received(response), lines()
        finally:
            response.close()

    async def _requested(self, request: Request, end_within: float | None) -> aiohttp.ClientResponse:
        connect_within = min(CONNECT_WITHIN, request.end_within)
        timeout = aiohttp.ClientTimeout(
            total=end_within, sock_connect=connect_within, sock_read=request.begin_within
        )
        return await self._session().request(
            request.method,
            f"{self._server}{request.path}",
            data=request.body or None,
            headers=request.headers,
            skip_auto_headers=("Accept-Encoding", "User-Agent"),
            allow_redirects=False,
            timeout=timeout,
            ssl=await self._verifying(request.end_within),
        )

    async def _received(self, response: aiohttp.ClientResponse) -> ReceivedAnswer:
        body = await _body(response, self._max_bytes)
        return ReceivedAnswer(response.status, _lowered(response), body or b"", cut=body is None)

    def _lost(self, error: Exception) -> Lost:
        self._context = None  # a replaced CA file is read again
        return _lost(error, self._server)

    async def _verifying(self, within: float) -> ssl.SSLContext | bool:
        """What verifies the server. Raises `Lost`, `OSError`."""
        trust = self._server.trust
        if self._server.scheme == "http" or not trust:
            return True
        if (known := self._context) is None and (known := verifying(trust)) is None:
            async with asyncio.timeout(min(within, CONNECT_WITHIN)):
                _, looked = await asyncio.open_connection(
                    self._server.host, self._server.port, ssl=looking(), server_hostname=self._server.host
                )
            try:
                pin(trust, shown_chain(looked.get_extra_info("ssl_object")))
            finally:
                looked.transport.abort()
            known = verifying(trust, has_looked=True)
            assert known is not None  # just pinned
        self._context = known
        return known

    def _session(self) -> aiohttp.ClientSession:
        if self._given is not None:
            return self._given
        if self._own is None:
            self._own = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=10.0),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._own


class SeveralTransports:
    """Sends requests to one of the servers of a store, as long as it answers; after one that is lost, or says that it cannot
    serve, the next request goes to another server."""

    def __init__(self, servers: ServerUrl, session: aiohttp.ClientSession | None = None) -> None:
        self._each = [(one, AiohttpTransport(one, session)) for one in servers.each]
        self._now = 0

    @property
    def server(self) -> ServerUrl:
        """The one that is asked next."""
        return self._each[self._now][0]

    async def close(self) -> None:
        for _, transport in self._each:
            await transport.close()

    async def send(self, request: Request) -> ReceivedAnswer:
        """The answer to one request. Raises `Lost`."""
        asked = self._now
        try:
            answer = await self._each[asked][1].send(request)
        except Lost:
            self._leave(asked)
            raise
        if answer.status == 503 or is_foreign(answer, request.path.partition("?")[0]):
            self._leave(asked)
        return answer

    def _leave(self, asked: int) -> None:
        if self._now == asked:  # else another request has left it
            self._now = (asked + 1) % len(self._each)


def _lowered(response: aiohttp.ClientResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


async def _body(response: aiohttp.ClientResponse, at_most: int) -> bytes | None:
    """The whole body; None when it is larger."""
    if (response.content_length or 0) > at_most:
        response.close()
        return None
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > at_most:
            response.close()
            return None
    return bytes(body)


def _lost(error: Exception, server: ServerUrl) -> Lost:
    if server.scheme == "https":
        refused = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        if (lost := why_unverified(refused, server.host, server.trust)) is not None:
            return lost
    return Lost(_why(error))


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        return os.strerror(number).lower() if isinstance(number, int) and number > 0 else str(error.os_error)
    return error_text(error)
