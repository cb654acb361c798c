"""The routes that people and probes use, on the real command."""

from __future__ import annotations

from pathlib import Path

from openapi_spec_validator import validate

from tests.processes import Place, body, ended

HERE = Path(__file__).parent


def test_a_running_server_is_alive_ready_documented_and_explains_itself(place: Place) -> None:
    server = place.serve("application:Fleet", cwd=HERE, environment={"NODES": "2"})
    assert server.ask("GET", "/livez").words == {"status": "alive"}
    assert server.ask("GET", "/readyz").words == {"status": "ready"}
    validate(server.ask("GET", "/openapi.json").words)
    assert server.status()["reason"] == "nobody has registered"
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
        ["not", "generation", "SIGTERM:"],
        ["generation", "SIGTERM:"],
    )
