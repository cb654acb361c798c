"""A server that is open to other machines without TLS or a rule for which nodes may join says so in its log and in /status."""

from __future__ import annotations

import pytest

from tests.processes import Place, Server, body, ended, eventually

APPLICATION = """
from cfgsync_adapter import ArtifactFile, MaterializedArtifacts

class Each:
    def materialize_snapshot(self, nodes):
        return MaterializedArtifacts.from_nodes({n.identifier: [ArtifactFile("/id", n.identifier)] for n in nodes})
"""
BUNDLE = "nodes: [{identifier: node-1, files: [{path: /a, content: x}]}]"


def serve(place: Place, *arguments: str) -> Server:
    place.write("application.py", APPLICATION)
    return place.serve("application:Each", "--store", "memory:", *arguments)


def banners(server: Server) -> list[str]:
    return [line.partition("INSECURE ")[2] for line in server.log.splitlines() if "INSECURE" in line]


def test_what_is_lacking_is_said_in_the_log_and_in_status(place: Place) -> None:
    server = serve(place, "--host", "0.0.0.0", "--insecure-no-tls", "--insecure-no-auth")
    eventually(lambda: len(banners(server)) == 2)
    tls, auth = banners(server)
    assert tls.startswith("(--insecure-no-tls): 0.0.0.0 is open to other machines; nothing is encrypted")
    assert auth.startswith(
        "(--insecure-no-auth): 0.0.0.0 is open to other machines; anyone who can reach it may join"
    )
    assert server.status()["insecure"] == ["no-tls", "no-auth"]
    shown = place.run("status", "--server", f"http://127.0.0.1:{server.port}")
    assert "insecure: no-tls, no-auth" in shown.stdout.splitlines()


def test_a_bundle_off_loopback_is_given_to_nodes_that_have_joined(place: Place) -> None:
    place.write("bundle.yaml", BUNDLE)
    open_door = ("--bundle", "bundle.yaml", "--host", "0.0.0.0", "--insecure-no-tls")
    server = place.serve(*open_door, "--store", "sqlite:tokens.db")
    mine = {"Authorization": "Bearer the-secret-of-node-1"}
    assert server.ask("POST", "/node", body("node-1"), mine).status == 401
    assert server.ask("POST", "/register", body("node-1"), mine).status == 401
    made = server.operate("POST", "/admin/token/create", b'{"for":"node-1"}').words["token"]
    assert server.ask("POST", "/register", body("node-1"), mine | {"Cfgsync-Join-Token": made}).status == 202
    assert server.ask("POST", "/node", body("node-1"), mine).words["files"][0]["path"] == "/a"
    assert server.ask("POST", "/node", body("node-1")).status == 401
    server.kill()
    again = place.serve(*open_door, "--store", "sqlite:tokens.db")
    assert again.ask("POST", "/node", body("node-1"), mine).status == 200
    assert place.run("node", "evict", "node-1", "--server", again.url).returncode == 0
    assert again.ask("POST", "/node", body("node-1"), mine).status == 401
    again.stop()
    anonymous = place.serve(*open_door, "--store", "memory:", "--allow-anonymous")
    assert anonymous.ask("POST", "/node", body("node-1")).status == 200
    eventually(lambda: len(banners(anonymous)) == 1)


@pytest.mark.parametrize("given", [(), ("--insecure-no-tls", "--insecure-no-auth")])
def test_on_loopback_nothing_is_lacking(place: Place, given: tuple[str, ...]) -> None:
    server = serve(place, *given)
    assert banners(server) == []
    assert "insecure" not in server.status()


def test_a_name_that_another_secret_took_is_shown(place: Place) -> None:
    server = serve(place, "--host", "0.0.0.0", "--insecure-no-tls", "--insecure-no-auth")
    url = f"http://127.0.0.1:{server.port}"
    assert ended(place.fetch(url, "alone"))[0] == 0
    for secret in ("a" * 32, "b" * 32, "a" * 32):
        mine = {"Authorization": f"Bearer {secret}"}
        assert server.ask("POST", "/register", body("taken"), mine).status == 202
    nodes = {node["identifier"]: node for node in server.status()["nodes"]}
    assert nodes["taken"]["rebound"] == 2
    assert "rebound" not in nodes["alone"]
    assert server.status("taken")["rebound"] == 2
    assert "another secret took this name 2 times" in place.run("status", "taken", "--server", url).stdout
