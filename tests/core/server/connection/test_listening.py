"""Where a server listens: all its hosts on one port, and `::` is every address of the machine."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from contextlib import closing

import aiohttp
import pytest

from cfgsync_core.server.connection import listening
from cfgsync_core.server.http import HttpServer
from cfgsync_core.server.route import Call, Reply, Route


async def told(call: Call) -> Reply:
    return Reply(200, (b"{}",))


ROUTES = [Route("GET", "/a", told)]


async def answers(url: str) -> bool:
    async with aiohttp.ClientSession() as session:
        try:
            async with session.get(f"{url}/a") as answer:
                return answer.status == 200
        except aiohttp.ClientConnectorError:
            return False


@pytest.mark.parametrize(
    ("hosts", "heard", "unheard"),
    [
        ("127.0.0.1", ["127.0.0.1"], ["[::1]"]),
        ("::1", ["[::1]"], ["127.0.0.1"]),
        ("::", ["127.0.0.1", "127.0.0.2", "[::1]"], []),
        ("0.0.0.0", ["127.0.0.1", "127.0.0.2"], ["[::1]"]),
        (["127.0.0.1", "::1"], ["127.0.0.1", "[::1]"], ["127.0.0.2"]),
        (["127.0.0.1", "::"], ["127.0.0.1", "127.0.0.2", "[::1]"], []),
        (["0.0.0.0", "::"], ["127.0.0.1", "[::1]"], []),
        (["127.0.0.1", "0.0.0.0", "127.0.0.1"], ["127.0.0.1", "127.0.0.2"], ["[::1]"]),
        (["localhost", "127.0.0.1"], ["127.0.0.1"], ["127.0.0.2"]),
    ],
    ids=str,
)
async def test_each_host_is_heard_on_one_port_and_no_other_address_is(
    hosts: str | Sequence[str], heard: list[str], unheard: list[str]
) -> None:
    async with HttpServer(ROUTES, hosts, 0) as server:
        first = hosts if isinstance(hosts, str) else hosts[0]
        assert server.url == f"http://{listening.address_of(first, server.port)}"
        for host in heard:
            assert await answers(f"http://{host}:{server.port}"), host
        for host in unheard:
            assert not await answers(f"http://{host}:{server.port}"), host
    for host in heard:
        assert not await answers(f"http://{host}:{server.port}"), "it listens after its end"


async def test_an_address_that_is_taken_or_not_here_is_named_and_the_others_are_given_up() -> None:
    with closing(socket.create_server(("127.0.0.2", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="Address already in use") as refused:
            await listening.listening_sockets(["127.0.0.1", "127.0.0.2"], port)
        assert refused.value.filename == f"127.0.0.2:{port}"
        socket.create_server(("127.0.0.1", port)).close()
    with pytest.raises(OSError, match="Cannot assign requested address") as refused:
        await listening.listening_sockets(["192.0.2.1"], 0)
    assert (refused.value.errno, refused.value.filename) == (errno.EADDRNOTAVAIL, "192.0.2.1:0")
    with pytest.raises(OSError, match="no address has this name") as refused:
        await listening.listening_sockets(["no.such.host.invalid"], 80)
    assert refused.value.filename == "no.such.host.invalid:80"


async def test_without_ipv6_all_addresses_are_those_of_ipv4_and_a_name_is_its_ipv4_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = listening._socket

    def without_ipv6(family: int, address: tuple[object, ...]) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return made(family, address)

    monkeypatch.setattr(listening, "_socket", without_ipv6)
    for host, name in (("::", "0.0.0.0"), ("localhost", "127.0.0.1")):
        (one,) = await listening.listening_sockets([host], 0)
        with one:
            assert one.getsockname()[0] == name
    with pytest.raises(OSError, match="Address family not supported"):
        await listening.listening_sockets(["::1"], 0)


async def test_a_free_port_is_free_at_each_host(monkeypatch: pytest.MonkeyPatch) -> None:
    made = listening._socket
    refusals = [OSError(errno.EADDRINUSE, "Address already in use")] * 3

    def sometimes_taken(family: int, address: tuple[object, ...]) -> socket.socket:
        if address[0] == "127.0.0.2" and refusals:
            raise refusals.pop()
        return made(family, address)

    monkeypatch.setattr(listening, "_socket", sometimes_taken)
    sockets = await listening.listening_sockets(["127.0.0.1", "127.0.0.2"], 0)
    assert len({one.getsockname()[1] for one in sockets}) == 1
    for one in sockets:
        one.close()
