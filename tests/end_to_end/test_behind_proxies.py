"""The settings of docs/howto/proxies.md, each with the real proxy: a request that is held for its whole time, hints that
arrive at once, and an operator's routes that stay shut. The page's own blocks, which boot two nodes, run in tests/docs."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.processes import Place, ask, body
from tests.proxies import in_front_of, wait_until_up

HELD = 30
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
APPLICATION = """
from cfgsync_adapter import NotReady

class Never:
    def materialize_snapshot(self, nodes):
        return NotReady("waiting for node-2")
"""


@pytest.fixture
def proxies(place: Place) -> Iterator[dict[str, int]]:
    """The port of each proxy in front of a server."""
    place.write("application.py", APPLICATION)
    server = place.serve("application:Never", "--store", "memory:")
    with in_front_of(server.port, place.directory) as ports:
        wait_until_up(ports)
        yield ports


def test_a_proxy_with_the_page_s_settings_holds_requests_passes_hints_on_and_makes_nobody_an_operator(
    proxies: dict[str, int],
) -> None:
    with ThreadPoolExecutor(len(proxies)) as pool:
        for name, problems in zip(proxies, pool.map(_problems, proxies.values(), proxies), strict=True):
            assert problems == [], name


def _problems(port: int, node: str) -> list[str]:
    found = []
    assert ask(port, "POST", "/register", body(node)).status == 202
    began = time.monotonic()
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=15)) as watching:
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
            status = ask(port, method, path, words, {"Host": host}).status
            if status != 403:
                found.append(f"{method} {path} with Host {host}: {status}")
    for origin, status in ((f"http://127.0.0.1:{port}", 401), ("http://attacker.example", 403)):
        login = ask(port, "POST", "/login", b"token=x", {**FORM, "Origin": origin})
        if login.status != status:
            found.append(f"the form of the page, sent from {origin}: {login.status}")
    began = time.monotonic()
    held = ask(port, "POST", "/node", body(node), {"Prefer": f"wait={HELD}"})
    took = time.monotonic() - began
    if held.status != 425 or held.words["reason"] != "waiting for node-2" or took < HELD - 3:
        found.append(f"held for {took:.1f} s, then {held.status} {held.body[:200]!r}")
    return found
