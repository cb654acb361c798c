"""A watcher holds a lock in its state directory, so that a fetch by hand beside it leaves registering and reporting to it.

The file `watcher` is locked, kill -9 included, as long as the watcher lives; it says where the watcher's files are, and what
it registered. It is written in place: a reader that meets half of it treats it as empty.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

import msgspec

from cfgsync_artifacts import CfgsyncError, make_directories, on_disk
from cfgsync_core import NodeRegistration
from cfgsync_core.wire import decode_registration, encode_registration

NAME: Final = "watcher"
PATIENCE: Final = 1.0
"""Seconds for which a start waits for the lock: a fetch that looks whether there is a watcher holds it for a moment."""
_MAX_BYTES: Final = 1024 * 1024


class _Words(msgspec.Struct, frozen=True):
    """The content of the file."""

    places: str = ""
    registration: msgspec.Raw = msgspec.Raw()
    checks: bool = False


class Beside(msgspec.Struct, frozen=True):
    """The watcher that a fetch by hand runs beside: its `places`, "" while unknown, what it has registered, if that is known,
    and whether new files must pass its `--check`."""

    path: str
    places: str = ""
    registration: NodeRegistration | None = None
    checks: bool = False

    def changes(self, ip: str | None, node: NodeRegistration) -> tuple[str, ...]:
        """The flags of this fetch that differ from what the watcher registered; `ip` is None for `--ip auto`, and absent
        metadata says nothing."""
        known = self.registration
        if known is None:
            return ()
        differs = {
            "--ip": ip is not None and node.ip != known.ip,
            "--metadata": node.payload.json is not None and node.payload != known.payload,
        }
        return tuple(flag for flag, is_other in differs.items() if is_other)

    def merged(self, ip: str | None, node: NodeRegistration) -> NodeRegistration:
        """What this fetch asks to register: what its flags say, and for the rest what the watcher registered."""
        known = self.registration
        if known is None:
            return node
        payload = known.payload if node.payload.json is None else node.payload
        return NodeRegistration(node.identifier, known.ip if ip is None else node.ip, payload)

    def hand_over(self, node: NodeRegistration) -> None:
        """Have the watcher register this from now on. Raises `DiskError`."""
        with on_disk(self.path), open(self.path, "r+b", buffering=0) as file:
            _write(file.fileno(), self.places, node, self.checks)


def watcher_beside(directory: str, identifier: str) -> Beside | None:
    """The watcher of this node that runs with the state directory, None without one. No file is made."""
    path = os.path.join(directory, NAME)
    with suppress(OSError), open(path, "rb", buffering=0) as file:
        try:
            # shared, so that two that look do not take each other for a watcher
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            words = _read(file.fileno())
            node = _registration(words)
            if node is None or node.identifier == identifier:
                return Beside(path, words.places, node, words.checks)
        else:
            fcntl.flock(file.fileno(), fcntl.LOCK_UN)
    return None


class WatcherLock:
    """The lock of a watcher that keeps its files in `places`; `checks`: new ones must pass its `--check`."""

    def __init__(self, directory: str, places: str, *, checks: bool = False) -> None:
        self.path = os.path.join(directory, NAME)
        self._places = places
        self._checks = checks
        self._fd: int | None = None
        self.before: NodeRegistration | None = None
        """What the watcher before this one registered last; None while unknown."""

    def take(self) -> bool:
        """False when another watcher has this state directory. Raises `DiskError`."""
        until = time.monotonic() + PATIENCE
        with on_disk(self.path), ExitStack() as undone:
            make_directories(os.path.dirname(self.path), 0o700)
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            undone.callback(os.close, fd)
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= until:
                        return False
                    time.sleep(0.02)
            self.before = _registration(_read(fd))
            os.ftruncate(fd, 0)
            undone.pop_all()
            self._fd = fd
        return True

    @property
    def is_taken(self) -> bool:
        """Whether this watcher has the lock."""
        return self._fd is not None

    def note(self, node: NodeRegistration) -> None:
        """The watcher registers this. Nothing happens without the lock. Raises `DiskError`."""
        if self._fd is not None:
            with on_disk(self.path):
                _write(self._fd, self._places, node, self._checks)

    def registration(self) -> NodeRegistration | None:
        """What the watcher is to register: its own, or what a fetch by hand has handed over. None without the lock, and for
        content that does not decode."""
        return None if self._fd is None else _registration(_read(self._fd))

    def release(self) -> None:
        """Let go."""
        fd, self._fd = self._fd, None
        if fd is not None:
            # Closing is not enough: a child that was forked meanwhile holds a copy until it execs.
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)


@contextmanager
def watching(lock: WatcherLock) -> Iterator[WatcherLock]:
    """Hold the lock, if it was taken, while the context lasts."""
    try:
        yield lock
    finally:
        lock.release()


def _write(fd: int, places: str, node: NodeRegistration, checks: bool) -> None:
    raw = msgspec.json.encode(_Words(places, msgspec.Raw(encode_registration(node)), checks))
    os.ftruncate(fd, 0)
    os.pwrite(fd, raw, 0)


def _read(fd: int) -> _Words:
    with suppress(OSError, ValueError, msgspec.DecodeError):
        return msgspec.json.decode(os.pread(fd, _MAX_BYTES, 0), type=_Words)
    return _Words()


def _registration(words: _Words) -> NodeRegistration | None:
    with suppress(CfgsyncError, ValueError):
        return decode_registration(bytes(words.registration))
    return None
