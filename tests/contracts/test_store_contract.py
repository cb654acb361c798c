"""Every promise of the store, on every engine. The sentences are the checks' names."""

import asyncio

import pytest

from cfgsync_core import NEVER, Version
from cfgsync_runtime import open_backend
from cfgsync_runtime.testing import contracts
from tests.kills import check_inv_19_kill_9_loses_and_doubles_nothing


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def opener(request, tmp_path):
    """Opens an empty store each time."""
    if request.param == "memory":
        return lambda: open_backend("memory:")
    if request.param == "postgresql":
        server = request.getfixturevalue("postgres")
        return lambda: open_backend(server.url())
    count = iter(range(1000))
    return lambda: open_backend(f"sqlite:{tmp_path}/{next(count)}.db")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """One store, which outlives its closing."""
    return (
        f"sqlite:{tmp_path}/store.db"
        if request.param == "sqlite"
        else request.getfixturevalue("postgres").url()
    )


@pytest.fixture
def reopener(url):
    return lambda: open_backend(url)


def as_test(check, fixture):
    if fixture == "opener":

        async def test(opener):
            await check(opener)
    else:

        async def test(reopener):
            await check(reopener)

    test.__doc__ = check.__doc__
    return test


for check in contracts.CHECKS:
    globals()[check.__name__.replace("check_", "test_", 1)] = as_test(check, "opener")
for check in contracts.DURABLE_CHECKS:
    globals()[check.__name__.replace("check_", "test_", 1)] = as_test(check, "reopener")
del check


async def test_sixteen_writers_and_a_follower_that_misses_nothing_in_three_thousand_commits(opener):
    """It polls `changes`: every revision comes once, in order, each with the commit that was acknowledged with it."""
    writers, each = 16, 188
    seen, acknowledged = [], {}
    async with opener() as (store, *_):

        async def write(name):
            for n in range(each):
                version = await store.commit("b", {name: b"%d" % n})
                acknowledged[version.revision] = (name, b"%d" % n)
                await asyncio.sleep(
                    0
                )  # memory alone would leave the follower more behind than the history is long

        async def follow():
            since = NEVER
            while len(seen) < writers * each:
                for change in await store.changes("b", since):
                    seen.append((change.revision, *change.writes.items()))
                    since = Version(since.epoch or (await store.version("b")).epoch, change.revision)
                await asyncio.sleep(0)

        await asyncio.gather(follow(), *(write(f"w{n}") for n in range(writers)))
    assert seen == [(revision, acknowledged[revision]) for revision in range(1, writers * each + 1)]


async def test_inv_19_kill_9_loses_and_doubles_nothing(url):
    await check_inv_19_kill_9_loses_and_doubles_nothing(url)
