"""The registrations' whole history, read from the SQLite file itself, against what nodes were told."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

import msgspec

from cfgsync_core import NodeRegistration, Version, decode_stored


class Acknowledged(Protocol):
    """A node: what it registered last, and every acknowledgement that it ever had."""

    identifier: str
    registration: NodeRegistration
    acknowledged: list[tuple[Version, NodeRegistration]]


def check_the_store(file: Path, nodes: Sequence[Acknowledged]) -> int:
    """The database itself, read without a line of the product's engine: every acknowledgement against the history."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
        bucket, epoch, head, floor = database.execute(
            "select id, epoch, revision, floor from bucket where name = 'registrations'"
        ).fetchone()
        history = database.execute(
            "select revision, commit_id, writes from history where bucket = ? order by revision", (bucket,)
        ).fetchall()
    assert floor == 0
    assert [revision for revision, _, _ in history] == list(range(1, head + 1)), "a revision twice, or none"
    assert len({commit for _, commit, _ in history}) == head, "a commit twice"

    acknowledged: dict[int, list[NodeRegistration]] = {}
    for node in nodes:
        assert node.acknowledged, f"{node.identifier} booted without an acknowledgement"
        for version, registration in node.acknowledged:
            assert version.epoch == epoch
            acknowledged.setdefault(version.revision, []).append(registration)
    standing: dict[str, NodeRegistration] = {}
    checked = 0
    for revision, _, writes in history:
        for identifier, value in msgspec.msgpack.decode(writes).items():
            registration = decode_stored(value)
            assert standing.get(identifier) != registration, f"revision {revision} changes nothing"
            standing[identifier] = registration
        for registration in acknowledged.pop(revision, ()):
            assert standing.get(registration.identifier) == registration, f"acknowledged at {revision}, lost"
            checked += 1
    assert not acknowledged, f"acknowledged at revisions that are not there: {acknowledged}"
    assert checked >= len(nodes)
    assert standing == {node.identifier: node.registration for node in nodes}
    return head
