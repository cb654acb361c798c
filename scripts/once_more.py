"""Run pytest; where at most three tests fail, run these once more, alone. What passes then is FLAKY, which is said (ADR 0056).

    once_more.py NOTES [ARGUMENTS of pytest]

`NOTES` is a file that gets the lines about what was FLAKY. The exit status is pytest's, or 0 if all that failed passes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

MOST = 3
_AGAIN = "--once-more"
_ALONE = ("-n", "0", "--last-failed", "--last-failed-no-failures", "none")
_OUTCOMES = ("passed", "skipped", "failed")
_NOTE = """\
FLAKY {test}
      It failed, and passed when it ran once more, alone. Its failure is above (search for "{heading} _"); ADR 0056 says what to do.
"""


class Outcomes:
    """What became of each test: the worst of its set-up, call and tear-down."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}
        self.headings: dict[str, str] = {}
        self.whole = True
        """Every file could be read, and every test was run."""

    @property
    def failed(self) -> list[str]:
        return [test for test, outcome in self.of.items() if outcome == "failed"]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = report.nodeid
        self.of[test] = max(self.of.get(test, "passed"), report.outcome, key=_OUTCOMES.index)
        self.headings[test] = report.head_line or test

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.whole &= not report.failed

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.whole &= not (session.shouldstop or session.shouldfail)


def main(notes: str, arguments: list[str]) -> int:
    outcomes = Outcomes()
    status = pytest.main(arguments, plugins=[outcomes])
    failed = outcomes.failed
    if status != pytest.ExitCode.TESTS_FAILED or not outcomes.whole or not 1 <= len(failed) <= MOST:
        return status
    print("\nWhat failed is run once more, alone:", *failed, sep="\n  ", flush=True)
    again = [sys.executable, __file__, _AGAIN, json.dumps(failed), *arguments, *_ALONE]
    if subprocess.run(again, check=False).returncode != 0:
        return status
    with open(notes, "a", encoding="utf-8") as lines:
        lines.writelines(_NOTE.format(test=test, heading=outcomes.headings[test]) for test in failed)
    return 0


def once_more(failed: list[str], arguments: list[str]) -> int:
    """0 if exactly these tests were run, and passed."""
    outcomes = Outcomes()
    status = pytest.main(arguments, plugins=[outcomes])
    return status or int(outcomes.of != dict.fromkeys(failed, "passed"))


if __name__ == "__main__":
    sys.path[0] = os.getcwd()  # as `python -m pytest` has it
    if sys.argv[1] == _AGAIN:
        sys.exit(once_more(json.loads(sys.argv[2]), sys.argv[3:]))
    sys.exit(main(sys.argv[1], sys.argv[2:]))
