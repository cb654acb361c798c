"""One source gives at most one generation: what two publishers of one store make of each other's commits, step by step."""

from __future__ import annotations

from cfgsync_adapter import ArtifactFile, ArtifactSet, Generation, MaterializedArtifacts, NodeRegistration
from cfgsync_adapter.generations.generation import Prepared, Source, prepare
from cfgsync_adapter.generations.publisher import Publisher
from cfgsync_adapter.nodes.registry import Registry
from cfgsync_core import BucketSnapshot, MemoryStore


def files(text: str) -> Prepared:
    return prepare(MaterializedArtifacts.from_nodes({"node-1": ArtifactSet([ArtifactFile("/file", text)])}))


async def no_objection(last: Generation) -> None:
    return None


class Site:
    """One store with two publishers, and sources that follow each other."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.a, self.b = (Publisher(self.store, revision="") for _ in range(2))
        self._registry = Registry(self.store)
        self._registered = 0

    async def open(self) -> None:
        for publisher in (self.a, self.b):
            await publisher.open()
        await self._registry.open()

    async def follow(self, publisher: Publisher) -> None:
        cut = await self.store.snapshot("generations")
        assert isinstance(cut, BucketSnapshot)
        publisher.take(cut)

    async def next_source(self) -> Source:
        self._registered += 1
        version = await self._registry.register(NodeRegistration(f"node-{self._registered}", "10.0.0.1"))
        return Source(self.a.mine, version)


async def test_a_generation_that_another_publishes_while_the_guard_thinks_is_counted_and_judged() -> None:
    site = Site()
    await site.open()
    one, two, three = [await site.next_source() for _ in range(3)]
    await site.a.publish(files("one"), one, no_objection)
    await site.follow(site.b)
    judged: list[str] = []

    async def slow(last: Generation) -> None:
        judged.append(last.text)
        if len(judged) == 1:
            await site.a.publish(files("two"), two, no_objection)
            await site.follow(site.b)  # its view follows meanwhile

    made = await site.b.publish(files("three"), three, slow)
    assert made is not None
    assert (made.number, made.source) == (3, three)
    assert [text.rpartition(".")[2] for text in judged] == ["1", "2"], "both that came before were looked at"
    await site.follow(site.a)
    assert [head.number for head in site.a.heads()] == [3, 2, 1]


async def test_a_source_that_another_has_published_is_adopted_and_not_published_again() -> None:
    site = Site()
    await site.open()
    source = await site.next_source()
    theirs = await site.a.publish(files("theirs"), source, no_objection)
    mine = await site.b.publish(files("mine"), source, no_objection)  # its view has not followed: a conflict
    assert theirs is not None
    assert mine is not None
    assert (mine.text, mine.nodes["node-1"].digest) == (theirs.text, theirs.nodes["node-1"].digest)
    assert (site.a.made, site.b.made) == (1, 0)
    assert site.b.named(theirs.text) is mine
    assert site.b.numbered(1) is mine
    assert site.b.numbered(2) is None
