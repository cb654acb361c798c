"""Moving a store: at no moment two stores accept commits.

Each step is durable, and the whole may be run again from wherever it was cut. The target is sealed before the source is fenced, and
it is unsealed after the source was left for good, so of the two at most one accepts commits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec

from ..errors import StoreRefused
from ..text import counted
from .backend import Backend
from .contract import BucketSnapshot, Entry, Version, digest_entries
from .epoch import mint_epoch

MoveState: TypeAlias = Literal["", "arriving", "leaving", "moved"]


class Move(msgspec.Struct, frozen=True):
    """Where a store is on its way. `""`: it accepts commits, and only then. `peer` is the other store, for messages; `epoch` is
    that of every bucket in the target, and names the move."""

    state: MoveState = ""
    peer: str = ""
    epoch: str = ""

    @property
    def refusal(self) -> tuple[str, str]:
        """Why no commit is accepted, and what to do."""
        match self.state:
            case "moved":
                return f"the store was moved to {self.peer}", "give --store with that"
            case "leaving":
                words = f"the store is being moved to {self.peer}"
                return words, "run `cfgsync store copy` again to its end, or with --abort"
        words = f"the store is being filled from {self.peer}"
        return words, "run `cfgsync store copy` again to its end, or give an empty store"


class StoreMover(Protocol):
    """What an engine offers beside its store so that this can be moved."""

    async def move(self) -> Move:
        """Where it is."""

    async def mark(self, move: Move) -> None:
        """Set that, durably. On return no commit is under way that was decided before, and from now on commits are refused unless
        the state is `""`; `load` is not."""


async def refuse_moved(backend: Backend) -> None:
    """Raises `StoreRefused` for a store that accepts no commits."""
    if backend.mover is not None and (move := await backend.mover.move()).state:
        raise StoreRefused(*move.refusal)


async def move_store(
    source: Backend,
    target: Backend,
    names: tuple[str, str],
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Move everything, from wherever a run before this was cut. `names` are the stores' names in messages. Raises `StoreRefused`,
    `Unavailable`."""
    leaving, arriving = _mover(source, names[0]), _mover(target, names[1])
    old, new = await leaving.move(), await arriving.move()
    if old.state == "arriving" or (old.state == "moved" and new.epoch != old.epoch):
        raise StoreRefused(*old.refusal)
    if old.state == "moved":
        await arriving.mark(Move("", names[0], old.epoch))
        say(f"{names[1]} accepts commits")
        return
    if old.state == "leaving" and new.state != "arriving":
        raise StoreRefused(*old.refusal)
    if (not old.state or new.epoch != old.epoch) and await target.admin.buckets():
        raise StoreRefused(f"{names[1]} is not empty", "give a store that was never written to")
    if not old.state:
        await arriving.mark(Move("arriving", names[0]))
        old = Move("leaving", names[1])
        await leaving.mark(old)
    say(f"{names[0]} refuses commits from now on; reads go on")
    if not old.epoch:  # only now is no later one made there
        epochs = [(await source.store.version(name)).epoch for name in await source.admin.buckets()]
        old = Move("leaving", names[1], mint_epoch(epochs))
        await leaving.mark(old)
    new = Move("arriving", names[0], old.epoch)
    await arriving.mark(new)
    buckets = await source.admin.buckets()
    for bucket in buckets:
        cut = await source.store.snapshot(bucket)
        assert isinstance(cut, BucketSnapshot)  # no version was named
        if not cut.is_whole():
            raise StoreRefused(f"bucket {bucket!r} is damaged", "look at it with `cfgsync store check`")
        version = Version(new.epoch, cut.version.revision)
        say(await _loaded(bucket, version, cut.entries, target, names[1]))
    if sorted(await target.admin.buckets()) != sorted(buckets):
        raise StoreRefused(f"{names[1]} has other buckets than {names[0]}", "give an empty store")
    await leaving.mark(Move("moved", names[1], new.epoch))
    await arriving.mark(Move("", names[0], new.epoch))
    say(f"{names[0]} is moved for good; {names[1]} accepts commits")


async def abort_move(source: Backend, name: str) -> None:
    """Let the source accept commits again. Its target stays sealed. Raises `StoreRefused`."""
    mover = _mover(source, name)
    match (await mover.move()).state:
        case "leaving":
            await mover.mark(Move())
        case "moved":
            raise StoreRefused(f"{name} is moved for good", "copy the other store back into an empty one")
        case _:
            raise StoreRefused(f"{name} is not being moved", "there is nothing to abort")


async def _loaded(bucket: str, version: Version, entries: Sequence[Entry], target: Backend, name: str) -> str:
    """Load the bucket, unless it is there, and compare what is there with what was read."""
    if bucket not in await target.admin.buckets():
        await target.admin.load(bucket, version, entries)
    found = await target.store.snapshot(bucket)
    assert isinstance(found, BucketSnapshot)
    if found.digest != digest_entries(version, entries):
        raise StoreRefused(
            f"bucket {bucket!r} in {name} is not what was copied",
            "it is of a move that was aborted: give an empty store",
        )
    return f"{bucket}: revision {version.revision}, {counted(len(entries), 'entry', 'entries')}, compared"


def _mover(backend: Backend, name: str) -> StoreMover:
    if backend.mover is None:
        raise StoreRefused(f"the engine of {name} cannot be moved from or to", "PostgreSQL and SQLite can")
    return backend.mover
