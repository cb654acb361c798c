"""The header of a node that takes turns, and the group in an acknowledgement."""

from __future__ import annotations

import pytest

from cfgsync_core import InvalidRequest
from cfgsync_core.wire import Turn, parse_turn
from cfgsync_core.wire.acknowledgement import Acknowledgement, decode_acknowledgement, encode_acknowledgement

GENERATION = "01890a5d-ac96-774b-bcce-b302099a8057.7"


@pytest.mark.parametrize(
    ("text", "turn"),
    [
        ("default; steady", Turn("default", "steady")),
        ("etcd;trial", Turn("etcd", "trial")),
        ("db-1.eu_x; refused", Turn("db-1.eu_x", "refused")),
        ("default", None),
        ("default; idle", None),
        ("; steady", None),
        ("-x; steady", None),
        ("a b; steady", None),
        ("x" * 65 + "; steady", None),
        ("default; steady\n", None),
        ("", None),
        (None, None),
    ],
)
def test_the_header_names_a_group_and_how_the_node_stands(text: str | None, turn: Turn | None) -> None:
    assert parse_turn(text) == turn
    assert turn is None or parse_turn(str(turn)) == turn


def test_an_acknowledgement_names_the_group_and_has_no_such_key_without_one() -> None:
    with_group = Acknowledgement("node-1", GENERATION, "sha256-" + "0" * 64, "applied", group="etcd")
    assert decode_acknowledgement(encode_acknowledgement(with_group)) == with_group
    without = Acknowledgement("node-1", GENERATION, "sha256-" + "0" * 64, "applied")
    assert b"group" not in encode_acknowledgement(without)


def test_a_group_that_is_no_name_is_refused() -> None:
    body = encode_acknowledgement(
        Acknowledgement("node-1", GENERATION, "sha256-" + "0" * 64, "applied", group="a b")
    )
    with pytest.raises(InvalidRequest, match="group"):
        decode_acknowledgement(body)
