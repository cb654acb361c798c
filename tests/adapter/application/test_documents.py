"""A materializer that reads documents, alone and in wrappers: it is called with both, and equal both are never made twice."""

import dataclasses

import msgspec
import pytest

from cfgsync_adapter import (
    CachedSnapshotMaterializer,
    DocumentsSnapshot,
    MaterializedArtifacts,
    NodeRegistration,
    PersistingSnapshotMaterializer,
    Quorum,
    RegistrationConfigSource,
    RegistrationSnapshot,
)
from cfgsync_adapter.application import DocumentsFeed, documents_of
from cfgsync_core import Version

FLEET = RegistrationSnapshot([NodeRegistration("a", "10.0.0.1")])


class Reads:
    documents = "shop/live"
    revision = "7"

    def __init__(self) -> None:
        self.seen: list[object] = []

    def materialize_snapshot(self, registrations, documents):
        self.seen.append(documents.get("limits"))
        return MaterializedArtifacts.from_nodes({})


class Kept:
    def __init__(self) -> None:
        self.times = 0

    def persist(self, artifacts):
        self.times += 1


def test_wrappers_hand_the_environment_and_the_documents_on_and_equal_documents_are_not_made_twice():
    inner, sink = Reads(), Kept()
    outer = Quorum(CachedSnapshotMaterializer(PersistingSnapshotMaterializer(inner, sink)), at_least=1)
    assert (outer.documents, outer.revision) == ("shop/live", "7")
    for players, version in ((1, "e.1"), (1, "e.2"), (2, "e.3"), (2, "e.3")):
        documents = DocumentsSnapshot({"limits": players}, version=Version.parse(version))
        outer.materialize_snapshot(FLEET, documents)
    assert inner.seen == [1, 2]
    assert sink.times == 2


def test_a_wrapper_without_documents_calls_with_registrations_alone():
    class Plain:
        def materialize_snapshot(self, registrations):
            return MaterializedArtifacts.from_nodes({})

    outer = CachedSnapshotMaterializer(Plain())
    assert outer.documents == ""
    assert isinstance(outer.materialize_snapshot(FLEET), MaterializedArtifacts)


@dataclasses.dataclass
class Limits:
    players: int


def test_a_snapshot_of_documents_gives_values_and_types():
    documents = DocumentsSnapshot({"limits": {"players": 3}, "lobby/theme": None})
    assert documents.get("limits") == {"players": 3}
    assert documents.get_as("limits", Limits) == Limits(3)
    assert documents.get("theme", "lobby") is None
    assert documents.get_as("theme", Limits) is None
    assert ("limits" in documents, "lobby/theme" in documents, "theme" in documents) == (True, True, False)
    assert documents == DocumentsSnapshot({"default/limits": {"players": 3}, "lobby/theme": None})
    assert len(documents) == 2
    assert hash(documents) == hash(DocumentsSnapshot({"limits": 1, "lobby/theme": 2}))
    with pytest.raises(msgspec.ValidationError, match="players"):
        DocumentsSnapshot({"limits": {"players": "x"}}).get_as("limits", Limits)


@pytest.mark.parametrize("named", ["shop", "shop/live/eu", "/live", "shop/"])
def test_documents_that_name_no_environment_are_refused(named):
    class Wrong(Reads):
        documents = named

    with pytest.raises(TypeError, match="app/environment"):
        CachedSnapshotMaterializer(Wrong())


def test_a_method_that_takes_no_documents_is_refused():
    class Wrong:
        documents = "shop/live"

        def materialize_snapshot(self, registrations): ...

    with pytest.raises(TypeError, match=r"materialize_snapshot\(registrations, documents\).*two arguments"):
        CachedSnapshotMaterializer(Wrong())


async def test_an_attribute_of_another_kind_is_ignored_and_a_source_without_documents_is_refused():
    class Other(Reads):
        documents = ("a", "list", "of", "the", "application")

    assert documents_of(Other()) == ""
    with pytest.raises(ValueError, match="reads the documents of shop/live"):
        RegistrationConfigSource(Reads())
    async with RegistrationConfigSource(Reads(), documents=DocumentsFeed(DocumentsSnapshot())) as source:
        assert source.parts.publisher.claim.revision == "7 documents=shop/live"
