"""The settings of docs/howto/proxies.md, each with the real proxy: a request that is held for its whole time, hints that
arrive at once, and an operator's routes that stay shut. The page's own blocks, which boot two nodes, run in tests/docs."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.docs.blocks import free_ports
from tests.processes import Place, Server, body, connected, eventually
from tests.proxies import Proxy, in_front_of, wait_until_up

HELD = 30
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
APPLICATION = """
from cfgsync_adapter import NotReady

class Never:
    def materialize_snapshot(self, nodes):
        return NotReady("waiting for node-2")
"""


@pytest.fixture
def proxies(place: Place) -> Iterator[tuple[Server, dict[str, Proxy]]]:
    """A server, and the proxies in front of it."""
    place.write("application.py", APPLICATION)
    made = place.run("tls", "init", "--host", "localhost")
    assert made.returncode == 0, made.stderr
    trust = ssl.create_default_context(cafile=str(place.directory / "ca.pem"))
    served = ("application:Never", "--store", "memory:", "--trusted-proxy", "127.0.0.1")
    server = place.serve(*served, port=free_ports()[0])
    with in_front_of(server.port, place.directory, trust=trust) as running:
        wait_until_up(running)
        yield server, running


def test_a_proxy_with_the_page_s_settings_holds_requests_passes_hints_on_and_makes_nobody_an_operator(
    proxies: tuple[Server, dict[str, Proxy]],
) -> None:
    server, running = proxies
    names = [name.replace(" ", "-") for name in running]
    with ThreadPoolExecutor(len(running)) as pool:
        for name, problems in zip(running, pool.map(_problems, running.values(), names), strict=True):
            assert problems == [], name
    if (
        nginx := running.get("nginx with TLS")
    ) is not None:  # the log has the client's address, which gives no right
        assert nginx.ask("POST", "/admin/evict", body("a"), {"X-Forwarded-For": "203.0.113.9"}).status == 403
        eventually(lambda: "by anyone from 203.0.113.9: refused, 403" in server.log)


def _problems(proxy: Proxy, node: str) -> list[str]:
    found = []
    assert proxy.ask("POST", "/register", body(node)).status == 202
    began = time.monotonic()
    with closing(connected(proxy.port, 15, proxy.tls)) as watching:
        watching.request("GET", "/watch")
        stream = watching.getresponse()
        line = stream.readline()
        while line and b"hint" not in line:
            line = stream.readline()
        if b"hint" not in line or time.monotonic() - began > 10:
            found.append(f"the first hint of /watch: {line!r} after {time.monotonic() - began:.1f} s")
        stream.close()
    for host in ("cfg.example.com", "127.0.0.1", "localhost"):
        for method, path, words in (
            ("GET", "/admin/snapshot", None),
            ("POST", "/admin/evict", body(node)),
            ("POST", "/node/replace", b'{"identifier":"nginx","files":[]}'),
        ):
            reply = proxy.ask(method, path, words, {"Host": host})
            is_caddy_s_own = (
                reply.status == 200
                and not reply.body
                and (node, host == "localhost") == ("caddy-with-TLS", False)
            )
            if reply.status != 403 and not is_caddy_s_own:  # its site has a name: docs/howto/proxies.md
                found.append(f"{method} {path} with Host {host}: {reply.status}")
    own = f"{'http' if proxy.tls is None else 'https'}://{'127.0.0.1' if proxy.tls is None else 'localhost'}:{proxy.port}"
    for origin, status in ((own, 401), ("http://attacker.example", 403)):
        login = proxy.ask(
            "POST", "/login", b"token=x", {**FORM, "Origin": origin, "Host": own.partition("//")[2]}
        )
        if login.status != status:
            found.append(f"the form of the page, sent from {origin}: {login.status}")
    began = time.monotonic()
    held = proxy.ask("POST", "/node", body(node), {"Prefer": f"wait={HELD}"})
    took = time.monotonic() - began
    if held.status != 425 or held.words["reason"] != "waiting for node-2" or took < HELD - 3:
        found.append(f"held for {took:.1f} s, then {held.status} {held.body[:200]!r}")
    return found
