"""The fence of a store that is moved: a mark in the row that every commit reads after it has its locks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfgsync_core.store import Move

from .address import Address

if TYPE_CHECKING:
    import asyncpg


async def read_move(session: asyncpg.Connection, at: Address) -> Move:
    return Move(*await session.fetchrow(f"select move, peer, move_epoch from {at.schema}.store"))


async def write_move(session: asyncpg.Connection, at: Address, move: Move) -> None:
    """In a transaction. The lock waits for every commit that is under way, of all servers, and each later one sees the mark."""
    await session.execute(f"lock table {at.schema}.bucket in exclusive mode")
    await session.execute(
        f"update {at.schema}.store set move = $1, peer = $2, move_epoch = $3",
        move.state,
        move.peer,
        move.epoch,
    )
