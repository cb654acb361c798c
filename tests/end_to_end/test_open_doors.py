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


def test_to_take_nodes_without_a_secret_is_no_rule_for_who_may_join(place: Place) -> None:
    place.write("bundle.yaml", BUNDLE)
    open_door = ("--bundle", "bundle.yaml", "--host", "0.0.0.0", "--insecure-no-tls", "--allow-anonymous")
    refused = place.run("serve", *open_door, "--port", "0")
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].endswith("add --insecure-no-auth")
    server = place.serve(*open_door, "--insecure-no-auth")
    eventually(lambda: len(banners(server)) == 2)


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
