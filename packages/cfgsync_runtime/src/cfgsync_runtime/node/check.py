"""`--check COMMAND` sees the new files before they are switched to, and its refusal leaves the old ones in place."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from cfgsync_artifacts import CfgsyncError, Patience, Placed, legal_places, replace_files

from ..program.environment import for_programs
from .outputs import Placeable, Planner, Written, in_place, write

WITHIN: Final = 30.0
"""Seconds that a check has."""


class CheckRefused(CfgsyncError):
    """The operator's check did not accept the files."""

    hint = "the files in place are unchanged; correct the files, or the command of --check"

    def __init__(self, sentence: str, for_others: str = "") -> None:
        super().__init__(sentence)
        self._for_others = for_others

    @property
    def for_others(self) -> str:
        """Without the last words of the command: they may quote a file."""
        return self._for_others or str(self)


class Check:
    """One shell line, run with `CFGSYNC_STAGED`, the directory of the new files; any exit code but 0 refuses them."""

    def __init__(self, line: str, within: float = WITHIN) -> None:
        self._line = line
        self._within = within
        self._is_stopped = False

    def stop(self) -> None:
        """End the run that is under way, soon; it then refuses the files."""
        self._is_stopped = True

    def __call__(self, directory: str) -> None:
        """Run it with `CFGSYNC_STAGED=directory`. Raises `CheckRefused`."""
        from ..program.shell_line import run_line  # `subprocess`: a fetch without a check does not load it

        environment = for_programs()
        environment["CFGSYNC_STAGED"] = os.path.abspath(directory)
        end = run_line(self._line, environment, self._within, lambda: self._is_stopped)
        if end.wrong:
            refused = "--check refused the files"
            raise CheckRefused(f"{refused}: {end.sentence}", f"{refused}: {end.wrong}")

    def in_copy(self, files: Sequence[Placeable]) -> None:
        """Run it on a private copy of files that go to several places, by payload path. Raises `CheckRefused`."""
        import tempfile

        places = legal_places(file.path for file in files)
        with tempfile.TemporaryDirectory(prefix="cfgsync-check-") as copy:  # 0700
            placed = (
                Placed(copy, parts, file.data, int(file.mode, 8))
                for file, parts in zip(files, places, strict=True)
            )
            replace_files(tuple(placed))
            self(copy)


def checked_write(
    outputs: Planner, files: Sequence[Placeable], check: Check | None, patience: Patience | None = None
) -> Written:
    """Plan and write these files; new ones are checked first. Raises `CheckRefused`, `IntegrityError` and `DiskError`,
    with the old files in place. `patience` is that of `write`."""
    plan = outputs.plan(files)
    if check is None:
        return write(plan, patience)
    from ..program.signals import cleaned_up

    def judge(staged: str) -> None:
        check(staged)
        if not in_place(plan, staged):
            raise CheckRefused("--check changed the files that it was given; it may only read them")

    with cleaned_up():
        if not plan.whole and not in_place(plan):
            check.in_copy(files)
        return write(plan, patience, judge)
