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

MoveState: TypeAlias = Literal["", "arriving", "leaving", "moved", "backup"]


class Move(msgspec.Struct, frozen=True):
    """Where a store is on its way. `""`: it accepts commits, and only then. `backup`: it is a copy, to be restored from. `peer` is
    the other store, for messages; `epoch` is that of every bucket in the target, and names the move."""

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
            case "backup":
                words = f"this is a backup of {self.peer}"
                return words, "restore it into an empty store: cfgsync store copy sqlite:FILE URL"
        words = f"the store is being filled from {self.peer}"
        return words, "run `cfgsync store copy` again to its end, or give an empty store"


class StoreMover(Protocol):
    """What an engine offers beside its store so that this can be moved."""

    async def move(self) -> Move:
        """Where it is."""

    async def mark(self, before: Move, after: Move) -> bool:
        """Set `after`, durably, if it is `before` now; False when it is not. On return no commit is under way that was decided
        before, and from now on commits are refused unless
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
    """Move everything, from wherever a run before this was cut. `names` are the stores' names in messages. A backup is copied
    and stays as it is, since it accepts no commits. Raises `StoreRefused`, `Unavailable`."""
    leaving, arriving = _mover(source, names[0]), _mover(target, names[1])
    old, new = await leaving.move(), await arriving.move()
    is_backup = old.state == "backup"
    for move, refused in ((old, ("arriving",)), (new, ("leaving", "moved", "backup"))):
        if move.state in refused:
            raise StoreRefused(*move.refusal)
    if old.state == "moved":
        if new.epoch != old.epoch:
            raise StoreRefused(*old.refusal)
        await _mark(arriving, new, Move("", names[0], old.epoch), names[1])
        say(f"{names[1]} accepts commits")
        return
    if old.state == "leaving" and new.state != "arriving":
        raise StoreRefused(*old.refusal)
    epoch = new.epoch if is_backup and new.state else old.epoch
    is_begun = new.state == "arriving" and epoch != "" and new.epoch == epoch
    if not is_begun and await target.admin.buckets():
        raise StoreRefused(f"{names[1]} is not empty", "give a store that was never written to")
    if not old.state or is_backup:
        before, new = new, Move("arriving", names[0], epoch)
        await _mark(arriving, before, new, names[1])
        if await leaving.move() == new:
            await arriving.mark(new, before)
            raise StoreRefused(f"{names[0]} and {names[1]} are one store", "give an empty one to copy to")
        if not is_backup:
            await _mark(leaving, old, fenced := Move("leaving", names[1]), names[0])
            old = fenced
    if not is_backup:
        say(f"{names[0]} refuses commits from now on; reads go on")
    if not epoch:  # only now is no later one made there
        epochs = [(await source.store.version(name)).epoch for name in await source.admin.buckets()]
        epoch = mint_epoch(epochs)
        if not is_backup:
            await _mark(leaving, old, fenced := Move("leaving", names[1], epoch), names[0])
            old = fenced
    await _mark(arriving, new, sealed := Move("arriving", names[0], epoch), names[1])
    buckets = await source.admin.buckets()
    for bucket in buckets:
        cut = await source.store.snapshot(bucket)
        assert isinstance(cut, BucketSnapshot)  # no version was named
        if not cut.is_whole():
            raise StoreRefused(f"bucket {bucket!r} is damaged", "look at it with `cfgsync store check`")
        say(await _loaded(bucket, Version(epoch, cut.version.revision), cut.entries, target, names[1]))
    if sorted(await target.admin.buckets()) != sorted(buckets):
        raise StoreRefused(f"{names[1]} has other buckets than {names[0]}", "give an empty store")
    if not is_backup:
        await _mark(leaving, old, Move("moved", names[1], epoch), names[0])
    await _mark(arriving, sealed, Move("", names[0], epoch), names[1])
    left = "" if is_backup else f"{names[0]} is moved for good; "
    say(f"{left}{names[1]} accepts commits")


async def abort_move(source: Backend, name: str) -> None:
    """Let the source accept commits again. Its target stays sealed. Raises `StoreRefused`."""
    mover = _mover(source, name)
    now = await mover.move()
    match now.state:
        case "leaving":
            await _mark(mover, now, Move(), name)
        case "moved":
            raise StoreRefused(f"{name} is moved for good", "copy the other store back into an empty one")
        case _:
            raise StoreRefused(f"{name} is not being moved", "there is nothing to abort")


async def mark_backup(copy: Backend, of: str) -> None:
    """This new store is a backup `of` another one: it never accepts commits, so it may be copied as often as one likes."""
    mover = _mover(copy, of)
    await _mark(mover, await mover.move(), Move("backup", of), of)


async def _mark(mover: StoreMover, before: Move, after: Move, name: str) -> None:
    """Raises `StoreRefused` when the store is not where it was, unless another run of the same command has done this step."""
    if not await mover.mark(before, after) and await mover.move() != after:
        raise StoreRefused(
            f"another command has gone on with {name}, and this one stops",
            "see what that one did, then run it again",
        )


async def _loaded(bucket: str, version: Version, entries: Sequence[Entry], target: Backend, name: str) -> str:
    """Load the bucket, unless it is there, and compare what is there with what was read."""
    if bucket not in await target.admin.buckets():
        try:
            await target.admin.load(bucket, version, entries)
        except StoreRefused:  # the same command runs twice at once
            if bucket not in await target.admin.buckets():
                raise
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
