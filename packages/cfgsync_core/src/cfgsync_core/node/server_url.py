"""The URL of a server, read once: `http://127.0.0.1:4400`, with a path in front of the routes where a proxy wants one. Several
servers that share a store are the URL of the first one, with the others in it."""

from __future__ import annotations

import re
from typing import Final, Self
from urllib.parse import urlsplit

import msgspec

from cfgsync_artifacts import CfgsyncError

from .trust.server import Trust

_PORTS: Final = {"http": 80, "https": 443}
_HOST_AND_PORT: Final = re.compile(r"(\[[^/]+\]|[^:/]+):[0-9]+/*")


class InvalidServerUrl(CfgsyncError, ValueError):
    """The text is not the URL of one server; the message shows a valid one."""


class ServerUrl(msgspec.Struct, frozen=True):
    """Where a server is: `prefix` is "" or begins with `/` and does not end with it. `trust` is how an https server is known.
    `others` are servers of the same store, to ask when this one does not answer."""

    scheme: str
    host: str
    port: int
    prefix: str = ""
    trust: Trust = Trust()
    others: tuple[ServerUrl, ...] = ()

    @classmethod
    def parse_several(cls, text: str) -> ServerUrl:
        """The first of the servers in `text`, which has commas between them, with the others. Raises `InvalidServerUrl`."""
        first, *others = dict.fromkeys(cls.parse(one.strip()) for one in text.split(","))
        return msgspec.structs.replace(first, others=tuple(others))

    @property
    def each(self) -> tuple[ServerUrl, ...]:
        """This server, and the others."""
        return (msgspec.structs.replace(self, others=()), *self.others) if self.others else (self,)

    def trusting(self, trust: Trust) -> ServerUrl:
        """The same servers, each verified by `trust`."""
        first, *others = (msgspec.structs.replace(one, trust=trust) for one in self.each)
        return msgspec.structs.replace(first, others=tuple(others))

    @classmethod
    def parse(cls, text: str, trust: Trust = Trust()) -> Self:  # noqa: B008  # it is frozen
        """The server in `text`, which may be `HOST:PORT`. Raises `InvalidServerUrl`."""
        if any(c.isspace() or not c.isprintable() for c in text) or "," in text:
            raise InvalidServerUrl(
                f"{text[:200]!r} is not the URL of one server; http://127.0.0.1:4400 is one"
            )
        try:
            parts = urlsplit(
                text if "://" in text or not _HOST_AND_PORT.fullmatch(text) else f"http://{text}"
            )
            port = parts.port
        except ValueError as error:
            raise InvalidServerUrl(f"{text[:200]!r} is not a URL: {error}") from error
        if parts.scheme not in _PORTS or not parts.hostname:
            raise InvalidServerUrl(f"{text[:200]!r} does not begin as http://HOST or https://HOST does")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise InvalidServerUrl("a server's URL has no user, password, '?' or '#' in it")
        if port == 0:
            raise InvalidServerUrl(f"{text[:200]!r} names port 0")
        path = parts.path.rstrip("/")
        host = parts.hostname
        if ":" in host:
            host = host.replace("%25", "%", 1)  # a zone, as RFC 6874 writes it
        return cls(parts.scheme, host, port or _PORTS[parts.scheme], path, trust)

    @property
    def name(self) -> str | bytes:
        """The host for `getaddrinfo`: as bytes, which spare it the tables of international names, unless it is one."""
        return self.host.encode() if self.host.isascii() else self.host

    def __str__(self) -> str:
        """The URL in its one spelling: scheme and host in lower case, the port written out, no slash at the end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.prefix}"
