"""One server for each database: an exclusive lock on `<db>.lock`, which also says whether the last server ended cleanly.

`fcntl.lockf` belongs to the process: it ends with the process, also under `kill -9`, and a forked worker does not inherit
it (a `flock` would outlive its owner there). But closing *any* descriptor of the file drops it, so a second opener in this
process must be refused before it opens the lock file. A second name of the database is `inodes.py`'s to notice.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import struct
import sys
import threading
from typing import Final, NamedTuple, Self

from cfgsync_core import StoreRefused

from ..failures import at_open, busy

BUSY: Final = (errno.EAGAIN, errno.EACCES)
"""What a lock that another process holds is answered with."""

FLOCK: Final = "hhqqi0q"
"""`struct flock` of 64-bit Linux: type, whence, start, length, pid."""

_LONGEST: Final = 80
_UNKNOWN: Final = "-" * 36
_LINE: Final = re.compile(r"(\d{1,10}) *(?: ([0-9a-f-]{36}) ([0-9a-f]{16}))?\n?")

_guard = threading.Lock()
_held: dict[str, int] = {}
"""Real path of a database → the process that holds it (in a forked child: the parent)."""


class Mark(NamedTuple):
    """What a server has written to its lock file. `session` is also in the database's row `pulse`, since the first commit of
    that session; 0 after a clean end."""

    pid: int
    boot: str = ""
    session: int = 0

    @classmethod
    def parse(cls, line: bytes) -> Self | None:
        found = _LINE.fullmatch(line.decode("latin-1"))
        if found is None:
            return None
        boot = "" if found[2] == _UNKNOWN else found[2] or ""
        return cls(int(found[1]), boot, int(found[3] or "0", 16))


class FileLock:
    """The right to write one database, from `take` to `release`. `before` is the mark that the last server left."""

    def __init__(self, database: str) -> None:
        self._database = os.path.realpath(database)
        self._descriptor: int | None = None
        self.before: Mark | None = None

    def take(self) -> None:
        """Raises `StoreRefused` when another server has it, or when the file is not a lock file of ours."""
        with _guard:
            if _held.get(self._database) == os.getpid():
                raise busy(self._database, str(os.getpid()))
            name = self._database + ".lock"
            descriptor = _open(name, os.O_RDWR | os.O_CREAT)
            try:
                try:
                    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    if error.errno not in BUSY:
                        raise at_open(error, name) from error
                    mark = Mark.parse(os.pread(descriptor, _LONGEST + 1, 0))
                    raise busy(self._database, str(mark.pid) if mark else "unknown") from error
                found = os.pread(descriptor, _LONGEST + 1, 0)
                self.before = Mark.parse(found)
                if found and self.before is None:
                    raise StoreRefused(
                        f"{name} is not a lock file of cfgsync; it is left as it is",
                        "move it away, or give the store another name",
                    )
                os.pwrite(descriptor, b"%-10d" % os.getpid(), 0)  # the rest stays until `mark`
            except OSError as error:
                os.close(descriptor)
                raise at_open(error, name) from error
            except BaseException:
                os.close(descriptor)
                raise
            self._descriptor = descriptor
            _held[self._database] = os.getpid()

    def mark(self, session: int) -> None:
        """Note durably that the log holds commits of `session`, or with 0 that the database holds everything."""
        assert self._descriptor is not None
        line = f"{os.getpid():<10} {boot_id() or _UNKNOWN} {session:016x}\n"
        os.pwrite(self._descriptor, line.encode(), 0)  # as long as any before it: nothing is ever truncated
        os.fsync(self._descriptor)

    def release(self) -> None:
        with _guard:
            if self._descriptor is not None:
                os.close(self._descriptor)  # the file stays: removing it would let two servers lock two files
                self._descriptor = None
                _held.pop(self._database, None)


def mark_of_the_dead(database: str) -> tuple[bool, Mark | None]:
    """Whether a server holds the database now, and else the mark that the last one left. It takes no lock and changes
    nothing."""
    database = os.path.realpath(database)
    with _guard:
        if _held.get(database) == os.getpid():
            return True, None
        try:
            descriptor = _open(database + ".lock", os.O_RDONLY)
        except StoreRefused:
            return False, None  # no server has ever opened it here, or this user may not know
        try:
            if sys.platform == "linux":
                asked = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
                # a file system without locks holds none
                with contextlib.suppress(OSError):
                    found = fcntl.fcntl(descriptor, fcntl.F_GETLK, asked)
                    if struct.unpack(FLOCK, found)[0] != fcntl.F_UNLCK:
                        return True, None
            return False, Mark.parse(os.pread(descriptor, _LONGEST + 1, 0))
        finally:
            os.close(descriptor)


def boot_id() -> str:
    """A word that is the same until this machine starts again; "" where it is not known."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _open(name: str, flags: int) -> int:
    """A descriptor of a regular file that is no symbolic link. Raises `StoreRefused`."""
    try:
        descriptor = os.open(name, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise StoreRefused(
                f"{name} is a symbolic link, which a lock file must not be",
                "remove the link, or give the store another name",
            ) from error
        raise at_open(error, name) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StoreRefused(
            f"{name} is not a regular file, which a lock file must be",
            "remove it, or give the store another name",
        )
    return descriptor
