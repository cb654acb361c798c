"""Kill −9 a writer before every single step that it takes on the disk, one after the other: none is left to chance."""

from __future__ import annotations

import itertools
import os
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

STEPS = [
    "open",
    "write",
    "fsync",
    "rename",
    "replace",
    "link",
    "symlink",
    "mkdir",
    "unlink",
    "rmdir",
    "chmod",
    "fchmod",
]


def killed_at_each_step(action: Callable[[], object]) -> Iterator[int]:
    """Run `action` in a child that is killed before its first step, then before its second, and so on. Yields after
    each kill; ends when the child comes through. A write that is killed has written half."""
    for step in itertools.count(1):
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # the child takes no lock that a thread may hold
            child = os.fork()
        if child == 0:
            try:
                _arm(step)
                action()
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            yield step
            continue
        assert os.waitstatus_to_exitcode(status) == 0
        return


def _arm(step: int) -> None:
    left = step

    def armed(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                if real is real_write:
                    real_write(arguments[0], arguments[1][: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)

        return call

    real_write = os.write
    for name in STEPS:
        setattr(os, name, armed(getattr(os, name)))
