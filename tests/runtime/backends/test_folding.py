"""Log first, fold later: what is committed is read, kept and found damaged the same before, while and after it is folded."""

import asyncio
import contextlib
import shutil
import sqlite3
import subprocess
import sys
import threading
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from cfgsync_core import NEVER, Conflict, Entry, Gap, OutcomeUnknown, StoreDamaged, StoreRefused, Unavailable
from cfgsync_core.store.contract import BLOB
from cfgsync_runtime.backends.sqlite import folding
from cfgsync_runtime.backends.sqlite.engine import SqliteStore
from cfgsync_runtime.testing.contracts.checked_reads import timeless
from tests.seeds import drawn_seed


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "x.db")


@pytest.fixture
def often(monkeypatch):
    """A fold after every ten keys."""
    monkeypatch.setattr(folding, "FOLD_ROWS", 10)


def refusing(on, code=sqlite3.SQLITE_FULL, times=10**9, skip=0):
    """A connection on which the statement that begins with `on` fails: `skip` times not, then `times` times."""
    left = [skip, times]

    class Refusing(sqlite3.Connection):
        def execute(self, sql, *parameters):
            if sql.startswith(on):
                if left[0]:
                    left[0] -= 1
                elif left[1]:
                    left[1] -= 1
                    error = sqlite3.OperationalError("database or disk is full")
                    error.sqlite_errorcode = code
                    raise error
            return super().execute(sql, *parameters)

    return Refusing


NEVER_FOLDS = "replace into entry"


def look(path, query):
    """The database without a line of the engine's."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return database.execute(query).fetchall()


def change(path, *statements):
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


async def everything(store, bucket="b"):
    cut = await store.snapshot(bucket)
    assert cut.is_whole()
    return cut, await store.changes(bucket, NEVER)


async def settled(store):
    """Return after what the writer does between groups."""
    await store._writes.run(lambda: None)


# Before a fold


async def test_a_small_commit_writes_history_only_and_is_read_everywhere(path):
    async with SqliteStore(path) as store:
        first = await store.commit("b", {"a": b"1", "c": b"1"})
        second = await store.commit("b", {"a": b"2", "c": None})
        assert look(path, "select count(*) from entry") == [(0,)]
        assert look(path, "select revision, folded from bucket") == [(2, 0)]
        async with SqliteStore(path, read_only=True) as beside:
            for each in (store, beside):
                assert await each.version("b") == second
                assert timeless(await each.get("b", "a")) == [Entry("a", b"2", 2)]
                assert await each.get("b", "c") is None
                assert await each.get("b", "never") is None
                assert timeless(*(await each.snapshot("b")).entries) == [Entry("a", b"2", 2)]
                assert [dict(told.writes) for told in await each.changes("b", first)] == [
                    {"a": b"2", "c": None}
                ]
    assert look(path, "select key, revision, value from entry order by key") == [
        ("a", 2, b"2"),
        ("c", 2, None),
    ]
    assert look(path, "select revision, folded from bucket") == [(2, 2)]


async def test_expectations_and_changes_of_nothing_are_decided_on_what_is_not_folded(path):
    async with SqliteStore(path) as store:
        await store.commit("b", {"a": b"1"})
        assert (await store.commit("b", {"a": b"1"})).revision == 1
        with pytest.raises(Conflict):
            await store.commit("b", {"a": b"2"}, {"a": 0})
        await store.commit("b", {"a": None}, {"a": 1})
        with pytest.raises(Conflict):
            await store.commit("b", {"a": b"3"}, {"a": 1})
        assert (await store.commit("b", {"a": b"3"}, {"a": 2})).revision == 3


async def test_the_checker_sees_the_newest_commits_beside_the_server(path):
    async with SqliteStore(path) as store:
        await asyncio.gather(*(store.commit("b", {f"k{n}": b"1"}) for n in range(500)))
        command = [Path(sys.executable).parent / "cfgsync", "store", "check", "--store", f"sqlite:{path}"]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[0] == "b: revision 500, 500 entries, 500 bytes, history of 500 commits"


async def test_a_blob_or_a_large_value_brings_the_entries_up_to_date_in_its_own_commit(path):
    async with SqliteStore(path) as store:
        for n, writes in enumerate(({BLOB + sha256(b"x").hexdigest(): b"x"}, {"large": b"x" * 100_000})):
            await store.commit("b", {"a": b"%d" % n})
            await store.commit("b", writes | {"c": b"%d" % n})
            assert look(path, "select revision, folded from bucket") == [(2 * n + 2, 2 * n + 2)]
            assert look(path, "select value from entry where key in ('a', 'c')") == [(b"%d" % n,)] * 2
            assert (await store.get("b", "a")).value == b"%d" % n


async def test_an_epoch_an_export_and_a_load_meet_what_is_not_folded(path, tmp_path):
    async with SqliteStore(path) as store, SqliteStore(f"{tmp_path}/y.db") as other:
        await store.commit("b", {"a": b"1", "c": b"1"})
        new = (await store.new_epoch())["b"]
        assert await store.commit("b", {"c": b"2"}) == (new.epoch, 2)
        entries = [entry async for entry in store.export("b")]
        assert timeless(*entries) == [Entry("a", b"1", 1), Entry("c", b"2", 2)]
        await other.load("b", await store.version("b"), entries)
        await other.commit("b", {"a": None})
        assert timeless(*(await other.snapshot("b")).entries) == [Entry("c", b"2", 2)]
    async with SqliteStore(path) as store:
        assert (await store.snapshot("b")).entries == tuple(entries)


# Across folds


async def test_any_commits_across_many_folds_leave_what_a_dict_would_hold(path, often):
    random = Random(drawn_seed())
    model: dict[str, Entry] = {}
    folded = set()
    for _ in range(3):
        async with SqliteStore(path) as store:
            for _ in range(60):
                keys = random.sample(range(40), 3)
                writes = {f"k{n}": random.choice([None, b"x", b"y" * 90]) for n in keys}
                version = await store.commit("b", writes)
                for key, value in writes.items():
                    held = model.pop(key, None)
                    if value is not None:
                        same = held is not None and held.value == value
                        model[key] = held if same else Entry(key, value, version.revision)
                for n in keys:
                    assert timeless(await store.get("b", f"k{n}")) == [model.get(f"k{n}")]
                cut = await store.snapshot("b")
                assert timeless(*cut.entries) == [model[key] for key in sorted(model)]
                await settled(store)
                folded.update(look(path, "select folded from bucket"))  # none before the first change
    assert len(folded) > 20, "too few folds: the test proved little"


async def test_a_deleted_key_keeps_its_revision_across_a_fold_and_is_no_aba(path, often):
    async with SqliteStore(path) as store:
        await store.commit("b", {"a": b"1"})
        await store.commit("b", {"a": None})
        for n in range(12):
            await store.commit("b", {f"k{n}": b"1"})
        await settled(store)
        assert look(path, "select revision, digest from entry where key = 'a'") == [(2, None)]
        with pytest.raises(Conflict) as conflict:
            await store.commit("b", {"a": b"1"}, {"a": 1})
        assert conflict.value.actual == 2
        assert await store.get("b", "a") is None
        again = await store.commit("b", {"a": b"1"}, {"a": 2})
        assert timeless(await store.get("b", "a")) == [Entry("a", b"1", again.revision)]


async def test_a_fold_is_due_by_rewrites_of_one_key_and_by_bytes(path, often, monkeypatch):
    async with SqliteStore(path) as store:
        for n in range(30):
            await store.commit("b", {"a": b"%d" % n})
        await settled(store)
        assert look(path, "select folded from bucket") == [(30,)]
        monkeypatch.setattr(folding, "FOLD_BYTES", 1000)
        await store.commit("b", {"a": b"x" * 1000})
        await settled(store)
        assert look(path, "select folded from bucket") == [(31,)]


async def test_a_fold_comes_once_for_each_ten_keys(path, often):
    folds = []

    class Counting(sqlite3.Connection):
        def execute(self, sql, *parameters):
            result = super().execute(sql, *parameters)
            if sql == "commit":
                folds.append(super().execute("select folded from bucket").fetchone()[0])
            return result

    async with SqliteStore(path, factory=Counting) as store:
        for n in range(35):
            await store.commit("b", {f"k{n}": b"1"})
            await settled(store)
        assert [folded for n, folded in enumerate(folds) if folded != [0, *folds][n]] == [10, 20, 30]
        assert len(folds) == 35 + 3


async def test_history_that_is_told_no_more_stays_until_it_is_folded(path, tmp_path):
    async with SqliteStore(path) as store:
        versions = await asyncio.gather(*(store.commit("b", {f"k{n % 7}": b"%d" % n}) for n in range(2300)))
        assert await store.changes("b", NEVER) == Gap(versions[-1])
        assert look(path, "select count(*) from history") == [(2300,)]
        for suffix in ("", "-wal"):
            shutil.copy(path + suffix, f"{tmp_path}/copy.db{suffix}")
        truth = await store.snapshot("b")
    ((kept,),) = look(path, "select count(*) from history")
    assert 1000 <= kept <= 1250
    async with SqliteStore(path) as store:
        assert len(await store.changes("b", versions[-1001])) == 1000
    async with SqliteStore(f"{tmp_path}/copy.db") as copy:
        assert await copy.snapshot("b") == truth


@pytest.mark.parametrize("during", ["a fold", "a commit", "both", "a blob", "neither"])
async def test_a_get_that_meets_a_fold_or_a_commit_halfway_finds_the_key(path, during):
    """The reader has looked at what is not folded, and the writer moves on before it reads the database."""
    reading, moved, armed = threading.Event(), threading.Event(), threading.Event()

    class Interrupted(sqlite3.Connection):
        def execute(self, sql, *parameters):
            if sql == "begin" and armed.is_set():
                armed.clear()
                reading.set()
                assert moved.wait(5)
            return super().execute(sql, *parameters)

    async with SqliteStore(path, factory=Interrupted) as store:
        await store.commit("b", {"a": b"1", "old": b"1"})
        for key in ("a", "old"):
            reading.clear(), moved.clear(), armed.set()
            getting = asyncio.create_task(store.get("b", key))
            await asyncio.to_thread(reading.wait, 5)
            if during in ("a fold", "both"):
                await store._writes.run(store._file.writer.fold)
            if during in ("a commit", "both"):
                await store.commit("b", {"a": b"2" + key.encode()})
            if during == "a blob":  # folds by itself, and history holds no copy of it
                await store.commit("b", {"a": b"3" + key.encode(), BLOB + key: b"x"})
            moved.set()
            found = await getting
            assert found == await store.get("b", key)


async def test_what_a_version_said_a_get_has(path):
    """COMMIT has returned and the writer has not said so yet: who read the new version reads its keys."""
    committed, going_on = threading.Event(), threading.Event()

    class Slow(sqlite3.Connection):
        def execute(self, sql, *parameters):
            result = super().execute(sql, *parameters)
            if sql == "commit":
                committed.set()
                assert going_on.wait(5)
            return result

    async with SqliteStore(path, factory=Slow) as store:
        going_on.set()
        await store.commit("b", {"a": b"1"})
        committed.clear(), going_on.clear()
        committing = asyncio.create_task(store.commit("b", {"a": b"2"}))
        await asyncio.to_thread(committed.wait, 5)
        assert (await store.version("b")).revision == 2
        assert timeless(await store.get("b", "a")) == [Entry("a", b"2", 2)]
        going_on.set()
        await committing


# Disks


async def test_a_disk_that_is_full_while_folding_refuses_nothing_and_a_later_fold_makes_up(path, often):
    full = [True]
    folds = []

    class Small(sqlite3.Connection):
        def execute(self, sql, *parameters):
            if full[0] and sql.startswith("replace into entry"):
                folds.append(sql)
                super().execute(f"pragma max_page_count={super().execute('pragma page_count').fetchone()[0]}")
            elif sql == "begin immediate":
                super().execute("pragma max_page_count=100000")
            return super().execute(sql, *parameters)

    async with SqliteStore(path, factory=Small) as store:
        for n in range(45):
            await store.commit("b", {f"k{n}": b"x" * 1000})
        await settled(store)
        assert len(folds) in (3, 4), (
            "a refused fold is tried again when as much has come, not after each group"
        )
        assert look(path, "select count(*) from entry") == [(0,)]
        assert len((await store.snapshot("b")).entries) == 45
        full[0] = False
        for n in range(45, 70):
            await store.commit("b", {f"k{n}": b"x" * 1000})
        await settled(store)
        assert look(path, "select count(*) from entry")[0][0] >= 60
        assert len((await store.snapshot("b")).entries) == 70


async def test_a_store_that_cannot_fold_at_close_or_open_is_whole_all_the_same(path):
    never = refusing(NEVER_FOLDS)
    async with SqliteStore(path, factory=never) as store:
        await store.commit("b", {"a": b"1", "c": b"1"})
        await store.commit("b", {"a": None})
    assert look(path, "select revision, folded from bucket") == [(2, 0)]
    async with SqliteStore(path, factory=never) as store:
        truth = await everything(store)
        with pytest.raises(Conflict):
            await store.commit("b", {"c": b"2"}, {"c": 2})
    async with SqliteStore(path) as store:
        assert look(path, "select revision, folded from bucket") == [(2, 2)]
        assert await everything(store) == truth


async def test_an_io_error_at_the_commit_of_a_fold_ends_the_store(path, often):
    fatal = []
    factory = refusing("commit", sqlite3.SQLITE_IOERR | (4 << 8), times=1, skip=1)
    async with SqliteStore(path, factory=factory, on_fatal=fatal.append) as store:
        await store.commit("b", {f"k{n}": b"1" for n in range(10)})
        await settled(store)
        await asyncio.sleep(0)
        assert len(fatal) == 1
        with pytest.raises(Unavailable, match="restart the server"):
            await store.commit("b", {"a": b"1"})
    assert not isinstance(fatal[0], OutcomeUnknown)


async def test_an_io_error_at_the_commit_of_a_fold_at_open_refuses_to_open(path):
    async with SqliteStore(path, factory=refusing(NEVER_FOLDS)) as store:
        await store.commit("b", {"a": b"1"})
    with pytest.raises(StoreRefused, match="restart the server"):
        async with SqliteStore(path, factory=refusing("commit", sqlite3.SQLITE_IOERR | (4 << 8), times=1)):
            pass
    for suffix in ("", "-wal"):  # as the next process finds it
        shutil.copy(path + suffix, f"{path}.copy{suffix}")
    async with SqliteStore(f"{path}.copy") as store:
        assert timeless(await store.get("b", "a")) == [Entry("a", b"1", 1)]


# Damage


DAMAGE = {
    "a lost row": "delete from history where revision = 2",
    "the last row lost": "delete from history where revision = 3",
    "a row too many": "insert into history select bucket, 4, commit_id, at_ms, writes, digest from history limit 1",
    "a value": "update history set writes = x'81a161c40139' where revision = 3",
    "a digest": "update history set digest = zeroblob(32) where revision = 1",
    "a row renumbered": "update history set revision = 9 where revision = 1",
    "where it was folded": "update bucket set folded = 1",
    "an entry of long ago": "insert into entry values (1, 'z', 1, zeroblob(32), x'00', 1)",
}


@pytest.mark.parametrize("read_only", [False, True], ids=["server", "beside"])
@pytest.mark.parametrize("statement", DAMAGE.values(), ids=DAMAGE)
async def test_damage_above_the_fold_is_named_and_never_served(path, statement, read_only):
    async with SqliteStore(path, factory=refusing(NEVER_FOLDS)) as store:
        for n in range(3):
            await store.commit("b", {"a": b"%d" % n})
    change(path, statement)
    with pytest.raises(StoreDamaged, match=r"x\.db is damaged: "):
        async with SqliteStore(path, read_only=read_only) as store:
            await store.snapshot("b")
    assert look(path, "select count(*) from entry where key = 'a'") == [(0,)], "damage was folded"


async def test_no_flipped_bit_above_the_fold_is_served_as_truth(path, tmp_path):
    random = Random(drawn_seed())
    async with SqliteStore(path, factory=refusing(NEVER_FOLDS)) as store:
        for n in range(40):
            await store.commit("b", {f"key-{n % 25}": random.randbytes(150)})
        truth = await everything(store)
    whole = Path(path).read_bytes()
    found = {True: 0, False: 0}
    for n in range(150):
        flipped = bytearray(whole)
        position = random.randrange(len(whole) * 8)
        flipped[position // 8] ^= 1 << position % 8
        for read_only in (True, False):
            other = tmp_path / f"flipped-{n}-{read_only}.db"
            other.write_bytes(flipped)
            try:
                async with SqliteStore(str(other), read_only=read_only) as store:
                    assert await everything(store) == truth, f"bit {position}"
                    key = f"key-{n % 25}"
                    entries = {entry.key: entry for entry in truth[0].entries}
                    assert await store.get("b", key) == entries[key], f"bit {position}"
            except (StoreRefused, Unavailable):
                found[read_only] += 1
            other.unlink()
    assert min(found.values()) > 15, "too few flips met anything: the test proved little"


async def test_no_flipped_bit_where_buckets_are_found_makes_one_look_never_written(path, tmp_path):
    async with SqliteStore(path, factory=refusing(NEVER_FOLDS)) as store:
        await store.commit("b", {"a": b"1"})
        truth = await everything(store)
    whole = Path(path).read_bytes()
    pages = look(path, "select rootpage from sqlite_schema where tbl_name = 'bucket'")
    assert len(pages) == 2, "the table and its index"
    refused = 0
    for (page,) in pages:
        start = 4096 * (page - 1)
        for position in (
            *range(start, start + 12),
            *range(start + 4084, start + 4096),
        ):  # its header, its cell
            for bit in range(8):
                flipped = bytearray(whole)
                flipped[position] ^= 1 << bit
                for read_only in (True, False):
                    other = tmp_path / f"{position}-{bit}-{read_only}.db"
                    other.write_bytes(flipped)
                    try:
                        async with SqliteStore(str(other), read_only=read_only) as store:
                            assert await everything(store) == truth, f"byte {position}, bit {bit}"
                    except (StoreRefused, Unavailable):
                        refused += 1
    assert refused > 100, "too few flips met anything: the test proved little"


# Kills


CHILD = """
import asyncio, sys
from cfgsync_runtime.backends.engines import open_backend
from cfgsync_runtime.backends.sqlite import folding

async def main(url, start, rows):
    folding.FOLD_ROWS = int(rows)
    async with open_backend(url) as (store, *_):
        async def write(name):
            for n in range(10**9):
                key = f"k-{name}-{n % 50}"
                value = None if n % 7 == 6 else f"{start} {name} {n} ".encode() * 5
                version = await store.commit("b", {key: value, f"n-{start}-{name}-{n}": b"1"})
                print(version.revision, key, (value or b"").decode(), sep="|", flush=True)
        await asyncio.gather(*(write(n) for n in range(32)))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("rows", [10**6, 500], ids=["thousands unfolded", "many folds"])
async def test_kill_9_leaves_every_acknowledged_commit_byte_for_byte(path, rows):
    acknowledged = {}  # of each key, by one writer: the last revision and value
    lived: set[str] = set()
    last = 0
    for start in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, f"sqlite:{path}", str(start), str(rows)], stdout=subprocess.PIPE
        ) as child:
            for count, line in enumerate(child.stdout):
                if count == 3000:
                    child.kill()
                if line.endswith(b"\n"):
                    revision, key, value = line.decode()[:-1].split("|")
                    acknowledged[key] = (int(revision), value.encode())
                    last = max(last, int(revision))
                    if value:
                        lived.add(key)
        ((head, folded),) = look(path, "select revision, folded from bucket")
        assert head - folded > 3000 if rows > 10**5 else folded > 1500
        async with SqliteStore(path, read_only=True) as beside:
            seen = await everything(beside)
        async with SqliteStore(path) as store:
            cut, told = await everything(store)
            assert (cut, told) == seen
            assert cut.version.revision == head >= last
            assert look(path, "select folded from bucket") == [(head,)]
            live = {entry.key: entry for entry in cut.entries}
            assert sum(key.startswith("n-") for key in live) == head
            for key, (revision, value) in acknowledged.items():
                entry = live.get(key)
                if entry is not None and entry.revision > revision:
                    continue  # the answer to the next commit of this key was cut off
                if value:
                    assert timeless(entry) == [Entry(key, value, revision)]
                else:
                    assert entry is None, f"{key} was deleted at {revision}"
                    tombstones = look(path, f"select revision, digest from entry where key = '{key}'")
                    assert [digest for _, digest in tombstones] == [None] * (key in lived)
                    assert all(at >= revision for at, _ in tombstones)
