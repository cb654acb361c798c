"""One bucket in memory: a mirror is at one version, by its own commits and by those of others."""

import asyncio

import pytest

from cfgsync_core import NEVER, Conflict, MemoryHints, MemoryStore, Unavailable, Version
from cfgsync_core.follow.mirror import BucketMirror, OtherServers, catch_up
from cfgsync_core.store.notifying import NotifyingStore

B = "registrations"


class Late(MemoryStore):
    """The first commit's answer arrives after the second's."""

    def __init__(self):
        super().__init__()
        self.second = asyncio.Event()
        self.commits = 0

    async def commit(self, bucket, writes, expected=None):
        self.commits += 1
        number = self.commits
        version = await super().commit(bucket, writes, expected)
        if number == 1:
            await self.second.wait()
        self.second.set()
        return version


def mirror_of(store, **words):
    return BucketMirror(store, B, bytes.decode, str.encode, **words)


async def test_its_own_commits_are_applied_in_one_step_with_their_version():
    seen = []
    mirror = mirror_of(MemoryStore(), on_change=lambda writes: seen.append((writes, mirror.version.revision)))
    await mirror.open()
    assert (mirror.version, len(mirror)) == (NEVER, 0)
    assert await mirror.commit({"a": "1", "b": "2"}) == mirror.version
    assert await mirror.commit({"a": None}) == mirror.version
    assert dict(mirror.entries) == {"b": "2"}
    assert (mirror.revision_of("a"), mirror.revision_of("b")) == (None, 1)
    assert seen == [({"a": "1", "b": "2"}, 1), ({"a": None}, 2)]


@pytest.mark.parametrize("whole", [False, True])
async def test_commits_whose_answers_come_in_another_order_leave_nothing_out(whole):
    mirror = mirror_of(Late(), whole=whole)
    await mirror.open()
    first, second = await asyncio.gather(mirror.commit({"a": "1"}), mirror.commit({"a": "2"}))
    assert mirror.version == max(first, second)
    assert mirror.get("a") == "2"


@pytest.mark.parametrize("whole", [False, True])
async def test_a_conflict_is_raised_when_the_other_writers_commit_has_been_read(whole):
    store = MemoryStore()
    mirror = mirror_of(store, whole=whole)
    await mirror.open()
    theirs = await store.commit(B, {"a": b"theirs"})
    with pytest.raises(Conflict):
        await mirror.commit({"a": "mine"}, expected={"a": 0})
    assert (mirror.version, mirror.get("a")) == (theirs, "theirs")
    await mirror.commit({"a": "mine"}, expected={"a": mirror.revision_of("a")})
    assert mirror.get("a") == "mine"


async def test_a_step_that_its_own_commits_have_passed_takes_nothing_back():
    store = MemoryStore()
    mirror = mirror_of(store)
    await mirror.open()
    await mirror.commit({"a": "1"})
    head = await mirror.commit({"a": "2"})
    changes = await store.changes(B, Version(head.epoch, 0))
    mirror.step(Version(head.epoch, 1), changes[0])  # what a read that began earlier brings now
    assert (mirror.version, mirror.get("a")) == (head, "2")


@pytest.mark.parametrize("whole", [False, True])
async def test_what_other_servers_committed_is_there_after_a_catch_up(whole):
    hints = MemoryHints()
    async with NotifyingStore(MemoryStore(), hints) as store:
        mirror = mirror_of(store, whole=whole, others=OtherServers(hints, 60.0))
        await mirror.open()
        head = await store.commit(B, {"a": b"theirs"})
        await catch_up([mirror])
        assert (mirror.version, mirror.get("a")) == (head, "theirs")
        await store.commit(B, {"a": b"newer"})
        await mirror.look_up("a")
        assert mirror.get("a") == "newer"
        await mirror.close()
        with pytest.raises(Unavailable):
            await mirror.catch_up()


async def test_a_mirror_without_other_servers_reads_the_store_once():
    store = MemoryStore()
    mirror = mirror_of(store)
    await mirror.open()
    await store.commit(B, {"a": b"theirs"})
    await catch_up([mirror])
    await mirror.look_up("a")
    assert mirror.get("a") is None
    assert not [task for task in asyncio.all_tasks() if "reconcile" in task.get_name()]


@pytest.mark.parametrize("whole", [False, True])
async def test_inv_7_its_own_commit_that_finds_a_new_epoch_takes_all_of_it_and_says_so(whole, caplog):
    store = MemoryStore()
    mirror = mirror_of(store, whole=whole)
    await mirror.open()
    known = await mirror.commit({"a": "1"})
    await store.new_epoch()
    head = await mirror.commit({"b": "2"})
    assert head.epoch > known.epoch
    assert (mirror.version, mirror.get("a"), mirror.get("b")) == (head, "1", "2")
    assert f"a new epoch has begun: {head}, after {known}" in caplog.text
