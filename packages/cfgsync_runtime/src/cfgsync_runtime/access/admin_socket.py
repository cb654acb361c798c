"""The admin socket: a Unix socket for operators, at a place that a server and its commands both compute from the port.

Another user may remove what is in a directory that others may write, or be there first, but gains nothing: each side
asks the kernel for the user of the other one, the server for each connection (`core/server/access`), a command here.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Final, Literal, TypeAlias

from cfgsync_artifacts import DiskError, make_directories
from cfgsync_core.log_events import event
from cfgsync_core.server import peer_user
from cfgsync_core.text import cause

from ..errors import MachineRefused

AdminPlace: TypeAlias = str | Literal[True] | None
"""Where a server opens its admin socket: a path, the first usable one of `places`, or nowhere."""
MAX_PATH_BYTES: Final = 107
CONNECT_WITHIN: Final = 5.0

log = logging.getLogger("cfgsync")


class _Unusable(Exception):
    """Why no server can be at a place."""


def places(port: int, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Where the admin socket of the server of `port` may be, the first choice first."""
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    state = environment.get("XDG_STATE_HOME", "")
    home = environment.get("HOME") or os.path.expanduser("~")  # the second reads the passwd entry
    roots = (
        runtime,
        "/run" if os.geteuid() == 0 else "",
        state if state.startswith("/") else os.path.join(home, ".local/state"),
    )
    # a relative XDG directory is to be ignored (XDG Base Directory Specification)
    return list(
        dict.fromkeys(os.path.join(root, "cfgsync", f"{port}.sock") for root in roots if root.startswith("/"))
    )


@contextmanager
def opened_admin_socket(place: AdminPlace, port: int) -> Iterator[socket.socket | None]:
    """A bound socket, which the caller closes; leaving the context removes its file.

    None, with a warning, where none of `places` is usable. Raises `MachineRefused` for a path that cannot be used, and
    when the server that has the socket still runs.
    """
    if place is None:
        yield None
        return
    with ExitStack() as stack:
        made = None
        refused = []
        for path in places(port) if place is True else [os.path.abspath(place)]:
            try:
                made = stack.enter_context(_bound(path))
            except _Unusable as error:
                refused.append(f"{path} ({error})")
            else:
                log.info("admin socket: %s", path, extra=event("admin_socket", path=path))
                break
        if made is None and place is not True:
            raise MachineRefused(f"no admin socket at {refused[0]}", "give another --admin-socket")
        if made is None:
            log.warning(
                "no admin socket, so no operator commands: %s; to have one, serve with --admin-socket PATH",
                ", ".join(refused) or "neither XDG_RUNTIME_DIR, XDG_STATE_HOME nor HOME is set",
                extra=event("no_admin_socket"),
            )
        yield made


def connected(path: str, within: float = CONNECT_WITHIN) -> socket.socket:
    """A connection to the admin socket at `path`. Raises `OSError`, also for a server of another user (but of root)."""
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        opened.settimeout(within)
        opened.connect(path)
        mine, its = os.geteuid(), peer_user(opened)
        if mine not in (0, its) and its != 0:
            raise PermissionError(1, f"a program of another user ({its}) listens there")
    except BaseException:
        opened.close()
        raise
    return opened


@contextmanager
def _bound(path: str) -> Iterator[socket.socket]:
    """A socket at `path`, with its lock held beside it. Raises `_Unusable`; `MachineRefused` when the lock is held."""
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise _Unusable(f"longer than {MAX_PATH_BYTES} bytes")
    with ExitStack() as stack:
        try:
            make_directories(os.path.dirname(path), 0o700)
            lock = os.open(
                path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600
            )
            stack.callback(os.close, lock)
            _take(lock, path)
            _remove_stale(path)
            made = _new(path)
            mine = os.lstat(path)
        except (OSError, DiskError) as error:
            raise _Unusable(cause(error)) from error
        try:
            yield made
        finally:
            with suppress(OSError):  # the loop has removed it, or it was replaced
                if os.path.samestat(mine, os.lstat(path)):
                    os.unlink(path)


def _new(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # bind takes the mode from here: others can open it at no moment, and the umask, which all threads share, stays
        os.fchmod(made.fileno(), 0o600)
        made.bind(path)
    except BaseException:
        made.close()
        raise
    return made


def _take(lock: int, path: str) -> None:
    """Lock it, until it is closed or the process ends. The file stays: removing it would let two servers lock two files."""
    of = os.fstat(lock)
    if not stat.S_ISREG(of.st_mode) or of.st_uid not in (0, os.geteuid()):
        raise _Unusable(f"{path}.lock is not a lock file of this user")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise MachineRefused(
            f"another server has the admin socket {path}",
            "stop that server, give another --port, or give this one an --admin-socket of its own",
        ) from error


def _remove_stale(path: str) -> None:
    """Remove the socket that a killed server has left. Nothing else is removed, and no socket where a program listens."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise _Unusable("a file that is not a socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:  # its queue is full
            pass
    raise _Unusable("another program listens there")
