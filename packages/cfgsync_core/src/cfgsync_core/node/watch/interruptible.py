"""A held request is sent again when what it said is out of date."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def unless(stale: asyncio.Event, sending: Awaitable[T]) -> T | None:
    """What `sending` returns, or None when `stale` was set before that; it is then cancelled."""
    tasks = asyncio.ensure_future(sending), asyncio.ensure_future(stale.wait())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
