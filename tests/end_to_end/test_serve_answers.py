"""The routes that people and probes use, on the real command."""

from __future__ import annotations

from pathlib import Path

from openapi_spec_validator import validate

from cfgsync_adapter import RegistrationConfigSource
from cfgsync_core.server.watch_stream import WatchStreams
from cfgsync_runtime.compose.fleet_server import fleet_routes
from tests.end_to_end.application import Fleet
from tests.processes import Place, body, ended

HERE = Path(__file__).parent


def test_a_running_server_is_alive_ready_documented_and_explains_itself(place: Place) -> None:
    server = place.serve("application:Fleet", cwd=HERE, environment={"NODES": "2"})
    assert server.ask("GET", "/livez").words == {"status": "alive"}
    assert server.ask("GET", "/readyz").words == {"status": "ready"}
    validate(server.ask("GET", "/openapi.json").words)
    assert server.status()["reason"] == "no node has registered"
    server.ask("POST", "/register", body("node-1"))
    assert server.ask("POST", "/node", body("node-1")).status == 425
    shown = place.run("status", "--server", server.url).stdout
    assert "1 registered" in shown
    assert "quorum: 1 of 2 nodes" in shown
    assert ended(place.fetch(server.url, "node-2"))[0] == 0
    status = server.status()
    assert (status["registered"], status["revision"], status["reason"]) == (2, 2, "")
    assert server.status("node-2")["served"] == status["generation"]
    assert server.status("node-3")["registered"] is False
    assert server.stop() == 0
    said = [
        line.split("INFO ")[1] for line in server.log.splitlines()
    ]  # a line for each outcome, none for a request
    assert [line.partition(" ")[0] for line in said] in (
        ["admin", "not", "published", "SIGTERM:"],
        ["admin", "published", "SIGTERM:"],
    )


def test_the_openapi_document_says_what_each_route_of_the_server_takes_and_answers(place: Place) -> None:
    server = place.serve("application:Fleet", cwd=HERE)
    document = server.ask("GET", "/openapi.json").words
    validate(document)
    undocumented = {"/healthz"}  # /livez by another name
    source = RegistrationConfigSource(Fleet())
    for route in fleet_routes(source, source, WatchStreams(source), evict=source.evict):
        path = route.path
        if path in undocumented:
            continue
        operations = document["paths"][path]
        assert set(operations) == {route.method.lower()}, path
        said = operations[route.method.lower()]
        assert said["summary"]
        good = [answer for status, answer in said["responses"].items() if status.startswith("2")]
        assert good, path
        assert ("requestBody" in said) == (route.method == "POST"), path
        assert ("403" in said["responses"]) >= (route.access == "operator"), path
    renewed = document["components"]["schemas"]["Renewed"]["properties"]
    assert server.ask("POST", "/register", body("node-1")).status == 202
    answer = server.operate("POST", "/admin/renew?wait=5", b"{}")
    assert (answer.status, set(answer.words)) == (200, set(renewed))
