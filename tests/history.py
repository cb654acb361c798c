"""The registrations' whole history, read from the SQLite file itself, against what nodes were told."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Protocol, TypeAlias

import msgspec

from cfgsync_core import NodeRegistration, Version
from cfgsync_core.wire.protocol import decode_stored


class Acknowledged(Protocol):
    """A node: what it registered last, and every acknowledgement that it ever had."""

    identifier: str
    registration: NodeRegistration
    acknowledged: list[tuple[Version, NodeRegistration]]


Row: TypeAlias = tuple[int, bytes, bytes]
"""A revision, its commit, and what it wrote."""


def _history(database: sqlite3.Connection, after: int = 0) -> list[Row]:
    return database.execute(
        "select revision, commit_id, writes from history where revision > ? and bucket ="
        " (select id from bucket where name = 'registrations') order by revision",
        (after,),
    ).fetchall()


class Follower:
    """Reads the history while servers write it and are killed: a store forgets all but its last thousand revisions."""

    def __init__(self, file: Path) -> None:
        self.rows: list[Row] = []
        self._file = file
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._over.wait(0.01):
            with suppress(sqlite3.OperationalError), closing(_opened(self._file)) as database:
                while not self._over.wait(0.01):
                    self.rows += _history(database, self.rows[-1][0] if self.rows else 0)


def _opened(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{file}?mode=ro", uri=True)


def check_the_store(file: Path, nodes: Sequence[Acknowledged], followed: Sequence[Row] = ()) -> int:
    """The database itself, read without a line of the product's engine: every acknowledgement against the history."""
    with closing(_opened(file)) as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
        epoch, head, floor = database.execute(
            "select epoch, revision, floor from bucket where name = 'registrations'"
        ).fetchone()
        held = _history(database)
    if floor:
        assert followed, "the store has forgotten its first revisions, and nobody followed it"
        at = {row[0]: row for row in followed}
        assert all(at.get(row[0], row) == row for row in held), "a revision is another than it was"
        held = [row for row in followed if row[0] < held[0][0]] + held
    assert [revision for revision, _, _ in held] == list(range(1, head + 1)), "a revision twice, or none"
    assert len({commit for _, commit, _ in held}) == head, "a commit twice"

    acknowledged: dict[int, list[NodeRegistration]] = {}
    for node in nodes:
        assert node.acknowledged, f"{node.identifier} booted without an acknowledgement"
        for version, registration in node.acknowledged:
            assert version.epoch == epoch
            acknowledged.setdefault(version.revision, []).append(registration)
    standing: dict[str, NodeRegistration] = {}
    checked = 0
    for revision, _, writes in held:
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
