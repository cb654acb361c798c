"""The client's address behind proxies: only a trusted proxy's word counts, and only up to the first that is not one."""

from __future__ import annotations

import asyncio

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from cfgsync_core import HttpServer
from cfgsync_core.server.connection.forwarded import TrustedProxies
from cfgsync_core.server.route import OPERATOR, Call, Reply
from tests.routes import get


@pytest.mark.parametrize(
    ("peer", "hops", "client"),
    [
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.9"], "203.0.113.9"),  # the left one is what the client wrote
        ("10.0.0.1", ["203.0.113.9, 10.0.0.2"], "203.0.113.9"),  # two proxies of ours
        ("10.0.0.1", ["1.1.1.1", "203.0.113.9"], "203.0.113.9"),  # two headers
        ("10.0.0.1", ["10.0.0.7, 10.0.0.2"], "10.0.0.7"),  # a client among the proxies
        ("10.0.0.1", ["203.0.113.9:5555"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::9]:5555"], "2001:db8::9"),
        ("10.0.0.1", ["203.0.113.9, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9, unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("fd00::1", ["203.0.113.9"], "203.0.113.9"),
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),  # nobody's proxy
        ("", ["203.0.113.9"], ""),
    ],
)
def test_the_client_is_the_right_most_hop_that_is_no_trusted_proxy(
    peer: str, hops: list[str], client: str
) -> None:
    headers = CIMultiDictProxy(CIMultiDict([("X-Forwarded-For", one) for one in hops]))
    assert TrustedProxies(["10.0.0.0/8", "fd00::1"]).client(peer, headers) == client
    assert TrustedProxies().client(peer, headers) == peer


async def test_an_address_that_a_proxy_wrote_is_the_call_s_and_gives_no_right() -> None:
    heard: list[tuple[str, bool]] = []

    async def hear(call: Call) -> Reply:
        heard.append((call.address, call.principal == OPERATOR))
        return Reply(204)

    async with HttpServer([get("/who", hear)], port=0, trusted_proxies=["127.0.0.0/8"]) as server:
        for claimed in ("203.0.113.9", "127.0.0.1", "::1"):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(
                b"GET /who HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: %b\r\nConnection: close\r\n\r\n"
                % claimed.encode()
            )
            await reader.read()
            writer.close()
    assert heard == [("203.0.113.9", False), ("127.0.0.1", False), ("::1", False)]
