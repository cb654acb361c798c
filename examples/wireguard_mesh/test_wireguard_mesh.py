"""The README of the mesh runs, and its materializer gives each node the right files."""

import os
import re
import shutil
import warnings
from base64 import b64encode

import pytest

from cfgsync_adapter import MaterializedArtifacts, NodeRegistration, NotReady, RegistrationSnapshot
from cfgsync_core import MetadataMismatch

from .wireguard_mesh import Mesh, mesh


@pytest.fixture
def openssl():
    """The program that draws the keys. Without it the test is skipped with a warning."""
    if shutil.which("openssl"):
        return
    line = "NOT TESTED: no keys were drawn, openssl not found (apt: openssl)"
    if os.environ.get("CFGSYNC_REQUIRE_ENGINES") == "1":
        pytest.fail(line)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn(line, stacklevel=1)
    pytest.skip(line)


@pytest.mark.usefixtures("openssl")
def test_its_readme_runs_as_written(run_readme):
    assert len(run_readme()) == 2


def told(name: str, key: bytes) -> NodeRegistration:
    metadata = {"public_key": b64encode(key).decode(), "port": 51820}
    return NodeRegistration(name, "10.0.0.1").with_metadata(metadata)


def confs(materializer: Mesh, *nodes: NodeRegistration) -> dict[str, str]:
    answer = materializer.materialize_snapshot(RegistrationSnapshot(nodes))
    assert isinstance(answer, MaterializedArtifacts)
    assert {files[0].mode for _, files in answer} == {"0600"}
    return {name: files[0].content for name, files in answer}


def drawn(conf: str) -> set[str]:
    return set(re.findall(r"PresharedKey = (\S+)", conf))


A, B, C = (told(name, letter * 32) for name, letter in (("a", b"A"), ("b", b"B"), ("c", b"C")))


def test_two_nodes_are_no_mesh():
    assert isinstance(mesh().materialize_snapshot(RegistrationSnapshot([A, B])), NotReady)


def test_two_nodes_share_a_key_that_the_third_does_not_get():
    files = confs(Mesh(), A, B, C)
    a, b, c = (drawn(files[name]) for name in "abc")
    assert [len(keys) for keys in (a, b, c, a & b, b & c, a & c, a & b & c)] == [2, 2, 2, 1, 1, 1, 0]


def test_who_joins_changes_no_key_and_who_comes_with_another_key_only_its_own():
    materializer = Mesh()
    before = confs(materializer, A, B, C)
    joined = confs(materializer, A, B, C, told("d", b"D" * 32))
    assert drawn(before["a"]) < drawn(joined["a"])
    replaced = confs(materializer, A, B, told("c", b"E" * 32))
    assert drawn(replaced["a"]) & drawn(before["a"]) == drawn(before["a"]) & drawn(before["b"])


@pytest.mark.parametrize("key", [b"", b"A" * 31, b"A" * 33])
def test_a_public_key_of_another_length_is_refused_with_the_name_of_its_node(key):
    with pytest.raises(MetadataMismatch, match=r"node c: .*public_key"):
        confs(Mesh(), A, B, told("c", key))


def test_two_nodes_with_one_public_key_are_refused_by_name():
    with pytest.raises(ValueError, match="b, c"):
        confs(Mesh(), A, B, told("c", b"B" * 32))
