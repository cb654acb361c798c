"""The requests of an asyncio program over aiohttp: no redirect is followed, no cookie kept, nothing decompressed."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import aiohttp

from ..text import error_text
from ..wire.limits import MAX_PAYLOAD_BYTES
from .received_answer import ReceivedAnswer
from .requests import CONNECT_WITHIN, Lost, Request
from .server_trust import looking, pin, shown_chain, verifying, why_unverified
from .server_url import ServerUrl

if TYPE_CHECKING:
    import ssl


class AiohttpTransport:
    """Sends requests to one server, over `session` or, without one, over a session of its own, which `close` closes."""

    def __init__(self, server: ServerUrl, session: aiohttp.ClientSession | None = None) -> None:
        self._server = server
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
        timeout = aiohttp.ClientTimeout(
            total=request.end_within,
            sock_connect=min(CONNECT_WITHIN, request.end_within),
            sock_read=request.begin_within,
        )
        try:
            verified_by = await self._verifying(request.end_within)
            async with self._session().request(
                request.method,
                f"{self._server}{request.path}",
                data=request.body,
                headers=request.headers,
                skip_auto_headers=("Accept-Encoding", "User-Agent"),
                allow_redirects=False,
                timeout=timeout,
                ssl=verified_by,
            ) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                body = await _body(response)
                return ReceivedAnswer(response.status, headers, body or b"", cut=body is None)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._context = None  # a replaced CA file is read again
            raise _lost(error, self._server) from error

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


async def _body(response: aiohttp.ClientResponse) -> bytes | None:
    """The whole body; None when it is larger than a node takes."""
    if (response.content_length or 0) > MAX_PAYLOAD_BYTES:
        response.close()
        return None
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_PAYLOAD_BYTES:
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
