"""Wrong use is refused when it is made, and the message says what was wanted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cfgsync_adapter import (
    ArtifactFile,
    ArtifactSet,
    CachedSnapshotMaterializer,
    Condition,
    DirectorySink,
    MaterializedArtifacts,
    NodeRegistration,
    NotReady,
    PersistingSnapshotMaterializer,
    Quorum,
    RegistrationConfigSource,
    RegistrationSnapshot,
)
from cfgsync_core import InvalidRegistration, MemoryStore
from tests.adapter.fleets import RandomKeys, ReadyAt

MINE = ReadyAt(1)
FILE = ArtifactFile("/a", "x")


class Sink:
    def persist(self, artifacts: MaterializedArtifacts) -> None:
        raise NotImplementedError


class NoArgument:
    def materialize_snapshot(self) -> NotReady:
        return NotReady()


class Defaulted:
    def materialize_snapshot(self, registrations: object = None) -> NotReady:
        return NotReady()


WRONG: list[tuple[Callable[..., object], tuple[object, ...], dict[str, object], str]] = [
    (Quorum, (MINE,), {"expected": "node-1"}, r"write expected=\['node-1'\]"),
    (Quorum, (MINE,), {"expected": b"abc"}, "a list of identifiers as text, not bytes$"),
    (Quorum, (MINE,), {"expected": 3}, "a list of identifiers as text, not int$"),
    (Quorum, (MINE,), {"expected": [1, 2]}, "identifiers as text, and holds int"),
    (Quorum, (MINE,), {"at_least": "2"}, "a number of nodes, not '2'"),
    (Quorum, (MINE,), {"at_least": True}, "a number of nodes, not True"),
    (Quorum, (MINE,), {"at_least": 0}, "at least 1 node"),
    (Quorum, (MINE,), {"at_least": 3, "expected": ["a", "b"]}, "more than the 2 expected nodes"),
    (Quorum, (MINE,), {"at_least": 2, "expected": ["a"]}, "more than the 1 expected node:"),
    (Quorum, (MINE,), {"at_least": 1, "deadline": -1}, "deadline=-1: give a number of seconds, 0 or more"),
    (Quorum, (MINE,), {"at_least": 1, "deadline": float("nan")}, "deadline=nan"),
    (Quorum, (MINE,), {"at_least": 1, "settle": -0.5}, "settle=-0.5"),
    (Quorum, (MINE,), {"at_least": 1, "settle": "2s"}, "a number of seconds, not '2s'"),
    (Quorum, (MINE,), {"at_least": 1, "settle": 3, "settle_at_most": 2}, "less than settle=3"),
    (Quorum, (MINE,), {"at_least": 1, "settle_at_most": 2}, "settle=, which is not given"),
    (Quorum, (ReadyAt,), {"at_least": 1}, r"not the class ReadyAt: write ReadyAt\(count\)"),
    (Quorum, (Defaulted,), {"at_least": 1}, "not the class Defaulted"),
    (Quorum, (NoArgument(),), {"at_least": 1}, "does not take one argument"),
    (Quorum, (lambda registrations: NotReady(),), {"at_least": 1}, "not function"),
    (CachedSnapshotMaterializer, (RandomKeys,), {}, r"write RandomKeys\(\)"),
    (PersistingSnapshotMaterializer, (RandomKeys, Sink()), {}, r"write RandomKeys\(\)"),
    (PersistingSnapshotMaterializer, (MINE, Sink), {}, r"persist\(artifacts\), not the class Sink: write Sink\(\)"),
    (PersistingSnapshotMaterializer, (MINE, DirectorySink), {}, r"write DirectorySink\(directory\)"),
    (PersistingSnapshotMaterializer, (MINE, "/srv"), {}, "takes a sink, .*, not str"),
    (RegistrationConfigSource, (RandomKeys,), {}, r"write RandomKeys\(\)"),
    (RegistrationConfigSource, (MINE,), {"sink": Sink}, r"write Sink\(\)"),
    (RegistrationConfigSource, (MINE,), {"late": "Freeze"}, "late='Freeze': give 'follow' or 'freeze'"),
    (RegistrationConfigSource, (MINE,), {"ttl": 0}, "ttl=0: give a number of seconds above 0"),
    (RegistrationConfigSource, (MINE,), {"run_timeout": "60"}, "run_timeout='60'"),
    (MaterializedArtifacts, ({"n": [FILE]},), {}, r"node n: expected an ArtifactSet, got list: .*from_nodes"),
    (MaterializedArtifacts, ([("n", ArtifactSet())],), {}, "files by identifier, not list"),
    (MaterializedArtifacts, ({5: ArtifactSet()},), {}, "identifier as text, not by int"),
    (MaterializedArtifacts, ({}, [FILE]), {}, "the shared files: expected an ArtifactSet, got list"),
    (MaterializedArtifacts.from_nodes, ({"n": FILE},), {}, "node n: expected a list of ArtifactFile, got ArtifactFile"),
    (MaterializedArtifacts.from_nodes, ({"n": {"/a": "x"}},), {}, "node n: .* got dict"),
    (MaterializedArtifacts.from_nodes, ({"n": None},), {}, "node n: .* got None"),
    (MaterializedArtifacts.from_nodes, ([FILE],), {}, r"pairs \(identifier, files\), not ArtifactFile"),
    (MaterializedArtifacts.from_nodes, (None,), {}, "not None"),
    (MaterializedArtifacts({}).with_shared, (FILE,), {}, "the shared files: .* got ArtifactFile"),
    (RegistrationSnapshot, (["a"],), {}, "made of NodeRegistrations, not of str"),
    (NotReady, (5,), {}, "the reason of a NotReady is text, not int"),
    (NotReady, ("", Condition("quorum", 1, 2)), {}, "a list of Condition, got Condition"),
    (NotReady, ("", ["quorum"]), {}, "are a list of Condition"),
    (NotReady, ("",), {"retry_after": "5"}, "a number of seconds, not str"),
    (NotReady, ("",), {"retry_after": float("inf")}, "retry_after=inf"),
    (NotReady, ("",), {"retry_after": -1}, "retry_after=-1"),
    (Condition, ("quorum", 1, 2, "node-1"), {}, "a list of identifiers, got str"),
    (Condition, ("quorum", "1", 2), {}, "have and need are counts"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "arguments", "more", "words"), WRONG)
def test_wrong_use_is_refused_when_it_is_made(
    make: Callable[..., object], arguments: tuple[object, ...], more: dict[str, object], words: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        make(*arguments, **more)


def test_metadata_as_the_third_argument_of_a_registration_names_the_method_that_takes_it() -> None:
    with pytest.raises(InvalidRegistration, match=r"NodeRegistration\('a', '10.0.0.1'\)\.with_metadata\(…\)"):
        NodeRegistration("a", "10.0.0.1", {"port": 70})  # type: ignore[arg-type]
    with pytest.raises(InvalidRegistration, match="a value is wanted, not the class ReadyAt"):
        NodeRegistration("a", "10.0.0.1").with_metadata(ReadyAt)


def test_a_class_whose_method_needs_no_object_is_a_materializer() -> None:
    class Static:
        @staticmethod
        def materialize_snapshot(registrations: RegistrationSnapshot) -> NotReady:
            return NotReady(str(len(registrations)))

    answer = Quorum(Static, at_least=1).materialize_snapshot(
        RegistrationSnapshot([NodeRegistration("a", "10.0.0.1")])
    )
    assert answer == NotReady("1")


def test_lists_are_taken_where_tuples_are_meant() -> None:
    answer = NotReady("", [Condition("quorum", 1, 2, ["b"])])  # type: ignore[arg-type]
    assert answer.conditions == (Condition("quorum", 1, 2, ("b",)),)


async def test_a_revision_that_is_a_number_can_be_read_again() -> None:
    store = MemoryStore()
    for _ in range(2):
        async with RegistrationConfigSource(MINE, store=store, revision=7) as source:  # type: ignore[arg-type]
            assert source.parts.publisher.claim.revision == "7"
