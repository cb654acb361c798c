"""Orphans are reaped, and the exit codes of our own children are left to their starters; real processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel must offer it")

PROGRAM = """
import subprocess, sys, time
from cfgsync_runtime.program import children
children.become_subreaper()
ours = [children.start(["sh", "-c", f"(sleep 0.2; exit 9) & (sleep 0.1) & exit {code}"]) for code in (3, 0, 5)]
until = time.monotonic() + 3
time.sleep(0.6)
again = children.reap_orphans()  # ours are ended, and not awaited yet: none of them may be taken
codes = [children.wait(child) for child in ours]
children.reap_orphans()
left = subprocess.run(["ps", "-o", "stat=", "--ppid", str(__import__("os").getpid())], capture_output=True, text=True)
print(again, codes, [line for line in left.stdout.split() if line.startswith("Z")])
"""


def test_an_orphan_is_reaped_and_no_exit_code_of_ours_is_taken() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "True [3, 0, 5] []", done.stderr
