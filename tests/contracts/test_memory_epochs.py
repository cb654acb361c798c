"""A `memory:` store whose server's clock is behind makes epochs that nodes accept, when it is told one."""

import time

import pytest

from cfgsync_core import StoreRefused
from cfgsync_core.store import epoch_ms, uuid7
from cfgsync_runtime import open_backend


async def test_every_epoch_is_later_than_the_one_in_the_url():
    seen = uuid7(time.time_ns() // 1_000_000 + 86_400_000)  # of a server whose clock was a day ahead
    async with open_backend(f"memory:{seen}") as (store, admin, *_):
        first = await store.commit("a", {"k": b"1"})
        second = await store.commit("b", {"k": b"1"})
        assert epoch_ms(seen) < epoch_ms(first.epoch) < epoch_ms(second.epoch)
        assert (await admin.new_epoch())["a"].epoch > second.epoch


async def test_an_epoch_of_the_past_changes_nothing():
    async with open_backend(f"memory:{uuid7(1)}") as (store, *_):
        assert epoch_ms((await store.commit("a", {"k": b"1"})).epoch) > 1_600_000_000_000


@pytest.mark.parametrize(
    "word", ["x", "0199a3c2-7d00-4000-8000-000000000000", "0199A3C2-7D00-7000-8000-000000000000"]
)
async def test_a_word_that_is_no_epoch_is_refused(word):
    with pytest.raises(StoreRefused) as refused:
        await open_backend(f"memory:{word}").__aenter__()
    assert word in str(refused.value)
    assert "memory:EPOCH" in refused.value.hint
