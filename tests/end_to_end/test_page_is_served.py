"""`cfgsync serve` shows its fleet at `/`, to whom it may, unless it is told not to."""

from __future__ import annotations

import pytest

from tests.processes import Place, body, ended

APPLICATION = """
from cfgsync_adapter import ArtifactFile, MaterializedArtifacts

class Each:
    def materialize_snapshot(self, nodes):
        return MaterializedArtifacts.from_nodes({n.identifier: [
            ArtifactFile("/id", f"this is {n.identifier}"), ArtifactFile("/key", "nobody may see this", "0600")
        ] for n in nodes})
"""
OPEN = ("--host", "0.0.0.0", "--insecure-no-tls", "--insecure-no-auth")


@pytest.fixture
def application(place: Place) -> str:
    place.write("application.py", APPLICATION)
    return "application:Each"


def test_a_fetched_node_is_on_the_page_with_its_files_and_not_its_secret(
    place: Place, application: str
) -> None:
    server = place.serve(application, "--store", "memory:", "--page-contents")
    assert ended(place.fetch(server.url, "node-1"))[0] == 0
    page = server.ask("GET", "/")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b'href="?node=node-1"' in page.body
    assert b"Every node has its files" in page.body  # fetch has acknowledged them
    node = server.ask("GET", "/?node=node-1").body
    assert b"this is node-1" in node
    assert b"nobody may see this" not in node


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [(("--no-page",), {}), ((), {"CFGSYNC_SERVE_NO_PAGE": "1"})],
    ids=["flag", "variable"],
)
def test_it_can_be_turned_off(
    place: Place, application: str, arguments: tuple[str, ...], environment: dict[str, str]
) -> None:
    server = place.serve(application, "--store", "memory:", *arguments, environment=environment)
    assert server.ask("GET", "/").words["code"] == "not_found"
    assert server.ask("GET", "/status").status == 200


def test_a_server_file_can_turn_it_off(place: Place) -> None:
    place.write("bundle.yaml", "nodes: [{identifier: node-1, files: [{path: /a, content: x}]}]")
    lines = "port: 0\nsource: {kind: static, artifacts_path: bundle.yaml}\n"
    shown = place.serve_as_the_original(str(place.write("shown.yaml", lines)))
    assert b"The bundle is served." in shown.ask("GET", "/").body
    hidden = place.serve_as_the_original(str(place.write("hidden.yaml", lines + "no_page: true\n")))
    assert hidden.ask("GET", "/").status == 404


def test_open_to_other_machines_it_says_so_and_asks_for_no_name(place: Place, application: str) -> None:
    server = place.serve(application, "--store", "memory:", *OPEN)
    assert server.ask("POST", "/register", body("node-1")).status == 202
    elsewhere = {"Host": "cfgsync.internal:4400"}
    page = server.ask("GET", "/", headers=elsewhere)
    assert page.status == 200
    assert b"--insecure-no-tls and --insecure-no-auth" in page.body
    assert b"this is node-1" not in server.ask("GET", "/?node=node-1", headers=elsewhere).body
