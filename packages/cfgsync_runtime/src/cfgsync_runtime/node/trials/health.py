"""Whether changed files prove good: the program lives with them for a while, and the operator's command agrees."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from ...process.threads import in_thread
from ...program.environment import for_programs
from ...program.shell_line import run_line

_EVERY: Final = 1.0  # s between two tries of the health command
_STEP: Final = 0.1  # s


class Health(msgspec.Struct, frozen=True):
    """The program must live for `after` seconds with new files, and the shell line `line`, if there is one, must exit with 0
    within `within` seconds; it is tried each second."""

    after: float = 0.0
    line: str = ""
    within: float = 0.0

    @property
    def is_instant(self) -> bool:
        """Nothing has to be waited for."""
        return not self.after and not self.line

    async def proved(self, is_over: Callable[[], bool]) -> str:
        """ "" once both hold, or why they do not; also "" when `is_over()` says that nobody asks any more."""
        clock = asyncio.get_running_loop().time
        began = clock()
        environment = for_programs()
        wrong = ""
        while self.line and not is_over():
            left = began + self.within - clock()
            if left <= 0:
                return f"--health did not pass within {self.within:g} s" + (f": {wrong}" if wrong else "")
            tried = clock()
            wrong = (
                await in_thread(lambda left=left: run_line(self.line, environment, left, is_over))  # type: ignore[misc]
            ).wrong
            if not wrong:
                break
            await _pause(min(tried + _EVERY, began + self.within) - clock(), is_over)
        await _pause(began + self.after - clock(), is_over)
        return ""


async def _pause(seconds: float, is_over: Callable[[], bool]) -> None:
    clock = asyncio.get_running_loop().time
    until = clock() + seconds
    while (left := until - clock()) > 0 and not is_over():  # noqa: ASYNC110  # it also looks at the clock
        await asyncio.sleep(min(left, _STEP))
