"""`ping` answers for the disk, not for a cache, and asks it as rarely as it may."""

import asyncio
import os
import shutil
import sqlite3
import threading
import time

import pytest

from cfgsync_core import OutcomeUnknown, StoreFull, Unavailable
from cfgsync_runtime.backends.sqlite import transactions
from cfgsync_runtime.backends.sqlite.engine import SqliteStore


class Disk(sqlite3.Connection):
    """A connection whose commits are counted, and end as `how` says."""

    commits = 0
    how = "right"
    free = threading.Event()

    def execute(self, sql, *parameters):
        if sql == "commit":
            type(self).commits += 1
            if self.how == "hangs":
                self.free.wait(20)
            elif self.how != "right":
                error = sqlite3.OperationalError(self.how)
                error.sqlite_errorcode = sqlite3.SQLITE_FULL if self.how == "full" else sqlite3.SQLITE_IOERR
                raise error
        return super().execute(sql, *parameters)


@pytest.fixture
def disk():
    return type("ThisDisk", (Disk,), {"free": threading.Event()})


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "x.db")


@pytest.fixture
def always(monkeypatch):
    """Every ping asks the disk."""
    monkeypatch.setattr(transactions, "BEAT_SECONDS", 0.0)


async def test_a_ping_commits_when_no_commit_succeeded_for_a_while(path, disk, monkeypatch):
    async with SqliteStore(path, factory=disk) as store:
        await store.ping()
        assert disk.commits == 1
        await store.ping()
        await store.commit("b", {"a": b"1"})
        await store.ping()
        assert disk.commits == 2
        monkeypatch.setattr(transactions, "BEAT_SECONDS", 0.0)
        await store.ping()
        assert disk.commits == 3
        assert list(await store.buckets()) == ["b"]
        assert (await store.version("b")).revision == 1


async def test_many_pings_at_once_are_one_commit(path, disk, always):
    async with SqliteStore(path, factory=disk) as store:
        await asyncio.gather(*(store.ping() for _ in range(50)))
        assert disk.commits == 1


async def test_a_disk_that_hangs_fails_the_ping_after_two_seconds_and_heals(path, disk, always):
    async with SqliteStore(path, factory=disk) as store:
        await store.ping()
        disk.how = "hangs"
        began = time.monotonic()
        for answer in await asyncio.gather(*(store.ping() for _ in range(5)), return_exceptions=True):
            assert "has not answered for 2 s" in str(answer)
        assert 1.9 < time.monotonic() - began < 10
        disk.how = "right"
        disk.free.set()
        await store.ping()


async def test_a_full_disk_fails_the_ping_as_such_and_heals(path, disk, always):
    async with SqliteStore(path, factory=disk) as store:
        disk.how = "full"
        with pytest.raises(StoreFull):
            await store.ping()
        disk.how = "right"
        await store.ping()


async def test_an_io_error_of_a_ping_ends_the_store_like_that_of_a_commit(path, disk, always):
    fatal = []
    async with SqliteStore(path, factory=disk, on_fatal=fatal.append) as store:
        disk.how = "broken"
        with pytest.raises(OutcomeUnknown):
            await store.ping()
        with pytest.raises(Unavailable, match="restart the server"):
            await store.ping()
    assert len(fatal) == 1


async def test_a_disk_that_cannot_be_read_fails_the_next_ping_also_after_a_commit(path, monkeypatch):
    async with SqliteStore(path) as store:
        await store.commit("b", {"a": b"1"})

        def broken(*_):
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patched:
            patched.setattr(os, "pread", broken)
            with pytest.raises(Unavailable, match="cannot be read: Input/output error"):
                await store.ping()
        await store.ping()


async def test_after_a_failed_commit_or_read_the_next_ping_asks_at_once(path, disk):
    async with SqliteStore(path, factory=disk) as store:
        await store.commit("b", {"a": b"1"})
        disk.how = "full"
        with pytest.raises(StoreFull):
            await store.commit("b", {"a": b"2"})
        with pytest.raises(StoreFull):
            await store.ping()
        disk.how = "right"
        await store.commit("b", {"a": b"2"})
        before = disk.commits
        await store.ping()
        assert disk.commits == before


async def test_a_server_that_is_only_probed_keeps_its_log_short(path, always, monkeypatch):
    monkeypatch.setattr("cfgsync_runtime.backends.sqlite.transactions.CHECKPOINT_BYTES", 50_000)
    async with SqliteStore(path) as store:
        for _ in range(100):
            await store.ping()
        assert os.stat(path + "-wal").st_size < 150_000


async def test_a_reader_pings_by_reading(path):
    async with SqliteStore(path), SqliteStore(path, read_only=True) as beside:
        await beside.ping()


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
async def test_nothing_is_acknowledged_in_a_file_that_has_lost_its_name(path, how):
    async with SqliteStore(path) as store:
        await store.commit("b", {"a": b"1"})
        os.rename(path, path + ".away")
        if how == "replaced":
            shutil.copy(path + ".away", path)
        with pytest.raises(Unavailable, match="moved, deleted or replaced while the server runs"):
            await store.commit("b", {"a": b"2"})
        with pytest.raises(Unavailable, match="put the file back"):
            await store.ping()
        if how == "deleted":
            os.unlink(path + ".away")
        else:
            os.rename(path + ".away", path)
            await store.commit("b", {"a": b"2"})
            await store.ping()
