"""A store file of each schema opens for a reader, and becomes the newest schema when a server opens it.

`stores/` has one file of each, made by the code of its time with the same three commits. A new schema adds one.
"""

import shutil
import sqlite3
from pathlib import Path

import pytest

from cfgsync_core import NEVER, Entry, StoreDamaged, StoreRefused
from cfgsync_runtime.backends.sqlite.disk.file import SCHEMA_VERSION
from cfgsync_runtime.backends.sqlite.engine import SqliteStore
from cfgsync_runtime.testing.contracts.checked_reads import timeless

STORES = Path(__file__).parent / "stores"
FILES = sorted(file.name for file in STORES.iterdir())


@pytest.fixture(params=FILES)
def path(request, tmp_path):
    return str(shutil.copy(STORES / request.param, tmp_path / "x.db"))


def schema_of(path):
    connection = sqlite3.connect(path)
    try:
        return connection.execute("pragma user_version").fetchone()[0]
    finally:
        connection.close()


async def holds_what_was_written(store):
    entries = (await store.snapshot("registrations")).entries
    assert timeless(*entries) == [Entry("node-1", b'{"ip":"10.0.0.2"}', 2)]
    changes = await store.changes("registrations", NEVER)
    assert entries[0].at_ms == changes[1].at_ms
    assert (await store.get("generations", "blob/aa")).value == b"files " * 300
    assert [change.revision for change in await store.changes("registrations", NEVER)] == [1, 2]
    return await store.version("registrations")


def test_there_is_a_file_of_the_newest_schema():
    assert max(schema_of(STORES / name) for name in FILES) == SCHEMA_VERSION
    assert f"schema-{SCHEMA_VERSION}.sqlite" in FILES, "keep one, made as the others were"


async def test_a_reader_reads_each_schema_and_leaves_the_file_as_it_is(path):
    before = Path(path).read_bytes()
    async with SqliteStore(path, read_only=True) as store:
        await holds_what_was_written(store)
    assert Path(path).read_bytes() == before


async def test_a_server_makes_each_schema_the_newest_and_loses_nothing(path):
    async with SqliteStore(path) as store:
        version = await holds_what_was_written(store)
        after = await store.commit("registrations", {"node-3": b"{}"}, {"node-2": 2})
        assert after == (version.epoch, 3)
    assert schema_of(path) == SCHEMA_VERSION
    async with SqliteStore(path) as store:
        assert await store.version("registrations") == after


async def test_a_damaged_row_is_not_migrated_into_a_sound_one(tmp_path):
    path = str(shutil.copy(STORES / "schema-1.sqlite", tmp_path / "x.db"))
    connection = sqlite3.connect(path)
    connection.execute("update bucket set revision = 1 where name = 'registrations'")
    connection.commit()
    connection.close()
    for _ in range(2):
        with pytest.raises(StoreDamaged, match="does not match its checksum"):
            async with SqliteStore(path):
                pass
    assert schema_of(path) == 1


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (
            f"pragma user_version={SCHEMA_VERSION + 1}",
            f"newer cfgsync (schema {SCHEMA_VERSION + 1}, this one",
        ),
        ("pragma application_id=1", "a database of another program"),
        ("pragma user_version=0", "its schema is 0"),
    ],
)
@pytest.mark.parametrize("read_only", [False, True])
async def test_a_newer_or_foreign_schema_is_refused_with_words(tmp_path, statement, words, read_only):
    path = str(shutil.copy(STORES / FILES[0], tmp_path / "x.db"))
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()
    before = Path(path).read_bytes()
    with pytest.raises(StoreRefused) as refused:
        async with SqliteStore(path, read_only=read_only):
            pass
    assert words in str(refused.value)
    assert refused.value.hint
    assert Path(path).read_bytes() == before
