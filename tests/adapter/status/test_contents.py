"""The pages of a generation's contents."""

from __future__ import annotations

from cfgsync_adapter import ArtifactFile, ArtifactSet, MaterializedArtifacts, RegistrationConfigSource
from cfgsync_adapter.status.contents import generation_page
from tests.adapter.fleets import node


async def test_a_page_has_a_node_also_when_the_shared_files_fill_it() -> None:
    shared = [ArtifactFile(f"/shared-{number}", "x" * 250_000) for number in range(16)]
    names = ["node-1", "node-2", "node-3"]
    made = MaterializedArtifacts.from_nodes({name: ArtifactSet([ArtifactFile("/a", name)]) for name in names})
    async with RegistrationConfigSource(made.with_shared(shared)) as source:
        await source.register(node("node-1"))
        await source.resolve("node-1")
        generation = source.generation
        assert generation is not None
        first = generation_page(generation, contents=True)
        assert ([one.identifier for one in first.nodes], first.next) == (["node-1"], "node-1")
        rest = generation_page(generation, after="node-1", contents=True)
        assert ([one.identifier for one in rest.nodes], rest.next) == (["node-2", "node-3"], None)
