"""A file is replaced whole or not at all: staged beside its target, made durable, then renamed over it.

All files of a call are staged before the first rename, but no rename spans two places: the set is not atomic. A set
that must be is installed by `swapped_directory`.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256

from . import disk
from .attributes import keep_attributes, open_path
from .disk import Patience, Placed, directory, on_disk
from .errors import DiskError

STAGE_SUFFIX = ".cfgsync-stage"
"""The end of the name under which a file is written beside its target, before it is renamed."""
PATIENCE = 10.0
"""Seconds to wait for another writer of the same directory, which needs a few milliseconds."""

_Roots = dict[str, int]


def replace_file(path: str, data: bytes, mode: int = 0o644) -> None:
    """Replace the file `path`. Missing directories are made (0755), a symlink is replaced and not followed.

    Raises `DiskError`, and the old file is unchanged; `TargetBusy` when another writer stays in the directory.
    """
    replace_files([_placed(path, data, mode)])


def create_file(path: str, data: bytes, mode: int = 0o644) -> bool:
    """Make the file `path`, durable on return; False, with nothing changed, when that name is taken."""
    file = _placed(path, data, mode)
    with _opened([file]) as roots:
        if _found(roots[file.directory], file.parts[0]) is not None:
            return False
        _replace([file], roots, lambda _: None)
    return True


def replace_files(
    files: Sequence[Placed],
    unless: Callable[[], bool] | None = None,
    *,
    patience: Patience | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> bool:
    """Replace every file that does not hold its content and mode yet; False when all do. `unless` is asked once, while
    no other writer can be at work there: when it says True, nothing is changed. A file keeps the owner, group, ACL and
    extended attributes of the file that it replaces; a `note` says what this user may not set. Without `patience`,
    another writer is waited for `PATIENCE` seconds.

    Removes the stages that a killed writer of the same targets left. Raises `DiskError`: before the first rename
    nothing has changed, and after it the sentence says how many files are new.
    """
    with _opened(files, patience) as roots:
        return not (unless is not None and unless()) and _replace(files, roots, note)


def all_hold(files: Sequence[Placed]) -> bool:
    """True when every target is a file of its content and mode already."""
    try:
        return all(_holds(file) for file in files)
    except OSError:
        return False


def _holds(file: Placed) -> bool:
    with directory(file.directory) as root, _parent(root, file.parts) as parent:
        return disk.holds(parent, file.parts[-1], file.content, file.mode, file.owner)


def _placed(path: str, data: bytes, mode: int) -> Placed:
    return Placed(os.path.dirname(path), (os.path.basename(path),), data, mode)


def _stage_name(name: str) -> str:
    """The one name that is staged for `name`, so that the next writer finds what a killed one left."""
    if len(os.fsencode(name)) + len(STAGE_SUFFIX) >= 255:
        name = sha256(os.fsencode(name)).hexdigest()
    return f".{name}{STAGE_SUFFIX}"


@contextmanager
def _opened(files: Sequence[Placed], patience: Patience | None = None) -> Iterator[_Roots]:
    """The operator's directories, made, opened and locked; those that were made are removed when something fails."""
    roots: _Roots = {}
    made: list[str] = []
    patience = patience or Patience(time.monotonic() + PATIENCE)
    with ExitStack() as stack:
        try:
            locks: dict[tuple[int, int], tuple[int, str]] = {}
            for name in dict.fromkeys(file.directory for file in files):
                with on_disk(name or "."):
                    made += disk.make_directories(name)
                    fd = roots[name] = stack.enter_context(directory(name))
                    found = os.fstat(fd)
                # Two spellings of one directory are one lock.
                locks.setdefault((found.st_dev, found.st_ino), (fd, name or "."))
            for _, (fd, name) in sorted(locks.items()):  # one order, so that no two writers block each other
                with on_disk(name):
                    stack.enter_context(disk.locked(fd, name, patience))
            yield roots
        except BaseException:
            for name in reversed(made):
                with suppress(OSError):
                    os.rmdir(name)
            raise


@contextmanager
def _parent(root: int, parts: tuple[str, ...], make: bool = False) -> Iterator[int]:
    """A descriptor of the last directory of `parts` below `root`, reached without following a symlink."""
    with ExitStack() as stack:
        fd = root
        for name in parts[:-1]:
            if make and disk.make_directory(fd, name):
                os.fsync(fd)
            fd = stack.enter_context(directory(name, within=fd, follow=False))
        yield fd


def _found(parent: int, name: str) -> int | None:
    """The mode of the entry `name`, None when it does not exist."""
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None


def _replace(files: Sequence[Placed], roots: _Roots, note: Callable[[str], None]) -> bool:
    due = [file for file in files if not _ready(file, roots)]
    lost: list[str] = []
    renamed = 0
    try:
        for file in due:
            with on_disk(file.target), _parent(roots[file.directory], file.parts) as parent:
                # Exclusive: a disk that folds case refuses a second name of the same file here.
                dress = _Dress(parent, file, lost)
                disk.write_new(parent, _stage_name(file.parts[-1]), file.content, file.mode, dress)
        for file in due:
            with on_disk(file.target), _parent(roots[file.directory], file.parts) as parent:
                name = file.parts[-1]
                os.rename(_stage_name(name), name, src_dir_fd=parent, dst_dir_fd=parent)
                renamed += 1
        # Also when nothing was due: a writer killed after its last rename has not done it.
        for at in dict.fromkeys((file.directory, file.parts[:-1]) for file in files):
            with on_disk(os.path.join(at[0], *at[1])), _parent(roots[at[0]], (*at[1], "")) as parent:
                os.fsync(parent)
    except BaseException as error:
        _clear(due, roots)
        if renamed and isinstance(error, DiskError):
            what = f"{error}; {renamed} of {len(due)} files are new, each is whole"
            raise DiskError(what, f"{error.hint}; the next try finishes it") from error
        raise
    for sentence in lost:
        note(sentence)
    return bool(due)


class _Dress:
    """Gives a staged file what the file that it replaces has, and the owner that is asked for."""

    def __init__(self, parent: int, file: Placed, lost: list[str]) -> None:
        self._parent = parent
        self._file = file
        self._lost = lost

    def __call__(self, fd: int) -> None:
        name, owner = self._file.parts[-1], self._file.owner
        if stat.S_ISREG(_found(self._parent, name) or 0):
            old = open_path(self._parent, name)
            try:
                if words := keep_attributes(fd, old, owner):
                    self._lost.append(f"{self._file.target}: its {', '.join(words)} could not be kept")
            finally:
                os.close(old)
        owner.give(fd)


def _ready(file: Placed, roots: _Roots) -> bool:
    """Make the directories of one target, remove a killed writer's stage; True when the target needs no writing."""
    with on_disk(file.target), _parent(roots[file.directory], file.parts, make=True) as parent:
        name = file.parts[-1]
        disk.remove(parent, _stage_name(name))
        found = _found(parent, name)
        if found is not None and not (stat.S_ISREG(found) or stat.S_ISLNK(found)):
            what = "a directory" if stat.S_ISDIR(found) else "a device, pipe or socket"
            raise DiskError(
                f"cannot write {file.target}: it is {what}", "move it away, or choose another target"
            )
        return disk.holds(parent, name, file.content, file.mode, file.owner)


def _clear(files: Sequence[Placed], roots: _Roots) -> None:
    for file in files:
        with suppress(OSError), _parent(roots[file.directory], file.parts) as parent:
            disk.remove(parent, _stage_name(file.parts[-1]))
