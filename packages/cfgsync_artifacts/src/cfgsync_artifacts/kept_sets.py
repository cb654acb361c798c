"""Old sets stay for a while, so that slow readers finish; a set that cannot be removed never blocks a new one."""

from __future__ import annotations

import errno
import os
import re
import time

from . import disk
from .errors import DiskError

CURRENT = "current"
HOME = ".generations"
KEPT_SETS = 3
"""Sets that are kept before the current one, whatever their age."""
YOUNG = 600.0
"""Seconds for which a set that was replaced is kept."""
AT_MOST = 20
"""Sets in all, unless `keep` asks for more."""

_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
_STAGE = re.compile(rf"stage-({_NUMBER.pattern})")
_OURS = re.compile(rf"{re.escape(HOME)}/({_NUMBER.pattern})")


class KeptSets:
    """The sets of the directory `target` (open as `root`, its `.generations` as `home`), with `keep` before the current."""

    def __init__(self, root: int, home: int, target: str, keep: int) -> None:
        self._root = root
        self._home = home
        self.target = target
        self._keep = keep

    def next_number(self) -> int:
        """A number above those of all sets, and of all stages that could not be removed."""
        names = os.listdir(self._home)
        stages = [int(found[1]) for name in names if (found := _STAGE.fullmatch(name))]
        return max([0, *stages, *self._numbers()]) + 1

    def replaced(self) -> None:
        """Note on the current set that it is replaced now; its age counts from here."""
        number = current_number(self._root, self.target)
        if number is not None:
            try:
                os.utime(str(number), dir_fd=self._home)
            except OSError:
                return  # it may be removed sooner

    def prune(self, young: bool = True) -> dict[str, str]:
        """Remove stages, sets above the current one (renamed, never published) and those that are old (with `young`
        False: all but the current one and `keep`). Returns what stays because it cannot be removed, with the reason."""
        current = current_number(self._root, self.target)
        stays = {current, *self._to_keep(current, young)}
        gone = [name for name in os.listdir(self._home) if name.startswith("stage-")]
        gone += [str(number) for number in self._numbers() if number not in stays]
        failed = {}
        for name in gone:
            try:
                disk.remove(self._home, name)
            except OSError as error:
                failed[os.path.join(self.target, HOME, name)] = error.strerror or str(error)
        return failed

    def _to_keep(self, current: int | None, young: bool) -> list[int]:
        below = [number for number in reversed(self._numbers()) if current is not None and number < current]
        kept = below[: self._keep]
        if young:
            kept += [number for number in below[self._keep : AT_MOST - 1] if self._is_young(number)]
        return kept

    def _is_young(self, number: int) -> bool:
        try:
            age = time.time() - os.stat(str(number), dir_fd=self._home, follow_symlinks=False).st_mtime
        except OSError:
            return False
        return 0 <= age < YOUNG  # a time in the future tells no age

    def _numbers(self) -> list[int]:
        return sorted(int(name) for name in os.listdir(self._home) if _NUMBER.fullmatch(name))


def current_number(root: int, target: str) -> int | None:
    """The number that `current` points to, None without a `current`. Raises `DiskError` when cfgsync did not make it."""
    try:
        to = os.readlink(CURRENT, dir_fd=root)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        to = ""  # not a symlink
    if ours := _OURS.fullmatch(to):
        return int(ours[1])
    what = f"{os.path.join(target, CURRENT)} was not made by cfgsync, and is left alone"
    raise DiskError(what, "move it away, or choose another directory")
