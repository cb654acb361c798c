"""`python -m benchmarks [NAMES] [--quick]`: measure, print the table, write `benchmarks/results.json`."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from .processes import raise_file_limit
from .scale import QUICK, WHOLE
from .table import Row, lines

FIGURES = (
    "node",
    "register",
    "fetch",
    "boot",
    "held",
    "shared",
    "restart",
    "groups",
    "follow",
    "idle",
    "tls",
    "documents",
    "rollout",
    "engines",
)
RESULTS = Path(__file__).with_name("results.json")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FIGURES)}; all without one")
    parser.add_argument("--quick", action="store_true", help="a look in under a minute: less of everything")
    asked = parser.parse_args()
    names = asked.names or FIGURES
    if unknown := set(names) - set(FIGURES):
        parser.error(f"no figure named {', '.join(sorted(unknown))}; there are {', '.join(FIGURES)}")
    scale = QUICK if asked.quick else WHOLE
    raise_file_limit()
    began = time.perf_counter()
    rows: list[Row] = []
    failed = 0
    for name in names:
        with tempfile.TemporaryDirectory(prefix="cfgsync-bench-") as scratch:
            try:
                for row in importlib.import_module(f"benchmarks.figures.{name}").measure(
                    scale, Path(scratch)
                ):
                    rows.append(row)
                    print(f"{name}: {row.figure}: {row.ours} {row.yardstick}", file=sys.stderr, flush=True)
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                failed = 1
                print(f"{name} could not be measured: {error}", file=sys.stderr, flush=True)
    print("\n".join(lines(rows)))
    took = time.perf_counter() - began
    load = os.getloadavg()[1]
    print(
        f"\nPython {platform.python_version()}, {os.cpu_count()} cores, load {load:.1f}, {took:.0f} s. Times are the server's processor"
        "\ntime a request, the best of several turns, and `ratio` is of these; `by the clock` is the elapsed time."
    )
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(rows)) + b"\n")
    return failed


if __name__ == "__main__":
    sys.exit(main())
