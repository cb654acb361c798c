"""The fixture `cfgsync_documents`, and a materializer with its documents, as a test of an application uses them."""

import time

import pytest

from cfgsync_adapter import ArtifactFile, MaterializedArtifacts
from cfgsync_documents import BlockingConfigManager, ConfigDefinition
from cfgsync_runtime.errors import InputError

FLAGS = ConfigDefinition("default", "flags", dict, default={"on": False})


def test_a_program_is_tested_against_documents_in_one_line(cfgsync_documents):
    server = cfgsync_documents({"flags": {"on": True}, "lobby/limits": 3}, env="production")
    with BlockingConfigManager.connect(server.url) as manager:
        manager.register(FLAGS, app="default", env="production")
        assert manager.get(FLAGS) == {"on": True}
    server.set("lobby/limits", 4)
    assert server.get("lobby/limits") == 4
    server.delete("lobby/limits")
    assert server.get("lobby/limits") is None
    with pytest.raises(RuntimeError, match="answered 400"):
        server.set("no name", 1)
    assert cfgsync_documents().url != server.url


class Reads:
    documents = "shop/live"

    def materialize_snapshot(self, registrations, documents):
        text = f"{documents.get('limits', 'lobby')}"
        return MaterializedArtifacts.from_nodes(
            {one.identifier: [ArtifactFile("/limits", text)] for one in registrations}
        )


def test_a_materializer_reads_the_documents_of_its_test(cfgsync_server, cfgsync_fleet):
    server = cfgsync_server(Reads, {"lobby/limits": 3})
    assert server.files("node-1") == {"/limits": "3"}
    fleet = cfgsync_fleet(server, 2)
    server.set_document("lobby/limits", 4)
    until = time.monotonic() + 30
    while fleet["node-1"].read("/limits") != "4":
        assert time.monotonic() < until
        time.sleep(0.02)
    assert cfgsync_fleet(Reads, 1, documents={"lobby/limits": 5})["node-1"].read("/limits") == "5"


def test_documents_for_a_materializer_that_reads_none_are_refused(cfgsync_server):
    class Plain:
        def materialize_snapshot(self, registrations):
            return MaterializedArtifacts.from_nodes({})

    with pytest.raises(InputError, match="reads no documents"):
        cfgsync_server(Plain, {"limits": 3})
