"""`cfgsync fetch` that is killed before its Nth step inside the rotation of its secret: `rotation_to_be_killed.py N ARGUMENTS`.

A step is a line that runs in `node/memory/rotation`, in the state's two methods for it, or in what they share.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any

STEP = int(sys.argv[1])
WATCHED = {"rotated", "next_secret", "adopt_next_secret", "_secret_at"}
steps = 0
inside = 0


def trace(frame: FrameType, event: str, _: Any) -> Any:
    global inside
    if event == "call" and frame.f_code.co_name == "rotated":
        inside += 1
        return line
    return line if inside and frame.f_code.co_name in WATCHED else None


def line(frame: FrameType, event: str, _: Any) -> Any:
    global steps, inside
    if event == "line" and inside:
        steps += 1
        if steps >= STEP:
            os.kill(os.getpid(), signal.SIGKILL)
    if event == "return" and frame.f_code.co_name == "rotated":
        inside -= 1
    return line


from cfgsync_runtime.cli import main  # noqa: E402

sys.argv = ["cfgsync", *sys.argv[2:]]
sys.settrace(trace)
main()
