"""An `async def` materializer on a loop of its own: the server's loop goes on, and an end of every kind is a failed run."""

from __future__ import annotations

import asyncio
import threading

import pytest

from cfgsync_adapter import (
    ArtifactFile,
    MaterializedArtifacts,
    NodeRegistration,
    Quorum,
    RegistrationConfigSource,
    RegistrationSnapshot,
)
from cfgsync_core import MaterializationFailed, Ready
from cfgsync_runtime.materializer.own_loop import OwnLoop


class Ends:
    """Raises what it is given, and is ready as soon as b is registered."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.loops: set[asyncio.AbstractEventLoop] = set()

    async def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializedArtifacts:
        await asyncio.sleep(0)
        self.loops.add(asyncio.get_running_loop())
        if "b" not in registrations:
            raise self.error
        return MaterializedArtifacts.from_nodes(
            {name: [ArtifactFile("/a", "1")] for name in registrations.identifiers}
        )


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError(), ValueError("v")], ids=repr
)
async def test_an_end_of_every_kind_is_a_failed_run_and_the_loop_is_kept(error: BaseException) -> None:
    ends = Ends(error)
    async with RegistrationConfigSource(OwnLoop(ends)) as source:
        await source.register(NodeRegistration("a", "10.0.0.1"))
        with pytest.raises(MaterializationFailed) as failure:
            await source.resolve("a", wait=10)
        assert failure.value.at.startswith(f"{type(error).__name__} in test_own_loop.py, line ")
        await source.register(NodeRegistration("b", "10.0.0.1"))
        assert isinstance(await source.resolve("a", wait=10), Ready)
    (kept,) = ends.loops
    assert kept is not asyncio.get_running_loop()
    kept.close()


async def test_a_body_that_blocks_does_not_stop_the_callers_loop() -> None:
    entered, leave = asyncio.Event(), threading.Event()
    loop, its_own = asyncio.get_running_loop(), []

    class Blocks:
        async def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializedArtifacts:
            its_own.append(asyncio.get_running_loop())
            loop.call_soon_threadsafe(entered.set)
            leave.wait(60)
            return MaterializedArtifacts.from_nodes({"a": [ArtifactFile("/a", "1")]})

    async with RegistrationConfigSource(OwnLoop(Blocks())) as source:
        await source.register(NodeRegistration("a", "10.0.0.1"))
        await asyncio.wait_for(entered.wait(), 30)
        leave.set()
        assert isinstance(await source.resolve("a", wait=10), Ready)
    its_own[0].close()


def test_what_the_materializer_says_of_itself_shows_through() -> None:
    wrapped = OwnLoop(Quorum(Ends(ValueError()), expected=["a"]))
    assert (wrapped.expected_nodes, wrapped.revision) == (("a",), "")
