"""What a node remembers is there whole, or named as damaged and treated as absent."""

from __future__ import annotations

import os
import socket
import stat
import threading
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from cfgsync_artifacts import ArtifactFile, ArtifactSet, DiskError
from cfgsync_core import NodeArtifactsPayload
from cfgsync_runtime.node.memory.state import KnownGeneration, NodeState
from tests.artifacts.kill_at_each_step import killed_at_each_step

NAME = "node-1"
EPOCH = "01890a5d-ac96-774b-bcce-b302099a8057"


def payload(label: str) -> NodeArtifactsPayload:
    return NodeArtifactsPayload.from_files(ArtifactSet([ArtifactFile("/key", label * 5000, "0600")]))


def seen(number: int, of: NodeArtifactsPayload) -> KnownGeneration:
    return KnownGeneration(EPOCH, number, of.digest, 1_700_000_000.0 + number, NAME)


class Node:
    """A memory in a directory that is not there yet, and what it complained of."""

    def __init__(self, directory: Path) -> None:
        self.complaints: list[str] = []
        self.directory = directory
        self.state = NodeState(directory, NAME, complain=self.complaints.append)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "cfgsync" / "state")


def test_nothing_is_remembered_before_anything_happened_and_asking_makes_nothing(node: Node) -> None:
    assert (node.state.seen(), node.state.cached(), node.complaints) == (None, None, [])
    assert not node.directory.exists()


def test_the_secret_is_random_private_and_the_same_the_next_time(node: Node, tmp_path: Path) -> None:
    secret = node.state.secret()
    assert len(secret) == 43
    assert NodeState(node.directory, NAME).secret() == secret
    assert NodeState(tmp_path / "other", NAME).secret() != secret
    assert stat.S_IMODE((node.directory / "secret").stat().st_mode) == 0o600
    assert stat.S_IMODE(node.directory.stat().st_mode) == 0o700


def test_the_secret_is_durable_before_it_is_returned(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(fd: int) -> None:
        fsync(fd)
        done.append("fsync " + os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))

    def noted_rename(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        done.append(f"rename {target}")

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    node.state.secret()
    assert done[-3:] == ["fsync .secret.cfgsync-stage", "rename secret", "fsync state"]
    assert "fsync cfgsync" in done


@pytest.mark.parametrize(
    "damage", [b"", b"\0" * 43, b"too short", b"two lines of text\nthat are not one", b"\xff" * 43]
)
def test_a_damaged_secret_is_set_aside_and_named_and_a_new_one_is_made(node: Node, damage: bytes) -> None:
    old = node.state.secret()
    (node.directory / "secret").write_bytes(damage)
    assert node.state.secret() not in (old, damage.decode("latin-1"))
    assert (node.directory / "secret.damaged").read_bytes() == damage
    assert len(node.complaints) == 1
    assert "secret.damaged" in node.complaints[0]


def test_processes_of_one_node_that_start_at_once_share_one_secret(node: Node) -> None:
    secrets: list[str] = []
    threads = [
        threading.Thread(target=lambda: secrets.append(NodeState(node.directory, NAME).secret()))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(secrets) == 8
    assert len(set(secrets)) == 1


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_given_secret_file_is_used_instead(tmp_path: Path, end: str) -> None:
    (tmp_path / "mounted").write_text("an-operators-own-secret" + end)
    state = NodeState(tmp_path / "state", NAME, secret_file=tmp_path / "mounted")
    assert state.secret() == "an-operators-own-secret"
    assert not (tmp_path / "state").exists()


def test_a_given_secret_file_that_is_not_there_is_refused_and_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match=r"there is no file .*node-secret") as refused:
        NodeState(tmp_path / "state", NAME, secret_file=tmp_path / "node-secret").secret()
    assert "leave out --secret-file" in refused.value.hint
    assert os.listdir(tmp_path) == []


@pytest.mark.timeout(30)
def test_a_given_secret_file_that_is_a_pipe_is_refused_and_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for other in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(DiskError, match="is not a regular file"):
            NodeState(tmp_path / "state", NAME, secret_file=other).secret()


def test_a_given_secret_file_without_a_secret_is_refused_and_left(tmp_path: Path) -> None:
    (tmp_path / "mounted").write_text("not a secret\n")
    with pytest.raises(DiskError, match="holds no secret") as refused:
        NodeState(tmp_path / "state", NAME, secret_file=tmp_path / "mounted").secret()
    assert "put the node's secret there" in refused.value.hint
    assert os.listdir(tmp_path) == ["mounted"]


def test_the_last_good_payload_and_what_was_seen_come_back(node: Node) -> None:
    a = payload("A")
    node.state.keep(a, seen(7, a))
    again = NodeState(node.directory, NAME)
    assert again.seen() == seen(7, a)
    cached = again.cached()
    assert cached is not None
    assert cached.payload.files == a.files
    assert (cached.epoch, cached.number, cached.at) == (EPOCH, 7, 1_700_000_007.0)
    assert sorted(os.listdir(node.directory)) == ["payload", "seen"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in node.directory.iterdir()} == {0o600}


def test_a_payload_that_was_confirmed_again_is_as_fresh_as_its_confirmation(node: Node) -> None:
    a, b = payload("A"), payload("B")
    node.state.keep(a, seen(7, a))
    node.state.saw(seen(9, a))
    cached = node.state.cached()
    assert cached is not None
    assert (cached.number, cached.at) == (9, 1_700_000_009.0)
    node.state.saw(seen(11, b))
    cached = node.state.cached()
    assert cached is not None
    assert (cached.payload, cached.number, cached.at) == (a, 7, 1_700_000_007.0)


@pytest.mark.parametrize("name", ["seen", "payload"])
def test_a_damaged_part_is_named_and_treated_as_absent_and_the_other_stays(node: Node, name: str) -> None:
    a = payload("A")
    node.state.keep(a, seen(7, a))
    whole = (node.directory / name).read_bytes()
    damaged = [
        b"",
        b"{}",
        whole[:-1],
        whole + b"x",
        whole.replace(b'"number":7', b'"number":6'),
        b"\0" * len(whole),
    ]
    for content in damaged:
        (node.directory / name).write_bytes(content)
        assert (node.state.seen() if name == "seen" else node.state.cached()) is None
        assert f"{node.directory}/{name} is damaged" in node.complaints[-1]
    other = node.state.cached() if name == "seen" else node.state.seen()
    assert other is not None
    node.state.keep(a, seen(8, a))
    assert node.state.seen() == seen(8, a)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ["seen", "payload"])
@pytest.mark.parametrize("kind", ["pipe", "directory", "socket"])
def test_a_part_that_is_no_file_is_named_and_treated_as_absent_and_holds_nobody_up(
    node: Node, name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = payload("A")
    node.state.keep(a, seen(7, a))
    path = node.directory / name
    path.unlink()
    with socket.socket(socket.AF_UNIX) as bound:
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "directory":
            path.mkdir()
        else:
            monkeypatch.chdir(node.directory)  # the address of a socket is short
            bound.bind(name)
        assert (node.state.seen() if name == "seen" else node.state.cached()) is None
    assert node.complaints[-1] == f"{path} is not a regular file; it is treated as absent"
    with pytest.raises(DiskError, match=name):  # what is in the way is not ours to remove
        node.state.keep(a, seen(8, a))


@pytest.mark.timeout(30)
def test_a_secret_that_is_a_pipe_is_set_aside_and_a_new_one_is_made(node: Node) -> None:
    node.directory.mkdir(parents=True)
    os.mkfifo(node.directory / "secret")
    assert node.state.secret() == node.state.secret()
    assert (node.directory / "secret.damaged").is_fifo()
    assert len(node.complaints) == 1


def test_parts_of_another_node_are_named_and_treated_as_absent(node: Node) -> None:
    a, b = payload("A"), payload("B")
    node.state.keep(a, seen(7, a))
    complaints: list[str] = []
    other = NodeState(node.directory, "node-2", complain=complaints.append)
    assert (other.seen(), other.cached()) == (None, None)
    foreign = "is of the node 'node-1', not of 'node-2'"
    assert [
        line for line in complaints if foreign in line and "a state directory of its own" in line
    ] == complaints
    assert [line.split()[0] for line in complaints] == [f"{node.directory}/seen", f"{node.directory}/payload"]
    assert other.keep(b, seen(6, b)), "what another node saw does not make this answer an old one"
    assert other.seen() == KnownGeneration(EPOCH, 6, b.digest, seen(6, b).at, "node-2")
    assert (node.state.seen(), node.state.cached()) == (None, None)
    assert node.state.keep(a, seen(7, a))
    assert other.saw(seen(6, b)), "nor does it hinder remembering that nothing changed"
    assert node.state.seen() is None


def test_parts_that_were_written_before_they_named_their_node_are_taken(node: Node) -> None:
    a = payload("A")
    node.state.keep(a, seen(7, a))
    for name in ("seen", "payload"):
        body = (node.directory / name).read_bytes().partition(b"\n")[2]
        assert b'"identifier":"node-1"' in body
        body = body.replace(b',"identifier":"node-1"', b"")
        (node.directory / name).write_bytes(f"cfgsync-state 1 {sha256(body).hexdigest()}\n".encode() + body)
    assert node.state.seen() == msgspec.structs.replace(seen(7, a), identifier="")
    cached = node.state.cached()
    assert cached is not None
    assert cached.payload == a
    assert node.complaints == []


def test_a_memory_that_cannot_be_kept_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    state = NodeState(tmp_path / "file", NAME)
    with pytest.raises(DiskError):
        state.secret()
    with pytest.raises(DiskError):
        state.keep(payload("A"), seen(1, payload("A")))
    with pytest.raises(DiskError, match="cannot read"):
        state.seen()


def test_inv_15_a_node_killed_at_any_step_remembers_the_old_or_the_new(node: Node) -> None:
    a, b = payload("A"), payload("B")
    for step in killed_at_each_step(node.state.secret):
        secret = node.state.secret()
        assert node.state.secret() == secret
        assert os.listdir(node.directory) == ["secret"], f"left over after step {step}"
        (node.directory / "secret").unlink()
    node.state.secret()
    node.state.keep(a, seen(1, a))
    for step in killed_at_each_step(lambda: node.state.keep(b, seen(2, b))):
        assert node.state.seen() in (seen(1, a), seen(2, b))
        cached = node.state.cached()
        assert cached is not None
        assert cached.payload in (a, b)
        node.state.keep(a, seen(1, a))
        assert sorted(os.listdir(node.directory)) == ["payload", "secret", "seen"], (
            f"left over after step {step}"
        )
    assert node.complaints == []


def test_an_answer_that_names_no_generation_does_not_make_a_node_forget_one(node: Node) -> None:
    a = payload("a")
    node.state.keep(a, seen(3, a))
    assert not node.state.saw(KnownGeneration("", 0, a.digest, 1_800_000_000.0))
    assert node.state.seen() == seen(3, a)
