"""What is acknowledged is on the disk: seen from outside, in the order of the server's system calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.durability import CannotTrace, measure
from tests.chaos.form import sized


def test_each_acknowledgement_follows_an_fdatasync_of_the_log_that_covers_it(tmp_path: Path) -> None:
    registrations = sized(100, 1_000)
    try:
        account = measure(registrations, tmp_path)
    except CannotTrace as reason:
        if "strace" in str(reason) or "ptrace" in str(reason):
            pytest.skip(f"NOT TESTED: {reason}")
        raise
    assert account.early == []
    assert account.answers == registrations
    assert account.fdatasyncs >= account.commits > 0
