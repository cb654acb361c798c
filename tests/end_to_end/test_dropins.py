"""`cfgsync-server` and `cfgsync-client` where the original's stood: its files, requests, answers and exit codes."""

from __future__ import annotations

import json
import socket

import pytest

from tests.core.raw_http import EXCHANGES, check, named, raw, send
from tests.processes import Place, Server, body

STATIC = "port: 0\nsource: {kind: static, artifacts_path: artifacts.yaml}\n"
REGISTRATION = "port: 0\nsource: {kind: registration, artifacts_path: artifacts.yaml}\nstore: 'memory:'\n"
ARTIFACTS = """
nodes:
  node-1: {files: [{path: /config.yaml, content: "id: node-1\\n"}]}
shared: {files: [{path: /shared.yaml, content: "cluster: ready"}]}
"""


def server(place: Place, config: str, **environment: str) -> Server:
    if not (place.directory / "artifacts.yaml").exists():
        place.write("artifacts.yaml", ARTIFACTS)
    place.write("server.yaml", config)
    return place.serve_as_the_original("server.yaml", environment)


def refused(place: Place, code: int, *arguments: str) -> list[str]:
    """The two lines with which `cfgsync-server ARGUMENTS` refuses, the first without its `Error: `."""
    done = place.run(*arguments, command="cfgsync-server")
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (code, "", False), done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    assert lines[0].startswith("Error: ")
    assert len(lines) == 2
    return [lines[0].removeprefix("Error: "), lines[1]]


# ── the server: routes and bytes ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_static_bundle_is_answered_as_recorded(place: Place) -> None:
    recorded = next(e for e in EXCHANGES if e["name"] == "client_static_known_node_200")
    files = json.loads(recorded["body"])["files"]
    nodes = [{"identifier": "node-1", "files": files}, {"identifier": "empty-node"}]
    # JSON is YAML, but for DEL
    place.write("artifacts.yaml", json.dumps({"nodes": nodes}, ensure_ascii=False).replace("\x7f", "\\u007f"))
    running = server(place, STATIC)
    exchanges = [*named("client_static"), *named("static_404")]
    assert len(exchanges) == 5
    for exchange in exchanges:
        check(exchange, *await send(running.port, raw(exchange)))


async def test_a_registration_server_is_answered_as_recorded(place: Place) -> None:
    running = server(place, REGISTRATION)
    exchanges = named("client_reg_source")
    assert len(exchanges) == 4
    for exchange in exchanges:
        check(exchange, *await send(running.port, raw(exchange)))


def test_the_oldest_name_of_node_is_unknown_unless_it_is_asked_for(place: Place) -> None:
    running = server(place, STATIC)
    reply = running.ask("POST", "/init-with-node", body("node-1"))
    assert (reply.status, reply.words["code"]) == (404, "not_found")
    assert "/init-with-node" not in running.ask("GET", "/openapi.json").words["paths"]


@pytest.mark.parametrize("config", [STATIC, REGISTRATION], ids=["static", "registration"])
def test_with_its_setting_the_oldest_name_of_node_is_node(place: Place, config: str) -> None:
    running = server(place, config + "legacy_init_with_node: true\n")
    running.ask("POST", "/register", body("node-1"))
    one, two = (running.ask("POST", path, body("node-1")) for path in ("/node", "/init-with-node"))
    assert (one.status, one.body, one.headers["etag"]) == (two.status, two.body, two.headers["etag"])
    assert one.words["files"][0]["content"] == "id: node-1\n"
    strange = running.ask("POST", "/init-with-node", body("node-9"))
    assert strange.words["code"] == ("missing_config" if config == STATIC else "not_ready")
    assert running.ask("GET", "/init-with-node").status == 405
    assert running.ask("GET", "/openapi.json").words["paths"]["/init-with-node"]["post"]["deprecated"]


def test_the_oldest_name_of_node_asks_for_the_secret_of_a_bound_name_too(place: Place) -> None:
    running = server(place, REGISTRATION, CFGSYNC_SERVE_LEGACY_INIT_WITH_NODE="1")
    mine = {"Authorization": "Bearer the-secret-of-node-1"}
    assert running.ask("POST", "/register", body("node-1"), mine).status == 202
    assert running.ask("POST", "/init-with-node", body("node-1"), mine).status == 200
    reply = running.ask("POST", "/init-with-node", body("node-1"))
    assert (reply.status, reply.words["code"]) == (401, "unauthorized")


def test_serve_has_the_setting_as_a_flag(place: Place) -> None:
    place.write("artifacts.yaml", ARTIFACTS)
    running = place.serve("--bundle", "artifacts.yaml", "--legacy-init-with-node")
    assert running.ask("POST", "/init-with-node", body("node-1")).status == 200


# ── the server: where it listens ─────────────────────────────────────────────────────────────────────────────────────


def test_without_a_host_it_listens_on_this_machine_only_and_says_so(place: Place) -> None:
    running = server(place, STATIC)
    assert running.url.startswith("http://127.0.0.1:")
    assert "the original listened on every address: add `host: 0.0.0.0` to server.yaml" in running.log
    assert running.stop() == 0
    given = server(place, STATIC, CFGSYNC_SERVE_HOST="127.0.0.1")
    assert "every address" not in given.log


@pytest.mark.parametrize(
    ("there", "lacking"),
    [
        ("allow_anonymous: true\n", ("insecure_no_tls: true",)),
        ("insecure_no_auth: true\n", ("insecure_no_tls: true",)),
    ],
)
async def test_off_loopback_the_refusal_names_the_lines_that_make_it_serve(
    place: Place, there: str, lacking: tuple[str, ...]
) -> None:
    place.write("artifacts.yaml", ARTIFACTS)
    config = REGISTRATION + "host: 0.0.0.0\n"
    place.write("server.yaml", config + there)
    what, do = refused(place, 1, "server.yaml")
    assert what.startswith("host 0.0.0.0 is open to other machines, without ")
    assert do.endswith("add " + " and ".join(f"`{line}`" for line in lacking) + " to server.yaml")

    running = server(place, config + there + "".join(f"{line}\n" for line in lacking))
    assert running.url.startswith("http://0.0.0.0:")
    for exchange in named("client_reg_source"):  # an original client needs no secret there
        check(exchange, *await send(running.port, raw(exchange)))
    assert "open to other machines" in running.log


def test_off_loopback_an_original_client_has_no_token_and_the_log_says_what_lets_it_in(place: Place) -> None:
    place.write("artifacts.yaml", ARTIFACTS)
    running = server(place, REGISTRATION + "host: 0.0.0.0\ninsecure_no_tls: true\n")
    assert running.ask("POST", "/register", body("node-1")).status == 401
    assert "add `allow_anonymous: true` to server.yaml" in running.log


# ── the server: exit codes ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("arguments", [(), ("a.yaml", "b.yaml"), ("--port", "1"), ("--port",), ("",)])
def test_anything_but_one_server_file_is_usage(place: Place, arguments: tuple[str, ...]) -> None:
    what, do = refused(place, 2, *arguments)
    assert what.startswith("cfgsync-server takes one server file, ")
    assert do == "Usage: cfgsync-server CONFIG"


def test_help_is_given_and_ends_with_0(place: Place) -> None:
    done = place.run("--help", command="cfgsync-server")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: cfgsync-server CONFIG\n")


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (None, "server.yaml: no such file"),
        ("port: x\n", "server.yaml:1:7: port: "),
        ("port: 1\nsource: {kind: static, artifacts_path: none.yaml}\n", "none.yaml does not exist"),
        (REGISTRATION.replace("memory:", "nosuch:"), "nosuch"),
    ],
)
def test_a_file_that_cannot_be_served_ends_with_1_and_is_named(
    place: Place, config: str | None, what: str
) -> None:
    place.write("artifacts.yaml", ARTIFACTS)
    if config is not None:
        place.write("server.yaml", config)
    assert what in refused(place, 1, "server.yaml")[0]


def test_a_port_that_is_taken_ends_with_1(place: Place) -> None:
    place.write("artifacts.yaml", ARTIFACTS)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        place.write("server.yaml", STATIC.replace("port: 0", f"port: {port}"))
        assert refused(place, 1, "server.yaml")[0].startswith(f"cannot listen on 127.0.0.1:{port}")


# ── both ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def client(place: Place, running: Server, **environment: str) -> tuple[int, list[str]]:
    """The exit code of `cfgsync-client` as node-1, and what it says."""
    given = {
        "CFG_SERVER_ADDR": running.url + "/",
        "CFG_HOST_IDENTIFIER": "node-1",
        "CFG_FILE_PATH": "etc/node.yaml",
    }
    done = place.run(environment=given | environment, command="cfgsync-client")
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def test_our_client_gets_its_files_from_our_server_and_leaves_no_state(place: Place) -> None:
    place.write("artifacts.yaml", ARTIFACTS.replace("/shared.yaml", "/deployment.yaml"))
    running = server(place, REGISTRATION)
    assert client(place, running, CFG_DEPLOYMENT_PATH="shared") == (0, ["node-1: 2 files in place"])
    assert (place.directory / "etc/node.yaml").read_text() == "id: node-1\n"
    assert (place.directory / "shared").read_text() == "cluster: ready"
    assert running.status("node-1")["registered"]
    assert not (place.directory / "xdg-state").exists()


def test_our_client_is_told_that_its_name_is_bound_and_what_to_do_without_a_secret(place: Place) -> None:
    running = server(place, REGISTRATION)
    owner = {"Authorization": "Bearer the-secret-of-node-1"}
    assert running.ask("POST", "/register", body("node-1"), owner).status == 202
    code, (what, do) = client(place, running)
    assert code == 1
    assert what.startswith("Error: registering node with cfgsync: ")
    assert "cfgsync fetch --secret-file" in do
    assert "--state" not in do
    assert not (place.directory / "etc").exists()
