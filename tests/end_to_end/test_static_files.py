"""Files that are known beforehand: a bundle, and the original's server files of all three generations."""

from __future__ import annotations

import json

import pytest

from tests.processes import Place, Server, body, ended

BUNDLE = """
nodes:
- identifier: node-1
  files:
  - {path: /config.yaml, content: "id: node-1\\n"}
  - {path: /tls/key, content: /wA=, encoding: base64, mode: "0600"}
- identifier: node-2
  files: []
shared_files:
- {path: /shared.yaml, content: "cluster: ready\\n"}
"""
MATERIALIZED = """
nodes:
  node-1: {files: [{path: /config.yaml, content: "id: node-1\\n"}]}
shared: {files: [{path: /shared.yaml, content: "cluster: ready\\n"}]}
"""
PLAIN = (
    b'{"schema_version":1,"files":[{"path":"/config.yaml","content":"id: node-1\\n"},'
    b'{"path":"/shared.yaml","content":"cluster: ready\\n"}]}'
)
ALL = {"Cfgsync-Accept": "base64, mode"}


@pytest.fixture
def server(place: Place) -> Server:
    place.write("bundle.yaml", BUNDLE)
    return place.serve("--bundle", "bundle.yaml")


def test_a_node_of_the_bundle_fetches_its_files_and_the_shared_ones(place: Place, server: Server) -> None:
    code, said = ended(place.fetch(server.url, "node-1"))
    assert (code, said["generation"]) == (0, None)
    current = place.current("node-1")
    assert (current / "config.yaml").read_text() == "id: node-1\n"
    assert (current / "tls/key").read_bytes() == b"\xff\x00"
    assert (current / "tls/key").stat().st_mode & 0o777 == 0o600
    assert (current / "shared.yaml").read_text() == "cluster: ready\n"
    assert ended(place.fetch(server.url, "node-2"))[1]["files"] == [
        str(place.directory / "out/node-2/current/shared.yaml")
    ]


def test_an_unknown_identifier_is_404_and_ends_a_fetch_with_4(place: Place, server: Server) -> None:
    for path in ("/node", "/register"):
        reply = server.ask("POST", path, body("node-9"))
        assert (reply.status, reply.body) == (
            404,
            b'{"code":"missing_config","message":"missing config for host node-9"}',
        )
    done = place.run(*place.fetching(server.url, "node-9"))
    assert done.returncode == 4
    assert done.stderr.splitlines()[0] == "missing config for host node-9"
    assert len(done.stderr.splitlines()) == 2
    assert json.loads(done.stdout)["reason"] == "missing_config"


def test_a_static_answer_has_a_digest_and_no_generation_and_needs_no_registration(server: Server) -> None:
    reply = server.ask("POST", "/node", b'{"identifier":"node-2"}')
    assert (reply.status, "cfgsync-generation" in reply.headers) == (200, False)
    unchanged = server.ask("POST", "/node", body("node-2"), {"If-None-Match": reply.headers["etag"]})
    assert (unchanged.status, unchanged.body) == (304, b"")
    assert unchanged.headers["etag"] == reply.headers["etag"]
    assert server.ask("POST", "/node/replace", body("node-2")).status == 404


def test_two_servers_of_one_bundle_agree_on_every_digest(place: Place, server: Server) -> None:
    other = place.serve("--bundle", "bundle.yaml")
    for name in ("node-1", "node-2"):
        one, two = (s.ask("POST", "/node", body(name), ALL) for s in (server, other))
        assert one.status == 200
        assert (one.body, one.headers["etag"]) == (two.body, two.headers["etag"])


def test_a_file_with_a_mode_is_served_only_to_who_understands_it(server: Server) -> None:
    refused = server.ask("POST", "/node", body("node-1"))
    assert (refused.status, refused.words["code"]) == (406, "not_acceptable")
    assert "/tls/key" in refused.words["message"]
    files = server.ask("POST", "/node", body("node-1"), ALL).words["files"]
    assert files[1] == {"path": "/tls/key", "content": "/wA=", "mode": "0600", "encoding": "base64"}


LISTED = BUNDLE.replace("  - {path: /tls", "  # {path: /tls")


@pytest.mark.parametrize(
    ("text", "registered_only", "bundle"),
    [
        ("port: 4400\nsource: {kind: static, artifacts_path: the/bundle.yaml}\n", False, LISTED),
        ("port: 4400\nsource: {kind: bundle, bundle_path: the/bundle.yaml}\n", False, LISTED),
        ("port: 4400\nbundle_path: the/bundle.yaml\n", False, MATERIALIZED),
        ("port: 4400\nsource: {kind: registration, artifacts_path: the/bundle.yaml}\n", True, MATERIALIZED),
        ("port: 4400\nserving_mode: registration\nbundle_path: the/bundle.yaml\n", True, LISTED),
    ],
    ids=["newest", "before", "oldest", "newest registration", "oldest registration"],
)
def test_every_generation_of_server_file_serves_the_same_bytes(
    place: Place, text: str, registered_only: bool, bundle: str
) -> None:
    there = place.directory / "there"
    (there / "the").mkdir(parents=True)
    (there / "server.yaml").write_text(text)
    (there / "the/bundle.yaml").write_text(bundle)
    server = place.serve("--config", "there/server.yaml")  # --port wins over the file
    early = server.ask("POST", "/node", body("node-1"))
    assert early.status == (425 if registered_only else 200)
    assert server.ask("POST", "/register", body("node-1")).status == 202
    reply = server.ask("POST", "/node", body("node-1"))
    assert (reply.status, reply.body) == (200, PLAIN)
    assert ("cfgsync-generation" in reply.headers) == registered_only
    if registered_only:
        server.ask("POST", "/register", body("node-9"))
        assert server.ask("POST", "/node", body("node-9")).words["code"] == "missing_config"
    assert server.stop() == 0
