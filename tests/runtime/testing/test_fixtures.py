"""Servers and fleets in a line, as a test of an application has them: no loop of its own is needed, nothing is left."""

import asyncio
import http.client
import socket
import threading
from contextlib import ExitStack

import pytest

from cfgsync_adapter import (
    ArtifactFile,
    ArtifactSet,
    MaterializationResult,
    MaterializedArtifacts,
    NodeRegistration,
    NotReady,
    RegistrationSnapshot,
)
from cfgsync_core import FetchFailed, InvalidBundle, StaticConfigSource
from cfgsync_runtime import InputError, MachineRefused
from cfgsync_runtime.testing.fixtures import BootFleet, ServeBundle, ServeMaterializer
from cfgsync_runtime.testing.fleet import Fleet, FleetNotBooted, NotInStep
from cfgsync_runtime.testing.loop_thread import LoopThread
from cfgsync_runtime.testing.served import serving_bundle, serving_materializer
from tests.processes import eventually


class Peers:
    """Ready with `need` nodes; each gets the list of all."""

    def __init__(self, need: int = 1) -> None:
        self.need = need

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        if len(registrations) < self.need:
            return NotReady(f"{len(registrations)} of {self.need} nodes")
        peers = "".join(f"{node.identifier} {node.ip} {node.metadata}\n" for node in registrations)
        return MaterializedArtifacts.from_nodes(
            {node.identifier: [ArtifactFile("/etc/peers.txt", peers)] for node in registrations}
        )


class Raises:
    """A defect of the application."""

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        raise KeyError("no-such-port")


class RaisesLater(Raises):
    """The same defect behind an await."""

    async def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:  # type: ignore[override]
        return super().materialize_snapshot(registrations)


def leaves():
    raise SystemExit("I leave")


def cancels():
    raise asyncio.CancelledError


def interrupts():
    raise KeyboardInterrupt


def forgets():
    return None


def misnames():
    return MaterializedArtifacts.from_nodes(
        {f"node-{n}": [ArtifactFile("/../etc/passwd", "x")] for n in range(1, 4)}
    )


class Ends:
    """A run that ends in another way than with files."""

    def __init__(self, how):
        self.how = how

    def materialize_snapshot(self, registrations):
        return self.how()


class EndsLater(Ends):
    """The same behind an await."""

    async def materialize_snapshot(self, registrations):
        return self.how()


@pytest.fixture(autouse=True)
def nothing_is_left():
    before = set(threading.enumerate())
    yield
    after = {one for one in set(threading.enumerate()) - before if one.name.startswith("cfgsync")}
    # a run that was under way when its server ended comes back by itself
    eventually(lambda: not any(one.is_alive() for one in after))
    assert {one.name for one in after} <= {"cfgsync-materializer"}


# ── a static bundle ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_bundle_is_served_however_it_is_written_down(tmp_path):
    (tmp_path / "bundle.yaml").write_text(
        "nodes: [{identifier: node-1, files: [{path: /a, content: one}]}]\nshared_files: [{path: /b, content: two}]\n"
    )
    expected = {"/a": "one", "/b": "two"}
    files = ArtifactSet([ArtifactFile("/a", "one")])
    for server in (
        serving_bundle({"node-1": {"/a": "one"}}, {"/b": b"two"}),
        serving_bundle({"node-1": files}, [ArtifactFile("/b", "two")]),
        serving_bundle(tmp_path / "bundle.yaml"),
    ):
        with server:
            assert server.files("node-1") == expected


def test_what_is_wrong_with_a_bundle_is_said_before_anything_listens(tmp_path):
    with pytest.raises(InvalidBundle, match="not a name"):
        serving_bundle({"not a name": {"/a": "one"}})
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("nodes: 3\n")
    with pytest.raises(InputError, match=r"wrong\.yaml:1"):
        serving_bundle(wrong)
    assert StaticConfigSource({}) is not None  # an empty one is legal, as everywhere else


@pytest.mark.parametrize(
    ("bundle", "shared", "what"),
    [
        (["x"], (), "list is no bundle: it has the files of each node by its name"),
        ({"/c": "x"}, (), "the files of node '/c' are text: the name of a node is missing around them"),
        ({"a": ArtifactFile("/c", "x")}, (), "files are a list of ArtifactFile or contents by path, not ArtifactFile"),
        ({}, "x", "files are a list of ArtifactFile or contents by path, not str"),
    ],
)  # fmt: skip
def test_what_is_no_bundle_is_refused_with_what_would_be_one(bundle, shared, what):
    with pytest.raises(InputError) as refused:
        serving_bundle(bundle, shared)
    assert str(refused.value) == what
    assert '{"/config.yaml": "a: 1\\n"}' in refused.value.hint


def test_a_name_that_is_not_in_a_bundle_is_told_at_once():
    with serving_bundle({"node-1": {"/a": "one"}}) as server:
        with pytest.raises(FetchFailed, match="node-2") as failed:
            server.files("node-2", wait=60)
        assert failed.value.hint == "check the identifier: server.status() shows the nodes that get files"


# ── a materializer ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_materializer_is_taken_as_an_object_a_class_or_a_function():
    for given in (Peers(), Peers, lambda: Peers(1)):
        with serving_materializer(given) as server:
            assert server.files("node-1", ip="10.0.0.1", metadata={"port": 7}) == {
                "/etc/peers.txt": "node-1 10.0.0.1 {'port': 7}\n"
            }


@pytest.mark.parametrize("given", [3, None, "app:Peers", object(), object])
def test_what_is_no_materializer_is_refused_with_what_would_be_one(given):
    with pytest.raises(InputError, match="materializ") as refused:
        serving_materializer(given)
    assert "materialize_snapshot" in refused.value.hint


def test_status_says_who_waits_and_why():
    with serving_materializer(Peers(2)) as server:
        server.register("node-1")
        with pytest.raises(FetchFailed, match="1 of 2 nodes") as failed:
            server.files("node-1", wait=2)
        assert failed.value.__notes__[0].startswith(
            "register what the materializer waits for, for example server"
        )
        assert server.status().reason == "1 of 2 nodes"
        assert server.node_status("node-1").registered
        assert not server.node_status("node-2").registered


def test_a_materializer_that_does_not_return_is_what_the_hint_names():
    goes_on = threading.Event()

    class Stuck:
        def materialize_snapshot(self, registrations):
            goes_on.wait()
            return NotReady("over")

    with serving_materializer(Stuck) as server, ExitStack() as stack:
        stack.callback(goes_on.set)
        with pytest.raises(FetchFailed, match="materializing") as failed:
            server.files("node-1", wait=8)
    assert failed.value.__notes__[0].startswith("the materializer has not returned yet")


@pytest.mark.parametrize("application", [Raises, RaisesLater])
def test_what_the_materializer_raised_is_the_cause_of_the_failure(application):
    with serving_materializer(application) as server:
        with pytest.raises(FetchFailed, match="no-such-port") as failed:
            server.files("node-1", wait=100)  # and not after these: the test would time out
        assert isinstance(failed.value.__cause__, KeyError)
        trace = failed.value.__cause__.__traceback__
        while trace.tb_next is not None:
            trace = trace.tb_next
        assert trace.tb_frame.f_code.co_name == "materialize_snapshot"
        assert trace.tb_frame.f_code.co_filename == __file__


def test_several_servers_do_not_know_each_other():
    with serving_materializer(Peers) as one, serving_materializer(Peers) as other:
        one.register("node-1")
        assert one.port != other.port
        assert (one.status().registered, other.status().registered) == (1, 0)


def test_a_stopped_server_is_gone_and_another_may_take_its_port_and_its_store(tmp_path):
    store = f"sqlite:{tmp_path / 'fleet.db'}"
    with serving_materializer(Peers, store=store) as server:
        server.files("node-1")
        generation = server.status().generation
        server.stop()
        server.stop()
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", server.port)):
            pass
        with pytest.raises(RuntimeError, match="stopped"):
            server.register("node-1")
        with serving_materializer(Peers, store=store, port=server.port) as again:
            assert again.url == server.url
            assert again.status().generation == generation


def test_a_port_that_is_taken_is_said_and_nothing_is_left():
    with (
        serving_bundle({"node-1": {"/a": "one"}}) as server,
        pytest.raises(MachineRefused, match="cannot listen"),
    ):
        serving_bundle({}, port=server.port).__enter__()


def test_a_materializer_that_does_not_come_back_does_not_hold_up_the_end():
    release, asked = threading.Event(), threading.Event()

    class Hangs:
        def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
            asked.set()
            release.wait()
            return NotReady("too late")

    with serving_materializer(Hangs) as server:
        server.register("node-1")
        assert asked.wait(10)
    assert not release.is_set()
    release.set()


def test_a_connection_that_is_held_open_does_not_hold_up_the_end():
    with serving_materializer(Peers(9)) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        server.register("node-1")
        connection.request(
            "POST",
            "/node",
            b'{"identifier":"node-1"}',
            {"Content-Type": "application/json", "Prefer": "wait=30"},
        )
        eventually(lambda: server.node_status("node-1").waiting)
    assert connection.getresponse().status == 503
    connection.close()


# ── a fleet ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_fleet_has_its_files_on_disk_and_stays_in_step(tmp_path):
    with serving_materializer(Peers(3)) as server, Fleet(server, tmp_path) as fleet:
        fleet.boot(3, metadata=lambda name: {"port": 7000 + int(name[-1])})
        assert list(fleet) == ["node-1", "node-2", "node-3"]
        peers = "node-1 127.0.0.1 {'port': 7001}\nnode-2 127.0.0.2 {'port': 7002}\nnode-3 127.0.0.3 {'port': 7003}\n"
        assert {node.read("/etc/peers.txt") for node in fleet.values()} == {peers}
        assert fleet["node-1"].files == {"/etc/peers.txt": peers.encode()}
        assert fleet["node-1"].path("/etc/peers.txt").is_relative_to(tmp_path / "node-1")
        fleet.boot([NodeRegistration("late", "10.0.0.9")])
        fleet.wait_in_step()
        assert "late 10.0.0.9 None\n" in fleet["node-1"].read("/etc/peers.txt")
        assert server.status().applied == 4


@pytest.mark.parametrize(
    ("nodes", "wait", "words"),
    [
        (-2, 1, "nodes=-2: give a number of nodes, 0 or more"),
        (True, 1, "their names, or their registrations, not True"),
        (2.5, 1, "their names, or their registrations, not 2.5"),
        (["a", "b", "a"], 1, "nodes: a is given twice"),
        (1, -1, "wait=-1: give a number of seconds, 0 or more"),
        (1, float("nan"), "wait=nan: give a number of seconds, 0 or more"),
    ],
)
def test_nodes_and_seconds_that_mean_nothing_are_refused_before_anything_boots(nodes, wait, words, tmp_path):
    with serving_materializer(Peers()) as server, Fleet(server, tmp_path) as fleet:
        with pytest.raises((TypeError, ValueError), match=words):
            fleet.boot(nodes, wait=wait)
        assert server.status().registered == 0
        with pytest.raises(ValueError, match="wait=-1"):
            fleet.wait_in_step(-1)


def test_a_node_that_starts_again_keeps_its_name_and_its_place(tmp_path):
    with serving_materializer(Peers, shrink_guard=0) as server, Fleet(server, tmp_path) as fleet:
        fleet.boot(2)
        fleet.stop("node-2")
        fleet.boot(["node-2"], metadata="again")
        fleet.wait_in_step()
        assert fleet["node-1"].read("/etc/peers.txt").endswith("node-2 127.0.0.2 again\n")
        assert server.status().registered == 2


def test_a_fleet_of_a_static_bundle_boots_too(tmp_path):
    with serving_bundle({"a": {"/x": "1"}, "b": {"/x": "2"}}) as server, Fleet(server, tmp_path) as fleet:
        fleet.boot(["a", "b"])
        assert (fleet["a"].read("/x"), fleet["b"].read("/x")) == ("1", "2")


def test_a_fleet_that_is_not_ready_says_who_waits_for_what(tmp_path):
    with serving_materializer(Peers(4)) as server, Fleet(server, tmp_path) as fleet:
        with pytest.raises(FleetNotBooted) as refused:
            fleet.boot(3, wait=2)
        assert str(refused.value).startswith("3 of 3 nodes have no files; node-1: not ready after 2 s: ")
        assert "of 4 nodes" in str(refused.value)
        assert len(fleet) == 0


def test_a_materializer_that_raises_for_all_nodes_ends_the_boot_at_once(tmp_path):
    with serving_materializer(Raises) as server, Fleet(server, tmp_path) as fleet:
        with pytest.raises(
            FleetNotBooted, match=r"the materializer raised KeyError: 'no-such-port'"
        ) as refused:
            fleet.boot(3, wait=100)  # and not after these: the test would time out
        assert isinstance(refused.value.__cause__, KeyError)


@pytest.mark.parametrize("kind", [Ends, EndsLater])
@pytest.mark.parametrize(
    ("how", "words"),
    [
        (leaves, "SystemExit: I leave"),
        (cancels, "CancelledError"),
        (interrupts, "KeyboardInterrupt"),
        (forgets, "InvalidResult: materialize_snapshot returned NoneType, expected MaterializedArtifacts or NotReady"),
        (misnames, "InvalidArtifact: artifact '/../etc/passwd': "),
    ],
)  # fmt: skip
def test_a_run_that_ends_in_any_other_way_than_with_files_fails_a_test_at_once(tmp_path, kind, how, words):
    with serving_materializer(kind(how)) as server, Fleet(server, tmp_path) as fleet:
        with pytest.raises(FetchFailed) as failed:
            server.files("node-1", wait=100)  # and not after these: the test would time out
        with pytest.raises(FleetNotBooted) as refused:
            fleet.boot(2, wait=100)
        assert str(failed.value).startswith(f"the materializer raised {words}")
        assert failed.value.__notes__ == ["fix the materializer: its own traceback is shown first"]
        assert str(refused.value).startswith(f"2 of 2 nodes have no files; the materializer raised {words}")
        for error in (failed.value, refused.value):
            assert type(error.__cause__).__name__ == words.partition(":")[0]


def test_a_node_that_cannot_write_its_files_is_named_and_the_fleet_is_not_in_step(tmp_path):
    with serving_materializer(Peers) as server, Fleet(server, tmp_path) as fleet:
        fleet.boot(1)
        (tmp_path / "node-2").write_text("a file where a directory should be")
        with pytest.raises(FleetNotBooted, match="1 of 1 node has no files; node-2: "):
            fleet.boot(["node-2"])
        with pytest.raises(NotInStep, match="node-2"):
            fleet.wait_in_step(0.3)


def test_a_file_that_a_node_does_not_have_is_said_with_those_that_it_has(tmp_path):
    with serving_materializer(Peers) as server, Fleet(server, tmp_path) as fleet:
        fleet.boot(1)
        with pytest.raises(FileNotFoundError, match=r"node-1 has no /etc/peer.txt; it has /etc/peers.txt"):
            fleet["node-1"].read("/etc/peer.txt")


def test_a_node_that_was_not_booted_is_said_with_those_that_were(tmp_path):
    with serving_materializer(Peers) as server, Fleet(server, tmp_path) as fleet:
        with pytest.raises(KeyError, match="no node 'node-1'; the nodes are not booted yet"):
            fleet["node-1"]
        fleet.boot(2)
        with pytest.raises(KeyError, match="no node 'node-9'; the nodes are node-1, node-2"):
            fleet["node-9"]
        assert ("node-9" in fleet, fleet.get("node-9")) == (False, None)


# ── the parts ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_test_started_ends_in_reverse_order_also_when_a_later_one_was_refused(tmp_path):
    with ExitStack() as started:
        server = ServeMaterializer(started)(Peers)
        BootFleet(started, lambda: tmp_path)(server, 2)
        with pytest.raises(InputError) as refused:
            ServeBundle(started)(tmp_path / "no-such.yaml")
    assert refused.value.__notes__ == [refused.value.hint]
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", server.port)):
        pass


def test_a_loop_that_does_not_end_is_said():
    blocked, release = threading.Event(), threading.Event()

    async def blocks() -> None:
        blocked.set()
        release.wait()

    stuck = LoopThread("stuck", patience=0.05)
    future = stuck.__enter__().start(blocks())
    blocked.wait()
    with pytest.raises(RuntimeError, match=r"did not end within 0\.05 s"):
        stuck.__exit__()
    release.set()
    future.result()


def test_a_booted_fleet_has_what_was_made_from_all_of_it_though_one_node_would_have_been_enough(tmp_path):
    for turn in range(3):
        with serving_materializer(Peers()) as server, Fleet(server, tmp_path / str(turn)) as fleet:
            fleet.boot(8)
            read = {fleet[name].read("/etc/peers.txt").count("\n") for name in fleet}
            assert read == {8}
