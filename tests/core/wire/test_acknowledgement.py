"""What a node says of a generation, as bytes: golden ones, strict ones, and ones within limits."""

from __future__ import annotations

import json

import pytest

from cfgsync_core import Acknowledgement
from cfgsync_core.errors import InvalidRequest
from cfgsync_core.wire.acknowledgement import decode_acknowledgement, encode_acknowledgement
from cfgsync_core.wire.limits import MAX_REASON

EPOCH = "01890a5d-ac96-774b-bcce-b302099a8057"
DIGEST = f"sha256-{'0a' * 32}"

APPLIED = Acknowledgement("node-1", f"{EPOCH}.12", DIGEST, "applied")
STATIC = Acknowledgement("node-1", None, DIGEST, "applied")
TURN = Acknowledgement(
    "node-1", f"{EPOCH}.12", DIGEST, "failed", "exit code 4", group="etcd", words="unknown flag"
)
FAILED = Acknowledgement("node-1", f"{EPOCH}.12", DIGEST, "failed", "/srv is read-only")

GOLDEN = {
    b'{"identifier":"node-1","generation":"01890a5d-ac96-774b-bcce-b302099a8057.12",'
    b'"digest":"sha256-0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a","status":"applied"}': APPLIED,
    b'{"identifier":"node-1","generation":"01890a5d-ac96-774b-bcce-b302099a8057.12",'
    b'"digest":"sha256-0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a","status":"failed",'
    b'"reason":"/srv is read-only"}': FAILED,
    b'{"identifier":"node-1","generation":"01890a5d-ac96-774b-bcce-b302099a8057.12",'
    b'"digest":"sha256-0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a","status":"failed",'
    b'"reason":"exit code 4","group":"etcd","words":"unknown flag"}': TURN,
    b'{"identifier":"node-1",'
    b'"digest":"sha256-0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a","status":"applied"}': STATIC,
}


@pytest.mark.parametrize(
    ("golden", "words"), GOLDEN.items(), ids=["applied", "failed", "failed turn", "static"]
)
def test_the_golden_bytes_of_an_acknowledgement(golden: bytes, words: Acknowledgement) -> None:
    assert encode_acknowledgement(words) == golden
    assert decode_acknowledgement(golden) == words


def body(**words: object) -> bytes:
    return json.dumps({**json.loads(encode_acknowledgement(APPLIED)), **words}).encode()


@pytest.mark.parametrize(
    ("wrong", "begins"),
    [
        ({"identifier": "../etc"}, "identifier: "),
        ({"identifier": 1}, "identifier: "),
        ({"generation": "12"}, "generation: "),
        ({"generation": f"{EPOCH}.-1"}, "generation: "),
        ({"generation": f"{EPOCH}.012"}, "generation: "),
        ({"generation": "00000000-0000-4000-8000-000000000000.1"}, "generation: "),
        ({"generation": None}, "generation: "),
        ({"digest": "sha256-0a"}, "digest: "),
        ({"digest": "md5"}, "digest: "),
        ({"status": "done"}, "status: "),
        ({"reason": 5}, "reason: "),
    ],
)
def test_a_wrong_field_is_refused_by_name(wrong: dict[str, object], begins: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode_acknowledgement(body(**wrong))
    assert (refused.value.status, str(refused.value)[: len(begins)]) == (422, begins)


@pytest.mark.parametrize("key", ["identifier", "digest", "status"])
def test_a_missing_field_is_refused_by_name(key: str) -> None:
    words = json.loads(encode_acknowledgement(FAILED))
    del words[key]
    with pytest.raises(InvalidRequest) as refused:
        decode_acknowledgement(json.dumps(words).encode())
    assert (refused.value.status, str(refused.value)) == (422, f"{key}: missing")


@pytest.mark.parametrize("key", ["identifier", "generation", "digest", "status", "reason"])
def test_a_field_given_twice_is_refused(key: str) -> None:
    golden = encode_acknowledgement(FAILED)
    twice = golden[:-1] + b"," + json.dumps({key: json.loads(golden)[key]}).encode()[1:]
    with pytest.raises(InvalidRequest) as refused:
        decode_acknowledgement(twice)
    assert (refused.value.status, str(refused.value)) == (422, f"{key}: given twice")


def test_other_keys_are_ignored_also_twice() -> None:
    golden = encode_acknowledgement(APPLIED)
    assert (
        decode_acknowledgement(golden[:-1] + b',"later":[NULL],"later":2}'.replace(b"NULL", b"1")) == APPLIED
    )


@pytest.mark.parametrize("wrong", [b"", b"{", b'{"identifier":NaN}', b"\xff", b'{"x":"\xff"}'])
def test_what_is_not_json_is_400(wrong: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode_acknowledgement(wrong)
    assert refused.value.status == 400


def test_a_reason_too_long_is_cut_on_both_sides_and_the_failure_is_told_all_the_same() -> None:
    wordy = Acknowledgement("node-1", f"{EPOCH}.12", DIGEST, "failed", "x" * 5_000)
    assert len(json.loads(encode_acknowledgement(wordy))["reason"]) == MAX_REASON
    assert decode_acknowledgement(body(status="failed", reason="y" * 5_000)).reason == "y" * MAX_REASON


def test_an_empty_reason_is_none() -> None:
    assert decode_acknowledgement(body(reason="")).reason is None
    assert decode_acknowledgement(body(reason=None)).reason is None


def test_the_paths_that_drifted_travel_and_are_cut_on_both_sides() -> None:
    words = Acknowledgement("node-1", f"{EPOCH}.12", DIGEST, "applied", drifted=("/a", "/b"))
    assert json.loads(encode_acknowledgement(words))["drifted"] == ["/a", "/b"]
    assert decode_acknowledgement(encode_acknowledgement(words)) == words
    many = decode_acknowledgement(body(drifted=["x" * 5_000] * 50)).drifted
    assert (len(many), {len(path) for path in many}) == (10, {1024})
    with pytest.raises(InvalidRequest, match="drifted"):
        decode_acknowledgement(body(drifted="/a"))


def test_of_long_words_the_end_is_kept() -> None:
    words = "a" * MAX_REASON + " the cause"
    assert decode_acknowledgement(body(status="failed", words=words)).words.endswith(" the cause")
