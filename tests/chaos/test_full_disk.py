"""A full disk under the server: 507, nothing acknowledged that is not there, and it heals by itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_a_full_disk_is_507_acknowledges_nothing_and_heals_by_itself(tmp_path: Path) -> None:
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
        pytest.skip("NOT TESTED: a small disk needs root and `unshare -m`")
    done = subprocess.run(
        [
            "unshare",
            "-m",
            "--propagation",
            "private",
            sys.executable,
            "-m",
            "tests.chaos.full_disk",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        timeout=90,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["acknowledged"] > 20, "the disk was full from the start: nothing was tested"
    assert seen["refused"] == {"507": 20}
    assert seen["codes"] == ["unavailable"]
    assert (seen["alive"], seen["known"]) == (200, 425)
    assert seen["counted_only_what_it_acknowledged"]
    assert seen["healed"] == [202] * 20
    assert seen["lost"] == []
