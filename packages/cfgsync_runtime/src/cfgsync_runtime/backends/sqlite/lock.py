"""One server for each database: an exclusive lock on `<db>.lock`, plus a registry of what this process holds.

`fcntl.lockf` belongs to the process: it ends with the process, also under `kill -9`, and a forked worker does not inherit
it (a `flock` would outlive its owner there). But closing *any* descriptor of the file drops it, so a second opener in this
process must be refused before it opens the lock file.
"""

from __future__ import annotations

import fcntl
import os
import threading

from cfgsync_core import StoreRefused

_guard = threading.Lock()
_held: dict[str, int] = {}
"""Real path of a database → the process that holds it (in a forked child: the parent)."""


class FileLock:
    """The right to write one database, from `take` to `release`."""

    def __init__(self, database: str) -> None:
        self._database = os.path.realpath(database)
        self._descriptor: int | None = None

    def take(self) -> None:
        """Raises `StoreRefused` when another server has it."""
        with _guard:
            if _held.get(self._database) == os.getpid():
                raise _busy(self._database, str(os.getpid()))
            descriptor = os.open(self._database + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                owner = os.read(descriptor, 20).decode(errors="replace").strip()
                os.close(descriptor)
                raise _busy(self._database, owner or "unknown") from error
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            self._descriptor = descriptor
            _held[self._database] = os.getpid()

    def release(self) -> None:
        with _guard:
            if self._descriptor is not None:
                os.close(self._descriptor)  # the file stays: removing it would let two servers lock two files
                self._descriptor = None
                _held.pop(self._database, None)


def _busy(database: str, owner: str) -> StoreRefused:
    return StoreRefused(
        f"{database} is in use by another server (pid {owner})",
        "stop that server, or give this one a store of its own",
    )
