"""Run a command as a process of its own and say how it went: `python -S -E measured.py WITHIN COMMAND…`.

Between a test and the command stands this small interpreter, because Linux counts the peak memory of who starts a
process as that process's own, and a test suite is large. Prints one JSON object.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time


def main(within: float, command: list[str]) -> None:
    began = time.monotonic()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        out, errors = process.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        process.kill()
        out, errors = process.communicate()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        json.dumps(
            {
                "exit": process.returncode,
                "seconds": time.monotonic() - began,
                "peak_mib": used.ru_maxrss / 1024,
                "cpu": used.ru_utime + used.ru_stime,
                "out": out,
                "errors": errors,
            }
        )
    )


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
