"""A node replaces its secret only where a server has confirmed that it accepts both."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from cfgsync_core import NodeRegistration, ServerUrl
from cfgsync_core.wire import NEXT_SECRET
from cfgsync_runtime.node.memory.rotation import rotated
from cfgsync_runtime.node.memory.state import NodeState
from cfgsync_runtime.node.network.transport import HttpTransport
from tests.scripted_server import Act, Cut, Heard, Says, ScriptedServer, error


def rotation(server: ScriptedServer, state: NodeState) -> tuple[str, list[str]]:
    notices: list[str] = []
    with HttpTransport(ServerUrl.parse(server.url)) as transport:
        registration = NodeRegistration("a", "10.0.0.1")
        return rotated(state, state.secret(), registration, transport, None, notices.append), notices


def confirming(heard: Heard) -> Says:
    return Says(202, b"", {NEXT_SECRET: heard.headers[NEXT_SECRET.lower()]})


def test_a_confirmed_secret_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    state = NodeState(tmp_path, "a")
    old = state.secret()
    with ScriptedServer(confirming) as server:
        new, notices = rotation(server, state)
    assert notices == []
    assert state.secret() == new != old
    assert not (tmp_path / "secret.next").exists()
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    (heard,) = server.heard
    assert heard.headers["authorization"] == f"Bearer {old}"
    assert heard.headers[NEXT_SECRET.lower()] == sha256(new.encode()).hexdigest()


@pytest.mark.parametrize(
    "answer",
    [
        Says(202),
        Says(202, b"", {NEXT_SECRET: "0" * 64}),
        error(409, "identity_conflict"),
        error(503, "unavailable"),
        Cut(),
    ],
)
def test_without_a_confirmation_the_old_secret_stays_and_the_next_try_offers_the_same_new_one(
    tmp_path: Path, answer: Act
) -> None:
    state = NodeState(tmp_path, "a")
    old = state.secret()
    with ScriptedServer([answer]) as server:
        kept, (notice,) = rotation(server, state)
    assert kept == old == state.secret()
    assert "keeps its old secret" in notice
    waiting = state.next_secret()
    assert waiting not in (old, "")
    assert waiting not in notice
    with ScriptedServer(confirming) as server:
        assert rotation(server, state) == (waiting, [])


def test_of_two_rotations_of_one_memory_the_second_leaves_the_new_secret_alone(tmp_path: Path) -> None:
    state = NodeState(tmp_path, "a")
    old = state.secret()
    notices: list[str] = []

    def beside() -> str:
        with ScriptedServer([Says(500)]) as nobody, HttpTransport(ServerUrl.parse(nobody.url)) as transport:
            kept = rotated(state, old, NodeRegistration("a", "10.0.0.1"), transport, None, notices.append)
            assert nobody.heard == []
            return kept

    def while_confirming(heard: Heard) -> Says:
        assert beside() == old
        return confirming(heard)

    with ScriptedServer(while_confirming) as server:
        new, _ = rotation(server, state)
    assert beside() == new == state.secret() != old
    assert notices == [
        "the node keeps its old secret: another process of this node is replacing it",
        "another process of this node has just replaced its secret, so this one does not",
    ]


def test_why_the_old_secret_stays_is_said_in_words(tmp_path: Path) -> None:
    for answer, words in (
        (Says(202), "took the registration and not the new secret"),
        (
            error(409, "identity_conflict"),
            "refuses the old one: another process of this node may have replaced it",
        ),
        (error(503, "unavailable"), "answered HTTP 503"),
    ):
        with ScriptedServer([answer]) as server:
            assert words in rotation(server, NodeState(tmp_path, "a"))[1][0]


def test_a_secret_file_is_replaced_beside_itself(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.write_text("the-secret-that-was-given\n")
    state = NodeState(tmp_path / "state", "a", secret_file=given)
    with ScriptedServer(confirming) as server:
        new, _ = rotation(server, state)
    assert given.read_text().strip() == new != "the-secret-that-was-given"
    assert given.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["given"]
