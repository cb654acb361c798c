"""The durable steps of every writer. An error of the system becomes a `DiskError` that names place and remedy.

The steps take directory descriptors, so that no process can exchange a directory for a symlink between two of them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import msgspec

from .attributes import ANY_OWNER, Owner
from .errors import DiskError, TargetBusy

DIRECTORY_MODE = 0o755
_LOCKS = "/proc/locks"
_POLL = 0.02
_PIECE_BYTES = 256 * 1024
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO must not block us

_FULL = "free space there"
_DENIED = "run it as a user who may write there, or choose another place"
_UNLOCKABLE = "this file system cannot lock a directory (NFS cannot); choose a place on a local disk"
_HINT = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: "make the file system writable, or choose another place",
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.ENOTDIR: "something that is not a directory is in the way: move it away, or choose another place",
    errno.EISDIR: "a directory is in the way: move it away, or choose another place",
    errno.ENOENT: "a part of the path is missing: is it a symlink to nothing?",
    errno.EEXIST: "something else is in the way: move it away, or choose another place",
    errno.ELOOP: "a symlink is in the way: remove it, or choose another place",
    errno.EBUSY: "it is a mount point: mount its directory instead, or choose another place",
    errno.ENAMETOOLONG: "choose a shorter place",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.EBADF: _UNLOCKABLE,
    errno.ENOLCK: _UNLOCKABLE,
    errno.EOPNOTSUPP: _UNLOCKABLE,
}


class Placed(msgspec.Struct, frozen=True, gc=False):
    """One file with its place. The operator chose `directory`, so symlinks in it are followed; a server may have chosen
    `parts` below it, so none is followed there. `mode` is 0o000 to 0o777; `owner` is asked for by the operator."""

    directory: str
    parts: tuple[str, ...]
    content: bytes
    mode: int
    owner: Owner = ANY_OWNER

    @property
    def target(self) -> str:
        return os.path.join(self.directory, *self.parts)


@contextmanager
def on_disk(path: str, verb: str = "write") -> Iterator[None]:
    """Raise an error of the system about `path` as a `DiskError`."""
    try:
        yield
    except OSError as error:
        hint = _HINT.get(error.errno or 0, "repair the disk")
        what = error.strerror or str(error)
        if error.errno == errno.ENOSPC and _without_inodes(path):
            what, hint = (
                f"{what}: no inodes are left",
                "remove files there, or give the file system more inodes",
            )
        raise DiskError(f"cannot {verb} {path}: {what}", hint) from error


def _without_inodes(path: str) -> bool:
    """True when the file system of `path` has room for bytes, and for no file."""
    while path and not os.path.isdir(path):
        path = os.path.dirname(path)
    with suppress(OSError):
        found = os.statvfs(path or ".")
        return found.f_files > 0 and found.f_favail == 0 and found.f_bavail > 0
    return False


@contextmanager
def directory(name: str, *, within: int | None = None, follow: bool = True) -> Iterator[int]:
    """A descriptor of the directory `name`, closed at the end."""
    fd = os.open(name or ".", _DIRECTORY | (0 if follow else os.O_NOFOLLOW), dir_fd=within)
    try:
        yield fd
    finally:
        os.close(fd)


class Patience(msgspec.Struct, frozen=True):
    """A writer waits for another one until `until` (of `time.monotonic`). `waiting` gets a sentence when it begins to."""

    until: float = 0.0
    waiting: Callable[[str], None] = lambda _: None


NO_PATIENCE = Patience()


@contextmanager
def locked(fd: int, name: str, patience: Patience = NO_PATIENCE) -> Iterator[None]:
    """Exclude every other writer of the directory `fd`. Raises `TargetBusy` when patience ends."""
    said = False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            over = time.monotonic() >= patience.until
            if over or not said:
                busy = TargetBusy(name, lock_holder(os.fstat(fd)))
                if over:
                    raise busy from None
                patience.waiting(str(busy))
                said = True
            time.sleep(_POLL)
    try:
        yield
    finally:
        # Closing is not enough: a child that was forked meanwhile holds a copy until it execs.
        fcntl.flock(fd, fcntl.LOCK_UN)


def lock_holder(of: os.stat_result) -> int | None:
    """The process that holds the lock on this file, where the system tells it (Linux)."""
    file = f"{os.major(of.st_dev):02x}:{os.minor(of.st_dev):02x}:{of.st_ino}"
    with suppress(OSError, ValueError, IndexError), open(_LOCKS, encoding="ascii") as locks:
        for line in locks:
            words = line.split()
            if words[1] == "FLOCK" and words[5] == file and int(words[4]) > 0:
                return int(words[4])
    return None


def make_directories(path: str, mode: int = DIRECTORY_MODE) -> list[str]:
    """Make `path` (with `mode`) and the missing directories above it, durably; return those made, outermost first."""
    path = path.rstrip("/") or path
    if not path or os.path.isdir(path):
        return []
    above = os.path.dirname(path)
    made = make_directories(above)
    with directory(above) as fd:
        if make_directory(fd, os.path.basename(path), mode):
            made.append(path)
            os.fsync(fd)
    return made


def make_directory(within: int, name: str, mode: int = DIRECTORY_MODE) -> bool:
    """Make one directory whatever the umask is; False when that name is taken. The setgid bit stays as the directory
    above passed it on."""
    try:
        os.mkdir(name, mode, dir_fd=within)
    except FileExistsError:
        return False
    made = stat.S_IMODE(os.stat(name, dir_fd=within).st_mode)
    if made & 0o777 != mode:  # not otherwise: for a group that is not ours, the system would clear the bit
        os.chmod(name, mode | made & stat.S_ISGID, dir_fd=within)
    return True


def write_new(within: int, name: str, content: bytes, mode: int, dress: Callable[[int], None]) -> None:
    """Write a new file and make it durable. `dress` gives it its owner and attributes; these and its mode are set before
    it has content."""
    fd = os.open(name, _NEW, 0o600, dir_fd=within)
    try:
        os.fchmod(fd, mode)
        dress(fd)
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def holds(within: int, name: str, content: bytes, mode: int, owner: Owner) -> bool:
    """True when `name` is a file of exactly this content, mode and owner; False also when it cannot be read."""
    try:
        fd = os.open(name, _OLD, dir_fd=within)
    except OSError:
        return False
    with open(fd, "rb") as file:
        found = os.fstat(fd)
        if not owner.fits(found) or found.st_mode != stat.S_IFREG | mode or found.st_size != len(content):
            return False
        at = 0
        while piece := file.read(_PIECE_BYTES):  # in pieces: a large file is not held twice
            if not content.startswith(piece, at):
                return False
            at += len(piece)
        return at == len(content)


def remove(within: int, name: str) -> None:
    """Remove `name` and, when it is a directory, all below it. A symlink is removed and not followed; nothing is removed
    from another file system that is mounted below. Raises `OSError` for what stays, when all else is gone."""
    with suppress(FileNotFoundError):
        if not stat.S_ISDIR(os.stat(name, dir_fd=within, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=within)
            return
        failure: OSError | None = None
        with directory(name, within=within, follow=False) as fd:
            if _mount(fd) != _mount(within):
                raise OSError(errno.EBUSY, "something is mounted there", name)
            for child in os.listdir(fd):
                try:
                    remove(fd, child)
                except OSError as error:
                    failure = failure or error
        if failure is not None:
            raise failure
        os.rmdir(name, dir_fd=within)


def _mount(fd: int) -> object:
    """Equal for two directories of one mount. A device number alone does not tell a bind mount."""
    with suppress(OSError), open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("mnt_id:"):
                return line
    return os.fstat(fd).st_dev
