"""`cfgsync store copy` between real engines: wherever it is cut, at most one of the two stores accepts commits (INV-20)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from cfgsync_core import Backend, StoreRefused, Unavailable, Version
from cfgsync_core.store import Move, abort_move, move_store
from cfgsync_runtime import open_backend
from tests.postgres import Postgres
from tests.postgres import postgres as postgres

NAMES = ("the old one", "the new one")


@pytest.fixture(params=["sqlite to postgresql", "postgresql to sqlite"])
def urls(request: pytest.FixtureRequest, postgres: Postgres, tmp_path: Path) -> tuple[str, str]:
    sqlite, shared = f"sqlite:{tmp_path / 'store.db'}", postgres.url()
    return (sqlite, shared) if request.param.startswith("sqlite") else (shared, sqlite)


@asynccontextmanager
async def opened(urls: tuple[str, str]) -> AsyncIterator[tuple[Backend, Backend]]:
    async with AsyncExitStack() as stack:
        yield tuple([await stack.enter_async_context(open_backend(url)) for url in urls])  # type: ignore[misc]


async def filled(old: Backend) -> dict[str, Version]:
    await old.store.commit("registrations", {"a": b"1", "b": b"2"})
    await old.store.commit("registrations", {"a": b"3", "b": None})
    await old.store.commit("generations", {"blob/x": b"x" * 5000, "current": b"{}"})
    return {name: await old.store.version(name) for name in await old.admin.buckets()}


async def accepts(backend: Backend) -> bool:
    try:
        await backend.store.commit(
            "probe", {"at": (await backend.store.version("probe")).revision.to_bytes(8)}
        )
    except Unavailable:
        return False
    return True


async def values(backend: Backend, bucket: str) -> list[tuple[str, bytes, int]]:
    return [(one.key, one.value, one.revision) async for one in backend.admin.export(bucket)]


class Cut(Exception):
    """The process was killed."""


class Step:
    """Counts what is durable, and is cut before (`is_done` False) or after the step `at`."""

    def __init__(self, at: int, is_done: bool) -> None:
        self.at = at
        self.is_done = is_done
        self.count = 0

    async def take(self, step: Any) -> Any:
        self.count += 1
        if self.count == self.at and not self.is_done:
            step.close()
            raise Cut
        result = await step
        if self.count == self.at:
            raise Cut
        return result


class CutEngine:
    """The operator's side of an engine, whose durable steps can be cut."""

    def __init__(self, backend: Backend, step: Step) -> None:
        self._backend = backend
        self._step = step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend.admin, name)

    async def move(self) -> Move:
        assert self._backend.mover is not None
        return await self._backend.mover.move()

    async def mark(self, before: Move, after: Move) -> bool:
        assert self._backend.mover is not None
        return bool(await self._step.take(self._backend.mover.mark(before, after)))

    async def load(self, *words: Any) -> None:
        await self._step.take(self._backend.admin.load(*words))


def cut(backend: Backend, step: Step) -> Backend:
    engine: Any = CutEngine(backend, step)
    return backend._replace(admin=engine, mover=engine)


async def is_moved(old: Backend, new: Backend, before: dict[str, Version]) -> None:
    assert not await accepts(old)
    for name, version in before.items():
        now = await new.store.version(name)
        assert now.revision == version.revision
        assert now.epoch > version.epoch
        assert await values(new, name) == await values(old, name)
    after = await new.store.commit("registrations", {"a": b"9"}, {"a": 2})
    assert after.revision == before["registrations"].revision + 1
    assert await accepts(new)


@pytest.mark.parametrize("is_done", [False, True])
async def test_a_copy_that_is_cut_at_any_step_never_leaves_two_stores_and_can_be_finished(
    urls: tuple[str, str], is_done: bool, postgres: Postgres, tmp_path: Path
) -> None:
    for at in range(1, 20):
        fresh = [
            f"sqlite:{tmp_path / f'{at}.db'}" if url.startswith("sqlite") else postgres.url() for url in urls
        ]
        async with opened((fresh[0], fresh[1])) as (old, new):
            await filled(old)
            step = Step(at, is_done)
            try:
                await move_store(cut(old, step), cut(new, step), NAMES)
            except Cut:
                pass
            else:
                break  # there are fewer steps
            if at == 1 and not is_done:
                continue  # nothing was begun
            allowed = [await accepts(one) for one in (old, new)]
            assert allowed.count(True) <= 1
            before = {name: await old.store.version(name) for name in await old.admin.buckets()}
            if not allowed[1]:
                await move_store(old, new, NAMES)
            await is_moved(old, new, before)
    assert at == 9, "four marks, two buckets, two marks"


async def test_an_aborted_move_lets_the_old_store_go_on_and_the_new_one_stays_sealed(
    urls: tuple[str, str],
) -> None:
    async with opened(urls) as (old, new):
        before = await filled(old)
        step = Step(5, is_done=True)
        with pytest.raises(Cut):
            await move_store(cut(old, step), cut(new, step), NAMES)
        await abort_move(old, NAMES[0])
        assert (await accepts(old), await accepts(new)) == (True, False)
        assert await old.store.version("registrations") == before["registrations"]
        await old.store.commit("generations", {"current": b"later"})  # this bucket was copied
        with pytest.raises(StoreRefused, match="is not empty"):
            await move_store(old, new, NAMES)
        assert (await accepts(old), await accepts(new)) == (True, False)


async def test_a_store_that_was_left_for_good_stays_so_when_it_is_copied_onto_itself(
    postgres: Postgres,
) -> None:
    here = [postgres.url() for _ in range(2)]
    again = here[0].replace("127.0.0.1", "localhost")
    async with opened((here[0], again)) as (old, same):  # empty
        with pytest.raises(StoreRefused, match="are one store"):
            await move_store(old, same, NAMES)
        assert await accepts(old)
        with pytest.raises(StoreRefused, match="is not empty"):
            await move_store(old, same, NAMES)
        async with open_backend(here[1]) as new:
            await move_store(old, new, NAMES)
            with pytest.raises(StoreRefused, match="was moved to the new one"):
                await move_store(old, same, NAMES)
            assert [await accepts(one) for one in (old, same, new)] == [False, False, True]


class Frozen:
    """A command that stops before its `at`th mark, and goes on when it is told."""

    def __init__(self, at: int) -> None:
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()
        self._left = at

    async def take(self, step: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            self.reached.set()
            await self.go_on.wait()
        return await step


@pytest.mark.parametrize("at", range(2, 9))
async def test_an_aborted_copy_that_only_slept_loses_nothing_and_lets_no_two_stores_go_on(
    urls: tuple[str, str], at: int
) -> None:
    async with opened(urls) as (old, new):
        await filled(old)
        frozen: Any = Frozen(at)
        copying = asyncio.create_task(move_store(cut(old, frozen), cut(new, frozen), NAMES))
        await frozen.reached.wait()
        with suppress(StoreRefused):
            await abort_move(old, NAMES[0])
            await old.store.commit("registrations", {"acknowledged": b"1"})
        was_aborted = await accepts(old)
        frozen.go_on.set()
        with suppress(StoreRefused):
            await copying
        assert [await accepts(old), await accepts(new)].count(True) == 1
        if was_aborted and at > 2:  # before the second mark, the copy has not begun
            assert await accepts(old)
            assert copying.exception() is not None


async def test_the_same_copy_twice_at_once_ends_with_one_store_that_accepts_commits(
    postgres: Postgres,
) -> None:
    urls = postgres.url(), postgres.url()
    async with opened(urls) as (old, new), opened(urls) as (old_too, new_too):
        await filled(old)
        runs = (move_store(old, new, NAMES), move_store(old_too, new_too, NAMES))
        ended = await asyncio.gather(*runs, return_exceptions=True)
        assert ended.count(None) >= 1, ended
        for other in ended:
            assert other is None or "another command has gone on" in str(other), ended
        assert [await accepts(old), await accepts(new)] == [False, True]


async def test_what_cannot_be_moved_is_refused(urls: tuple[str, str], postgres: Postgres) -> None:
    async with opened(urls) as (old, new):
        await filled(old)
        async with open_backend("memory:") as memory:
            with pytest.raises(StoreRefused, match="cannot be moved"):
                await move_store(old, memory, NAMES)
        with pytest.raises(StoreRefused, match="not being moved"):
            await abort_move(old, NAMES[0])
        await move_store(old, new, NAMES)
        with pytest.raises(StoreRefused, match="moved for good"):
            await abort_move(old, NAMES[0])
        async with open_backend(postgres.url()) as third:
            with pytest.raises(StoreRefused, match="was moved to the new one"):
                await move_store(old, third, NAMES)
            await third.store.commit("a", {"a": b"1"})
            with pytest.raises(StoreRefused, match="is not empty"):
                await move_store(new, third, NAMES)


async def test_a_commit_under_way_on_another_server_ends_before_the_fence_or_is_refused(
    postgres: Postgres,
) -> None:
    """Whatever was acknowledged is in the copy."""
    url, acknowledged = postgres.url(), set()
    async with opened((url, postgres.url())) as (old, new), open_backend(url) as server:
        await filled(old)

        async def write(worker: int) -> None:
            for number in range(10_000):
                try:
                    await server.store.commit(f"bucket-{worker}-{number // 3}", {f"{number}": b"1"})
                except Unavailable:
                    return
                acknowledged.add((f"bucket-{worker}-{number // 3}", f"{number}"))

        writing = [asyncio.create_task(write(worker)) for worker in range(8)]
        while len(acknowledged) < 100:
            await asyncio.sleep(0.01)
        await move_store(old, new, NAMES)
        await asyncio.gather(*writing)
        copied = {
            (bucket, entry.key)
            for bucket in await new.admin.buckets()
            async for entry in new.admin.export(bucket)
        }
        assert acknowledged <= copied
        assert await server.store.version("registrations") == await old.store.version("registrations")
