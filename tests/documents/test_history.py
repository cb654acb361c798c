"""The history of documents: whole, in order, nothing twice, bounded; and rollback as a new revision."""

import asyncio
import subprocess
import sys
import textwrap

import pytest

from cfgsync_core import Gap, MemoryStore, Unavailable, Version
from cfgsync_documents import DocumentMissing, DocumentName, Scope
from cfgsync_documents.service import Documents, History
from cfgsync_documents.service import history as module
from cfgsync_runtime.backends.engines import open_backend

SCOPE = Scope("lobby", "production")
NAME = DocumentName(SCOPE, "default", "limits")
OTHER = DocumentName(SCOPE, "default", "other")


class kept:
    """Documents and their history on one store."""

    def __init__(self, store) -> None:
        self.documents = Documents(store)
        self.history = History(store, self.documents)

    async def __aenter__(self):
        await self.documents.__aenter__()
        await self.history.__aenter__()
        return self.documents, self.history

    async def __aexit__(self, *error) -> None:
        await self.history.__aexit__()
        await self.documents.__aexit__()


async def values(history: History, name: DocumentName = NAME) -> list[tuple[int, bytes | None, str]]:
    return [(entry.revision, entry.data, entry.by) for entry in await history.read(name)]


async def test_every_value_is_there_newest_first_with_its_writer():
    async with kept(MemoryStore()) as (documents, history):
        await documents.set(NAME, b"1", "ana")
        await documents.set(OTHER, b"1", "bob")
        await documents.set(NAME, b"2", "bob")
        await documents.delete(NAME, "ana")
        await documents.set(NAME, b"3", "cyd")
        assert await values(history) == [
            (5, b"3", "cyd"),
            (4, None, "ana"),
            (3, b"2", "bob"),
            (1, b"1", "ana"),
        ]
        assert [entry.revision for entry in await history.read(NAME, 2)] == [5, 4]
        assert await values(history, OTHER) == [(2, b"1", "bob")]
        assert await values(history, DocumentName(SCOPE, "default", "never")) == []


async def test_a_deletion_has_its_writer_and_nothing_else_shows_where_that_is_kept():
    async with kept(MemoryStore()) as (documents, history):
        await documents.commit(SCOPE, {NAME: b"1", OTHER: b"1"}, "ana")
        await documents.commit(SCOPE, {NAME: None, OTHER: b"2"}, "bob")
        await documents.delete(OTHER, "bob")
        assert await documents.delete(OTHER, "cyd") is False
        assert (await documents.snapshot(SCOPE)) == (await documents.version(SCOPE), [])
        assert (await documents.state(SCOPE)).revisions == {}
        assert (await documents.version(SCOPE)).revision == 3
        assert await values(history) == [(2, None, "bob"), (1, b"1", "ana")]
        assert await values(history, OTHER) == [(3, None, "bob"), (2, b"2", "bob"), (1, b"1", "ana")]


async def test_a_rollback_is_a_new_revision_and_an_unknown_one_is_refused():
    async with kept(MemoryStore()) as (documents, history):
        for number in (1, 2):
            await documents.set(NAME, b"%d" % number, "ana")
        await documents.delete(NAME, "ana")
        assert await history.rollback(NAME, 1, "bob") == 4
        assert (await documents.get(NAME)).data == b"1"
        assert (await values(history))[0] == (4, b"1", "bob")
        for unknown in (3, 99):  # it was deleted then; never
            with pytest.raises(DocumentMissing):
                await history.rollback(NAME, unknown, "bob")


async def test_the_newest_hundred_are_kept_and_the_bucket_stays_bounded():
    store = MemoryStore()
    async with kept(store) as (documents, history):
        await documents.set(OTHER, b"1", "ana")
        for number in range(350):
            await documents.set(NAME, b"%d" % number, "ana")
        assert await values(history) == [(351 - n, b"%d" % (349 - n), "ana") for n in range(100)]
        assert await values(history, OTHER) == [(1, b"1", "ana")]
        snapshot = await store.snapshot("history/lobby/production")
        assert len(snapshot.entries) == 1 + 2 + 101  # the cursor, two indexes, the values


async def test_ten_thousand_revisions_of_one_document_leave_the_others_history_and_a_bounded_file(tmp_path):
    """The store keeps 1,000 revisions of each bucket, of that of the history too."""
    url = f"sqlite:{tmp_path / 'store.db'}"
    async with open_backend(url) as backend, kept(backend.store) as (documents, history):
        await documents.set(OTHER, b"1", "ana")
        for at in range(0, 10_000, 250):
            await asyncio.gather(*(documents.set(NAME, b"%d" % n, "ana") for n in range(at, at + 250)))
            await history.advance(SCOPE)
        assert [one[0] for one in await values(history)] == list(range(10_001, 9_901, -1))
        assert await values(history, OTHER) == [(1, b"1", "ana")]
        version = await backend.store.version("config/lobby/production")
        early = Version(version.epoch, version.revision - 1_100)
        assert isinstance(await backend.store.changes("config/lobby/production", early), Gap)
        assert len((await backend.store.snapshot("history/lobby/production")).entries) == 1 + 2 + 101
    assert (tmp_path / "store.db").stat().st_size < 8 * 1024 * 1024


async def test_what_was_replaced_over_thirty_days_ago_is_gone_and_what_was_valid_since_is_not():
    day = 24 * 3_600
    now = [1_900_000_000.0]
    store = MemoryStore(clock=lambda: int(now[0] * 1000))
    async with kept(store) as (documents, history):
        for number in range(3):
            await documents.set(NAME, b"%d" % number, "ana")
            await history.advance(SCOPE)
            now[0] += 20 * day
        await documents.set(NAME, b"3", "ana")  # day 60; 0 was replaced on day 20, 1 on day 40
        await history.advance(SCOPE)
        lines = await history._lines(SCOPE, NAME.key)
        assert [line.revision for line in lines] == [4, 3, 2]
        used_again = await store.get("history/lobby/production", "value/default/limits/0")
        assert used_again.value == b"4 3"


async def test_it_is_copied_in_the_background_without_a_read():
    store = MemoryStore()
    async with kept(store) as (documents, _):
        await documents.set(NAME, b"1", "ana")
        async with asyncio.timeout(30):
            while await store.get("history/lobby/production", "index/default/limits") is None:
                await asyncio.sleep(0.01)


async def test_a_copy_that_was_made_twice_at_once_is_there_once():
    store = MemoryStore()
    async with kept(store) as (documents, one):
        for number in range(30):
            await documents.set(NAME, b"%d" % number, "ana")
        others = [History(store, documents) for _ in range(4)]
        await asyncio.gather(*(history.advance(SCOPE) for history in (one, *others)))
        assert [revision for revision, _, _ in await values(one)] == list(range(30, 0, -1))


async def test_what_the_store_s_own_history_has_dropped_is_a_hole_and_the_present_value_is_there():
    store = MemoryStore()
    async with Documents(store) as documents:
        await documents.set(OTHER, b"7", "ana")
        for number in range(1_100):  # the store keeps a thousand
            await documents.set(NAME, b"%d" % number, "ana")
    async with kept(store) as (documents, history):
        assert await values(history) == [(1_101, b"1099", "ana")]
        assert await values(history, OTHER) == [(1, b"7", "ana")]
        await documents.set(NAME, b"-1", "ana")
        assert [revision for revision, _, _ in await values(history)] == [1_102, 1_101]


async def test_a_dropped_bucket_leaves_the_history_and_it_goes_on():
    store = MemoryStore()
    async with kept(store) as (documents, history):
        await documents.set(NAME, b"1", "ana")
        await history.advance(SCOPE)
        await store.drop("config/lobby/production")
        await documents.set(NAME, b"2", "ana")
        found = await values(history)
        assert [data for _, data, _ in found] == [b"2", b"1"]


class Failing(MemoryStore):
    """Its history bucket does not answer while `away`."""

    away = True
    tries = 0
    error: Exception = Unavailable("the disk is gone")

    async def commit(self, bucket, writes, expected=None):
        if bucket.startswith("history/") and self.away:
            self.tries += 1
            raise self.error
        return await super().commit(bucket, writes, expected)


@pytest.mark.parametrize("error", [Unavailable("the disk is gone"), KeyError("a fault of ours")])
async def test_a_store_that_fails_delays_the_history_and_no_write_and_is_said_once(
    monkeypatch, caplog, error
):
    for name in ("AGAIN_SECONDS", "TOGETHER_SECONDS"):
        monkeypatch.setattr(module, name, 0.01)
    store = Failing()
    store.error = error
    async with kept(store) as (documents, _):
        assert await documents.set(NAME, b"1", "ana") == 1
        async with asyncio.timeout(30):
            while store.tries < 4:
                await asyncio.sleep(0.01)
        assert caplog.text.count("the history of lobby/production is behind") == 1
        store.away = False
        async with asyncio.timeout(30):
            while await store.get("history/lobby/production", "index/default/limits") is None:
                await asyncio.sleep(0.01)


WRITER = """
    import asyncio, os, signal, sys
    from cfgsync_documents import DocumentName, Scope
    from cfgsync_documents.service import Documents, History
    from cfgsync_runtime.backends.engines import open_backend

    NAME = DocumentName(Scope("lobby", "production"), "default", "limits")

    async def main():
        async with open_backend(sys.argv[1]) as backend, Documents(backend.store) as documents:
            async with History(backend.store, documents) as history:
                for number in range(int(sys.argv[2]), 200):
                    await documents.set(NAME, b"%d" % number, "ana")
                    if number % 67 == 66:
                        os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(main())
"""


async def test_the_history_is_whole_after_kill_9_between_commit_and_copy(tmp_path):
    url = f"sqlite:{tmp_path / 'store.db'}"
    for began in (0, 67, 134):
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(WRITER), url, str(began)], timeout=60)
        assert done.returncode == (-9 if began < 134 else 0)
    async with open_backend(url) as backend, kept(backend.store) as (_, history):
        assert await values(history) == [(200 - n, b"%d" % (199 - n), "ana") for n in range(100)]


class AlwaysWritten(MemoryStore):
    """Somebody writes a document whenever the history has been copied, `times` times."""

    documents: Documents
    times = 0
    copies = 0

    async def commit(self, bucket, writes, expected=None):
        version = await super().commit(bucket, writes, expected)
        if bucket.startswith("history/"):
            self.copies += 1
            if self.times:
                self.times -= 1
                await self.documents.set(OTHER, b"%d" % self.times, "bob")
        return version


async def test_a_copy_of_a_scope_that_is_always_written_ends_where_it_began_and_the_next_one_waits(
    monkeypatch,
):
    monkeypatch.setattr(module, "TOGETHER_SECONDS", 3600.0)
    store = AlwaysWritten()
    async with kept(store) as (documents, history):
        store.documents = documents
        await documents.set(NAME, b"1", "ana")
        store.times = 50
        await history.advance(SCOPE)
        assert store.copies == 1
        store.times = 0
        assert (await values(history))[0] == (1, b"1", "ana")


async def test_changes_that_come_while_the_history_is_copied_wait_for_the_next_copy(monkeypatch):
    monkeypatch.setattr(module, "TOGETHER_SECONDS", 3600.0)
    monkeypatch.setattr(module, "TOGETHER_CHANGES", 3)
    store = AlwaysWritten()
    async with kept(store) as (documents, _history):
        store.documents = documents
        store.times = 50
        for value in (b"1", b"2", b"3"):
            await documents.set(NAME, value, "ana")
        async with asyncio.timeout(30):
            while not store.copies:
                await asyncio.sleep(0.01)
        for _ in range(200):  # a copy of one change would come at once
            await asyncio.sleep(0)
        assert store.copies == 1
