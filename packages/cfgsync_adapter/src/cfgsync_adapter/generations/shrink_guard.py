"""The shrink guard: a result that leaves out most of what the fleet has is a failed run, and not the next generation.

It counts the still registered nodes of the last generation and their files, by path: a renamed file counts as left out, a
node that was evicted or expired does not, and replaced nodes are not counted. While results are refused, the last
generation is served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container
from functools import cache

from cfgsync_core import MaterializationFailed
from cfgsync_core.wire import paths_of

from .generation import Generation, Prepared

DEFAULT_PERCENT = 50.0


class ShrinkRefused(MaterializationFailed):
    """The result leaves out too much of the last generation, which is still served."""


class ShrinkGuard:
    """Refuses a result that leaves out over `percent` (0 to 100, 0 is off) of the last generation.

    Raises `ValueError` for another percentage.
    """

    def __init__(self, percent: float = DEFAULT_PERCENT) -> None:
        if not 0 <= percent <= 100:
            raise ValueError(f"shrink_guard is a percentage from 0 (off) to 100, not {percent}")
        self.percent = percent

    async def check(self, last: Generation, new: Prepared, registered: Container[str]) -> None:
        """Raise `ShrinkRefused` when `new` leaves out too much and does not accept it. Counts in a thread."""
        if not self.percent or new.accepts_shrink:
            return
        what = await asyncio.to_thread(self._left_out, last, new, registered)
        if what is not None:
            raise ShrinkRefused(
                f"the result leaves out {what} (over {self.percent:g} %), so generation {last.number} stays;"
                " if it is meant: cfgsync generation rebuild --accept, accept_shrink() in the materializer,"
                " or serve with another --shrink-guard"
            )

    def _left_out(self, last: Generation, new: Prepared, registered: Container[str]) -> str | None:
        """What is left out, None when it is not too much."""
        by_hand = last.replaced | new.replaced
        staying = [name for name in last.nodes if name in registered and name not in by_hand]
        gone = sum(name not in new.nodes for name in staying)
        if gone * 100 > self.percent * len(staying):
            return f"{gone} of the {len(staying)} registered nodes of generation {last.number}"
        gone, had = _files(last, new, staying)
        if gone * 100 > self.percent * had:
            return f"{gone} of the {had} files of the registered nodes of generation {last.number}"
        return None


def _files(last: Generation, new: Prepared, staying: list[str]) -> tuple[int, int]:
    """How many files these nodes lose, and how many they had."""
    of = cache(paths_of)  # many nodes have the same shared part
    gone = had = 0
    for name in staying:
        before, after = last.nodes[name], new.nodes.get(name)
        own, all_has = paths_of(before.local), of(before.shared)
        had += len(own) + len(all_has)
        if after is None:
            gone += len(own) + len(all_has)
        elif after.digest != before.digest:
            kept, all_keeps = paths_of(after.local), of(after.shared)
            gone += len(own - kept - all_keeps) + len(all_has - kept - all_keeps)
    return gone, had
