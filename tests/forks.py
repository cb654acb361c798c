"""The commands as forks of a process that has loaded them: a tenth of the processor time of a start.

`ForkedCommand` is a `subprocess.Popen` whose process is made by a *stem*: one process for each of pytest's workers, which has
imported every module of cfgsync and has no thread, event loop or open file. Its forks become children of the
worker, so that `wait`, `kill`, pipes and return codes are those of any child. `CFGSYNC_TESTS_EXEC=1` turns it off.

What a fork does not show: a module that a command forgets to load, and another hash seed for each process of a worker.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
ENTRIES = {
    "cfgsync": "cfgsync_runtime.cli",
    "cfgsync-server": "cfgsync_runtime.cli.dropins.server",
    "cfgsync-client": "cfgsync_runtime.cli.dropins.client",
}
"""The module whose `main` a console script of ours calls."""

_ROOMS = ("cfgsync_artifacts", "cfgsync_core", "cfgsync_adapter", "cfgsync_documents", "cfgsync_runtime")
_NOT_OF_A_COMMAND = ("__main__", "child_main", "pytest_plugin", "testing")
_LATER = ("concurrent.futures.thread", "encodings.ascii", "typer._click.decorators", "uvloop")
"""What a command loads while it runs."""
_THEIRS = (
    *("CFGSYNC_", "CFG_", "XDG_", "PYTEST_"),
    *("NODES", "CALLS", "PIDS"),  # read by the applications of tests
)
"""How the names of variables begin that no interpreter and no library reads while it starts."""
_STARTED_WITH = dict(os.environ)
_LARGEST = 128 * 1024
_PR_SET_CHILD_SUBREAPER = 36


def may_fork(command: str, environment: Mapping[str, str], *, also: tuple[str, ...] = ()) -> bool:
    """Whether a fork is what a start would be: one of our commands, with no variable that is read earlier (but `also`)."""
    if command not in ENTRIES or os.environ.get("CFGSYNC_TESTS_EXEC") or sys.platform != "linux":
        return False
    changed = {name for name, _ in environment.items() ^ _STARTED_WITH.items()}
    return all(name in also or name.startswith(_THEIRS) for name in changed)


class ForkedCommand(subprocess.Popen[str]):
    """`Popen([BIN / command, *arguments], …)`, forked off."""

    def _execute_child(self, args: Sequence[str | Path], *rest: Any) -> None:  # type: ignore[override]
        (_, _, _, _, cwd, env, _, _, _, *pipes) = rest
        p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, *_ = pipes
        try:
            self.pid = Stem.of_this_process().fork(args, cwd, env, [p2cread, c2pwrite, errwrite])
            self._child_created = True
        finally:
            self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]


class Stem:
    """The process whose forks are the commands."""

    _here: Stem | None = None
    _lock = threading.Lock()

    def __init__(self) -> None:
        self._door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(  # it ends with our end of the socket
                [sys.executable, __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=_STARTED_WITH,
                pass_fds=[theirs.fileno()],
            )

    @classmethod
    def of_this_process(cls) -> Stem:
        with cls._lock:
            if cls._here is None:
                cls._here = cls()
            return cls._here

    def fork(
        self,
        words: Sequence[str | Path],
        cwd: str | Path,
        environment: Mapping[str, str],
        stdio: Sequence[int],
    ) -> int:
        """The PID of the command, a child of this process."""
        request = json.dumps([[str(word) for word in words], str(cwd), dict(environment), _limits()])
        with self._lock:
            _adopt_orphans(True)  # no longer than this, or the orphans of other tests would be ours
            try:
                socket.send_fds(self._door, [request.encode("utf-8", "surrogateescape")], stdio)
                answer = self._door.recv(_LARGEST)
            finally:
                _adopt_orphans(False)
        assert answer, "the process that forks commands has ended: stderr says why"
        return int(answer)


def _adopt_orphans(adopt: bool) -> None:
    assert ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0) == 0


def _load() -> None:
    """What the commands load, also later, when they need it."""
    for room in _ROOMS:
        package = importlib.import_module(room)
        for module in pkgutil.walk_packages(package.__path__, f"{room}."):
            if not set(module.name.split(".")).intersection(_NOT_OF_A_COMMAND):
                importlib.import_module(module.name)
    for name in _LATER:
        importlib.import_module(name)


def _fork() -> int:
    """In the stem the PID; in the fork 0, as soon as it is a child of the process that asked."""
    reading, writing = os.pipe()
    if middle := os.fork():
        os.close(writing)
        os.waitpid(middle, 0)
        with open(reading, "rb") as told:
            return int(told.read())
    middle = os.getpid()
    if command := os.fork():
        os.write(writing, str(command).encode())
        os._exit(0)
    while os.getppid() == middle:
        time.sleep(0.0005)
    return 0


def _answer(door: socket.socket) -> str | None:
    """Fork for each request. Returns in the fork the module to run, and in the stem None when nobody asks any more."""
    while True:
        request, stdio, _, _ = socket.recv_fds(door, _LARGEST, 3)
        if not request:
            return None
        if pid := _fork():
            for fd in stdio:
                os.close(fd)
            door.send(str(pid).encode())
            continue
        (script, *arguments), cwd, environment, limits = json.loads(
            request.decode("utf-8", "surrogateescape")
        )
        for number, fd in enumerate(stdio):
            os.dup2(fd, number)
        os.closerange(3, 1024)
        door.detach()
        _take(limits)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = sys.orig_argv = [script, *arguments]
        _open_streams()
        return ENTRIES[os.path.basename(script)]


def _limits() -> dict[str, Any]:
    """The limits and the umask that this process has now, and its child would have."""
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    status = Path("/proc/self/status").read_text()
    return {
        "umask": int(status.partition("Umask:")[2].split()[0], 8),
        **{name: resource.getrlimit(getattr(resource, name)) for name in names},
    }


def _take(limits: dict[str, Any]) -> None:
    os.umask(limits.pop("umask"))
    for name, limit in limits.items():
        resource.setrlimit(getattr(resource, name), tuple(limit))


def _open_streams() -> None:
    """As an interpreter does: what it has found out about its old descriptors is not true for these."""
    for fd, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        old = getattr(sys, f"__{name}__")
        new = open(  # noqa: SIM115
            fd,
            mode,
            encoding=old.encoding,
            errors=old.errors,
            newline="\n" if mode == "w" else None,
            closefd=False,
        )
        if name == "stderr":
            new.reconfigure(line_buffering=True)
        setattr(sys, f"__{name}__", new)
        setattr(sys, name, new)


def _end(main: Callable[[], object]) -> None:
    """Run `main` and end with its code, as an interpreter does, but without taking its objects apart: each page of them would be
    copied for that."""
    try:
        sys.exit(main())  # type: ignore[arg-type]
    except SystemExit as ended:
        code = 0 if ended.code is None else ended.code
        if not isinstance(code, int):
            raise
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        try:
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
        except (OSError, ValueError):
            raise ended from None  # what cannot be written has a code of its own
        os._exit(code & 0xFF)


if __name__ == "__main__":
    sys.path[0] = str(BIN)  # as for a console script
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; the worker ends this process
    _load()
    gc.collect()
    gc.freeze()
    assert threading.active_count() == 1
    _module = _answer(socket.socket(fileno=int(sys.argv[1])))
    if _module is not None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _end(importlib.import_module(_module).main)
