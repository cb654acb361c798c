"""The SQLite engine beyond the contract: one server, refusals with a sentence, damage, full disks, failing disks."""

import asyncio
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from random import Random

import pytest

from cfgsync_core import (
    NEVER,
    BucketSnapshot,
    Conflict,
    OutcomeUnknown,
    StoreDamaged,
    StoreFull,
    StoreRefused,
    Unavailable,
    Version,
)
from cfgsync_runtime import open_backend
from cfgsync_runtime.backends.sqlite.engine import SqliteStore
from tests.seeds import drawn_seed


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "x.db")


async def refusal_of(store):
    with pytest.raises(StoreRefused) as refused:
        async with store:
            pass
    assert refused.value.hint
    return str(refused.value)


def failing(on, code, name="disk I/O error", times=10**9):
    """A connection on which the statement that begins with `on` fails `times` times."""
    left = [times]

    class Failing(sqlite3.Connection):
        def execute(self, sql, *parameters):
            if sql.startswith(on) and left[0]:
                left[0] -= 1
                error = sqlite3.OperationalError(name)
                error.sqlite_errorcode = code
                raise error
            return super().execute(sql, *parameters)

    return Failing


# Opening


@pytest.mark.parametrize("url", ["postgres", "redis://u:secret@host/1", ":x", ""])
def test_an_unknown_url_is_refused_without_repeating_its_password(url):
    with pytest.raises(StoreRefused) as refused:
        open_backend(url)
    assert "secret" not in str(refused.value) + refused.value.hint
    assert "sqlite:" in refused.value.hint


@pytest.mark.parametrize("url", ["sqlite:", "sqlite::memory:", "sqlite:x?mode=ro", "memory:x"])
async def test_a_url_that_names_no_store_is_refused(url):
    with pytest.raises(StoreRefused):
        await open_backend(url).__aenter__()


async def test_a_url_names_a_relative_or_an_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with open_backend("sqlite:here.db"), open_backend(f"sqlite://{tmp_path}/there.db"):
        assert {"here.db", "there.db"} <= set(os.listdir(tmp_path))


async def test_file_and_directories_are_for_their_owner_alone(tmp_path):
    async with open_backend(f"sqlite:{tmp_path}/a/b/x.db") as (store, *_):
        await store.commit("b", {"a": b"1"})
        for name in os.listdir(tmp_path / "a/b"):
            assert stat.S_IMODE((tmp_path / "a/b" / name).stat().st_mode) == 0o600, name
    for directory in ("a", "a/b"):
        assert stat.S_IMODE((tmp_path / directory).stat().st_mode) == 0o700
    assert sorted(os.listdir(tmp_path / "a/b")) == ["x.db", "x.db.lock"]


async def test_a_crash_while_the_file_was_made_does_not_stop_the_next_start(path):
    with open(path + ".new", "w") as draft:
        draft.write("half")
    async with SqliteStore(path) as store:
        assert (await store.commit("b", {"a": b"1"})).revision == 1


async def test_a_second_server_in_this_process_is_refused_and_the_first_keeps_its_lock(path):
    async with SqliteStore(path) as store:
        for _ in range(2):
            said = await refusal_of(SqliteStore(path))
            assert said.endswith(f"x.db is in use by another server (pid {os.getpid()})")
        assert open_in_child(path).startswith("refused ")
        await store.commit("b", {"a": b"1"})
    assert open_in_child(path) == "opened"


CHILD = """
import asyncio, sys
from cfgsync_core import StoreRefused
from cfgsync_runtime.backends.engines import open_backend
async def main():
    try:
        async with open_backend("sqlite:" + sys.argv[1]):
            print("opened", flush=True)
            if len(sys.argv) > 2:
                sys.stdin.readline()
    except StoreRefused as refused:
        print("refused", refused)
asyncio.run(main())
"""


def open_in_child(path):
    ran = subprocess.run([sys.executable, "-c", CHILD, path], capture_output=True, text=True, check=True)
    return ran.stdout.strip()


async def test_a_server_in_another_process_is_named_by_its_pid(path):
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, path, "stay"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "opened\n"
        said = await refusal_of(SqliteStore(path))
        assert said.endswith(f"in use by another server (pid {child.pid})")
        child.kill()
    async with SqliteStore(path):
        pass


async def test_reading_beside_a_server_sees_its_commits_and_cannot_write(path):
    async with SqliteStore(path) as store, SqliteStore(path, read_only=True) as beside:
        version = await store.commit("b", {"a": b"1"})
        assert await beside.version("b") == version
        assert list(await beside.buckets()) == ["b"]
        with pytest.raises(StoreRefused):
            await beside.commit("b", {"a": b"2"})
        with pytest.raises(StoreRefused):
            await beside.new_epoch()
        assert (await store.commit("b", {"a": b"3"})).revision == 2
    async with SqliteStore(path, read_only=True) as alone:
        assert (await alone.get("b", "a")).value == b"3"


async def test_reading_what_is_not_there_makes_nothing(path, tmp_path):
    assert "No such file" in await refusal_of(SqliteStore(path, read_only=True))
    assert os.listdir(tmp_path) == []


async def test_a_newer_schema_is_refused_with_a_sentence(path):
    async with SqliteStore(path):
        pass
    change(path, "pragma user_version=7")
    assert "written by a newer cfgsync (schema 7, this one knows 5)" in await refusal_of(SqliteStore(path))


async def test_a_database_of_another_program_is_refused(path):
    change(path, "create table t (a)")
    assert "is a database of another program" in await refusal_of(SqliteStore(path))


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to look at" * 100])
async def test_an_empty_or_foreign_file_is_damage_and_stays_as_it_was(path, content):
    with open(path, "wb") as file:
        file.write(content)
    for read_only in (False, True):
        with pytest.raises(StoreDamaged):
            async with SqliteStore(path, read_only=read_only):
                pass
    with open(path, "rb") as file:
        assert file.read() == content


async def test_a_path_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot open" in await refusal_of(SqliteStore(f"{tmp_path}/file/x.db"))
    (tmp_path / "directory").mkdir()
    assert "is a directory" in await refusal_of(SqliteStore(f"{tmp_path}/directory"))


async def test_a_store_that_is_not_open_is_unavailable(path):
    store = SqliteStore(path)
    with pytest.raises(Unavailable, match="not open"):
        await store.version("b")
    async with store:
        pass
    for call in (store.commit("b", {"a": b"1"}), store.get("b", "a"), store.ping()):
        with pytest.raises(Unavailable, match="closed"):
            await call


def change(path, *statements):
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


# Damage


DAMAGE = {
    "a value": "update entry set value = x'00' where key = 'a'",
    "a digest": "update entry set digest = zeroblob(32) where key = 'a'",
    "a key": "update entry set key = 'z' where key = 'a'",
    "a revision": "update entry set revision = 2 where key = 'a'",
    "a lost entry": "delete from entry where key = 'a'",
    "a tombstone that was alive": "update entry set value = null, digest = null where key = 'a'",
    "an entry too many": "insert into entry select bucket, 'n', revision, digest, value, at_ms from entry where key = 'a'",
    "a time": "update entry set at_ms = at_ms + 1 where key = 'a'",
    "a counter": "update bucket set revision = 9",
    "an epoch": "update bucket set epoch = 'e'",
    "a bucket's name": "update bucket set name = 'c'",
}


@pytest.mark.parametrize("read_only", [False, True], ids=["server", "beside"])
@pytest.mark.parametrize("statement", DAMAGE.values(), ids=DAMAGE)
async def test_damage_is_named_and_never_served(path, statement, read_only):
    async with SqliteStore(path) as store:
        await store.commit("b", {"a": b"1", "other": b"1"})
        await store.commit("b", {"other": b"2"})
    change(path, statement)
    with pytest.raises(StoreDamaged, match=r"x\.db is damaged: .*'?b'?|bucket") as damaged:
        async with SqliteStore(path, read_only=read_only) as store:
            await store.snapshot("b")
    assert "backup" in damaged.value.hint


@pytest.mark.parametrize(
    "statement",
    [
        "update history set writes = x'80' where revision = 1",
        "update history set at_ms = 1 where revision = 1",
        "update history set commit_id = zeroblob(16) where revision = 1",
        "delete from history where revision = 1",
    ],
)
async def test_damaged_history_is_named_and_never_told(path, statement):
    async with SqliteStore(path) as store:
        await store.commit("b", {"a": b"1"})
        await store.commit("b", {"a": b"2"})
    change(path, statement)
    async with SqliteStore(path) as store:
        with pytest.raises(StoreDamaged, match="history of bucket 'b'"):
            await store.changes("b", NEVER)


async def test_no_flipped_bit_is_served_as_truth(path, tmp_path):
    """Every answer of a store with one wrong bit is right, or an error. (Bits that mean nothing are free to flip.)"""
    random = Random(drawn_seed())
    async with SqliteStore(path) as store:
        for n in range(40):
            await store.commit("b", {f"key-{n % 25}": bytes(random.randrange(256) for _ in range(150))})
        truth = await store.snapshot("b")
        told = await store.changes("b", NEVER)
    with open(path, "rb") as file:
        whole = file.read()
    found = 0
    for n in range(150):
        flipped = bytearray(whole)
        position = random.randrange(len(whole) * 8)
        flipped[position // 8] ^= 1 << position % 8
        other = tmp_path / f"flipped-{n}.db"
        other.write_bytes(flipped)
        try:
            async with SqliteStore(str(other)) as store:
                assert await store.snapshot("b") == truth, f"bit {position}"
                assert await store.changes("b", NEVER) == told, f"bit {position}"
        except (StoreRefused, Unavailable):
            found += 1
        other.unlink()
    assert found > 15, "too few flips met anything: the test proved little"


async def test_a_truncated_file_is_named(path):
    async with SqliteStore(path) as store:
        await store.commit("b", {f"key-{n}": b"x" * 500 for n in range(100)})
    os.truncate(path, os.stat(path).st_size // 2)
    with pytest.raises((StoreDamaged, Unavailable)):
        async with SqliteStore(path) as store:
            await store.snapshot("b")


async def test_another_program_that_writes_is_noticed_by_the_next_commit(path):
    async with SqliteStore(path) as store:
        await store.commit("b", {"a": b"1"})
        change(path, "update bucket set revision = 5")
        with pytest.raises(StoreDamaged, match="not at revision 1 any more"):
            await store.commit("b", {"a": b"2"})


# Disks that are full, busy or broken


async def test_a_full_disk_refuses_the_group_and_heals_by_itself(path):
    class Small(sqlite3.Connection):
        def execute(self, sql, *parameters):
            if sql == "begin immediate":
                super().execute(f"pragma max_page_count={20 if full else 100_000}")
            return super().execute(sql, *parameters)

    full = False
    async with SqliteStore(path, factory=Small) as store:
        await store.commit("b", {"a": b"1"})
        full = True
        tries = [store.commit("b", {f"k{n}": b"x" * 100_000}) for n in range(3)]
        for result in await asyncio.gather(*tries, return_exceptions=True):
            assert type(result) is StoreFull
        assert (await store.get("b", "a")).value == b"1"
        assert (await store.commit("b", {"a": b"2"})).revision == 2
        full = False
        assert (await store.commit("b", {"k0": b"x" * 100_000})).revision == 3


@pytest.mark.parametrize("at", ["begin", "replace into entry", "replace into history", "commit"])
async def test_a_disk_that_is_full_at_any_step_is_a_definite_refusal(path, at):
    large = b"x" * 100_000  # which writes its entry itself
    factory = failing(at, sqlite3.SQLITE_FULL, "database or disk is full", times=1)
    async with SqliteStore(path, factory=factory) as store:
        with pytest.raises(StoreFull):
            await store.commit("b", {"a": large})
        assert await store.version("b") == NEVER
        assert (await store.commit("b", {"a": large})).revision == 1


async def test_a_locked_database_is_unavailable_and_then_works(path):
    async with SqliteStore(path, factory=failing("begin i", sqlite3.SQLITE_BUSY, "locked", times=1)) as store:
        with pytest.raises(Unavailable, match="locked by another program"):
            await store.commit("b", {"a": b"1"})
        assert (await store.commit("b", {"a": b"1"})).revision == 1


async def test_an_io_error_before_commit_is_a_definite_refusal(path):
    factory = failing("replace into history", sqlite3.SQLITE_IOERR, times=1)
    async with SqliteStore(path, factory=factory) as store:
        with pytest.raises(Unavailable) as refused:
            await store.commit("b", {"a": b"1"})
        assert type(refused.value) is Unavailable
        assert (await store.commit("b", {"a": b"1"})).revision == 1


async def test_an_io_error_at_commit_ends_the_store_and_calls_on_fatal_once(path):
    fatal = []
    factory = failing("commit", sqlite3.SQLITE_IOERR | (4 << 8), times=1)  # SQLITE_IOERR_FSYNC
    async with SqliteStore(path, factory=factory, on_fatal=fatal.append) as store:
        results = await asyncio.gather(
            store.commit("b", {"a": b"1"}), store.commit("b", {"c": b"1"}), return_exceptions=True
        )
        assert [type(result) for result in results] == [OutcomeUnknown] * 2
        assert isinstance(results[0].__cause__, sqlite3.Error)
        assert len(fatal) == 1
        for call in (store.commit("b", {"a": b"1"}), store.version("b"), store.get("b", "a"), store.ping()):
            with pytest.raises(Unavailable, match="restart the server"):
                await call
    assert len(fatal) == 1


async def test_nothing_is_acknowledged_before_commit_has_returned(path):
    """The order in which things happen, seen from the connection."""
    order = []

    class Watched(sqlite3.Connection):
        def execute(self, sql, *parameters):
            result = super().execute(sql, *parameters)
            if sql in ("begin immediate", "commit"):
                order.append(sql)
            return result

    async with SqliteStore(path, factory=Watched) as store:
        await store.commit("b", {"a": b"1"})
        order.append("acknowledged")
        assert order == ["begin immediate", "commit", "acknowledged"]


async def test_commits_are_synced_with_full_and_only_the_writer_checkpoints(path):
    settings = {}

    class Watched(sqlite3.Connection):
        def close(self):
            names = ("synchronous", "journal_mode", "locking_mode", "wal_autocheckpoint", "query_only")
            settings[len(settings)] = [self.execute(f"pragma {name}").fetchone()[0] for name in names]
            super().close()

    async with SqliteStore(path, factory=Watched) as store:
        await store.commit("b", {"a": b"1"})
    assert settings[1] == [2, "wal", "normal", 0, 0]
    assert settings[0][1:] == ["wal", "normal", 0, 0]


async def test_a_new_store_is_durable_under_its_name_before_it_is_opened(path, tmp_path, monkeypatch):
    done = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(descriptor):
        fsync(descriptor)
        done.append(f"fsync {os.readlink(f'/proc/self/fd/{descriptor}')}")

    def noted_rename(source, target):
        rename(source, target)
        done.append(f"rename {target}")

    class Opened(sqlite3.Connection):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            done.append("open")

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    async with SqliteStore(path, factory=Opened):
        assert done[:3] == [f"rename {path}", f"fsync {tmp_path}", "open"]


async def test_the_write_ahead_log_does_not_grow_without_bound(path):
    async with SqliteStore(path) as store:
        for n in range(60):
            await store.commit("b", {"a": b"%d" % n + b"x" * 1_000_000})
        assert os.stat(path + "-wal").st_size < 40_000_000
    assert not os.path.exists(path + "-wal")


async def test_a_copy_taken_at_any_moment_opens_with_what_was_acknowledged(path, tmp_path):
    """What a crash leaves: the files as they are, without a close."""
    async with SqliteStore(path) as store:
        versions = await asyncio.gather(*(store.commit("b", {f"k{n}": b"1"}) for n in range(300)))
        for suffix in ("", "-wal"):
            shutil.copy(path + suffix, tmp_path / f"copy.db{suffix}")
    async with SqliteStore(str(tmp_path / "copy.db")) as copy:
        snapshot = await copy.snapshot("b")
        assert isinstance(snapshot, BucketSnapshot)
        assert {e.key: e.revision for e in snapshot.entries} == {
            f"k{n}": v.revision for n, v in enumerate(versions)
        }


async def test_a_clock_that_goes_back_does_not_take_history_with_it(path):
    now = [5000]
    async with SqliteStore(path, clock=lambda: now[0]) as store:
        await store.commit("b", {"a": b"1"})
    now[0] = 400
    async with SqliteStore(path, clock=lambda: now[0]) as store:
        await store.commit("b", {"a": b"2"})
        assert [change.at_ms for change in await store.changes("b", NEVER)] == [5000, 5000]


async def test_inv_09_a_commit_in_the_middle_of_a_snapshot_leaves_the_previous_values_in_it(path):
    reading, committed = threading.Event(), threading.Event()

    class Interrupted(sqlite3.Connection):
        def execute(self, sql, *parameters):
            if sql.startswith("select key, value"):
                reading.set()
                assert committed.wait(5)
            return super().execute(sql, *parameters)

    async with SqliteStore(path, factory=Interrupted) as store:
        first = await store.commit("b", {"a": b"1", "b": b"1"})
        snapshot = asyncio.create_task(store.snapshot("b"))
        await asyncio.to_thread(reading.wait, 5)
        await store.commit("b", {"a": b"2", "c": b"2"})
        committed.set()
        cut = await snapshot
        assert cut.version == first
        assert cut.is_whole()
        assert {entry.key: entry.value for entry in cut.entries} == {"a": b"1", "b": b"1"}


async def test_one_group_may_write_many_buckets(path):
    async with SqliteStore(path) as store:
        versions = await asyncio.gather(*(store.commit(f"b{n % 7}", {f"k{n}": b"1"}) for n in range(70)))
        assert all(isinstance(version, Version) for version in versions)
        assert [version.revision for version in versions] == [n // 7 + 1 for n in range(70)]
        for n in range(7):
            assert len((await store.snapshot(f"b{n}")).entries) == 10


async def test_a_commit_of_ten_thousand_keys_is_one_revision(path):
    async with SqliteStore(path) as store:
        writes = {f"k{n}": b"%d" % n for n in range(10_000)}
        assert (await store.commit("b", writes)).revision == 1
        assert (await store.commit("b", dict.fromkeys(writes))).revision == 2
        with pytest.raises(Conflict):
            await store.commit("b", {}, {"k9999": 1})
        assert (await store.snapshot("b")).entries == ()


@pytest.mark.parametrize("use", ["get", "commit", "snapshot", "new_epoch"])
async def test_the_first_use_of_a_bucket_finds_that_an_entry_is_lost(path, use):
    async with SqliteStore(path) as store:
        await store.commit("b", {"a": b"1", "other": b"1"})
        await store.commit("c", {"a": b"1"})
    change(path, "delete from entry where key = 'other'")
    async with SqliteStore(path) as store:
        assert (await store.get("c", "a")).value == b"1"
        calls = {
            "get": lambda: store.get("b", "other"),
            "commit": lambda: store.commit("b", {"other": b"2"}, {"other": 0}),
            "snapshot": lambda: store.snapshot("b"),
            "new_epoch": store.new_epoch,
        }
        for _ in range(2):
            with pytest.raises(StoreDamaged, match="bucket 'b' do not match its seal"):
                await calls[use]()
        assert (await store.commit("c", {"a": b"2"})).revision == 2


async def test_a_bucket_whose_row_is_lost_is_damage_and_not_a_new_bucket(path):
    async with SqliteStore(path) as store:
        for name in "abc":
            await store.commit(name, {"k": b"1"})
    change(path, "delete from bucket where name = 'b'")
    assert "entries of a bucket that is lost" in await refusal_of(SqliteStore(path))
