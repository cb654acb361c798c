"""Three peers: the README runs as written, and the materializer runs without a server."""

from cfgsync_adapter import MaterializedArtifacts, NodeRegistration, NotReady, RegistrationSnapshot

from .three_peers import NODES, Peer, three_peers


def test_its_readme_runs_as_written(run_readme):
    assert len(run_readme()) == 2


def test_two_peers_are_not_enough():
    answer = three_peers().materialize_snapshot(RegistrationSnapshot(NODES[:2]))
    assert isinstance(answer, NotReady)
    assert answer.reason == "2 of 3 nodes"


def test_a_fourth_peer_is_on_everybodys_list():
    dave = NodeRegistration("dave", "10.0.0.4").with_metadata(Peer(port=7000))
    answer = three_peers().materialize_snapshot(RegistrationSnapshot([*NODES, dave]))
    assert isinstance(answer, MaterializedArtifacts)
    files = {file.path: file.content for file in answer.resolve("alice")}
    assert files["/peers.txt"] == "10.0.0.2:7000\n10.0.0.3:7100\n10.0.0.4:7000\n"
