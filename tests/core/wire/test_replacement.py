"""The body of `POST /node/replace`: the original's bytes, and the two keys beyond them."""

from __future__ import annotations

from cfgsync_artifacts import ArtifactFile, ArtifactSet
from cfgsync_core.wire.replacement import Replacement, decode_replacement, encode_replacement


def test_a_plain_replacement_is_byte_equal_to_the_original_s() -> None:
    wanted = Replacement("node-1", ArtifactSet([ArtifactFile("/config.yaml", "a: 1")]))
    body = b'{"identifier":"node-1","files":[{"path":"/config.yaml","content":"a: 1"}]}'
    assert encode_replacement(wanted) == body
    assert decode_replacement(body) == wanted


def test_modes_and_binary_contents_travel_as_in_a_payload() -> None:
    wanted = Replacement("n", ArtifactSet([ArtifactFile("/k", b"\xff\x00", "0600"), ArtifactFile("/e", "")]))
    assert decode_replacement(encode_replacement(wanted)) == wanted


def test_files_may_be_absent_and_other_keys_are_ignored_as_in_the_original() -> None:
    assert decode_replacement(b'{"identifier":"n","more":{"files":1}}') == Replacement("n", ArtifactSet())
