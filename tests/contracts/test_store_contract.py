"""Every promise of the store, on every engine. The sentences are the checks' names."""

import pytest

from cfgsync_runtime import open_backend
from cfgsync_runtime.testing import contracts
from tests.kills import check_inv_19_kill_9_loses_and_doubles_nothing


@pytest.fixture(params=["memory", "sqlite"])
def opener(request, tmp_path):
    """Opens an empty store each time."""
    if request.param == "memory":
        return lambda: open_backend("memory:")
    count = iter(range(1000))
    return lambda: open_backend(f"sqlite:{tmp_path}/{next(count)}.db")


@pytest.fixture(params=["sqlite"])
def reopener(request, tmp_path):
    return lambda: open_backend(f"sqlite:{tmp_path}/store.db")


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


@pytest.mark.parametrize("scheme", ["sqlite"])
async def test_inv_19_kill_9_loses_and_doubles_nothing(scheme, tmp_path):
    await check_inv_19_kill_9_loses_and_doubles_nothing(f"{scheme}:{tmp_path}/store.db")
