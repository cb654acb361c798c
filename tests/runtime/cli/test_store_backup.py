"""`cfgsync store backup` beside a store that is written to, and what is restored from it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from cfgsync_core import StoreRefused, Unavailable
from cfgsync_core.store import move_store, refuse_moved
from cfgsync_runtime import open_backend
from cfgsync_runtime.cli.parts.store_backup import back_up
from tests.postgres import Postgres
from tests.postgres import postgres as postgres


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_backup_is_one_moment_of_a_store_that_is_written_to_and_can_be_restored(
    kind: str, postgres: Postgres, tmp_path: Path
) -> None:
    url = postgres.url() if kind == "postgresql" else f"sqlite:{tmp_path / 'store.db'}"
    async with open_backend(url) as server:

        async def write() -> None:
            """`second` never has a number that `first` had not before."""
            for number in range(100_000):
                for bucket in ("first", "second"):
                    await server.store.commit(bucket, {"n": str(number).encode()})
                await asyncio.sleep(0.03)

        writing = asyncio.create_task(write())
        while not await server.admin.buckets():
            await asyncio.sleep(0.01)
        file, many = await back_up(url, str(tmp_path))
        writing.cancel()
    assert (many, Path(file).parent) == (2, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if "store.db" not in path.name) == [
        Path(file).name
    ]
    with pytest.raises(StoreRefused, match="already there"):
        await back_up(url, file)
    async with open_backend(f"sqlite:{file}") as copy, open_backend(postgres.url()) as restored:
        first, second = [await copy.store.get(bucket, "n") for bucket in ("first", "second")]
        assert first is not None
        assert second is not None
        assert int(first.value) - int(second.value) in (0, 1)
        before = await copy.store.version("first")
        await move_store(copy, restored, ("the backup", "the restored one"))
        after = await restored.store.version("first")
        assert (after.revision, after.epoch > before.epoch) == (before.revision, True)
        with pytest.raises(Unavailable, match="is a backup of"):
            await copy.store.commit("first", {"n": b"0"})
    os.chmod(file, 0o400)
    async with open_backend(f"sqlite:{file}", read_only=True) as copy, open_backend(postgres.url()) as drill:
        await move_store(copy, drill, ("the backup", "a drill"))
        assert (await drill.store.version("first")).epoch > after.epoch
        with pytest.raises(StoreRefused, match="is not empty"):
            await move_store(copy, drill, ("the backup", "a drill"))
    with pytest.raises(StoreRefused, match="is a backup"):
        async with open_backend(f"sqlite:{file}", read_only=True) as copy:
            await refuse_moved(copy)


async def test_a_restore_that_was_cut_goes_on_with_the_same_epoch(tmp_path: Path, postgres: Postgres) -> None:
    async with open_backend(f"sqlite:{tmp_path / 'store.db'}") as store:
        for bucket in ("a", "b"):
            await store.store.commit(bucket, {"n": b"1"})
    file, _ = await back_up(f"sqlite:{tmp_path / 'store.db'}", str(tmp_path / "backup.db"))
    async with open_backend(f"sqlite:{file}", read_only=True) as copy, open_backend(postgres.url()) as target:

        def stop(line: str) -> None:
            if line.startswith("a:"):
                raise RuntimeError("cut")

        with pytest.raises(RuntimeError, match="cut"):
            await move_store(copy, target, ("the backup", "the target"), stop)
        cut = await target.store.version("a")
        with pytest.raises(Unavailable):
            await target.store.commit("a", {"n": b"2"})
        await move_store(copy, target, ("the backup", "the target"))
        assert [await target.store.version(bucket) for bucket in ("a", "b")] == [cut, cut]
        await target.store.commit("a", {"n": b"2"})
