"""The verbs over a real store: nothing is lost between writers, an equal write makes no revision, limits hold."""

import asyncio
import json

import pytest

from cfgsync_core import InvalidRequest, MemoryHints, MemoryStore, StoreFull, Unavailable
from cfgsync_core.follow import OtherServers
from cfgsync_core.log_events import event_of
from cfgsync_core.store import NotifyingStore
from cfgsync_documents import DocumentConflict, DocumentName, NotAnObject, Scope
from cfgsync_documents import document as limits
from cfgsync_documents.merge import rfc7396, shallow
from cfgsync_documents.service import Documents, History, scope_mirror

SCOPE = Scope("lobby", "production")


def named(name: str, scope: Scope = SCOPE, namespace: str = "default") -> DocumentName:
    return DocumentName.checked(scope, namespace, name)


async def test_a_document_is_read_as_it_was_written_with_writer_revision_and_time():
    async with Documents(MemoryStore()) as documents:
        assert await documents.get(named("a")) is None
        assert await documents.set(named("a"), b'{"x":1.0}', "ana") == 1
        assert await documents.set(named("b"), b"[]", "bob") == 2
        found = await documents.get(named("a"))
        assert (found.data, found.revision, found.by) == (b'{"x":1.0}', 1, "ana")
        assert found.at_ms > 0
        assert (await documents.snapshot(SCOPE)).version.revision == 2


async def test_an_equal_write_makes_no_revision_and_keeps_its_writer():
    async with Documents(MemoryStore()) as documents:
        await documents.set(named("a"), b"{}", "ana")
        await documents.set(named("b"), b"{}", "ana")
        assert await documents.set(named("a"), b"{}", "bob") == 1
        assert (await documents.get(named("a"))).by == "ana"
        assert (await documents.version(SCOPE)).revision == 2


async def test_an_equal_write_still_checks_what_it_expects():
    async with Documents(MemoryStore()) as documents:
        await documents.set(named("a"), b"{}", "ana")
        with pytest.raises(DocumentConflict) as raised:
            await documents.set(named("a"), b"{}", "ana", expected=0)
        assert (raised.value.expected, raised.value.found) == (0, 1)


async def test_create_update_and_delete_happen_at_the_expected_revision_only():
    async with Documents(MemoryStore()) as documents:
        one = await documents.set(named("a"), b"{}", "ana", expected=0)
        two = await documents.set(named("a"), b'{"x":1}', "ana", expected=one)
        for expected in (0, one, 99):
            with pytest.raises(DocumentConflict):
                await documents.set(named("a"), b"{}", "ana", expected=expected)
            with pytest.raises(DocumentConflict):
                await documents.delete(named("a"), "ana", expected=expected)
        assert await documents.delete(named("a"), "ana", expected=two)
        assert not await documents.delete(named("a"), "ana")
        gone = (await documents.version(SCOPE)).revision
        for expected in (two, gone):  # a deleted document is absent, whatever its tombstone's revision is
            with pytest.raises(DocumentConflict):
                await documents.set(named("a"), b"{}", "ana", expected=expected)
        assert await documents.set(named("a"), b"{}", "ana", expected=0) > two


async def test_several_documents_are_written_in_one_revision_or_not_at_all():
    async with Documents(MemoryStore()) as documents:
        await documents.set(named("a"), b"1", "ana")
        writes = {named("a"): None, named("b"): b"2", named("c", namespace="other"): b"3"}
        with pytest.raises(DocumentConflict):
            await documents.commit(SCOPE, writes, "ana", {named("b"): 7})
        assert [one.name.name for one in (await documents.snapshot(SCOPE)).documents] == ["a"]
        done = await documents.commit(SCOPE, writes, "ana", {named("a"): 1, named("b"): 0})
        found = await documents.snapshot(SCOPE)
        assert done.version == found.version
        assert [(one.name.namespace, one.name.name, one.revision) for one in found.documents] == [
            ("default", "b", 2),
            ("other", "c", 2),
        ]
        assert [one.name.name for one in (await documents.snapshot(SCOPE, "other")).documents] == ["c"]


async def test_a_patch_creates_and_refuses_what_is_no_object():
    async with Documents(MemoryStore()) as documents:
        await documents.patch(named("a"), b'{"x":null}', shallow, "ana")
        assert (await documents.get(named("a"))).data == b'{"x":null}'
        await documents.patch(named("a"), b'{"x":null,"y":{"z":1}}', rfc7396, "ana")
        assert (await documents.get(named("a"))).data == b'{"y":{"z":1}}'
        await documents.set(named("list"), b"[1]", "ana")
        with pytest.raises(NotAnObject):
            await documents.patch(named("list"), b"{}", shallow, "ana")


@pytest.mark.parametrize("servers", [1, 3])
async def test_a_hundred_writers_patch_disjoint_fields_and_all_are_there(servers):
    async with sharing(servers) as those:
        await asyncio.gather(
            *(
                those[number % servers].patch(named("a"), b'{"field-%d":%d}' % (number, number), shallow, "w")
                for number in range(100)
            )
        )
        for documents in those:
            found = json.loads((await documents.get(named("a"))).data)
            assert found == {f"field-{number}": number for number in range(100)}


async def test_a_hundred_writers_increment_at_the_revision_they_read_and_the_sum_is_right():
    async def increment(documents: Documents) -> None:
        while True:
            found = await documents.get(named("counter"))
            count = 0 if found is None else json.loads(found.data)
            try:
                await documents.set(
                    named("counter"), b"%d" % (count + 1), "w", 0 if found is None else found.revision
                )
                return
            except DocumentConflict:
                continue

    async with sharing(2) as those:
        await asyncio.gather(*(increment(those[number % 2]) for number in range(100)))
        assert (await those[0].get(named("counter"))).data == b"100"


async def test_a_read_on_another_server_is_never_older_than_a_write_that_has_returned():
    async with sharing(2) as (one, other):
        for number in range(50):
            await one.set(named("a"), b"%d" % number, "w")
            assert (await other.get(named("a"))).data == b"%d" % number
        assert await other.scopes() == [SCOPE]


async def test_scopes_are_apart_and_a_read_makes_none():
    staging = Scope("lobby", "staging")
    async with Documents(MemoryStore()) as documents:
        await documents.set(named("a"), b"1", "ana")
        assert await documents.get(named("a", staging)) is None
        assert not await documents.delete(named("a", staging), "ana")
        assert await documents.scopes() == [SCOPE]
        await documents.set(named("a", staging), b"2", "ana")
        assert (await documents.get(named("a"))).data == b"1"
        assert await documents.scopes() == [SCOPE, staging]


async def test_documents_are_there_after_a_restart():
    store = MemoryStore()
    async with Documents(store) as documents:
        await documents.set(named("a"), b"1", "ana")
        before = await documents.get(named("a"))
    async with Documents(store) as documents:
        assert await documents.get(named("a")) == before


async def test_a_scope_has_limits_and_a_commit_that_would_break_one_writes_nothing(monkeypatch):
    monkeypatch.setattr(scope_mirror, "MAX_SCOPE_DOCUMENTS", 3)
    monkeypatch.setattr(scope_mirror, "MAX_SCOPE_BYTES", 30)
    async with Documents(MemoryStore()) as documents:
        for name in "abc":
            await documents.set(named(name), b'"12345678"', "ana")
        for name, data in (("d", b"1"), ("a", b'"123456789"')):
            with pytest.raises(InvalidRequest) as raised:
                await documents.set(named(name), data, "ana")
            assert raised.value.status == 413
        await documents.delete(named("a"), "ana")
        await documents.set(named("d"), b'"12345678"', "ana")
        assert (await documents.snapshot(SCOPE)).version.revision == 5


async def test_commits_at_the_same_time_do_not_pass_a_limit_together(monkeypatch):
    monkeypatch.setattr(scope_mirror, "MAX_SCOPE_DOCUMENTS", 10)
    async with Documents(MemoryStore()) as documents:
        await documents.set(named("first"), b"1", "ana")
        outcomes = await asyncio.gather(
            *(documents.set(named(f"d{number}"), b"1", "ana") for number in range(30)), return_exceptions=True
        )
        assert sum(isinstance(one, InvalidRequest) for one in outcomes) == 21
        assert len((await documents.snapshot(SCOPE)).documents) == 10


async def test_a_merged_document_is_not_larger_than_a_written_one():
    half = b'"' + b"x" * (limits.MAX_DOCUMENT_BYTES // 2) + b'"'
    async with Documents(MemoryStore()) as documents:
        await documents.patch(named("a"), b'{"one":%b}' % half, shallow, "ana")
        with pytest.raises(InvalidRequest) as raised:
            await documents.patch(named("a"), b'{"two":%b}' % half, shallow, "ana")
        assert raised.value.status == 413


async def test_a_bucket_that_is_dropped_does_not_strand_its_readers():
    store = MemoryStore()
    async with Documents(store) as documents:
        for number in range(9):
            await documents.set(named("a"), b"%d" % number, "ana")
        await documents.set(named("b"), b"1", "ana")
        news = documents.news(SCOPE)
        before = await documents.version(SCOPE)
        await store.drop("config/lobby/production")
        await documents.set(named("b"), b"1", "ana")  # equal to what the mirror still holds
        assert news.is_set()
        found = await documents.snapshot(SCOPE)
        assert [one.name.name for one in found.documents] == ["b"]
        assert found.version.epoch != before.epoch
        assert found.version.revision > before.revision


class Unreadable(MemoryStore):
    """It commits, and cannot be read while `away`."""

    away = False

    async def get(self, bucket, key):
        if self.away:
            raise Unavailable("the disk is gone")
        return await super().get(bucket, key)


async def test_a_write_that_is_committed_is_never_reported_as_failed():
    store = Unreadable()
    async with Documents(store) as documents:
        await documents.set(named("a"), b"1", "ana")
        store.away = True
        assert await documents.set(named("a"), b"2", "ana") == 2
        unread = await documents.get(named("a"))  # only the store knows its time
        assert (unread.data, unread.revision, unread.at_ms) == (b"2", 2, 0)
        store.away = False
        found = await documents.get(named("a"))
        assert (found.data, found.revision) == (b"2", 2)
        assert found.at_ms > 0


async def test_a_document_that_a_commit_does_not_change_keeps_its_revision_and_its_time():
    store = MemoryStore()
    async with Documents(store) as documents:
        await documents.set(named("a"), b"1", "ana")
        before = await documents.get(named("a"))
        await documents.commit(SCOPE, {named("a"): b"1", named("b"): b"2"}, "bob")
        assert await documents.get(named("a")) == before
        entries = (await store.snapshot(scope_mirror.bucket_of(SCOPE))).entries
        found = (await documents.snapshot(SCOPE)).documents
        assert [(one.revision, one.at_ms) for one in found] == [(one.revision, one.at_ms) for one in entries]


class ReadTooLate(MemoryStore):
    """A document is written again after its entry was read, once."""

    documents: Documents
    once = False

    async def get(self, bucket, key):
        entry = await super().get(bucket, key)
        if self.once:
            self.once = False
            await self.documents.set(named("a"), b"3", "ana")
        return entry


async def test_a_document_that_is_written_again_while_its_time_is_read_has_its_own_time():
    store = ReadTooLate()
    async with Documents(store) as store.documents:
        await store.documents.set(named("a"), b"2", "ana")
        store.once = True
        found = await store.documents.get(named("a"))
        entry = await store.get(scope_mirror.bucket_of(SCOPE), named("a").key)
        assert (found.data, found.revision, found.at_ms) == (b"3", 2, entry.at_ms)


async def test_the_time_of_each_of_very_many_documents_is_known():
    store = MemoryStore()
    async with Documents(store) as documents:
        await documents.commit(SCOPE, {named(f"n{number}"): b"1" for number in range(150)}, "ana")
        found = (await documents.snapshot(SCOPE)).documents
        times = {entry.at_ms for entry in (await store.snapshot(scope_mirror.bucket_of(SCOPE))).entries}
        assert len(found) == 150
        assert {one.at_ms for one in found} == times


class sharing:
    """Servers on one store, in one process, each with its own mirrors."""

    def __init__(self, servers: int) -> None:
        hints = MemoryHints()
        store = NotifyingStore(MemoryStore(), hints)
        others = OtherServers(hints, 0.2) if servers > 1 else None
        self.those = [Documents(store, others) for _ in range(servers)]

    async def __aenter__(self) -> list[Documents]:
        return [await one.__aenter__() for one in self.those]

    async def __aexit__(self, *error: object) -> None:
        for one in self.those:
            await one.__aexit__()


class Gathering(MemoryStore):
    """Commits wait while it is `shut`; it counts them, and has no room for a value of one writer, once."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = 0
        self.full_for = b"nobody"
        self._order = asyncio.Lock()

    async def shut(self, until: int) -> None:
        """Let commits go on when this many are under way."""
        self.waiting = 0
        self.gate.clear()
        while self.waiting < until:
            await asyncio.sleep(0)
        self.gate.set()

    async def commit(self, bucket, writes, expected=None):
        self.waiting += 1
        async with self._order:  # in the order in which they were made
            await self.gate.wait()
            if any(self.full_for in (value or b"") for value in writes.values()):
                self.full_for = b"nobody"
                raise StoreFull("no space left")
            return await super().commit(bucket, writes, expected)


async def patched_together(documents: Documents, store: MemoryStore, count: int = 20) -> list[object]:
    """Patches of `count` writers, all under way before the first is durable."""
    patches = [
        documents.patch(named("a"), b'{"field-%d":%d}' % (number, number), shallow, f"writer {number}")
        for number in range(count)
    ]
    *answers, _ = await asyncio.gather(*patches, store.shut(until=count), return_exceptions=True)
    return answers


async def test_patches_under_way_together_are_each_a_revision_with_its_writer_and_what_it_replaced(caplog):
    caplog.set_level("INFO")
    store = Gathering()
    async with Documents(store) as documents, History(store, documents) as history:
        await documents.set(named("a"), b"{}", "ana")
        assert await patched_together(documents, store) == list(range(2, 22))
        entries = list(reversed(await history.read(named("a"))))
        assert [entry.by for entry in entries] == ["ana", *(f"writer {number}" for number in range(20))]
        assert [len(json.loads(entry.data)) for entry in entries] == list(range(21))
    told = [facts for name, facts in map(event_of, caplog.records) if name == "document_written"]
    assert [(one["before"], one["revision"]) for one in told] == [(n, n + 1) for n in range(21)]


async def test_a_patch_that_the_store_refuses_is_in_no_other_and_those_after_it_are_tried_again():
    store = Gathering()
    async with Documents(store) as documents:
        await documents.set(named("a"), b"{}", "ana")
        store.full_for = b"writer 3"
        answers = await patched_together(documents, store)
        assert isinstance(answers[3], StoreFull)
        assert sorted(answers[:3] + answers[4:]) == list(range(2, 21))
        found = json.loads((await documents.get(named("a"))).data)
        assert found == {f"field-{number}": number for number in range(20) if number != 3}


async def test_a_patch_whose_caller_has_gone_is_committed_once_and_those_after_it_keep_it():
    store = Gathering()
    async with Documents(store) as documents:
        await documents.set(named("a"), b"{}", "ana")
        opening = asyncio.ensure_future(store.shut(until=2))
        first = asyncio.ensure_future(documents.patch(named("a"), b'{"one":1}', shallow, "ana"))
        while store.waiting != 1:
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert await documents.patch(named("a"), b'{"two":2}', shallow, "bob") == 3
        await opening
        assert (await documents.get(named("a"))).data == b'{"one":1,"two":2}'


async def test_a_write_among_patches_under_way_meets_the_revision_that_it_expects_or_is_refused():
    store = Gathering()
    async with Documents(store) as documents:
        await documents.set(named("a"), b"{}", "ana")
        made, late, equal, _ = await asyncio.gather(
            documents.patch(named("a"), b'{"one":1}', shallow, "ana"),
            documents.set(named("a"), b'{"late":1}', "bob", expected=1),
            documents.patch(named("a"), b'{"one":1}', shallow, "eve"),
            store.shut(until=3),
            return_exceptions=True,
        )
        assert isinstance(late, DocumentConflict)
        assert (late.expected, late.found) == (1, 2)
        assert (made, equal) == (2, 2)
        assert (await documents.get(named("a"))).by == "ana"
