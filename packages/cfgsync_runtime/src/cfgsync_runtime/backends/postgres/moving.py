"""The fence of a store that is moved: a mark in the row that every commit reads after it has its locks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfgsync_core.store import Move

from .address import Address

if TYPE_CHECKING:
    import asyncpg


async def read_move(session: asyncpg.Connection, at: Address) -> Move:
    return Move(*await session.fetchrow(f"select move, peer, move_epoch from {at.schema}.store"))


async def write_move(session: asyncpg.Connection, at: Address, before: Move, after: Move) -> bool:
    """In a transaction; False when it is not `before`. The lock waits for every commit that is under way, of all servers, and each later one sees the mark."""
    await session.execute(f"lock table {at.schema}.bucket in exclusive mode")
    done = await session.execute(
        f"update {at.schema}.store set move = $1, peer = $2, move_epoch = $3"
        " where move = $4 and peer = $5 and move_epoch = $6",
        *(after.state, after.peer, after.epoch),
        *(before.state, before.peer, before.epoch),
    )
    return bool(done == "UPDATE 1")
